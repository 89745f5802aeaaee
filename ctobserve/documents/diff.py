"""What is different: the tables, settings and counters at two instants, of one recording or of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctobserve import __version__
from ctobserve.analysis.change import GroupChange, change
from ctobserve.analysis.groups import Key, divide
from ctobserve.analysis.namesakes import Namesake, namesakes
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.table import lengths_of
from ctobserve.clock import NS_PER_S
from ctobserve.documents.base import doc
from ctobserve.documents.limits import limits
from ctobserve.documents.meta import SCHEMA, Timed
from ctobserve.documents.request import Request
from ctobserve.host.counters import delta, total
from ctobserve.model import Entries

LINES = 10
COUNT = "nf_conntrack_count"  # moves all the time: no setting


@dataclass(frozen=True)
class DiffInstant:
    """The table at one of the two instants."""

    at: str = doc("ISO 8601, UTC, ns")
    file: str = doc("name of the recording")
    kernel: str = doc("uname -r")
    entries: int = doc("in the table, of those that the filter lets pass")
    buckets: int = doc("size of the hash")
    max_chain: int = doc("nodes in the longest chain")
    events_lost: int = doc("records lost in the recording until then, and rows of it that cannot be read")
    table_uncertain_s: float = doc("how long the table was wrong until then because records were lost")


@dataclass(frozen=True)
class DiffGroup:
    """Entries with equal values in the columns of `by`; one that now has another value left one group and came to another."""

    values: tuple[Key, ...] = doc("one for each of `by`, in its order; a namespace by its name")
    first: int = doc("entries at the first instant")
    second: int = doc("entries at the second instant")
    came: int = doc("entries of the second instant that were not in this group at the first")
    went: int = doc("entries of the first instant that are not in this group at the second")


@dataclass(frozen=True)
class DiffNamespace:
    """How full a network namespace is."""

    netns: str = doc("its name, else its inode number")
    first: int | None = doc("all its entries at the first instant; null: it was not there")
    second: int | None = doc("all its entries at the second instant; null: it was not there")
    first_max: int | None = doc("entries that it might have at the first instant; null: unlimited, or not known")
    second_max: int | None = doc("entries that it might have at the second instant; null: unlimited, or not known")


@dataclass(frozen=True)
class DiffSetting:
    """A setting that is another one in some namespaces."""

    name: str = doc("without net.netfilter.")
    first: int | None = doc("value at the first instant; null: there was none that could be read")
    second: int | None = doc("value at the second instant; null: there was none that could be read")
    netns: tuple[str, ...] = doc("namespaces in which it went from that value to this one")


@dataclass(frozen=True)
class DiffCounters:
    """The kernel's counters between two readings, each the last before one of the instants."""

    since: str = doc("ISO 8601, UTC, ns: the reading before the first instant")
    until: str = doc("ISO 8601, UTC, ns: the reading before the second instant")
    gained: Mapping[str, int] = doc("how much was added to each, in all CPUs and in all namespaces that were read twice")


@dataclass(frozen=True)
class DiffDocument:
    """Two instants, of one recording or of two, beside each other."""

    meta: Timed = doc("who says it; `started` is the first instant and `ended` the second, of which `kernel` and `netns` are")
    one_boot: bool | None = doc(
        "both are of one boot of one host, in which inode numbers tell namespaces apart; else names do. null: not known"
    )
    first: DiffInstant = doc("the first instant")
    second: DiffInstant = doc("the second instant")
    came: int = doc("entries that only the second has; they are the same by namespace, zone and both tuples")
    went: int = doc("entries that only the first has")
    stayed: int = doc("entries that both have")
    by: tuple[str, ...] = doc("columns that entries are grouped by")
    groups: tuple[DiffGroup, ...] = doc("those that changed, whose number of entries changed most first: 10 at most, or --limit")
    more_groups: int = doc("groups that changed beside these")
    namespaces: tuple[DiffNamespace, ...] = doc("all, whatever the filter; the fullest first")
    sysctls: tuple[DiffSetting, ...] = doc("nf_conntrack_* that differ, of namespaces that were there at both instants")
    counters: DiffCounters | None = doc("null unless both are of one boot and the counters were read in between")


class Compared(NamedTuple):
    """How they are compared: by columns of groups.COLUMNS, of one namespace by its inode number at each instant (None: of all).

    `one_recording`: both are instants of it.
    """

    by: tuple[str, ...]
    netns: tuple[int | None, int | None] = (None, None)
    one_recording: bool = False


def collect(first: RecordedCapture, second: RecordedCapture, request: Request, how: Compared) -> DiffDocument:
    """Each of an instant."""
    one_boot = how.one_recording or _one_boot(first.host.boot, second.host.boot)
    before, after = _Side(first, request, how.netns[0]), _Side(second, request, how.netns[1])
    known = namesakes(before.names, after.names, one_boot is True)
    _renumber(before.shown, {one.first: place for place, one in enumerate(known)})
    _renumber(after.shown, {one.second: place for place, one in enumerate(known)})
    found = change(before.shown, after.shown, how.by, LINES if request.limit is None else request.limit)
    return DiffDocument(
        meta=_meta(first, second, how),
        one_boot=one_boot,
        first=before.instant(),
        second=after.instant(),
        came=found.came,
        went=found.went,
        stayed=found.stayed,
        by=how.by,
        groups=tuple(_group(one, how.by, known) for one in found.groups),
        more_groups=found.more,
        namespaces=_namespaces(before, after, known),
        sysctls=_sysctls(before, after, known),
        counters=_counters(first, second, how.netns[1]) if one_boot else None,
    )


class _Side:
    """One instant: its namespaces, and those entries that are to be shown."""

    def __init__(self, capture: RecordedCapture, request: Request, netns: int | None) -> None:
        self._capture = capture
        self._netns = netns
        whole = capture.table.entries()
        self._max_chain = int(lengths_of(whole, capture.buckets).of_bucket.max(initial=0))
        inums, counts = (column.tolist() for column in np.unique(whole["netns"], return_counts=True))
        called = capture.names()
        self.names = {**{inum: str(inum) for inum in inums}, **called}
        self.entries = {**dict.fromkeys(called, 0), **dict(zip(inums, counts, strict=True))}
        states = capture.namespaces(sysctls=None)
        self.limits = limits(self.names, states)
        self.sysctls = {inum: state.sysctls for inum, state in states.items() if state.sysctls and netns in (None, inum)}
        self.shown = request.filter._replace(netns=netns).passing(whole)

    def instant(self) -> DiffInstant:
        capture, told = self._capture, self._capture.fidelity()
        return DiffInstant(
            at=capture.started.iso(capture.now_ns()),
            file=told.recorded_in or "",
            kernel=capture.host.release,
            entries=len(self.shown),
            buckets=capture.buckets,
            max_chain=self._max_chain,
            events_lost=sum(told.lost.values()),
            table_uncertain_s=round(told.uncertain_ns / NS_PER_S, 3),
        )


def _one_boot(one: str | None, other: str | None) -> bool | None:
    """By the ids of both boots."""
    return None if one is None or other is None else one == other


def _renumber(entries: Entries, places: Mapping[int | None, int]) -> None:
    """Write into them, in place of a namespace's inode number, the number by which both sides know it."""
    groups = divide(entries, ("netns",))
    inums = entries["netns"][groups.first].tolist()
    entries["netns"] = np.array([places[inum] for inum in inums], np.uint32)[groups.labels]


def _meta(first: RecordedCapture, second: RecordedCapture, how: Compared) -> Timed:
    started, ended = first.started, second.started
    return Timed(
        command="diff",
        version=__version__,
        schema=SCHEMA,
        kernel=second.host.release,
        started=started.iso(started.monotonic_ns),
        ended=ended.iso(ended.monotonic_ns),
        duration_s=round((ended.wall_ns - started.wall_ns) / NS_PER_S, 3),
        netns=how.netns[1] or "all",
    )


def _group(one: GroupChange, by: Sequence[str], known: Sequence[Namesake]) -> DiffGroup:
    values = tuple(
        known[value].name if name == "netns" and isinstance(value, int) else value
        for name, value in zip(by, one.values, strict=True)
    )
    return DiffGroup(values, one.first, one.second, one.came, one.went)


def _namespaces(before: _Side, after: _Side, known: Sequence[Namesake]) -> tuple[DiffNamespace, ...]:
    rows = [
        DiffNamespace(
            one.name,
            None if one.first is None else before.entries[one.first],
            None if one.second is None else after.entries[one.second],
            None if one.first is None else before.limits[one.first],
            None if one.second is None else after.limits[one.second],
        )
        for one in known
    ]
    return tuple(sorted(rows, key=lambda row: (-_fullest(row), -max(row.first or 0, row.second or 0), row.netns)))


def _fullest(row: DiffNamespace) -> float:
    """The greater share of its limit."""
    both = ((row.first, row.first_max), (row.second, row.second_max))
    return max((count or 0) / limit if limit else 0.0 for count, limit in both)


def _sysctls(before: _Side, after: _Side, known: Sequence[Namesake]) -> tuple[DiffSetting, ...]:
    where: dict[tuple[str, int | None, int | None], list[str]] = {}
    for one in known:
        if one.first in before.sysctls and one.second in after.sysctls:
            old, new = before.sysctls[one.first], after.sysctls[one.second]
            for name in sorted({*old, *new} - {COUNT}):
                if old.get(name) != new.get(name):
                    where.setdefault((name, old.get(name), new.get(name)), []).append(one.name)
    return tuple(
        DiffSetting(*change, tuple(sorted(names))) for change, names in sorted(where.items(), key=lambda item: item[0][0])
    )


def _counters(first: RecordedCapture, second: RecordedCapture, netns: int | None) -> DiffCounters | None:
    before, after = first.last_counters(netns), second.last_counters(netns)
    if before is None or after is None or before[0] >= after[0]:
        return None
    gained = total(delta(before[1], after[1]).values())
    return DiffCounters(first.iso(before[0]), second.iso(after[0]), dict(gained))
