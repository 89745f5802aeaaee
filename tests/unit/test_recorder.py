"""When a recorder reads the table beside its turn: at once where a loss was repaired, or where the hash has another size."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ctobserve.capture.capture import Fidelity
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.watch import STEP_S
from ctobserve.clock import NS_PER_S
from ctobserve.event import Events, Kind
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.host.whose import Whose
from ctobserve.model import join
from tests.scripted import BUCKETS, CLOCK, NETNS, ScriptedCapture, events
from tests.unit.recordings import at_end, in_time, record, replay
from tests.unit.tables import entries

ONCE_S = 3600
AT = 23  # the step in which it happens, in the midst of a second
AT_NS = CLOCK.monotonic_ns + round(AT * STEP_S * NS_PER_S)
BORN = entries(9, ct=[at * 64 for at in range(1, 10)], sport=range(1, 10), bucket=(3, 5))
UNTOLD = entries(2, ct=[6400, 6464], sport=range(100, 102), bucket=(7, 8))


class Changing(ScriptedCapture):
    """In one step something `happens` to it."""

    happens: Callable[[Changing], None]

    def __init__(self, happens: Callable[[Changing], None], **more: Any) -> None:
        self.happens = happens
        super().__init__(entries=BORN, **more)

    def step(self) -> Events:
        if self.now_ns() == AT_NS:
            self.happens(self)
        return super().step()


def lost(capture: Changing) -> None:
    """Two inserts, after which the table was read again: it was wrong for a while, and has them."""
    capture.told = capture.told._replace(lost={"insert": 2}, uncertain_ns=7_000_000)
    capture.repairs += 1
    capture.kernel = join([capture.table.entries(), UNTOLD])
    capture.follow()
    capture.kernel = None


def resized(capture: Changing) -> None:
    """The hash is twice as large: every entry has other buckets."""
    capture.buckets = 2 * BUCKETS
    capture.repairs += 1
    capture.kernel = capture.table.entries()
    capture.kernel["bucket"] = (1003, 1005)
    capture.follow()
    capture.kernel = None


def ports(path: Path, at_ns: int) -> list[int]:
    found = replay(path, at_ns, at_ns)
    return sorted(found.table.entries()["port"][:, 0].tolist())


@pytest.mark.parametrize("happens", [lost, resized])
def test_what_was_read_again_is_read_at_once_and_replaces_what_events_had_made(tmp_path, happens):
    assert record(Changing(happens), tmp_path / "one", seconds=2, keyframe_s=ONCE_S).keyframes == 3
    begin, between, end = replay(tmp_path / "one").keyframes
    assert (begin.at_ns, between.at_ns, end.at_ns) == (CLOCK.monotonic_ns, AT_NS, CLOCK.monotonic_ns + 2 * NS_PER_S)
    assert [one.found.repairs for one in (begin, between, end)] == [False, True, False]


def test_without_such_a_thing_it_is_read_at_begin_and_end_alone(tmp_path):
    assert record(Changing(lambda _: None), tmp_path / "one", seconds=2, keyframe_s=ONCE_S).keyframes == 2


def test_from_a_loss_on_the_table_has_what_no_event_told(tmp_path):
    record(Changing(lost), tmp_path / "one", seconds=2, keyframe_s=ONCE_S)
    assert ports(tmp_path / "one", AT_NS - 1) == list(range(1, 10))
    assert ports(tmp_path / "one", AT_NS) == [*range(1, 10), 100, 101]
    # Who replays all of it takes it on the way, and knows since when it was lost.
    whole = replay(tmp_path / "one")
    while not whole.over:
        whole.wait(0.1)
        whole.step()
    assert sorted(whole.table.entries()["port"][:, 0].tolist()) == [*range(1, 10), 100, 101]
    told: Fidelity = whole.fidelity()
    assert (told.lost, told.uncertain_ns) == ({"insert": 2}, 7_000_000)


def test_a_hash_that_was_resized_and_back_between_two_looks_is_read_again_too(tmp_path):
    def there_and_back(capture: Changing) -> None:
        resized(capture)
        capture.buckets, capture.repairs = BUCKETS, capture.repairs + 1

    assert record(Changing(there_and_back), tmp_path / "one", seconds=2, keyframe_s=ONCE_S).keyframes == 3


def test_from_a_resize_on_entries_have_the_buckets_of_the_other_hash(tmp_path):
    record(Changing(resized), tmp_path / "one", seconds=2, keyframe_s=ONCE_S)
    before, after = (replay(tmp_path / "one", at_ns, at_ns) for at_ns in (AT_NS - 1, AT_NS))
    assert (before.buckets, after.buckets) == (BUCKETS, 2 * BUCKETS)
    assert (before.lengths().of_bucket[3], after.lengths().of_bucket[1003]) == (9, 9)
    assert not after.lengths().of_bucket[:1000].any()


@pytest.mark.parametrize("happens", [lost, resized])
def test_events_that_the_table_has_are_told_before_it_and_later_ones_behind(tmp_path, happens):
    more, later = entries(3, ct=[9600, 9664, 9728], sport=range(50, 53)), entries(1, ct=9792, sport=60)
    happened = [events(Kind.INSERT, more, at_s=AT * STEP_S), events(Kind.INSERT, later, at_s=1.5)]
    record(Changing(happens, batches=in_time(join(happened))), tmp_path / "one", seconds=2, keyframe_s=ONCE_S)
    untold = [100, 101] if happens is lost else []
    assert ports(tmp_path / "one", AT_NS) == sorted([*range(1, 10), *range(50, 53), *untold])
    assert ports(tmp_path / "one", AT_NS + NS_PER_S * 2) == sorted([*range(1, 10), *range(50, 53), *untold, 60])
    with closing(Reader(tmp_path / "one")) as reader:
        told = [one.kind for one in reader.told() if one.kind in ("keyframe", "event")]
    assert told == ["keyframe", "event", "keyframe", "event", "keyframe"]


POD, OTHER = (Owner(OwnerKind.POD, "web-0", uid, digit * 64) for uid, digit in (("8a", "a"), ("9b", "b")))


def test_who_owned_a_namespace_is_known_of_each_instant(tmp_path):
    """Its inode number may be another's by the end."""

    def changes(capture: Changing) -> None:
        capture.owners = {NETNS: OTHER}

    record(Changing(changes, owners={NETNS: POD}), tmp_path / "one", seconds=2, keyframe_s=0.5)
    begin = replay(tmp_path / "one", CLOCK.monotonic_ns, CLOCK.monotonic_ns)
    assert begin.whose() == {NETNS: Whose("blue", POD)}
    assert at_end(tmp_path / "one").whose() == {NETNS: Whose("blue", OTHER)}


def test_a_recording_that_is_older_than_owners_knows_of_none(tmp_path):
    record(Changing(lambda _: None, owners={NETNS: POD}), tmp_path / "one", seconds=1)
    with closing(sqlite3.connect(tmp_path / "one")) as file, file:
        assert file.execute("DELETE FROM facts WHERE kind = 'owners'").rowcount == 1
    found = at_end(tmp_path / "one")
    assert found.whose() == {NETNS: Whose("blue")} and found.fidelity().lost == {}
