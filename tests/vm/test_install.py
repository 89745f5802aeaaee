"""`make tool`, as a machine gets it that is only to run the tools: from Debian alone, without this checkout afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", ["venv", "a path with blanks/" + "and so long that no first line holds it/" * 3 + "venv"])
def test_both_commands_run_from_the_installed_package(tmp_path, place):
    venv = tmp_path / place
    subprocess.run(["make", "-C", ROOT, "tool", f"VENV={venv}"], check=True)
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(9)")
    for command, says in (("ctobserve-lab list", "table_full"), ("ctobserve size --help", "Usage: ctobserve size")):
        name, *arguments = command.split()
        run = [venv / "bin" / name, *arguments]
        result = subprocess.run(run, cwd="/", env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
        assert says in result.stdout
    installed = subprocess.run(["find", tmp_path, "-name", "drops.c"], capture_output=True, text=True, check=True).stdout
    assert installed, "the programs for the kernel must be installed with it"
