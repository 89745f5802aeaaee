"""The Vagrant machine, as far as it can be checked without making one (vagrant/round.sh makes one)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VAGRANT = Path(__file__).parents[2] / "vagrant"
# By Vagrant's own reading, on a host of that architecture: each machine with its box, and what makes it one of that architecture.
TOLD = """
RbConfig::CONFIG["host_cpu"] = ARGV[0]
require "vagrant"
machines = Vagrant::Environment.new(cwd: ARGV[1], ui_class: Vagrant::UI::Silent)
machines.machine_names.each do |name|
  machine = machines.machine(name, :libvirt)
  libvirt = machine.provider_config
  firmware = [libvirt.machine_type || "default", File.basename(libvirt.nvram || "none")]
  puts [name, machine.config.vm.box, *firmware, *libvirt.inputs.map { |input| input[:bus] }].join(" ")
end
"""
PC = "debian12 debian/bookworm64 default none ps2\ndebian13 debian/trixie64 default none ps2\n"
ARM = """\
debian12 cloud-image/debian-12 virt ctobserve-debian12.fd virtio
debian13 cloud-image/debian-13 virt ctobserve-debian13.fd virtio
"""


def run(directory: Path, state: Path, *command: str) -> subprocess.CompletedProcess[str]:
    own = {"VAGRANT_HOME": str(state), "VAGRANT_DOTFILE_PATH": str(state / "dot"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    return subprocess.run(command, cwd=directory, env=os.environ | own, capture_output=True, text=True, check=False)


def validate(directory: Path, state: Path) -> subprocess.CompletedProcess[str]:
    return run(directory, state, "vagrant", "validate")


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


@pytest.mark.parametrize(("host_cpu", "told"), [("x86_64", PC), ("aarch64", ARM), ("arm64", ARM)])
def test_a_machine_is_of_the_hosts_architecture(tmp_path, host_cpu, told):
    """Linux calls it aarch64, and macOS arm64."""
    result = run(VAGRANT, tmp_path / "home", "ruby", "-e", TOLD, host_cpu, str(VAGRANT))
    assert (result.returncode, result.stdout) == (0, told), result.stderr


def test_provisioning_is_a_script_the_machine_can_read():
    subprocess.run(["bash", "-n", VAGRANT / "provision.sh"], check=True)
