"""What did a packet meet that was lost to a clash: the winner of a race for its tuple, or another connection on its NAT port?"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide_all
from ctobserve.model import ENTRY, IPS_SRC_NAT, WITH_PORTS, Entries, Mask, NDArray, join, pick

ORIGINAL = ("netns", "zone", "proto", "src", "sport", "dst", "dport")
PAIR = ("netns", "proto", "reply_dst", "reply_src", "reply_sport")  # of a NAT address and a service
RECENT = 1 << 16  # entries: a loser comes microseconds after the winner, or as late as a program lets it out of its queue
KEPT = 5_000  # of them
NEVER = np.iinfo(np.uint64).max


class Winners(NamedTuple):
    """`beaten`: which of the lost packets met one; `entries`: those that these packets met."""

    beaten: Mask
    entries: Entries


def winners(lost: Entries, tables: Sequence[Entries]) -> Winners:
    """Among the entries of these tables that were there before the packet: a later one is its own, sent again."""
    found = join([pick(table, _one_of(table["port"][:, 0], lost["port"][:, 0])) for table in tables])
    same = divide_all((lost, found), ORIGINAL)
    of_lost, of_found = same.labels[: len(lost)], same.labels[len(lost) :]
    first = np.full(len(same.counts), NEVER, np.uint64)
    np.minimum.at(first, of_found, found["seen_ns"])
    beaten = (first != NEVER)[of_lost] & (first[of_lost] <= lost["seen_ns"])
    met = np.bincount(of_lost, beaten, len(same.counts)) > 0
    return Winners(beaten, pick(found, met[of_found]))


def _one_of(ports: NDArray[np.uint16], wanted: NDArray[np.uint16]) -> Mask:
    there = np.zeros(1 << 16, np.bool_)
    there[wanted] = True
    which: Mask = there[ports]
    return which


def for_a_port(lost: Entries, table: Entries, before: Entries, won: Entries) -> Mask:
    """Which of them met another connection on their mapped port. `won`: the winners that were found as they came.

    Where no connection is left that has such a port, nobody can say that ports are short: it was a race, and its winner ended.
    """
    tables = [pick(part, _one_of(part["port"][:, 2], lost["port"][:, 2])) for part in (table, before)]
    pairs = divide_all((lost, *(pick(part, mapped(part)) for part in tables)), PAIR)
    of_lost = np.arange(len(pairs.labels)) < len(lost)
    taken: Mask = (pairs.sums(~of_lost) > 0)[pairs.labels[of_lost]]
    return mapped(lost) & taken & ~winners(lost, (table, before, won)).beaten


def mapped(entries: Entries) -> Mask:
    """Source NAT did something: the reply goes to another address or port than the packet came from."""
    moved = (entries["addr"][:, 0] != entries["addr"][:, 3]).any(axis=1) | (entries["port"][:, 0] != entries["port"][:, 3])
    ports = np.isin(entries["protonum"], list(WITH_PORTS))
    found: Mask = moved & ports & ((entries["status"] & IPS_SRC_NAT) != 0)
    return found


class Inserted:
    """The entries that came last, for a loser to be held against: the winner may have ended when somebody asks."""

    def __init__(self) -> None:
        self._recent: deque[Entries] = deque()
        self._found = [np.empty(0, ENTRY)]
        self._rows = self._kept = 0

    def add(self, inserted: Entries, lost: Entries) -> None:
        """What one batch brought, of which no view is kept, and what it lost to a clash."""
        if len(inserted):
            self._recent.append(inserted[-RECENT:].copy() if len(inserted) > RECENT else inserted)
            self._rows += len(self._recent[-1])
        while self._rows > RECENT and len(self._recent) > 1:
            self._rows -= len(self._recent.popleft())
        if len(lost) and self._recent and self._kept < KEPT:
            self._found.append(winners(lost, self._recent).entries[: KEPT - self._kept])
            self._kept += len(self._found[-1])

    def won(self) -> Entries:
        """The winners that were found."""
        return join(self._found)
