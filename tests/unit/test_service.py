"""The systemd units: what each runs is a command of ours, with what it needs and no more, and systemd says how exposed it is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.unit.typed import COMMANDS, CONTEXT

UNITS = Path(__file__).parents[2] / "systemd"
DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("recorder", "export")
CAPABILITIES = {"recorder": 7, "export": 5}
# Each hides what we read, or takes what we need.
NEVER = ("ProtectKernelTunables", "ProtectKernelLogs", "ProtectKernelModules", "ProtectProc", "PrivateNetwork", "PrivateUsers")


def unit_of(name: str) -> Path:
    return UNITS / f"ctobserve-{name}.service"


def settings(name: str) -> dict[str, list[str]]:
    """Values by name, in their order."""
    found = defaultdict(list)
    for line in unit_of(name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def given(name: str) -> dict[str, Any]:
    """What its command is told; in a unit a percent sign is written twice."""
    (line,) = settings(name)["ExecStart"]
    program, command, *words = [word.replace("%%", "%") for word in shlex.split(line)]
    assert program == "/usr/bin/ctobserve"
    found: dict[str, Any] = COMMANDS[command].make_context(command, words, parent=CONTEXT).params
    return found | {"command": command}


def exposure(path: Path) -> float:
    """How exposed systemd finds a unit, of 10."""
    told = subprocess.run(["systemd-analyze", "security", "--offline=true", path], capture_output=True, text=True, check=False)
    (found,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
    return float(found)


def test_every_unit_is_tested():
    assert {path.name for path in UNITS.iterdir()} == {unit_of(name).name for name in NAMES}


def test_a_flight_recorder_runs_in_its_own_state_directory():
    asked, found = given("recorder"), settings("recorder")
    assert asked["command"] == "record" and asked["path"] == Path("/var/lib") / found["StateDirectory"][0]
    assert found["StateDirectoryMode"] == ["0700"] and found["MemoryMax"] == ["2G"]
    assert asked["keep"] == 900 and asked["wait"] and asked["max_size"] == 256 << 20
    assert [one.fills for one in asked["conditions"]] == [(), (), (0.9,)]


def test_the_exporter_serves_this_host_alone_as_a_user_of_its_own():
    asked, found = given("export"), settings("export")
    assert asked["command"] == "export" and asked["place"].address.is_loopback and asked["place"].port == 9877
    assert found["IPAddressDeny"] == ["any"] and found["IPAddressAllow"] == ["localhost"]
    assert found["DynamicUser"] == ["yes"] and found["AmbientCapabilities"] == found["CapabilityBoundingSet"]
    assert found["MemoryMax"] == ["512M"] and found["CPUQuota"] == ["50%"]


def test_what_the_page_puts_over_the_exporters_unit_is_understood_and_brings_the_files_that_it_names():
    (block,) = re.findall(r"^    \[Service\]\n((?: {4}.+\n)+)", (DOCS / "always-on.md").read_text(), re.M)
    emptied, started, *rest = block.split()[0], *re.findall(r"^ +(\S+=.+)$", block, re.M)
    program, command, *words = shlex.split(started.removeprefix("ExecStart="))
    asked = COMMANDS[command].make_context(command, words, parent=CONTEXT).params
    assert (emptied, program, command) == ("ExecStart=", "/usr/bin/ctobserve", "export")
    loaded = [found[1] for line in rest if (found := re.match(r"LoadCredential=(\S+):/etc/ctobserve/\1$", line))]
    named = re.findall(r"^ +(?:cert|key)_file: (\S+)", (DOCS / "export.md").read_text(), re.M)
    assert loaded == [asked["web_config"].name, *named]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_may_is_said_why(name):
    text = unit_of(name).read_text()
    (granted,) = settings(name)["CapabilityBoundingSet"]
    assert all(re.search(rf"^# (CAP_\w+, )*{one}[:,]", text, re.M) for one in granted.split())
    assert len(granted.split()) == CAPABILITIES[name]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_must_read_is_not_hidden(name):
    found, text = settings(name), unit_of(name).read_text()
    assert not [key for key in NEVER if key in found or f"{key}=" not in text], "and it says why"
    assert found["ReadOnlyPaths"] == ["/proc/sys /sys"] and found["ProtectSystem"] == ["strict"]
    assert found["NoNewPrivileges"] == ["yes"] and found["LimitMEMLOCK"] == ["infinity"]
    assert found["RestrictNamespaces"] == ["net"]
    assert {"bpf", "perf_event_open", "setns"} <= set(found["SystemCallFilter"][-1].split())


@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_it_and_finds_it_as_little_exposed_as_the_docs_say(name, tmp_path):
    unit = tmp_path / unit_of(name).name
    unit.write_text(unit_of(name).read_text().replace("/usr/bin/ctobserve", sys.executable))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    (said,) = re.findall(rf"\| systemd/{unit.name} \|.* ([0-9.]+) \|$", (DOCS / "always-on.md").read_text(), re.M)
    assert exposure(unit) <= float(said)
