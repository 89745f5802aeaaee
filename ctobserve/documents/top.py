"""ctobserve top: who fills the table, one frame per interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import Key, Owners, owner_of
from ctobserve.analysis.growth import full_in_s
from ctobserve.analysis.timeline import Bins, Timeline
from ctobserve.analysis.top import Gathered, Line, heaviest
from ctobserve.capture.capture import Capture, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.table import Lengths, lengths_of
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.documents.base import Labels, doc
from ctobserve.documents.limits import MAX, limits
from ctobserve.documents.request import Request
from ctobserve.event import FOUND_BAD, DestroyReason, Events, Kind, drop_name, entries_in
from ctobserve.model import IPS_OFFLOAD, Entries, pick

LINES = 10
ASKED_NS = 5 * NS_PER_S  # what namespaces are called and may have: asking all of them costs more than a frame
HISTORY_NS = 480 * NS_PER_S  # so many bins of the time line as it has at most are then less than a second wide


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
    full_in_s_by_netns: Mapping[str, float | None] = doc(
        "inode number -> seconds until it has as many entries as it may, if it goes on growing as in the last 30 s; 0: it has; "
        "null: it does not grow, or has no limit that is known"
    )
    longest_bucket: int | None = doc("the first bucket with `max_chain` nodes; null: no entry is in the table")
    owner_by_netns: Mapping[str, str | None] = doc(
        "inode number -> who owns it (docs/owner.md), of those with entries; null: not known, or nobody"
    )


@dataclass(frozen=True)
class View:
    """How it is grouped: columns of groups.COLUMNS, one of top.ORDERS, seconds between frames."""

    by: tuple[str, ...]
    order: str
    interval_s: float


class Moment(NamedTuple):
    """A frame, and what a picture of it needs besides: all that happened in the last minutes, of what the filter lets pass; the
    lengths of all chains; what namespaces are called, and who owns them."""

    frame: Frame
    history: Bins
    lengths: Lengths
    labels: Labels
    owners: Owners


def collect(capture: Capture, request: Request, stretch: Stretch, view: View) -> Iterator[Frame]:
    """One after every interval, and one at the end."""
    moments = Moments(capture, request.filter, view, LINES if request.limit is None else request.limit)
    for events in watch(capture, stretch, idle=True):
        moments.add(events)
        if moments.due():
            yield moments.next().frame
    yield moments.next().frame


class Moments:
    """Made when the table is followed; `add` every batch of events, empty ones too, and take the `next` one when it is `due`."""

    def __init__(self, capture: Capture, only: Filter, view: View, limit: int) -> None:
        """`only`: what it is of, but for the fill of namespaces and the hash, which are always whole. `limit`: of groups."""
        # What happened until here is in the table.
        capture.drain()
        self._capture, self._limit = capture, limit
        now_ns = capture.now_ns()
        self._states: Mapping[int, NamespaceState] = {}
        self._labels: Labels = {}
        self._owners: Owners = {}
        self._asked_ns: int | None = None
        self._met: set[int] = set()
        self._whole, self._some = Timeline(now_ns), None if only == Filter() else Timeline(now_ns)
        self._whole.level(now_ns, _by_netns(capture.table.entries()))
        self._only, self._view = only, view
        self.begin()

    def look_at(self, only: Filter, view: View) -> None:
        """From now on, of these entries, grouped so."""
        if only != self._only:
            self._some = None if only == Filter() else Timeline(self._capture.now_ns())
        self._only, self._view = only, view
        self.begin()

    def add(self, events: Events) -> None:
        """What happened, in order."""
        if not len(events):
            return
        self._whole.add(events)
        self._interval.add(events)
        if self._some:
            self._some.add(pick(events, self._only.mask(events["entry"])))

    def begin(self) -> None:
        """Another interval, and no frame of the one that ends here."""
        now_ns = self._capture.now_ns()
        self._interval = _Interval(self._only, self._view.by, now_ns)
        self._due_ns = now_ns + round(self._view.interval_s * NS_PER_S)

    def due(self) -> bool:
        """Whether an interval is over."""
        return self._capture.now_ns() >= self._due_ns

    def next(self) -> Moment:
        """Of now; another interval begins."""
        capture, interval = self._capture, self._interval
        now_ns = capture.now_ns()
        entries, buckets = capture.table.entries(), capture.buckets
        # Of a million entries it takes a second, in which events come.
        counts = capture.aside(lambda: _by_netns(entries))
        self._ask(now_ns, counts)
        found = capture.aside(lambda: self._sum_up(entries, buckets, interval, counts))
        self._whole.level(now_ns, found.counts)
        frame = self._frame(now_ns, found)
        history = (self._some or self._whole).bins(now_ns)
        for timeline in filter(None, (self._whole, self._some)):
            timeline.forget(now_ns - HISTORY_NS)
        self._interval = _Interval(self._only, self._view.by, now_ns)
        # One that was taken before its time puts the others off.
        self._due_ns = max(min(self._due_ns, now_ns) + round(self._view.interval_s * NS_PER_S), now_ns)
        return Moment(frame, history, found.lengths, self._labels, self._owners)

    def _sum_up(self, whole: Entries, buckets: int, interval: _Interval, counts: Mapping[int, int]) -> _Sums:
        shown, view = self._only.passing(whole), self._view
        return _Sums(
            lengths_of(whole, buckets),
            counts,
            len(shown),
            int(np.count_nonzero(shown["status"] & IPS_OFFLOAD)),
            heaviest(shown, interval.new, interval.lost, view.by, view.order, self._limit, self._owners),
        )

    def _ask(self, now_ns: int, counts: Mapping[int, int]) -> None:
        """Namespaces, of what changes seldom."""
        if self._asked_ns is None or now_ns - self._asked_ns >= ASKED_NS or not counts.keys() <= self._met:
            self._asked_ns, self._met = now_ns, {*counts, self._capture.host.here}
            self._states = self._capture.namespaces(sysctls=(MAX,), among=self._met)
            whose = self._capture.whose()
            self._labels = {inum: one.label for inum, one in whose.items()}
            self._owners = {inum: one.owner for inum, one in whose.items() if one.owner}

    def _frame(self, now_ns: int, found: _Sums) -> Frame:
        capture, interval, states = self._capture, self._interval, self._states
        # A recording's last event may end an interval as it begins.
        seconds = max(now_ns - interval.began_ns, 1) / NS_PER_S
        here = capture.host.here
        most = limits(found.counts, states)
        of_bucket = found.lengths.of_bucket
        longest = int(of_bucket.max(initial=0))
        return Frame(
            ts=capture.started.iso(now_ns),
            interval_s=round(seconds, 3),
            max=states[here].sysctls.get(MAX) if here in states else None,
            max_by_netns={str(inum): limit for inum, limit in most.items()},
            entries=found.entries,
            entries_by_netns={str(inum): count for inum, count in found.counts.items()},
            buckets=len(of_bucket),
            max_chain=longest,
            new_per_s=round(interval.new.total / seconds, 1),
            gone_per_s=round(interval.gone / seconds, 1),
            lost_per_s=round(interval.lost.total / seconds, 1),
            lost_by_reason={drop_name(reason): count for reason, count in interval.reasons.items()},
            not_grouped=interval.new.forgotten + interval.lost.forgotten,
            by=self._view.by,
            groups=tuple(row_of(line, seconds) for line in found.lines),
            events_lost=sum(capture.fidelity().lost.values()),
            entries_offloaded=found.offloaded,
            full_in_s_by_netns={str(inum): left for inum, left in full_in_s(self._whole.bins(now_ns), now_ns, most).items()},
            longest_bucket=int(of_bucket.argmax()) if longest else None,
            owner_by_netns={str(inum): owner_of(inum, self._owners) for inum in found.counts},
        )


class _Sums(NamedTuple):
    """Of a table at one instant: lengths of all chains, and entries by namespace; of what the filter lets pass, the number of
    entries, of those that are offloaded, and the heaviest groups."""

    lengths: Lengths
    counts: Mapping[int, int]
    entries: int
    offloaded: int
    lines: Sequence[Line]


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
        # Of an INVALID packet the rules say whether it is dropped.
        lost &= ~np.isin(reasons, FOUND_BAD)
        self.new.add(entries_in(events, np.flatnonzero(new)))
        self.lost.add(entries_in(events, np.flatnonzero(lost)))
        self.gone += int((gone & (reasons != DestroyReason.UNCONFIRMED)).sum())
        self.reasons.update(reasons[lost].tolist())


def _by_netns(entries: Entries) -> dict[int, int]:
    """How many each namespace has, by inode number."""
    inums, counts = (column.tolist() for column in np.unique(entries["netns"], return_counts=True))
    return dict(zip(inums, counts, strict=True))


def row_of(line: Line, seconds: float) -> GroupRow:
    """One group of an interval that was so long."""
    return GroupRow(line.values, line.entries, round(line.new / seconds, 1), line.lost)
