"""The flight recorder: the last minutes in bounded space, each stretch readable, and incidents out of it.

CTOBSERVE_FLIGHT_DAYS says how long it flies.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.capture import Fidelity, NamespaceState
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.store.facts import Trigger
from ctobserve.capture.store.joined import opened
from ctobserve.capture.store.parts import PART
from ctobserve.capture.store.writer import NotWritten
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.documents import report
from ctobserve.documents.request import Request
from ctobserve.documents.triggers import Conditions
from ctobserve.event import Kind
from ctobserve.model import join
from tests import scripted
from tests.scripted import CLOCK, NETNS, ScriptedCapture
from tests.unit.flights import MIB, Churning, disk_bytes, fly, lost
from tests.unit.recordings import EVERYTHING
from tests.unit.tables import entries
from tests.unit.test_recording import nameless

DAYS = float(os.environ.get("CTOBSERVE_FLIGHT_DAYS", "0.2"))
ON_DROP = Conditions(drop=True)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory: days pass here, and each part waits for a disk several times."""
    before = os.getcwd()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    os.chdir(before)
    # What a failed test has open is in use until it is forgotten.
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def replay(path: Path, since_ns: int | None = None, until_ns: int | None = None) -> RecordedCapture:
    return RecordedCapture(opened(path), EVERYTHING, since_ns, until_ns)


def parts(path: Path) -> list[str]:
    return sorted(filter(PART.fullmatch, os.listdir(path)))


def incidents(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith("incident-"))


def verdicts(path: Path) -> set[str]:
    return {row.id for row in report_of(str(path)).verdicts}


def report_of(path: str) -> report.ReportDocument:
    return report.collect(replay(Path(path)), Request(), Stretch(), invalid=True)


def seconds(found: RecordedCapture) -> tuple[float, float]:
    """Begin and end, since the start of the capture."""
    return tuple((at_ns - CLOCK.monotonic_ns) / NS_PER_S for at_ns in (found.begin_ns, found.end_ns))


def assert_told(found: RecordedCapture, live: Churning) -> None:
    """It tells what came since it began, in order."""
    assert live.told_so_far
    came, again = join(live.told_so_far), join([*watch(found, Stretch()), found.drain()])
    came, again = (some[some["entry"]["seen_ns"] > found.begin_ns] for some in (came, again))
    assert len(again) > 10_000
    for name in ("kind", "reason"):
        assert again[name].tolist() == came[name].tolist()
    assert again["entry"]["port"].tolist() == came["entry"]["port"].tolist()


def assert_same_table(found: RecordedCapture, live: ScriptedCapture) -> None:
    """After all of its events the table is what the capture had at its end."""
    assert list(watch(found, Stretch())) and found.drain() is not None
    ours, theirs = ({one.tobytes() for one in nameless(rows)} for rows in (found.table.entries(), live.table.entries()))
    assert ours == theirs


def triggers(path: Path) -> list[Trigger]:
    with closing(opened(path)) as reader:
        return [fact.found for fact in reader.all("trigger")]


def test_the_directory_is_ours_alone_and_holds_the_last_minutes_and_little_more(tmp_path):
    found = fly(Churning(0.1), tmp_path / "DIR", 200)
    assert (tmp_path / "DIR").stat().st_mode & 0o777 == 0o700
    assert {(tmp_path / "DIR" / name).stat().st_mode & 0o777 for name in parts(tmp_path / "DIR")} == {0o600}
    begin_s, end_s = seconds(replay(tmp_path / "DIR"))
    assert end_s == 200 and 60 <= end_s - begin_s <= 60 * 9 / 8 + 1
    assert found.held_s == end_s - begin_s and found.incidents == () and found.unwritten == 0
    assert os.listdir(tmp_path / "DIR") and set(os.listdir(tmp_path / "DIR")) == set(parts(tmp_path / "DIR"))


def test_events_of_the_parts_are_those_that_came_and_the_table_at_any_instant_is_what_they_made_of_it(tmp_path):
    live, tables = Churning(0.1), {}
    live.told_so_far = []
    live.each_step = lambda: tables.setdefault(live.now_ns() - 1000, live.table.entries())
    fly(live, tmp_path / "DIR", 100)
    found = replay(tmp_path / "DIR")
    assert_told(found, live)
    for at_ns in Random(3).sample([at_ns for at_ns in tables if at_ns >= found.begin_ns], 20):
        ours, theirs = (
            {one.tobytes() for one in nameless(rows)}
            for rows in (replay(tmp_path / "DIR", at_ns, at_ns).table.entries(), tables[at_ns])
        )
        assert ours == theirs
    for name in parts(tmp_path / "DIR"):
        assert len(replay(tmp_path / "DIR" / name).table.entries()) > 50, "each part is a recording like any other"


def test_what_was_lost_and_seen_before_the_first_part_is_not_of_it(tmp_path):
    class Losing(Churning):
        def fidelity(self) -> Fidelity:
            lost_so_far = {"insert": int(self.passed_s() // 10)} if self.passed_s() >= 10 else {}
            return super().fidelity()._replace(lost=lost_so_far, uncertain_ns=len(lost_so_far) and int(self.passed_s() // 10))

    fly(Losing(0.5), tmp_path / "DIR", 200)
    found = replay(tmp_path / "DIR")
    begin_s, _ = seconds(found)
    events = sum(map(len, watch(found, Stretch())))
    assert found.fidelity().lost == {"insert": 20 - begin_s // 10}
    assert 0 <= found.fidelity().seen - events <= 40


def test_an_incident_is_what_came_before_and_after_and_says_what_for(tmp_path):
    made, said = Churning(0.1), []
    made.happens = {100: lost(), 103: lost(2), 104: scripted.events(Kind.DESTROY, entries(1, ct=77), reason=2)}
    fly(made, tmp_path / "DIR", 200, Conditions(drop=True, early_drop=True), say=said.append)
    (name,) = incidents(tmp_path / "DIR")
    assert name == "incident-20231114T221500Z-drop"
    path = tmp_path / "DIR" / name
    assert path.stat().st_mode & 0o777 == 0o600
    begin_s, end_s = seconds(replay(path))
    assert 32 <= begin_s <= 40 and 105 <= end_s <= 106 and replay(path).finished
    assert verdicts(path) >= {"table_full"}
    assert triggers(path) == [
        Trigger("drop", "packets lost (table_full 3)"),
        Trigger("early_drop", "entries evicted by early_drop (1)"),
    ]
    assert said == [
        f"packets lost (table_full 3): kept as {name} in 5 s",
        f"entries evicted by early_drop (1): of {name}, too",
        f"kept {path}: drop, early_drop",
    ]
    begin_s, end_s = seconds(replay(tmp_path / "DIR"))
    assert end_s == 200 and end_s - begin_s < 70, "the last minutes go on as if nothing had been kept"


def test_what_goes_on_is_one_incident_and_what_comes_again_another(tmp_path):
    made = Churning(0.5)
    made.happens = {at: lost() for at in (*range(20, 100, 4), 150)}
    fly(made, tmp_path / "DIR", 200, ON_DROP, after_s=12)
    assert incidents(tmp_path / "DIR") == ["incident-20231114T221340Z-drop", "incident-20231114T221550Z-drop"]


def test_of_many_incidents_the_oldest_go(tmp_path):
    made = Churning(0.5)
    made.happens = {at: lost() for at in range(20, 200, 30)}
    found = fly(made, tmp_path / "DIR", 200, ON_DROP, most_incidents=2)
    assert (
        [name[9:25] for name in found.incidents]
        == ["20231114T221540Z", "20231114T221610Z"]
        == [name[9:25] for name in incidents(tmp_path / "DIR")]
    )


def test_an_incident_that_is_under_way_at_the_end_is_kept(tmp_path):
    made = Churning(0.5)
    made.happens = {98: lost()}
    fly(made, tmp_path / "DIR", 100, ON_DROP, after_s=30)
    (name,) = incidents(tmp_path / "DIR")
    assert seconds(replay(tmp_path / "DIR" / name))[1] == 100 and replay(tmp_path / "DIR" / name).finished


def test_who_asks_gets_what_is_there(tmp_path):
    made, asked = Churning(0.5), [50]
    fly(made, tmp_path / "DIR", 100, asked=lambda: bool(asked) and made.passed_s() >= asked[0] and asked.pop() > 0)
    assert [name.rpartition("-")[2] for name in incidents(tmp_path / "DIR")] == ["asked"]


def test_who_asks_and_ends_it_at_once_gets_it_too(tmp_path):
    made, late = Churning(0.5), iter([False, True])
    fly(made, tmp_path / "DIR", 100, asked=lambda: made.passed_s() >= 100 and next(late))
    assert next(late, None) is None, "it was asked for when nobody looked any more"
    assert [name.rpartition("-")[2] for name in incidents(tmp_path / "DIR")] == ["asked"]


def test_a_table_that_fills_is_an_incident_once_it_does(tmp_path):
    class Filling(Churning):
        def namespaces(self, *given: Any, **named: Any) -> dict[int, NamespaceState]:
            full = 50 <= self.passed_s() < 120 or self.passed_s() >= 170
            sysctls = {"nf_conntrack_count": 95 if full else 5, "nf_conntrack_max": 100}
            self.states = {NETNS: NamespaceState(NETNS, "blue", init=True, sysctls=sysctls)}
            return super().namespaces(*given, **named)

    said: list[str] = []
    fly(Filling(0.5), tmp_path / "DIR", 200, Conditions(fills=(0.9,)), say=said.append)
    assert incidents(tmp_path / "DIR") == ["incident-20231114T221410Z-fill", "incident-20231114T221610Z-fill"]
    assert said[0].startswith("blue has 95 of 100 entries: kept as incident-")


def test_a_verdict_is_an_incident_and_what_its_judgement_takes_is_recorded_all_the_same(tmp_path):
    made = Churning(0.5)
    made.told_so_far = []
    made.happens = {72: lost(23)}
    fly(made, tmp_path / "DIR", 160, Conditions(verdicts=("table_full",)), keyframe_s=20, keep_s=600)
    (name,) = incidents(tmp_path / "DIR")
    assert name.endswith("-verdict-table_full") and "table_full" in verdicts(tmp_path / "DIR" / name)
    (trigger,) = triggers(tmp_path / "DIR" / name)
    assert trigger.says.startswith("the table of blue is full: 23 packets")
    assert_told(replay(tmp_path / "DIR"), made)


def test_in_a_flood_it_keeps_less_time_and_says_so_once_and_never_takes_more_room(tmp_path):
    path = tmp_path / "DIR"
    made, said, most = Churning(0.5, each=2000, room=200_000), [], []
    made.each_step = lambda: most.append(disk_bytes(path))
    made.happens = {at: lost() for at in range(20, 100, 20)}
    fly(made, path, 100, ON_DROP, say=said.append, most_bytes=6 * MIB, keep_s=90)
    assert max(most) <= 6 * MIB
    (line,) = [line for line in said if "not 90" in line]
    assert re.fullmatch(rf"{path}: the last \d+ s are kept, not 90: there is no room for more in --max-size", line)
    for one in (path, *(path / name for name in incidents(path))):
        found = replay(one)
        assert sum(map(len, watch(found, Stretch()))) > 10_000 and not found._reader.damaged
    assert incidents(path), "the newest, if there is no room for more"


def test_a_table_that_is_too_large_for_it_is_said_and_what_is_there_stays(tmp_path):
    said: list[str] = []
    made = Churning(0.5, each=50)
    made.happens = {30: scripted.events(Kind.INSERT, entries(90_000, ct=np.arange(90_000) * 320 + 1, sport=7))}
    with pytest.raises(NotWritten, match=r"a reading of the table takes too much of --max-size .* the end is missing"):
        fly(made, tmp_path / "DIR", 60, say=said.append, most_bytes=4 * MIB)
    assert "a reading of the table takes too much of --max-size" in said[0] and len(said) == 1
    assert disk_bytes(tmp_path / "DIR") <= 4 * MIB and len(replay(tmp_path / "DIR").table)


def test_a_part_begins_with_timeouts_that_were_read_and_not_with_those_of_months_ago(tmp_path):
    old, now = (entries(9, ct=np.arange(1, 10) * 64, timeout=timeout) for timeout in (1, 999))
    fly(ScriptedCapture(entries=old, kernel=now), tmp_path / "DIR", 30, keyframe_s=5)
    found = replay(tmp_path / "DIR")
    begins = [set(found._replay.read(one).entries["timeout"].tolist()) for one in found.keyframes]
    assert begins[0] == {1} and begins[-1] == {999} and begins.count({1}) == 1
    assert set(found.table.entries()["timeout"].tolist()) == {1}, "of the begin that it was asked for"
    assert set(replay(tmp_path / "DIR", found.end_ns, found.end_ns).table.entries()["timeout"].tolist()) == {999}


def test_numbers_of_entries_that_are_forgotten_make_no_other_table(monkeypatch, tmp_path):
    monkeypatch.setattr("ctobserve.capture.flight.MANY", 100)
    made = Churning(0.5, room=100_000)
    fly(made, tmp_path / "DIR", 100)
    found = replay(tmp_path / "DIR")
    assert_same_table(found, made)
    assert len([one for one in found.keyframes if one.found.repairs]) > 2


def test_days_take_no_more_disk_and_memory_than_hours(tmp_path):
    """A step is a minute: a keyframe and a commit, and every other one makes a new part."""
    path, samples = tmp_path / "DIR", []
    flight_s = DAYS * 86_400
    made = Churning(60, floods=np.arange(1800, flight_s, 3600).tolist())
    losses = np.arange(900, flight_s, 1800).tolist()
    made.happens = {at: lost() for at in losses}

    def sample() -> None:
        if made.passed_s() % 600 < 60:
            gc.collect()  # which also empties the lists of free tuples, of which Python keeps thousands
            samples.append((made.passed_s(), disk_bytes(path), tracemalloc.get_traced_memory()[0]))

    made.each_step = sample
    tracemalloc.start()
    fly(made, path, flight_s, ON_DROP, keep_s=900, after_s=60)
    tracemalloc.stop()
    # From when on as many incidents are kept as may be.
    settled = [one for one in samples if one[0] > losses[4]]
    early, late = (settled[: len(settled) // 2], settled[len(settled) // 2 :])
    for at in (1, 2):
        assert max(one[at] for one in late) <= 1.1 * max(one[at] for one in early), (early, late)
    assert max(one[1] for one in samples) < 32 * MIB
    assert len(incidents(path)) == 4
    assert all("table_full" in verdicts(path / name) for name in incidents(path))
    assert seconds(replay(path))[1] - seconds(replay(path))[0] <= 900 * 9 / 8 + 120
