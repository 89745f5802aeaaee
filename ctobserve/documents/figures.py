"""The numbers behind the pictures of a report: over time, by who is in the table, by age, by namespace, by chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.lifetimes import BOUNDS_S, Lifetimes
from ctobserve.analysis.timeline import OTHERS, Bins, Series, Timeline
from ctobserve.analysis.top import Gathered, heaviest
from ctobserve.capture.filters import Filter
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.diagnosis.collect import Level
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.documents.base import doc
from ctobserve.documents.chains import ChainsPicture, picture_of
from ctobserve.documents.top import GroupRow, row_of
from ctobserve.event import FOUND_BAD, Events, Kind, destroy_name, drop_name, entries_in
from ctobserve.host.sysctls import PREFIX, SYSCTLS
from ctobserve.model import pick, protocol_name

GROUPINGS = (("src",), ("dst", "dport", "proto"), ("netns",))
FINEST = ("netns", "src", "dst", "dport", "proto")  # each grouping is coarser
GROUPS, LOSERS = 20, 5  # of each: with the most entries, and with the most packets lost
DRAWN = 8  # namespaces with a line of their own
NAMESPACES = 64


@dataclass(frozen=True)
class TimelineFigures:
    """What happened in each of `bins` stretches of equal length, the first at `began`; every list has a number for each."""

    began: str = doc("ISO 8601, UTC, ns: the begin of the first bin")
    width_s: float = doc("how long a bin is")
    bins: int = doc("how many there are, 600 at most")
    last_s: float = doc("how much of the last bin had passed: its numbers are of that")
    entries: tuple[int, ...] = doc("in the table at the end of each bin: of all namespaces that are looked at")
    entries_by_netns: Mapping[str, tuple[int, ...]] = doc("inode number -> its entries; of the 8 that had the most")
    new: tuple[int, ...] = doc("entries that entered the table, whatever the filter")
    gone: Mapping[str, tuple[int, ...]] = doc("destroy reason -> entries that left the table, whatever the filter")
    lost: Mapping[str, tuple[int, ...]] = doc("drop reason -> packets lost, but for those found bad")
    found_bad: Mapping[str, tuple[int, ...]] = doc("`invalid`, `error` -> packets found so, which a rule may drop")
    clash_resolved: tuple[int, ...] = doc("packets that lost a clash and went on with the entry that won")


@dataclass(frozen=True)
class GroupFigures:
    """Who fills the table, by some columns."""

    by: tuple[str, ...] = doc("columns that entries are grouped by")
    groups: tuple[GroupRow, ...] = doc(
        "the 20 with the most entries, then, of others, the 5 that lost most packets; of the whole time"
    )
    not_grouped: int = doc("new entries and lost packets of the smallest groups, beyond the 65,536 that are told apart")


@dataclass(frozen=True)
class LifetimeRow:
    """Entries of one protocol that left the table for one reason."""

    proto: str = doc("name of the protocol, `unknown` where the kernel has no tracker for it")
    protonum: int = doc("its number")
    reason: str = doc("destroy reason")
    counts: tuple[int, ...] = doc("entries by their age when they left: a number for each class")
    unknown: int = doc("entries whose begin was not seen")


@dataclass(frozen=True)
class NamespaceFigures:
    """One network namespace: how full, what happened, what it is set to."""

    netns: int = doc("inode number")
    name: str = doc("what text calls it")
    entries: int | None = doc("nf_conntrack_count at the end; where that is not readable, entries listed; null: neither is known")
    limit: int | None = doc("entries it may have: its nf_conntrack_max, or that of the first one if less; null: none, or unknown")
    new: int = doc("entries that entered the table")
    gone: int = doc("entries that left it")
    lost: int = doc("packets lost, but for those found bad")
    settings: Mapping[str, int] = doc("full name of a sysctl (net.netfilter.*) -> its value; without those that cannot be read")


@dataclass(frozen=True)
class Figures:
    """The numbers behind the pictures of a report."""

    timeline: TimelineFigures = doc("what happened over time")
    chains: ChainsPicture = doc("the hash, which all namespaces share")
    groups: tuple[GroupFigures, ...] = doc("who fills the table: by src; by dst, dport, proto; by netns")
    age_bounds_s: tuple[float, ...] = doc("seconds between one class of `lifetimes.counts` and the next, which has one more")
    lifetimes: tuple[LifetimeRow, ...] = doc("how old the entries were that left; those of which most left first")
    namespaces: tuple[NamespaceFigures, ...] = doc("those with most entries first, 64 at most")
    namespaces_not_shown: int = doc("namespaces beyond those")
    setting_defaults: Mapping[str, int] = doc("full name of a sysctl -> the kernel's default, for those of `settings` with one")


class Watched:
    """Made at the begin of what is watched; `add` all events until its end, then ask for the `figures`.

    `began`: the entries of each namespace then. Memory is bounded, however long it goes on and whatever comes.
    """

    def __init__(self, only: Filter, began: Level) -> None:
        self._only = only
        self._began_ns = began.at_ns
        self._timeline = Timeline(began.at_ns)
        self._timeline.level(began.at_ns, self._looked_at(began))
        self._lifetimes = Lifetimes()
        self._new, self._lost = Gathered(FINEST), Gathered(FINEST)

    def add(self, events: Events) -> None:
        """In their order."""
        kinds = events["kind"]
        passing = self._only.mask(events["entry"])
        bad = np.isin(events["reason"], FOUND_BAD)
        self._new.add(entries_in(events, np.flatnonzero(passing & (kinds == Kind.INSERT))))
        self._lost.add(entries_in(events, np.flatnonzero(passing & (kinds == Kind.DROP) & ~bad)))
        # As in the evidence: what comes and goes is counted by namespace, losses by the whole filter.
        mine = True if self._only.netns is None else events["entry"]["netns"] == self._only.netns
        table = (kinds == Kind.INSERT) | (kinds == Kind.DESTROY)
        events = pick(events, np.where(table, mine, passing))
        self._timeline.add(events)
        self._lifetimes.add(events)

    def figures(self, evidence: Evidence, ended: Level, clock: Clock, limits_chains: bool | None) -> Figures:
        """`evidence` of the same stretch of time; `ended`: the entries of each namespace at its end."""
        held = self._looked_at(ended)
        self._timeline.level(ended.at_ns, held)
        bins = self._timeline.bins(ended.at_ns)
        seconds = max(ended.at_ns - self._began_ns, 1) / NS_PER_S
        namespaces = sorted(
            (self._namespace(evidence, held, bins, inum) for inum in _worth_telling(evidence, held, bins)),
            key=lambda one: (-(one.entries or 0), one.netns),
        )
        shown = tuple(namespaces[:NAMESPACES])
        return Figures(
            timeline=_timeline(bins, ended.at_ns, clock),
            chains=picture_of(evidence.lengths, limits_chains),
            groups=tuple(self._groups(evidence, by, seconds) for by in GROUPINGS),
            age_bounds_s=BOUNDS_S,
            lifetimes=tuple(
                LifetimeRow(protocol_name(one.protonum), one.protonum, destroy_name(one.reason), one.counts, one.unknown)
                for one in self._lifetimes.rows()
            ),
            namespaces=shown,
            namespaces_not_shown=len(namespaces) - len(shown),
            setting_defaults=_defaults({name for one in shown for name in one.settings}),
        )

    def _looked_at(self, level: Level) -> dict[int, int]:
        return {inum: count for inum, count in level.entries.items() if self._only.netns in (None, inum)}

    def _namespace(self, evidence: Evidence, held: Mapping[int, int], bins: Bins, inum: int) -> NamespaceFigures:
        first = evidence.init
        found: NamespaceEvidence = first if first and first.inum == inum else evidence.namespace(inum)
        listed = held.get(inum, 0) if self._only.netns in (None, inum) else None
        counts = bins.by_netns.get(inum)
        lost = [] if counts is None else [series for reason, series in counts.lost.items() if reason not in FOUND_BAD]
        return NamespaceFigures(
            netns=inum,
            name=found.label,
            entries=listed if found.count is None else found.count,
            limit=found.limit,
            new=_sum([] if counts is None else [counts.new]),
            gone=_sum([] if counts is None else counts.gone.values()),
            lost=_sum(lost),
            settings=dict(sorted(found.sysctls.items())),
        )

    def _groups(self, evidence: Evidence, by: tuple[str, ...], seconds: float) -> GroupFigures:
        lines = heaviest(evidence.entries, self._new, self._lost, by, "entries", GROUPS)
        if self._lost.total:
            losers = heaviest(evidence.entries, self._new, self._lost, by, "lost", LOSERS)
            lines += [line for line in losers if line.lost and line not in lines]
        return GroupFigures(by, tuple(row_of(line, seconds) for line in lines), self._new.forgotten + self._lost.forgotten)


def _timeline(bins: Bins, ended_ns: int, clock: Clock) -> TimelineFigures:
    found = bins.everywhere
    last_ns = ended_ns - bins.began_ns - (len(found.new) - 1) * bins.width_ns
    nothing = np.zeros(len(found.new), np.int64)
    most = sorted((inum for inum in bins.entries if inum != OTHERS), key=lambda inum: (-int(bins.entries[inum].max()), inum))
    return TimelineFigures(
        began=clock.iso(bins.began_ns),
        width_s=bins.width_ns / NS_PER_S,
        bins=len(found.new),
        last_s=round(min(max(last_ns, 0), bins.width_ns) / NS_PER_S, 3),
        entries=_numbers(sum(bins.entries.values(), nothing)),
        entries_by_netns={str(inum): _numbers(bins.entries[inum]) for inum in most[:DRAWN] if bins.entries[inum].any()},
        new=_numbers(found.new),
        gone={destroy_name(reason): _numbers(series) for reason, series in found.gone.items()},
        lost={drop_name(reason): _numbers(series) for reason, series in found.lost.items() if reason not in FOUND_BAD},
        found_bad={drop_name(reason): _numbers(series) for reason, series in found.lost.items() if reason in FOUND_BAD},
        clash_resolved=_numbers(found.resolved),
    )


def _numbers(series: Series) -> tuple[int, ...]:
    return tuple(series.tolist())


def _sum(of: Iterable[Series]) -> int:
    return sum(int(series.sum()) for series in of)


def _worth_telling(evidence: Evidence, ended: Mapping[int, int], bins: Bins) -> Iterable[int]:
    """Namespaces that have entries or had something happen, and the first one, whose limit is everybody's."""
    first = {evidence.init.inum} if evidence.init else set()
    busy = {inum for inum, count in ended.items() if count} | bins.by_netns.keys() - {OTHERS}
    return busy | first


def _defaults(names: set[str]) -> dict[str, int]:
    defaults = {name: SYSCTLS[name.removeprefix(PREFIX)].default for name in sorted(names)}
    return {name: default for name, default in defaults.items() if default is not None}
