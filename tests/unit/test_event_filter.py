"""Which events are told, which of them twice, and whose namespace has ended."""

from __future__ import annotations

import numpy as np

from ctobserve.capture.event_filter import EventFilter, ended
from ctobserve.capture.filters import Filter
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Kind
from ctobserve.model import join
from tests.scripted import events
from tests.unit.samples import entry

ALL = (Kind.INSERT, Kind.CONFIRM, Kind.UPDATE, Kind.DESTROY, Kind.DROP)
LOST = events(
    Kind.DROP, entry(1), at_s=1, reason=DropReason.CLASH, since_alloc_ns=30, cpu=3, pid=4, comm=b"curl", ifindex=2, device=b"eth0"
)


def told(found):
    return [(Kind(kind), int(ct)) for kind, ct in zip(found["kind"], found["entry"]["ct"], strict=True)]


def test_a_packet_lost_in_confirm_is_a_verdict_and_a_drop():
    before, after = events(Kind.INSERT, entry(8)), events(Kind.UPDATE, entry(9))
    found = EventFilter(ALL, Filter()).select(join([before, LOST, after]))
    assert told(found) == [(Kind.INSERT, 8), (Kind.CONFIRM, 1), (Kind.DROP, 1), (Kind.UPDATE, 9)]
    verdict = found[1]
    assert (verdict["reason"], verdict["since_alloc_ns"], verdict["cpu"]) == (DropReason.CLASH, 30, 3)
    assert verdict["entry"] == LOST["entry"][0]
    assert (verdict["pid"], verdict["comm"], verdict["ifindex"], verdict["device"]) == (0, b"", 0, b""), "facts of the drop"
    assert found[2] == LOST[0]


def test_its_verdict_comes_only_where_confirms_are_wanted_and_alone_where_drops_are_not():
    assert told(EventFilter((Kind.DROP,), Filter()).select(LOST)) == [(Kind.DROP, 1)]
    assert told(EventFilter((Kind.CONFIRM,), Filter()).select(LOST)) == [(Kind.CONFIRM, 1)]
    assert told(EventFilter((Kind.CONFIRM,), Filter(proto=6)).select(LOST)) == []


def test_a_packet_that_never_came_to_confirm_is_a_drop_alone():
    for reason in set(DropReason) - {DropReason.CLASH, DropReason.CHAINTOOLONG, DropReason.DYING, DropReason.CONFIRMED}:
        drop = events(Kind.DROP, entry(1), reason=reason)
        assert told(EventFilter(ALL, Filter()).select(drop)) == [(Kind.DROP, 1)]


def test_reasons_of_destroys_are_no_reasons_of_drops():
    destroy = events(Kind.DESTROY, entry(1), reason=int(DropReason.CLASH))
    assert told(EventFilter(ALL, Filter()).select(destroy)) == [(Kind.DESTROY, 1)]


def test_resolved_clashes_are_told_only_to_who_asks():
    resolved = events(Kind.RESOLVED, entry(1))
    assert told(EventFilter(ALL, Filter()).select(resolved)) == []
    assert told(EventFilter((Kind.RESOLVED,), Filter()).select(resolved)) == [(Kind.RESOLVED, 1)]


def test_filters():
    some = events(Kind.INSERT, join([entry(1, dport=53), entry(2, dport=54), entry(3, proto=6, dport=53)]))
    assert told(EventFilter(ALL, Filter(dport=(53, 53))).select(some)) == [(Kind.INSERT, 1), (Kind.INSERT, 3)]
    assert told(EventFilter(ALL, Filter(proto=17)).select(some)) == [(Kind.INSERT, 1), (Kind.INSERT, 2)]
    assert told(EventFilter(ALL, Filter(netns=8)).select(some)) == []
    assert len(EventFilter(ALL, Filter(state="UNREPLIED")).select(some)) == 3


def test_where_all_are_wanted_nothing_is_copied():
    some = events(Kind.INSERT, join([entry(1), entry(2)]))
    assert EventFilter(ALL, Filter()).select(some) is some
    assert len(EventFilter(ALL, Filter()).select(NO_EVENTS)) == 0


def test_a_namespace_has_ended_when_its_end_made_entries_leave():
    some = events(Kind.DESTROY, join([entry(1), entry(2, netns=9), entry(3, netns=9), entry(4, netns=8)]))
    some["reason"] = (DestroyReason.TIMEOUT, DestroyReason.NETNS_EXIT, DestroyReason.NETNS_EXIT, DestroyReason.FLUSHED)
    assert ended(some) == {9}
    assert ended(events(Kind.DROP, entry(1), reason=int(DestroyReason.NETNS_EXIT))) == set(), "a drop's reason"
    assert ended(NO_EVENTS) == set()


def test_rows_stay_whole_whatever_is_between_them():
    some = join([LOST, events(Kind.INSERT, entry(2)), LOST, events(Kind.RESOLVED, entry(3)), LOST])
    found = EventFilter(ALL, Filter()).select(some)
    assert [int(kind) for kind in found["kind"]] == [2, 5, 1, 2, 5, 2, 5]
    assert (found[found["kind"] == Kind.DROP] == LOST[0]).all()
    assert found.dtype == some.dtype and np.array_equal(found["entry"]["port"][0], LOST["entry"]["port"][0])
