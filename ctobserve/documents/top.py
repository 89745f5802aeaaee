"""ctobserve top: who fills the table, one frame per interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.groups import Key
from ctobserve.analysis.top import Gathered, Line, heaviest
from ctobserve.capture.capture import Capture
from ctobserve.capture.filters import Filter
from ctobserve.capture.table import lengths_of
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.documents.base import doc
from ctobserve.documents.limits import MAX, limits
from ctobserve.documents.request import Request
from ctobserve.event import DestroyReason, Events, Kind, drop_name, entries_in
from ctobserve.model import IPS_OFFLOAD

LINES = 10


@dataclass(frozen=True)
class GroupRow:
    """Entries with equal values in the columns of `by`."""

    values: tuple[Key, ...] = doc("one for each of `by`, in its order")
    entries: int = doc("in the table now")
    new_per_s: float = doc("entries that entered the table")
    lost: int = doc("packets lost in the interval")


@dataclass(frozen=True)
class Frame:
    """The table at the end of an interval, and what happened in it."""

    ts: str = doc("ISO 8601, UTC, ns: the end of the interval")
    interval_s: float = doc("how long it was")
    max: int | None = doc("nf_conntrack_max of our own namespace; null: not readable")
    max_by_netns: Mapping[str, int | None] = doc("inode number -> entries it may have; null: unlimited, or not readable")
    entries: int = doc("in the table now, of those that the filter lets pass")
    entries_by_netns: Mapping[str, int] = doc("inode number -> all its entries")
    buckets: int = doc("size of the hash")
    max_chain: int = doc("nodes in the longest chain")
    new_per_s: float = doc("entries that entered the table")
    gone_per_s: float = doc("entries that left it")
    lost_per_s: float = doc("packets lost")
    lost_by_reason: Mapping[str, int] = doc("packets lost in the interval, by drop reason")
    not_grouped: int = doc("new entries and lost packets of the smallest groups, beyond the 65,536 that are told apart")
    by: tuple[str, ...] = doc("columns that entries are grouped by")
    groups: tuple[GroupRow, ...] = doc("those with the most of what --order names first: 10 at most, or --limit")
    events_lost: int = doc("records lost since the start")
    entries_offloaded: int = doc("those of `entries` that are in a flow table: conntrack sees no packets of theirs")


@dataclass(frozen=True)
class View:
    """How it is grouped: columns of groups.COLUMNS, one of top.ORDERS, seconds between frames."""

    by: tuple[str, ...]
    order: str
    interval_s: float


def collect(capture: Capture, request: Request, stretch: Stretch, view: View) -> Iterator[Frame]:
    """One after every interval, and one at the end."""
    # What happened until here is in the table.
    capture.drain()
    interval = _Interval(request.filter, view.by, capture.now_ns())
    due_ns = interval.began_ns + round(view.interval_s * NS_PER_S)
    for events in watch(capture, stretch, idle=True):
        interval.add(events)
        if capture.now_ns() >= due_ns:
            yield _frame(capture, request, view, interval)
            interval = _Interval(request.filter, view.by, capture.now_ns())
            due_ns += round(view.interval_s * NS_PER_S)
    yield _frame(capture, request, view, interval)


class _Interval:
    """What happened since the last frame, of what the filter lets pass."""

    def __init__(self, only: Filter, by: Sequence[str], began_ns: int) -> None:
        self.began_ns = began_ns
        self.new, self.lost = Gathered(by), Gathered(by)
        self.gone = 0
        self.reasons: Counter[int] = Counter()
        self._only = only

    def add(self, events: Events) -> None:
        keep, reasons = self._only.mask(events["entry"]), events["reason"]
        new, lost, gone = (keep & (events["kind"] == kind) for kind in (Kind.INSERT, Kind.DROP, Kind.DESTROY))
        self.new.add(entries_in(events, np.flatnonzero(new)))
        self.lost.add(entries_in(events, np.flatnonzero(lost)))
        self.gone += int((gone & (reasons != DestroyReason.UNCONFIRMED)).sum())
        self.reasons.update(reasons[lost].tolist())


def _frame(capture: Capture, request: Request, view: View, interval: _Interval) -> Frame:
    now_ns = capture.now_ns()
    seconds = max(now_ns - interval.began_ns, 1) / NS_PER_S  # a recording's last event may end an interval as it begins
    whole = capture.table.entries()
    shown = request.filter.passing(whole)
    limit = LINES if request.limit is None else request.limit
    lines = heaviest(shown, interval.new, interval.lost, view.by, view.order, limit)
    lengths = lengths_of(whole, capture.buckets)
    inums, counts = (column.tolist() for column in np.unique(whole["netns"], return_counts=True))
    here = capture.host.here
    states = capture.namespaces(sysctls=(MAX,), among={*inums, here})
    return Frame(
        ts=capture.started.iso(now_ns),
        interval_s=round(seconds, 3),
        max=states[here].sysctls.get(MAX) if here in states else None,
        max_by_netns={str(inum): limit for inum, limit in limits(inums, states).items()},
        entries=len(shown),
        entries_by_netns=dict(zip(map(str, inums), counts, strict=True)),
        buckets=len(lengths.of_bucket),
        max_chain=int(lengths.of_bucket.max(initial=0)),
        new_per_s=round(interval.new.total / seconds, 1),
        gone_per_s=round(interval.gone / seconds, 1),
        lost_per_s=round(interval.lost.total / seconds, 1),
        lost_by_reason={drop_name(reason): count for reason, count in interval.reasons.items()},
        not_grouped=interval.new.forgotten + interval.lost.forgotten,
        by=view.by,
        groups=tuple(_row(line, seconds) for line in lines),
        events_lost=sum(capture.fidelity().lost.values()),
        entries_offloaded=int(np.count_nonzero(shown["status"] & IPS_OFFLOAD)),
    )


def _row(line: Line, seconds: float) -> GroupRow:
    return GroupRow(line.values, line.entries, round(line.new / seconds, 1), line.lost)
