"""The command diff: which instants and recordings are compared, and of incidents that were recorded."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import fields

import numpy as np
import pytest

from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.reader import Reader
from ctobserve.clock import NS_PER_S
from ctobserve.documents.diff import DiffDocument, collect
from ctobserve.documents.instant import take
from ctobserve.event import DestroyReason, Kind
from ctobserve.model import join
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from tests import scripted
from tests.scripted import CLOCK, ScriptedCapture, reading
from tests.unit.recordings import in_time, record, replay
from tests.unit.tables import entries, tcp
from tests.unit.test_diff_document import morning, recorded
from tests.unit.typed import run


def day() -> ScriptedCapture:
    """Ten entries at first; at 1 s five come, at 3 s four of the first go and two change."""
    born = entries(5, src="10.0.0.7", ct=np.arange(1, 6) * 65_536, dport=80)
    old = tcp(10)
    happened = [
        scripted.events(Kind.INSERT, born, at_s=1.0),
        scripted.events(Kind.DESTROY, old[:4], at_s=3.0, reason=DestroyReason.TIMEOUT),
        scripted.events(Kind.UPDATE, tcp(10, "CLOSE")[8:], at_s=3.0),
    ]
    return morning(batches=in_time(join(happened)), entries=old, readings=[reading(), reading(drop=4)])


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Runs `diff`, as a user that is not root, where DAY is a recording of five seconds, and A and B are two others."""

    def never(*_: object) -> None:
        raise AssertionError("a recording needs no capability")

    monkeypatch.setattr("ctobserve.host.capabilities.require", never)
    recorded(tmp_path)
    record(day(), tmp_path / "DAY", keyframe_s=2)
    monkeypatch.chdir(tmp_path)
    return lambda words: run(monkeypatch, capsys, "diff", *words.split())


@pytest.mark.parametrize(
    ("words", "moved", "groups"),
    [
        ("DAY", "10 -> 11: 5 came, 4 went, 6 stayed", ["+5 0 5 5 0 10.0.0.7", "-4 10 6 0 4 10.0.0.1"]),
        ("DAY --since 22:13:22", "15 -> 11: 0 came, 4 went, 11 stayed", ["-4 10 6 0 4 10.0.0.1"]),
        ("DAY --until -3s", "10 -> 15: 5 came, 0 went, 10 stayed", ["+5 0 5 5 0 10.0.0.7"]),
        ("DAY --since -4s --until 2023-11-14T22:13:22Z", "15 -> 15: 0 came, 0 went, 15 stayed", []),
        ("DAY --since -1s --until -1s", "11 -> 11: 0 came, 0 went, 11 stayed", []),
        (
            "DAY --by state,proto --proto tcp",
            "10 -> 6: 0 came, 4 went, 6 stayed",
            ["-6 10 4 0 6 ESTABLISHED tcp", "+2 0 2 2 0 CLOSE tcp"],
        ),
        ("DAY --by dport --limit 1", "10 -> 11: 5 came, 4 went, 6 stayed", ["+5 0 5 5 0 80", "and 1 other groups that changed"]),
        ("A B --by dport", "120 -> 300: 230 came, 50 went, 70 stayed", ["+180 120 300 230 50 53"]),
        ("A B --netns blue --sport 9", "0 -> 230: 230 came, 0 went, 0 stayed", None),
        ("B A --netns 7 --by netns", "300 -> 100: 30 came, 230 went, 70 stayed", ["-200 300 100 30 230 blue"]),
        ("A A", "120 -> 120: 0 came, 0 went, 120 stayed", []),
        ("DAY A --since 22:13:20", "10 -> 120: 110 came, 0 went, 10 stayed", None),
        ("A DAY --until 22:13:22 --src 10.0.0.7", "0 -> 5: 5 came, 0 went, 0 stayed", None),
    ],
)
def test_a_command_compares_what_was_typed(typed, words, moved, groups):
    code, out, err = typed(words)
    assert (code, err) == (0, "")
    said, _, shown = out.partition("\n\n")
    assert f"entries   {moved}" in said.splitlines()
    assert groups is None or [" ".join(line.split()) for line in shown.splitlines()[1:]] == groups


def test_the_command_says_it_as_json(typed):
    code, out, _ = typed("A B --json --limit 0")
    said = json.loads(out)
    assert code == 0 and (said["first"]["file"], said["second"]["file"], said["groups"]) == ("A", "B", [])
    assert list(said) == [one.name for one in fields(DiffDocument)]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("", 2, "missing argument 'A'; try: ctobserve diff --help"),
        ("NONE", 1, "NONE: no such file or directory"),
        ("A NONE", 1, "NONE: no such file or directory"),
        ("A B DAY", 2, "got unexpected extra argument (DAY)"),
        ("DAY --since -1s --until -2s", 2, "--since is later than --until; nothing lies between"),
        ("DAY --since 09:00", 2, "09:00 is no time of the recording, which is from 2023-11-14T22:13:20"),
        ("A B --until 22:13:21", 2, "22:13:21 is no time of the recording, which is from 2023-11-14T23:13:20"),
        ("A B --netns green", 2, "B: no network namespace is called green; there are: blue, red"),
        ("A B --netns red", 2, "A: no network namespace is called red; there are: blue, green"),
        ("A --by colour", 2, "has 'colour', which is none of src, dst"),
    ],
)
def test_what_cannot_be_is_one_line(typed, words, code, says):
    found, out, err = typed(words)
    assert (found, out) == (code, "") and err.startswith("ctobserve: ") and err.count("\n") == 1 and says in err


def test_what_cannot_be_read_of_one_of_them_is_said_once_and_counted(typed):
    with closing(sqlite3.connect("DAY", isolation_level=None)) as found:
        found.execute("UPDATE chunks SET body = x'00' WHERE kind = 'event'")
    code, out, err = typed("DAY --until 22:13:21")
    assert code == 0 and "records lost until then" in out
    assert err.startswith("ctobserve: DAY: not all could be read: ") and err.count("\n") == 1


def test_the_table_at_an_instant_is_what_a_list_of_it_shows(typed, tmp_path):
    at_ns = CLOCK.monotonic_ns + 2 * NS_PER_S
    there = replay(tmp_path / "DAY", at_ns, at_ns).table.entries()
    _, out, _ = typed("DAY --since 22:13:22 --json")
    assert json.loads(out)["first"]["entries"] == len(there) == 15


def test_a_recorded_incident_is_what_was_different(monkeypatch, capsys):
    """23 packets found a table full of 7."""
    code, out, _ = run(monkeypatch, capsys, "diff", str(recording("table_full")), "--json")
    said = json.loads(out)
    assert code == 0 and said["counters"]["gained"]["drop"] == 23
    (setting,) = said["sysctls"]
    assert (setting["name"], setting["second"]) == ("nf_conntrack_max", 7) and "full" in setting["netns"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_of_any_recorded_incident_all_that_came_and_went_is_the_difference(name):
    with closing(Reader(recording(name))) as reader:
        view = RecordedView(reader)
        ends = [RecordedCapture(reader, Purpose(0), at_ns, at_ns) for at_ns in (view.begin_ns, view.end_ns)]
        found = collect(*(take(end, Filter()) for end in ends), ("netns",), 1000, one_recording=True)
    assert found.second.entries - found.first.entries == found.came - found.went
    assert sum(group.came for group in found.groups) == found.came and found.more_groups == 0
    assert [one.entries for one in (found.first, found.second)] == [len(end.table.entries()) for end in ends]
    for side in ("first", "second"):
        assert sum(getattr(one, side) or 0 for one in found.namespaces) == getattr(found, side).entries
