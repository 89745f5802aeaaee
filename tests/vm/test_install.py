"""`make tool`, as a machine gets it that is only to run the tools: from Debian alone, without this checkout afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", ["venv", "a path with blanks/" + "and so long that no first line holds it/" * 3 + "venv"])
def test_both_commands_run_from_the_installed_package(tmp_path, place):
    venv, trap, sprung = tmp_path / place, tmp_path / "trap", tmp_path / "sprung"
    trap.mkdir()
    (trap / "sitecustomize.py").write_text(f"open({str(sprung)!r}, 'a').write('Python ')")
    (trap / "profile").write_text(f"echo shell >> '{sprung}'")
    hostile = {"PYTHONPATH": str(trap), "PYTHONUSERBASE": str(trap), "BASH_ENV": str(trap / "profile")}
    pip = {"PIP_TARGET": str(trap / "elsewhere"), "PIP_PYTHON": str(trap / "python"), "PIP_REQUIREMENT": str(trap / "none.txt")}
    subprocess.run(["make", "-C", ROOT, "tool", f"VENV={venv}"], env=os.environ | hostile | pip, check=True)
    for command, says in (("ctobserve-lab list", "table_full"), ("ctobserve size --help", "Usage: ctobserve size")):
        name, *arguments = command.split()
        run = [venv / "bin" / name, *arguments]
        result = subprocess.run(run, cwd="/", env=hostile, capture_output=True, text=True, check=True)
        assert says in result.stdout
    assert not sprung.exists()
    installed = subprocess.run(["find", tmp_path, "-name", "drops.c"], capture_output=True, text=True, check=True).stdout
    assert installed, "the programs for the kernel must be installed with it"
