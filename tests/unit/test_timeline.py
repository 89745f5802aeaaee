"""Counts over time: every event in its bin, whatever the number of bins, and the fill that follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.analysis.timeline import NAMESPACES, OTHERS, Timeline
from ctobserve.clock import NS_PER_S
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Events, Kind
from ctobserve.model import join
from tests.scripted import CLOCK, NETNS, events
from tests.unit.tables import entries

BEGAN = CLOCK.monotonic_ns
S = NS_PER_S


def happened(kind: Kind, at_s: list[float], reason: int = 0, netns: int | list[int] = NETNS) -> Events:
    return events(kind, entries(len(at_s), netns=netns), at_s=at_s, reason=reason)


def test_each_event_is_in_the_bin_of_its_time():
    line = Timeline(BEGAN, width_ns=S)
    line.add(happened(Kind.INSERT, [0, 0.5, 0.999, 1, 3.2]))
    line.add(happened(Kind.DESTROY, [2, 3.9], DestroyReason.TIMEOUT))
    line.add(happened(Kind.DESTROY, [3], DestroyReason.EARLY_DROP))
    line.add(happened(Kind.DROP, [1, 1], DropReason.TABLE_FULL))
    line.add(happened(Kind.RESOLVED, [0]))
    found = line.bins(BEGAN + 5 * S)
    assert (found.began_ns, found.width_ns) == (BEGAN, S)
    assert found.everywhere.new.tolist() == [3, 1, 0, 1, 0, 0]
    gone = {reason: counts.tolist() for reason, counts in found.everywhere.gone.items()}
    assert gone == {DestroyReason.TIMEOUT: [0, 0, 1, 1, 0, 0], DestroyReason.EARLY_DROP: [0, 0, 0, 1, 0, 0]}
    assert {reason: counts.tolist() for reason, counts in found.everywhere.lost.items()} == {
        DropReason.TABLE_FULL: [0, 2, 0, 0, 0, 0]
    }
    assert found.everywhere.resolved.tolist() == [1, 0, 0, 0, 0, 0]
    assert not found.entries, "nobody told how many there were"


def test_what_says_nothing_of_the_table_is_not_counted():
    line = Timeline(BEGAN)
    for kind in (Kind.UPDATE, Kind.CONFIRM):
        line.add(happened(kind, [0]))
    line.add(happened(Kind.DESTROY, [0], DestroyReason.UNCONFIRMED))
    line.add(NO_EVENTS)
    found = line.bins(BEGAN)
    assert found.everywhere.new.tolist() == [0] and not found.everywhere.gone and not found.by_netns


def test_an_event_from_before_the_first_bin_is_in_it():
    line = Timeline(BEGAN)
    line.add(happened(Kind.INSERT, [-1, 0]))
    assert line.bins(BEGAN).everywhere.new.tolist() == [2]


@pytest.mark.parametrize("seconds", [1, 59, 60, 61, 900, 15 * 3600])
def test_memory_is_bounded_and_nothing_is_lost(seconds):
    line = Timeline(BEGAN)
    at_s = np.random.default_rng(seconds).uniform(0, seconds, 2000)
    for part in np.array_split(np.sort(at_s), 10):
        line.add(happened(Kind.INSERT, part.tolist()))
    found = line.bins(BEGAN + seconds * S)
    assert len(found.everywhere.new) <= 600
    assert (len(found.everywhere.new) - 1) * found.width_ns <= seconds * S < len(found.everywhere.new) * found.width_ns
    wanted = np.bincount(((at_s * S).astype(np.int64)) // found.width_ns, minlength=len(found.everywhere.new))
    assert found.everywhere.new.tolist() == wanted.tolist()


def test_bins_are_the_same_however_events_come():
    many = join([happened(Kind.INSERT, [at / 7 for at in range(900)]), happened(Kind.DROP, [5, 100], DropReason.CLASH)])
    whole, parts = Timeline(BEGAN), Timeline(BEGAN)
    whole.add(many)
    for at in np.random.default_rng(1).permutation(len(many)):
        parts.add(many[at : at + 1])
    one, other = whole.bins(BEGAN), parts.bins(BEGAN)
    assert one.everywhere.new.tolist() == other.everywhere.new.tolist() and one.width_ns == other.width_ns
    assert one.everywhere.lost[DropReason.CLASH].tolist() == other.everywhere.lost[DropReason.CLASH].tolist()


def test_fill_is_what_was_told_and_what_events_made_of_it():
    line = Timeline(BEGAN, width_ns=S)
    line.level(BEGAN, {7: 10, 8: 3})
    line.add(happened(Kind.INSERT, [0.5, 1.5, 1.7, 3], netns=[7, 7, 9, 7]))
    line.add(happened(Kind.DESTROY, [2.5], DestroyReason.TIMEOUT, netns=8))
    found = line.bins(BEGAN + 3 * S)
    assert {inum: fill.tolist() for inum, fill in found.entries.items()} == {
        7: [11, 12, 12, 13],
        8: [3, 3, 2, 2],
        9: [0, 1, 1, 1],
    }
    assert found.by_netns[8].gone[DestroyReason.TIMEOUT].tolist() == [0, 0, 1, 0]
    assert found.by_netns[9].new.tolist() == [0, 1, 0, 0]


def test_a_later_telling_corrects_what_lost_events_left_wrong():
    line = Timeline(BEGAN, width_ns=S)
    line.level(BEGAN, {7: 10})
    line.add(happened(Kind.INSERT, [1]))
    line.level(BEGAN + 2 * S, {7: 20, 8: 5})
    line.add(happened(Kind.INSERT, [3]))
    found = line.bins(BEGAN + 3 * S)
    assert found.entries[7].tolist() == [10, 11, 20, 21]
    assert found.entries[8].tolist() == [0, 0, 5, 5]
    line.level(BEGAN + 4 * S, {})
    assert line.bins(BEGAN + 4 * S).entries[7].tolist() == [10, 11, 20, 21, 0]


def test_fill_stays_right_when_bins_are_joined():
    line = Timeline(BEGAN, most=4, width_ns=S)
    line.level(BEGAN, {7: 10})
    for at in range(8):
        line.add(happened(Kind.INSERT, [at]))
        line.level(BEGAN + at * S, {7: 11 + at})
    found = line.bins(BEGAN + 7 * S)
    assert found.width_ns == 2 * S and found.entries[7].tolist() == [12, 14, 16, 18]


def test_what_is_forgotten_still_counts_in_the_fill():
    line = Timeline(BEGAN, width_ns=S)
    line.level(BEGAN, {7: 10})
    line.add(happened(Kind.INSERT, [0.5, 1.5, 2.5], netns=[7, 7, 8]))
    line.forget(BEGAN + 2 * S + 1)
    found = line.bins(BEGAN + 3 * S)
    assert found.began_ns == BEGAN + 2 * S
    assert found.entries[7].tolist() == [12, 12] and found.entries[8].tolist() == [1, 1]
    assert found.everywhere.new.tolist() == [1, 0]
    line.add(happened(Kind.INSERT, [3.5]))
    line.forget(BEGAN + 100 * S)
    assert line.bins(BEGAN + 3 * S).entries[7].tolist() == [13], "the last bin stays"


def test_more_namespaces_than_are_told_apart():
    inums = list(range(1000, 1000 + 2 * NAMESPACES))
    line = Timeline(BEGAN)
    line.level(BEGAN, {inums[0]: 2, inums[-1]: 3})
    line.add(happened(Kind.INSERT, [0.0] * len(inums), netns=inums))
    found = line.bins(BEGAN)
    assert len(found.by_netns) == NAMESPACES + 1
    assert found.by_netns[OTHERS].new.tolist() == [NAMESPACES] and found.everywhere.new.tolist() == [2 * NAMESPACES]
    assert sum(fill[-1] for fill in found.entries.values()) == 2 * NAMESPACES + 5
