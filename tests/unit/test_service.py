"""The systemd unit of the flight recorder: what it runs is a command of ours, in directories that it has, with what it needs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.unit.typed import COMMANDS, CONTEXT

UNIT = Path(__file__).parents[2] / "systemd/ctobserve-recorder.service"
WORST_EXPOSURE = 4.0  # of 10, as systemd-analyze counts it


def settings() -> dict[str, list[str]]:
    """Values by name, in their order."""
    found = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def command() -> list[str]:
    """What is run: in a unit a percent sign is written twice."""
    (line,) = settings()["ExecStart"]
    return [word.replace("%%", "%") for word in shlex.split(line)]


def test_it_runs_a_flight_recorder_in_its_own_state_directory():
    program, name, *words = command()
    assert (program, name) == ("/usr/bin/ctobserve", "record")
    given = COMMANDS[name].make_context(name, words, parent=CONTEXT).params
    assert given["path"] == Path("/var/lib") / settings()["StateDirectory"][0] and settings()["StateDirectoryMode"] == ["0700"]
    assert given["keep"] == 900 and given["wait"] and given["max_size"] == 256 << 20
    assert [one.fills for one in given["conditions"]] == [(), (), (0.9,)]


def test_what_it_may_is_said_why():
    text = UNIT.read_text()
    (granted,) = settings()["CapabilityBoundingSet"]
    assert all(re.search(rf"^# (CAP_\w+, )*{one}[:,]", text, re.M) for one in granted.split())
    assert len(granted.split()) == 7


def test_what_it_must_read_is_not_hidden():
    found = settings()
    # Each hides what the recorder reads, or takes what it needs.
    for name in ("ProtectKernelTunables", "ProtectKernelLogs", "ProtectKernelModules", "ProtectProc", "PrivateNetwork"):
        assert name not in found and f"{name}=" in UNIT.read_text(), "and there it says why"
    assert found["ReadOnlyPaths"] == ["/proc/sys /sys"] and found["ProtectSystem"] == ["strict"]
    assert found["NoNewPrivileges"] == ["yes"] and found["MemoryMax"] == ["2G"]
    assert found["RestrictNamespaces"] == ["net"] and {"bpf", "perf_event_open", "setns"} < set(
        found["SystemCallFilter"][0].split()
    )


def test_systemd_understands_it_and_finds_little_to_complain_of(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/ctobserve", sys.executable))
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    told = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=False)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
    assert exposure and float(exposure[1]) <= WORST_EXPOSURE
