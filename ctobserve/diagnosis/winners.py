"""Who won where packets of one connection raced each other into the table: an entry with the loser's original tuple."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide_all
from ctobserve.model import ENTRY, Entries, Mask, join, pick

ORIGINAL = ("netns", "zone", "proto", "src", "sport", "dst", "dport")
RECENT = 1 << 16  # entries: a loser comes microseconds after the winner, or as late as a program lets it out of its queue
KEPT = 5_000  # of them


class Winners(NamedTuple):
    """`beaten`: which of the lost packets met one; `entries`: those that these packets met."""

    beaten: Mask
    entries: Entries


def winners(lost: Entries, tables: Sequence[Entries]) -> Winners:
    """Among the entries of these tables."""
    wanted = np.zeros(1 << 16, np.bool_)
    wanted[lost["port"][:, 0]] = True
    found = join([pick(table, wanted[table["port"][:, 0]]) for table in tables])
    same = divide_all((lost, found), ORIGINAL)
    of_lost = np.arange(len(same.labels)) < len(lost)
    met = (same.sums(~of_lost) > 0)[same.labels[of_lost]]
    return Winners(met, pick(found, (same.sums(of_lost) > 0)[same.labels[~of_lost]]))


class Inserted:
    """The entries that came last, for a loser to be held against: the winner may have ended when somebody asks."""

    def __init__(self) -> None:
        self._recent: deque[Entries] = deque()
        self._found = [np.empty(0, ENTRY)]
        self._rows = self._kept = 0

    def add(self, inserted: Entries, lost: Entries) -> None:
        """What one batch brought, and what it lost to a clash."""
        self._recent.append(inserted)
        self._rows += len(inserted)
        while self._rows > RECENT and len(self._recent) > 1:
            self._rows -= len(self._recent.popleft())
        if len(lost) and self._kept < KEPT:
            self._found.append(winners(lost, self._recent).entries[: KEPT - self._kept])
            self._kept += len(self._found[-1])

    def won(self) -> Entries:
        """The winners that were found."""
        return join(self._found)
