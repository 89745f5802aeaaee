"""The Vagrant machine, as far as it can be checked without making one (vagrant/round.sh makes one)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

VAGRANT = Path(__file__).parents[2] / "vagrant"


def validate(directory: Path, state: Path) -> subprocess.CompletedProcess[str]:
    own = {"VAGRANT_HOME": str(state), "VAGRANT_DOTFILE_PATH": str(state / "dot"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    command = ["vagrant", "validate"]
    return subprocess.run(command, cwd=directory, env=os.environ | own, capture_output=True, text=True, check=False)


def test_the_machines_are_valid(tmp_path):
    result = validate(VAGRANT, tmp_path / "home")
    assert result.returncode == 0, result.stderr
    assert "validated successfully" in result.stdout


def test_a_setting_that_the_provider_does_not_know_would_be_found(tmp_path):
    copy = shutil.copytree(VAGRANT, tmp_path / "copy", ignore=shutil.ignore_patterns(".vagrant"))
    text = (copy / "Vagrantfile").read_text()
    (copy / "Vagrantfile").write_text(text.replace("libvirt.cpus", "libvirt.hands"))
    result = validate(copy, tmp_path / "home")
    assert result.returncode == 1 and "hands" in result.stderr + result.stdout


def test_provisioning_is_a_script_the_machine_can_read():
    subprocess.run(["bash", "-n", VAGRANT / "provision.sh"], check=True)
