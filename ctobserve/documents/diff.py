"""What is different: the tables, settings and counters at two instants, of one recording or of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.change import GroupChange, change
from ctobserve.analysis.groups import Key, Owners, divide
from ctobserve.analysis.namesakes import Namesake, namesakes
from ctobserve.documents.base import doc
from ctobserve.documents.instant import DiffInstant, Taken
from ctobserve.documents.meta import Timed, timed
from ctobserve.host.counters import delta, total
from ctobserve.model import Entries, join

LINES = 10
COUNT = "nf_conntrack_count"  # moves all the time: no setting


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
    one_boot: bool | None = doc("both are of one boot of one host; null: not known")
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
    counters: DiffCounters | None = doc(
        "null unless both are of one boot, the counters were read in between, and the namespace asked for was there all the time"
    )


def collect(first: Taken, second: Taken, by: tuple[str, ...], limit: int | None, one_recording: bool = False) -> DiffDocument:
    """By columns of groups.COLUMNS; no more than `limit` groups. `one_recording`: both are instants of it."""
    one_boot = one_recording or _one_boot(first.boot, second.boot)
    known = namesakes(first.names, second.names, _lasting(first, second) if one_boot else ())
    both = join([first.shown, second.shown])
    _renumber(both[: len(first.shown)], {one.first: place for place, one in enumerate(known)})
    _renumber(both[len(first.shown) :], {one.second: place for place, one in enumerate(known)})
    later = np.arange(len(both)) >= len(first.shown)
    found = change(both, later, by, LINES if limit is None else limit, _owners(first, second, known))
    return DiffDocument(
        meta=timed("diff", second.told.kernel, first.clock.wall_ns, second.clock.wall_ns, second.only.netns),
        one_boot=one_boot,
        first=first.told,
        second=second.told,
        came=found.came,
        went=found.went,
        stayed=found.stayed,
        by=by,
        groups=tuple(_group(one, by, known) for one in found.groups),
        more_groups=found.more,
        namespaces=_namespaces(first, second, known),
        sysctls=_sysctls(first, second, known),
        counters=_counters(first, second) if one_boot else None,
    )


def _owners(first: Taken, second: Taken, known: Sequence[Namesake]) -> Owners:
    """Of each namespace by its place: at the second instant where it was there then."""
    found = (first.owners.get(one.first or 0) if one.second is None else second.owners.get(one.second) for one in known)
    return {place: owner for place, owner in enumerate(found) if owner}


def _lasting(first: Taken, second: Taken) -> set[int]:
    """Inode numbers that are of the same namespace at both instants of a boot: by their cookies, where those are known."""
    before, after = first.counters.cookies, second.counters.cookies
    return {
        inum
        for inum in first.names.keys() & second.names.keys()
        if inum not in before or inum not in after or before[inum] == after[inum]
    }


def _one_boot(one: str | None, other: str | None) -> bool | None:
    """By the ids of both boots."""
    return None if one is None or other is None else one == other


def _renumber(entries: Entries, places: Mapping[int | None, int]) -> None:
    """Write into them, in place of a namespace's inode number, its place among those of both instants."""
    groups = divide(entries, ("netns",))
    inums = entries["netns"][groups.first].tolist()
    entries["netns"] = np.array([places[inum] for inum in inums], np.uint32)[groups.labels]


def _group(one: GroupChange, by: Sequence[str], known: Sequence[Namesake]) -> DiffGroup:
    values = tuple(
        known[value].name if name == "netns" and isinstance(value, int) else value
        for name, value in zip(by, one.values, strict=True)
    )
    return DiffGroup(values, one.first, one.second, one.came, one.went)


def _namespaces(first: Taken, second: Taken, known: Sequence[Namesake]) -> tuple[DiffNamespace, ...]:
    rows = [
        DiffNamespace(
            one.name,
            None if one.first is None else first.entries[one.first],
            None if one.second is None else second.entries[one.second],
            None if one.first is None else first.limits[one.first],
            None if one.second is None else second.limits[one.second],
        )
        for one in known
    ]
    return tuple(sorted(rows, key=lambda row: (-_fullest(row), -max(row.first or 0, row.second or 0), row.netns)))


def _fullest(row: DiffNamespace) -> float:
    """The greater share of its limit."""
    both = ((row.first, row.first_max), (row.second, row.second_max))
    return max((count or 0) / limit if limit else 0.0 for count, limit in both)


def _sysctls(first: Taken, second: Taken, known: Sequence[Namesake]) -> tuple[DiffSetting, ...]:
    where: dict[tuple[str, int | None, int | None], list[str]] = {}
    for one in known:
        if one.first is not None and one.second is not None:
            old, new = first.sysctls.get(one.first, {}), second.sysctls.get(one.second, {})
            for name in sorted({*old, *new} - {COUNT}) if old and new else ():
                if old.get(name) != new.get(name):
                    where.setdefault((name, old.get(name), new.get(name)), []).append(one.name)
    return tuple(
        DiffSetting(*values, tuple(sorted(names))) for values, names in sorted(where.items(), key=lambda item: item[0][0])
    )


def _counters(first: Taken, second: Taken) -> DiffCounters | None:
    netns = second.only.netns
    if first.only.netns != netns or not first.read_ns < second.read_ns:
        return None
    moved = delta(first.counters, second.counters)
    gained = total(values for (inum, _), values in moved.items() if netns in (None, inum))
    return DiffCounters(first.clock.iso(first.read_ns), second.clock.iso(second.read_ns), dict(gained))
