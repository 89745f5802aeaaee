"""The flight recorder on a real kernel: what is around a loss is kept and judged alike; when it is killed all can be read."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ctobserve_lab.scenarios import SCENARIOS
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load, send_udp
from tests.kernel.conftest import Running
from tests.kernel.systemd import Systemd
from tests.kernel.tool import PATIENCE_S
from tests.kernel.warm import told
from tests.unit.test_service import settings

KEEP = ("--keep", "20s", "--after", "3s", "--max-size", "32MiB")
MOST_BYTES = 32 << 20


def waited_for(directory: Path, why: str, running: Running) -> Path:
    """The incident that is kept for this, once it is whole."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert running.process.poll() is None, running.errors
        for path in directory.glob("incident-*"):
            if path.name.endswith(f"-{why}"):
                return path
        time.sleep(0.2)
    raise AssertionError(f"no incident for {why}: {sorted(os.listdir(directory))} {running.errors}")


def until(true: Callable[[], bool]) -> bool:
    """Whether it became so."""
    end = time.monotonic() + PATIENCE_S
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def kept(directory: Path, table: str, kind: str) -> bool:
    """Whether the first part of a flight has rows of this kind."""
    part = directory / "part-00000001"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{part}?mode=ro", uri=True)) as opened:
        return bool(opened.execute(f"SELECT count(*) FROM {table} WHERE kind = ?", [kind]).fetchone()[0])
    return False


def asked(*words: str) -> Any:
    """What a command says of a recording."""
    return json.loads(told(*words, "--json"))


def bits(capabilities: Sequence[str]) -> int:
    """As /proc/PID/status has them; numbers of linux/capability.h."""
    numbers = {"DAC_READ_SEARCH": 2, "NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYSLOG": 34, "PERFMON": 38, "BPF": 39}
    return sum(1 << numbers[name.removeprefix("CAP_")] for name in capabilities)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def test_a_full_table_is_kept_with_what_came_before_and_the_report_says_so(stage, start, tmp_path):
    directory = tmp_path / "DIR"
    play = SCENARIOS["table_full"].play(stage)
    space = next(play)
    assert space
    running = start("record", str(directory), *KEEP, "--on", "drop", "--json")
    next(play)
    incident = waited_for(directory, "drop", running)
    said = json.loads(running.end())
    found = asked("report", "--from", str(incident), "--netns", space.name)
    worst = found["verdicts"][0]
    assert (worst["id"], worst["evidence"]["packets"], found["meta"]["events_lost"]) == ("table_full", 23, 0)
    assert found["meta"]["duration_s"] >= 3
    assert asked("drops", "--from", str(incident), "--netns", space.name)["by_reason"] == {"table_full": 23}
    assert said["incidents"] == [incident.name] and said["unwritten"] == 0
    assert "packets lost (table_full" in running.errors and f"kept {incident}: drop" in running.errors
    assert incident.stat().st_mode & 0o777 == 0o600 and directory.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    with TemporaryDirectory(dir="/run") as work, Systemd(Path(work)) as made:
        yield made


def test_the_unit_keeps_what_systemctl_asks_for_with_its_capabilities_and_no_other(net, systemd):
    space, unit = net.space("asked"), "ctobserve-recorder"
    systemd.ctl("start", unit)
    directory = systemd.state / "ctobserve"
    begun = until(lambda: kept(directory, "facts", "keyframe"))
    load(space, 211)
    assert begun and until(lambda: kept(directory, "chunks", "event")), systemd.ctl("status", unit)
    status = Path(f"/proc/{systemd.pid(unit)}/status").read_text()
    (line,) = settings("recorder")["CapabilityBoundingSet"]
    assert f"CapEff:\t{bits(line.split()):016x}" in status and "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    systemd.ctl("kill", "--signal=USR1", unit)
    systemd.ctl("stop", unit)
    assert (systemd.asked(unit, "Result"), systemd.asked(unit, "ExecMainStatus")) == ("success", "0")
    (incident,) = directory.glob("incident-*-asked")
    for source in (incident, directory):
        assert len(asked("list", "--from", str(source), "--netns", space.name)["entries"]) == 211
    assert asked("verify", "--from", str(incident), "--netns", space.name)["equal"]


def test_it_goes_round_in_bounded_space_and_leaves_what_can_be_read_when_it_is_killed(net, start, tmp_path):
    directory, space = tmp_path / "DIR", net.space("round")
    running = start("record", str(directory), *KEEP, "--keyframe", "5")
    sent, most, first = 0, 0, directory / "part-00000001"
    end = time.monotonic() + PATIENCE_S
    while (sent < 5000 or first.exists()) and time.monotonic() < end:
        sent += 211 - send_udp(space, 211, first_port=10000 + sent % 40_000)
        most = max(most, sum(path.stat().st_blocks * 512 for path in directory.glob("*") if path.exists()))
        time.sleep(0.2)
    assert not first.exists() and most <= MOST_BYTES, (sorted(os.listdir(directory)), most)
    time.sleep(2)  # what is older than a second is committed
    running.process.kill()
    running.process.wait()
    events = [json.loads(line) for line in told("events", "--from", str(directory), "--netns", space.name, "--json").splitlines()]
    assert any(row["event"] == "insert" for row in events)
    there = len(asked("list", "--from", str(directory), "--netns", space.name)["entries"])
    assert 0 < there <= sent


def test_a_verdict_is_waited_for(net, start, tmp_path, sysctl: Callable[[str, int], None]):
    directory, space = tmp_path / "DIR", net.space("verdict")
    load(space, 97)
    running = start("record", str(directory), *KEEP, "--keyframe", "10", "--on", "verdict:table_full", "--no-invalid")
    sysctl("nf_conntrack_max", space.count())
    end = time.monotonic() + PATIENCE_S
    while not list(directory.glob("incident-*-verdict-table_full")) and time.monotonic() < end:
        send_udp(space, 3, first_port=50_000)
        time.sleep(0.5)
    incident = waited_for(directory, "verdict-table_full", running)
    running.end()
    found = asked("report", "--from", str(incident), "--netns", space.name, "--no-invalid")
    assert "table_full" in {row["id"] for row in found["verdicts"]}
