"""ctobserve drops: losses with tuple and reason, and their sums beside the kernel's own counters."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.drops import CLASH_RESOLVED, Balance, balance, sums
from ctobserve.capture.capture import Capture
from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.quiet import in_counters, quiet_reading
from ctobserve.capture.watch import Stretch, watch
from ctobserve.documents.base import EventRows, doc
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request
from ctobserve.event import NO_EVENTS, Events, Kind
from ctobserve.host.counters import Moved, Place, delta, total
from ctobserve.model import join, pick

MOST_ROWS = 10_000  # of the document, where no other limit is asked for
Show = Callable[[Events, Events], object]
OfCpus = dict[int, Counter[str]]


@dataclass(frozen=True)
class DropsMeta(Meta):
    """Who says it; and how much of it is left out."""

    drops_not_shown: int = doc("losses beyond the limit of `drops`; they are counted like the others")


@dataclass(frozen=True)
class CpuSums:
    """Of one CPU in one namespace; its two sides can differ where a task moved to another CPU meanwhile."""

    by_reason: Mapping[str, int] = doc("losses and clashes resolved that were seen, by reason")
    kernel_counters: Mapping[str, int] = doc("deltas of the kernel's counters, those that moved")


@dataclass(frozen=True)
class NetnsSums:
    """Of one namespace."""

    by_reason: Mapping[str, int] = doc("losses and clashes resolved that were seen, by reason")
    kernel_counters: Mapping[str, int] = doc("deltas of the kernel's counters")
    unaccounted: Mapping[str, int] = doc("what the counters saw and we did not")
    by_cpu: Mapping[str, CpuSums] = doc(
        "the same sums of each CPU, by its number; of those that are not online only where they counted anything"
    )


@dataclass(frozen=True)
class DropsDocument:
    """Losses with their sums, beside the kernel's counters, which overlap: chaintoolong and clash also move insert_failed."""

    meta: DropsMeta = doc("who says it, of what stretch of time, and what makes it doubtful")
    by_reason: Mapping[str, int] = doc("losses that were seen, by reason; `early_drop` counts evicted entries")
    clash_resolved: int = doc("packets that went on with the entry that won a clash: no loss")
    kernel_counters: Mapping[str, int] = doc("deltas of the kernel's counters, summed over namespaces and CPUs")
    unaccounted: Mapping[str, int] = doc("what the counters saw and we did not; with filters other than --netns, what these hid")
    not_compared: Mapping[str, int] = doc("those of `by_reason` whose namespace had no counters to read any more")
    by_netns: Mapping[str, NetnsSums] = doc("the same sums of each namespace, by its inode number")
    drops: EventRows = doc("losses: 10,000 at most, or --limit")


def collect(capture: Capture, request: Request, stretch: Stretch, show: Show | None = None) -> DropsDocument:
    """Count losses for this stretch of time, between two readings of the kernel's counters when no loss is under way.

    `show` is for who wants losses as they come: called with the drops, destroys and resolved clashes of each batch, and with the
    losses among them up to the limit; the document then has no rows.
    """
    tally = _Tally(request, show)
    before = quiet_reading(capture, request.filter.netns, lambda _: None)
    for events in watch(capture, stretch):
        tally.add(events)
    after = quiet_reading(capture, request.filter.netns, tally.add)
    tally.add(capture.drain())
    moved = delta(before, after)
    whole, gone = _whole(tally.reasons, moved)
    seen, counted = _by_netns(tally.reasons), _by_netns(moved)
    meta = meta_of("drops", capture, request)
    return DropsDocument(
        meta=DropsMeta(**vars(meta), drops_not_shown=tally.losses - tally.shown),
        by_reason={reason: count for reason, count in whole.by_reason.items() if reason != CLASH_RESOLVED},
        clash_resolved=whole.by_reason.get(CLASH_RESOLVED, 0),
        kernel_counters=whole.kernel_counters,
        unaccounted=whole.unaccounted,
        not_compared=dict(gone) if moved else {},
        by_netns={str(inum): _of_netns(seen[inum], counted[inum]) for inum in sorted(seen.keys() | counted.keys())},
        drops=EventRows(tally.rows(), capture.started, meta.owners),
    )


class _Tally:
    """Losses counted, all, by namespace and CPU; up to the limit they are shown, or kept as rows of the document."""

    def __init__(self, request: Request, show: Show | None) -> None:
        self._wanted = EventFilter((Kind.DROP, Kind.DESTROY, Kind.RESOLVED), request.filter)
        self._limit = MOST_ROWS if show is None and request.limit is None else request.limit
        self._show = show
        self._kept = [NO_EVENTS]
        self.reasons: dict[Place, Counter[str]] = defaultdict(Counter)
        self.losses = self.shown = 0

    def add(self, events: Events) -> None:
        events = self._wanted.select(events)
        for place, counts in sums(events).items():
            self.reasons[place] += counts
        lost = np.flatnonzero(in_counters(events) & (events["kind"] != Kind.RESOLVED))
        self.losses += len(lost)
        rows = pick(events, lost if self._limit is None else lost[: self._limit - self.shown])
        self.shown += len(rows)
        if self._show:
            self._show(events, rows)
        elif len(rows):
            self._kept.append(rows)

    def rows(self) -> Events:
        return join(self._kept)


def _whole(reasons: Mapping[Place, Counter[str]], moved: Moved) -> tuple[Balance, Counter[str]]:
    """All in all, and what of it was lost where no counter can be read any more."""
    readable = {inum for inum, _ in moved}
    gone = total(found for (inum, _), found in reasons.items() if inum not in readable)
    return balance(total(reasons.values()), total(moved.values()), gone), gone


def _by_netns(places: Mapping[Place, Counter[str]]) -> defaultdict[int, OfCpus]:
    found: defaultdict[int, OfCpus] = defaultdict(dict)
    for (inum, cpu), counts in places.items():
        found[inum][cpu] = counts
    return found


def _of_netns(ours: OfCpus, kernel: OfCpus) -> NetnsSums:
    here = balance(total(ours.values()), total(kernel.values()))
    by_cpu = {
        str(cpu): CpuSums(
            dict(sorted(ours.get(cpu, Counter()).items())),
            {name: count for name, count in kernel.get(cpu, Counter()).items() if count},
        )
        for cpu in sorted({*ours, *kernel})
    }
    return NetnsSums(here.by_reason, here.kernel_counters, here.unaccounted, by_cpu)
