"""`make tool`, as a machine gets it that is only to run the tools: from Debian alone, without this checkout afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_both_commands_run_from_the_installed_package(tmp_path):
    subprocess.run(["make", "-C", ROOT, "tool", f"VENV={tmp_path}/venv"], check=True)
    for command, says in (("ctobserve-lab list", "table_full"), ("ctobserve size --help", "Usage: ctobserve size")):
        name, *arguments = command.split()
        result = subprocess.run([tmp_path / "venv/bin" / name, *arguments], cwd="/", capture_output=True, text=True, check=True)
        assert says in result.stdout
    installed = subprocess.run(["find", tmp_path, "-name", "drops.c"], capture_output=True, text=True, check=True).stdout
    assert installed, "the programs for the kernel must be installed with it"
