"""What happens over time: counts in bins of equal width, in bounded memory however long it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ctobserve.clock import NS_PER_S
from ctobserve.event import DestroyReason, Events, Kind
from ctobserve.model import NDArray

Series = NDArray[np.int64]  # a number for each bin
MOST = 600
WIDTH_NS = NS_PER_S // 10
NAMESPACES = 256  # that are told apart
OTHERS = 0  # no namespace has this inode number: those that come when there are so many
_UNSAMPLED = np.iinfo(np.int64).min


class Counts(NamedTuple):
    """Of one namespace or of all, in each bin: entries that entered the table, and left it; packets lost.

    `gone` is by DestroyReason, `lost` by DropReason, in which INVALID packets have their place too; `resolved` are clashes that
    cost no packet. A reason that did not occur is missing.
    """

    new: Series
    gone: Mapping[int, Series]
    lost: Mapping[int, Series]
    resolved: Series


class Bins(NamedTuple):
    """The first bin begins at `began_ns` (CLOCK_MONOTONIC), each is `width_ns` wide, the last one may not be over.

    `by_netns` is by inode number; `entries` are those at the end of each bin, of namespaces that had any, all or some of them
    in OTHERS; empty where no level was ever told.
    """

    began_ns: int
    width_ns: int
    everywhere: Counts
    by_netns: Mapping[int, Counts]
    entries: Mapping[int, Series]


class Timeline:
    """`add` events as they come, tell the `level` now and then, ask for the `bins`.

    Where there would be more than `most` bins, each two neighbours become one.
    """

    def __init__(self, began_ns: int, most: int = MOST, width_ns: int = WIDTH_NS) -> None:
        """`most` is an even number."""
        self._began_ns = began_ns
        self._width_ns = width_ns
        self._most = most
        self._used = 1
        self._rows: dict[int, dict[tuple[int, int], int]] = {}  # by namespace, then by kind and reason
        self._told = False
        self._made = 0
        self._counts: NDArray[np.int64] = np.zeros((8, most), np.int64)
        # By namespace: entries when they were told less those that events had brought until then, as of the bin's last telling.
        self._offsets: dict[int, Series] = {}
        self._forgotten: dict[int, int] = {}

    def add(self, events: Events) -> None:
        """Each event in the bin of its time; those from before the first bin are in that."""
        kinds, reasons = events["kind"], events["reason"]
        counted = np.isin(kinds, (Kind.INSERT, Kind.DROP, Kind.RESOLVED))
        # An entry that never entered the table did not leave it either.
        counted |= (kinds == Kind.DESTROY) & (reasons != DestroyReason.UNCONFIRMED)
        which = np.flatnonzero(counted)
        if not len(which):
            return
        at_ns = events["entry"]["seen_ns"][which].astype(np.int64)
        self._reach(int(at_ns.max()))
        bins = np.maximum(at_ns - self._began_ns, 0) // self._width_ns
        codes = events["entry"]["netns"][which].astype(np.int64) << 16 | kinds[which].astype(np.int64) << 8 | reasons[which]
        found, where = np.unique(codes, return_inverse=True)
        first = int(bins.min())
        span = int(bins.max()) - first + 1
        counts = np.bincount(where * span + bins - first, minlength=len(found) * span).reshape(-1, span)
        rows = [self._row(code >> 16, code >> 8 & 0xFF, code & 0xFF) for code in found.tolist()]
        # More than one may be of OTHERS.
        np.add.at(self._counts[:, first : first + span], rows, counts)

    def level(self, at_ns: int, entries: Mapping[int, int]) -> None:
        """Namespaces have so many entries now; one that is missing has none. All events until then have been added."""
        self._reach(at_ns)
        told = dict.fromkeys(self._rows, 0)
        for inum, count in entries.items():
            one = self._apart(inum)
            told[one] = told.get(one, 0) + count
        self._told = True
        at = max(at_ns - self._began_ns, 0) // self._width_ns
        for inum, count in told.items():
            if inum not in self._offsets:
                self._offsets[inum] = np.full(self._most, _UNSAMPLED)
            self._offsets[inum][at] = count - self._forgotten.get(inum, 0) - int(self._change(inum).sum())

    def forget(self, before_ns: int) -> None:
        """Bins that ended by then: a history that moves on."""
        gone = min(max(before_ns - self._began_ns, 0) // self._width_ns, self._used - 1)
        if not gone:
            return
        for inum in self._rows:
            self._forgotten[inum] = self._forgotten.get(inum, 0) + int(self._change(inum)[:gone].sum())
        self._counts = np.pad(self._counts[:, gone:], ((0, 0), (0, gone)))
        for inum, offsets in self._offsets.items():
            known = offsets[: gone + 1][offsets[: gone + 1] != _UNSAMPLED]
            moved = np.concatenate((offsets[gone:], np.full(gone, _UNSAMPLED)))
            moved[:1] = known[-1:] if len(known) else _UNSAMPLED
            self._offsets[inum] = moved
        self._began_ns += gone * self._width_ns
        self._used -= gone

    def bins(self, until_ns: int) -> Bins:
        """All until this time, and those of later events."""
        self._reach(until_ns)
        entries = {
            inum: (_known(offsets) + self._forgotten.get(inum, 0) + np.cumsum(self._change(inum)))[: self._used]
            for inum, offsets in sorted(self._offsets.items())
        }
        by_netns = {inum: self._counts_of((inum,)) for inum in sorted(self._rows)}
        return Bins(self._began_ns, self._width_ns, self._counts_of(self._rows), by_netns, entries)

    def _counts_of(self, among: Iterable[int]) -> Counts:
        found: dict[int, dict[int, Series]] = {kind: {} for kind in (Kind.INSERT, Kind.DESTROY, Kind.DROP, Kind.RESOLVED)}
        for (kind, reason), row in sorted(pair for inum in among for pair in self._rows[inum].items()):
            found[kind][reason] = found[kind].get(reason, 0) + self._counts[row, : self._used]
        nothing = np.zeros(self._used, np.int64)
        new, resolved = (sum(found[kind].values(), nothing) for kind in (Kind.INSERT, Kind.RESOLVED))
        return Counts(new, found[Kind.DESTROY], found[Kind.DROP], resolved)

    def _change(self, inum: int) -> Series:
        """By how many its entries grew in each bin."""
        change = np.zeros(self._most, np.int64)
        for (kind, _), row in self._rows[inum].items():
            if kind in (Kind.INSERT, Kind.DESTROY):
                change += self._counts[row] if kind == Kind.INSERT else -self._counts[row]
        return change

    def _row(self, inum: int, kind: int, reason: int) -> int:
        rows = self._rows[self._apart(inum)]
        if (kind, reason) not in rows:
            rows[kind, reason] = self._made
            self._made += 1
            if self._made > len(self._counts):
                self._counts = np.pad(self._counts, ((0, len(self._counts)), (0, 0)))
        return rows[kind, reason]

    def _apart(self, inum: int) -> int:
        if inum not in self._rows:
            inum = inum if len(self._rows) < NAMESPACES else OTHERS
            if inum not in self._rows:
                self._rows[inum] = {}
                if self._told:
                    # It had none so far.
                    self._offsets[inum] = np.full(self._most, _UNSAMPLED)
                    self._offsets[inum][0] = 0
        return inum

    def _reach(self, at_ns: int) -> None:
        """Bins until then."""
        while (at_ns - self._began_ns) // self._width_ns >= self._most:
            self._counts[:, : self._most // 2] = self._counts[:, ::2] + self._counts[:, 1::2]
            self._counts[:, self._most // 2 :] = 0
            for inum, offsets in self._offsets.items():
                later = np.where(offsets[1::2] == _UNSAMPLED, offsets[::2], offsets[1::2])
                self._offsets[inum] = np.concatenate((later, np.full(self._most // 2, _UNSAMPLED)))
            self._width_ns *= 2
            self._used = (self._used + 1) // 2
        self._used = max(self._used, (at_ns - self._began_ns) // self._width_ns + 1)


def _known(offsets: Series) -> Series:
    """In each bin what was told last until then; before the first telling what was told at that."""
    told = offsets != _UNSAMPLED
    places = np.where(told, np.arange(len(offsets)), int(np.argmax(told)))
    found: Series = offsets[np.maximum.accumulate(places)]
    return found
