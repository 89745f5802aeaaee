"""The flight recorder by its command, and every command on its directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctobserve.capture.store.parts import INCIDENT
from ctobserve.capture.watch import Stretch
from ctobserve.clock import NS_PER_S
from ctobserve.commands.conditions import CONDITION
from ctobserve.diagnosis.rules import RULES
from ctobserve.documents.request import Request
from ctobserve.model import Entries
from ctobserve.programs.hooks import Purpose
from tests.scripted import ScriptedCapture, reading
from tests.unit.flights import Churning, lost
from tests.unit.test_flight import incidents, replay, report_of
from tests.unit.typed import run


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs `record` on a made capture in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGUSR1)

    def start(capture: ScriptedCapture, words: str) -> tuple[int, str, str]:
        @contextmanager
        def opened(request: Request, _purpose: Purpose, **_how: bool) -> Iterator[tuple[ScriptedCapture, Stretch]]:
            capture.follow()
            yield capture, Stretch(request.duration)

        monkeypatch.setattr("ctobserve.commands.record.opened", opened)
        return run(monkeypatch, capsys, "record", *words.split())

    yield start
    signal.signal(signal.SIGUSR1, before)


def test_the_command_says_what_it_keeps_as_text_and_as_json(typed):
    made = Churning(0.5)
    made.happens = {50: lost()}
    code, out, err = typed(made, "DIR --duration 100 --keep 60s --after 5s --on drop --on fill>=90%")
    first, second = out.splitlines()
    assert code == 0 and re.fullmatch(r"DIR: the last 6\d s, of \d+ events, the table \d+ times; \d+ bytes compressed", first)
    assert second == "DIR/incident-20231114T221410Z-drop"
    assert "ctobserve: kept DIR/incident-20231114T221410Z-drop: drop\n" in err
    code, out, _ = typed(Churning(0.5), "DIR --duration 100 --keep 60s --json")
    said = json.loads(out)
    assert code == 0 and said["incidents"] == ["incident-20231114T221410Z-drop"] and 60 <= said["held_s"] < 70


def test_sigusr1_keeps_an_incident(typed):
    made = Churning(0.5)
    made.each_step = lambda: os.kill(os.getpid(), signal.SIGUSR1) if made.passed_s() == 50 else None
    assert typed(made, "DIR --duration 100 --keep 60s --after 5s")[0] == 0
    assert incidents(Path("DIR")) == ["incident-20231114T221410Z-asked"]


def test_commands_read_the_directory(typed, monkeypatch, capsys):
    made = Churning(0.5)
    made.happens = {90: lost()}
    typed(made, "DIR --duration 100 --keep 60s")
    for words, says in (
        ("report", "table_full"),
        ("drops --since -15s", "table_full"),
        ("list --at -20s", "NETNS"),
        ("verify", "EQUAL"),
        ("list --netns blue", "NETNS"),
    ):
        code, out, err = run(monkeypatch, capsys, *words.split(), "--from", "DIR")
        assert code == 0 and says in out, (words, out, err)
    for words, says in (
        ("diff DIR --since -30s", "entries"),
        ("anonymise DIR OUT", "OUT"),
        ("report --from OUT", "table_full"),
    ):
        code, out, err = run(monkeypatch, capsys, *words.split())
        assert code == 0 and says in out, (words, out, err)
    there, shared = report_of("DIR"), report_of("OUT")
    assert [row.id for row in there.verdicts] == [row.id for row in shared.verdicts]
    assert (there.meta.events_seen, there.meta.events_lost) == (shared.meta.events_seen, shared.meta.events_lost)


def test_what_is_different_since_a_time_that_the_directory_still_has(typed, monkeypatch, capsys):
    typed(Churning(0.5, readings=[reading(), *(reading(drop=count) for count in range(99))]), "DIR --duration 100 --keep 60s")
    at = [len(table_at(Path("DIR"), before_s)) for before_s in (20, 0)]
    code, out, err = run(monkeypatch, capsys, "diff", "DIR", "--since", "-20s", "--by", "dport")
    found = re.search(r"^entries   (\d+) -> (\d+): \d+ came, \d+ went, \d+ stayed$", out, re.M)
    assert (code, err) == (0, "") and found and [int(count) for count in found.groups()] == at
    assert re.search(r"^counters  drop \+\d+ from ", out, re.M)


def table_at(path: Path, before_s: int) -> Entries:
    at_ns = replay(path).end_ns - before_s * NS_PER_S
    return replay(path, at_ns, at_ns).table.entries()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("DIR --on drop", "--on is of a flight recorder; give it --keep TIME too"),
        ("DIR --max-size 64MiB", "--max-size is of a flight recorder"),
        ("DIR --after 5s", "--after is of a flight recorder"),
        ("DIR --max-incidents 3", "--max-incidents is of a flight recorder"),
        ("DIR --keep 5s", "'5s' is no time from 10s to 7d; write it like 90s, 15m or 2h"),
        ("DIR --keep 900", "'900' is no time"),
        ("DIR --keep 8d", "'8d' is no time"),
        ("DIR --keep 15m --max-size 31MiB", "'31MiB' is no size from 32MiB on; write it like 256MiB or 2GiB"),
        ("DIR --keep 15m --max-size 64", "'64' is no size"),
        ("DIR --keep 15m --on drops", "'drops' is none of drop, early_drop, 'fill>=90%', verdict:ID"),
        ("DIR --keep 15m --on fill>=101%", "is none of drop"),
        ("DIR --keep 15m --on fill>=0%", "is none of drop"),
        ("DIR --keep 15m --on verdict:tabel_full", "names no verdict of the report; there are table_full"),
        ("DIR --keep 15m --on verdict:qqq", "names no verdict of the report; docs/json.md lists them under Rules"),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_nothing(typed, words, says):
    code, out, err = typed(Churning(), words)
    assert code == 2 and not out and says in err and err.count("\n") == 1
    assert os.listdir(".") == []


def test_every_rule_of_the_report_can_be_waited_for():
    assert [CONDITION.convert(f"verdict:{rule.id}", None, None).verdicts for rule in RULES] == [(rule.id,) for rule in RULES]
    assert INCIDENT.fullmatch("incident-20231114T221410Z-verdict-table_full-2")
    for name in (f"verdict-{rule.id}" for rule in RULES):
        assert INCIDENT.fullmatch(f"incident-20231114T221410Z-{name}") and shlex.quote(name) == name
