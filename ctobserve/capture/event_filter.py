"""Which events a command shows: their kinds, and the common filters over their entries."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ctobserve.capture.filters import Filter
from ctobserve.event import EVENT, IN_CONFIRM, DestroyReason, Events, Kind
from ctobserve.model import everywhere, pick, somewhere

# What a confirm tells, beside its entry; the rest of a drop's row is not its verdict's.
OF_A_VERDICT = ("entry", "since_alloc_ns", "master", "cpu", "reason")


class EventFilter:
    """Events of these kinds whose entry passes the filter."""

    def __init__(self, kinds: Collection[Kind], only: Filter) -> None:
        self._only = only
        self._wanted = np.isin(np.arange(256), list(kinds))
        self._verdicts = np.zeros(256, np.bool_)
        self._verdicts[list(IN_CONFIRM)] = Kind.CONFIRM in kinds

    def select(self, events: Events) -> Events:
        """Those wanted, in order; the same array where all are.

        A packet lost in __nf_conntrack_confirm is two events: a confirm with the reason, which is the verdict, then the drop.
        """
        passing, kinds = self._only.mask(events["entry"]), events["kind"]
        wanted = passing & self._wanted[kinds]
        verdicts = kinds == int(Kind.DROP)
        if somewhere(verdicts):
            verdicts &= passing & self._verdicts[events["reason"]]
        if not somewhere(verdicts):
            return events if everywhere(wanted) else pick(events, wanted)
        times = wanted.astype(np.int64) + verdicts
        chosen = pick(events, np.repeat(np.arange(len(events)), times))
        # An event's rows end where the sum of all so far says; a verdict is the first of its rows.
        first = (np.cumsum(times) - times)[verdicts]
        chosen[first] = _verdict(pick(events, verdicts))
        return chosen


def _verdict(drops: Events) -> Events:
    made = np.zeros(len(drops), EVENT)
    for name in OF_A_VERDICT:
        made[name] = drops[name]
    made["kind"] = Kind.CONFIRM
    return made


def ended(events: Events) -> set[int]:
    """Inode numbers of the namespaces whose end made entries leave."""
    gone = events["reason"] == int(DestroyReason.NETNS_EXIT)
    if not somewhere(gone):
        return set()
    gone &= events["kind"] == int(Kind.DESTROY)
    return set(events["entry"]["netns"][gone].tolist())
