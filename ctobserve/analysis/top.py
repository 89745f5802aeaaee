"""Who has most of the table, who makes most new entries, who loses most packets: one frame of `ctobserve top`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.groups import NO_OWNERS, Key, Labels, Owners, divide, divide_all, key
from ctobserve.model import ENTRY, Entries, join

ORDERS = ("entries", "new", "lost")
MOST = 1 << 16  # groups of an interval that are told apart


@dataclass(frozen=True)
class Line:
    """One group: its values in the columns asked for, entries now, new ones and lost packets in the interval."""

    values: tuple[Key, ...]
    entries: int
    new: int
    lost: int


class Gathered:
    """What came in an interval, by group: as many rows as there are groups, however long the interval and however much came.

    `total` came in all. Beyond MOST groups the smallest are given up, and counted in `forgotten`.
    """

    def __init__(self, by: Sequence[str]) -> None:
        # Whose they are is asked at the end of the interval.
        self._by = tuple("netns" if name == "owner" else name for name in by)
        self._parts: list[Entries] = [np.empty(0, ENTRY)]
        self._weights: list[Labels] = [np.empty(0, np.int64)]
        self._rows = 0
        self.total = self.forgotten = 0

    def add(self, entries: Entries) -> None:
        """Each counts one."""
        if not len(entries):
            return
        self._parts.append(entries)
        self._weights.append(np.ones(len(entries), np.int64))
        self._rows += len(entries)
        self.total += len(entries)
        if self._rows > 2 * MOST:
            entries, weights = self._grouped()
            self._parts, self._weights, self._rows = [entries], [weights], len(entries)

    def _grouped(self) -> tuple[Entries, Labels]:
        entries, weights = self.result()
        groups = divide(entries, self._by)
        sums = groups.sums(weights)
        kept = np.argsort(-sums, kind="stable")[:MOST]
        self.forgotten += int(sums.sum() - sums[kept].sum())
        return entries[groups.first[kept]], sums[kept]

    def result(self) -> tuple[Entries, Labels]:
        """Entries, and how many each of them stands for: shapes (n,) and (n,)."""
        return join(self._parts), np.concatenate(self._weights)


def heaviest(
    now: Entries, new: Gathered, lost: Gathered, by: Sequence[str], order: str, limit: int, owners: Owners = NO_OWNERS
) -> list[Line]:
    """Groups by these columns (see groups.divide), those with the most of `order` first; `new` and `lost` are of the interval.

    One that comes and goes within the interval is in `new` only.
    """
    (entered, entered_weights), (refused, refused_weights) = new.result(), lost.result()
    parts = (now, entered, refused)
    groups = divide_all(parts, by, owners)
    ends = np.cumsum([len(part) for part in parts])
    labels = np.split(groups.labels, ends[:-1])
    sums = [
        np.bincount(mine, weights, len(groups.counts)).astype(np.int64)
        for mine, weights in zip(labels, (None, entered_weights, refused_weights), strict=True)
    ]
    best = np.argsort(-sums[ORDERS.index(order)], kind="stable")[:limit]
    lines = []
    for at in best.tolist():
        first = int(groups.first[at])
        which = int(np.searchsorted(ends, first, "right"))
        row = parts[which][first - (int(ends[which - 1]) if which else 0)]
        lines.append(Line(tuple(key(row, name, owners) for name in by), *(int(part[at]) for part in sums)))
    return lines
