"""The table as known: entries by address, kept true by inserts and destroys, repaired by walks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctobserve.events import Kind, Records, entries_of, take
from ctobserve.model import ENTRY, UNKNOWN_BUCKET, Entries
from ctobserve.places import Addresses, Places, Rows

AS_BYTES = np.dtype((np.void, ENTRY.itemsize))
CHANGEABLE = ("status", "timeout", "mark", "tcp_state")


@dataclass(frozen=True)
class Lengths:
    """Nodes in every bucket, shape (buckets,), and how many of all nodes are original ones; `unread` counts buckets left out."""

    of_bucket: npt.NDArray[np.uint16]
    originals: int
    unread: int

    @property
    def nodes(self) -> int:
        """In all chains."""
        return int(self.of_bucket.sum(dtype=np.int64))

    @property
    def entries(self) -> int:
        """Every entry has a reply node, and all but the reply-only ones an original node."""
        return self.nodes - self.originals


class Table:
    """Rows in one array, found by the nf_conn's address.

    An address is reused as soon as its entry is freed, so within a batch only the last insert or destroy of an address
    decides; the ring's order is the kernel's order. A row stays its address's after the entry has left: the slab gives the
    same addresses out again.
    """

    def __init__(self) -> None:
        self._rows = np.zeros(1024, ENTRY)
        self._alive = np.zeros(1024, np.bool_)
        self._visitor = np.empty(1024, np.int32)
        self._used = 0
        self._places = Places()

    def __len__(self) -> int:
        return int(np.count_nonzero(self._alive))

    def entries(self) -> Entries:
        """Copy of all rows, in no particular order."""
        return take(self._rows, np.flatnonzero(self._alive))

    def find(self, addresses: Addresses) -> Entries:
        """Rows of those of these addresses that are in the table."""
        return take(self._rows, self._present(addresses))

    def _present(self, addresses: Addresses) -> Rows:
        rows = self._places.find(addresses)
        return rows[(rows >= 0) & self._alive[rows]]

    def apply(self, records: Records) -> Addresses:
        """Carry out the inserts and destroys among these records, in order; returns the addresses they touched."""
        kinds = np.ascontiguousarray(records["kind"])
        # A copy in every case: the caller keeps it, and the records may lie in the ring.
        addresses: Addresses = records["ct"].copy()
        # A flood: nothing but inserts. When all go to different rows, order does not matter and nobody needs to sort.
        if len(records) and (kinds == Kind.INSERT).all():
            rows = self._rows_for(addresses)
            if self._distinct(rows):
                self._write(rows, entries_of(records))
                return addresses
        life = np.flatnonzero((kinds == Kind.INSERT) | (kinds == Kind.DESTROY))
        final = _last_of_each(addresses, life)
        inserted = kinds[final] == Kind.INSERT
        self.remove(addresses[final[~inserted]])
        self.put(entries_of(take(records, final[inserted])))
        if len(life) < len(records):
            changed = np.flatnonzero(kinds == Kind.UPDATE)
            if len(changed):
                self._change(entries_of(take(records, _last_of_each(addresses, changed))))
        return addresses[final]

    def _distinct(self, rows: Rows) -> bool:
        """Whether no row comes twice: each then remembers the one who came last."""
        order = np.arange(len(rows), dtype=np.int32)
        self._visitor[rows] = order
        return bool((self._visitor[rows] == order).all())

    def _change(self, entries: Entries) -> None:
        """Take over what an update can change, of entries that are in the table."""
        at = self._places.find(np.ascontiguousarray(entries["ct"]))
        known = (at >= 0) & self._alive[at]
        newer = known.copy()
        newer[known] = entries["seen_ns"][known] >= self._rows["seen_ns"][at[known]]
        for name in CHANGEABLE:
            self._rows[name][at[newer]] = entries[name][newer]

    def put(self, entries: Entries) -> None:
        """Add entries, or replace those with the same address."""
        self._write(self._rows_for(np.ascontiguousarray(entries["ct"])), entries)

    def _rows_for(self, addresses: Addresses) -> Rows:
        if self._used + len(addresses) > len(self._rows):
            self._make_room(len(addresses))
        rows, self._used = self._places.find_or_add(addresses, self._used)
        return rows

    def _write(self, rows: Rows, entries: Entries) -> None:
        self._rows.view(AS_BYTES)[rows] = entries.view(AS_BYTES)
        self._alive[rows] = True

    def remove(self, addresses: Addresses) -> None:
        """Forget entries; addresses that are not in the table are ignored."""
        self._alive[self._present(np.ascontiguousarray(addresses))] = False

    def merge(self, walked: Entries, touched: Addresses) -> None:
        """Make the table what a walk saw, but for addresses that events touched since shortly before it began.

        Rows that stay take the walk's state (status, timeout, TCP state) and keep the time of their insert.
        """
        if len(touched):
            walked = take(walked, ~np.isin(walked["ct"], touched))
        at = self._places.find(np.ascontiguousarray(walked["ct"]))
        known = (at >= 0) & self._alive[at]
        mine = at[known]
        stays = np.zeros(len(self._alive), np.bool_)
        stays[mine] = stays[self._present(touched)] = True
        self._alive &= stays
        kept = take(walked, known)
        for name in ("seen_ns", "chain"):
            kept[name] = self._rows[name][mine]
        self._write(mine, kept)
        self.put(take(walked, ~known))

    def _make_room(self, needed: int) -> None:
        """Rows of the dead are given up when they are many; otherwise the array grows."""
        alive = np.flatnonzero(self._alive)
        size = len(self._rows)
        wanted = size if 2 * (len(alive) + needed) < size else max(size + size // 2, len(alive) + needed)
        rows = np.zeros(wanted, ENTRY)
        rows[: len(alive)] = take(self._rows, alive)
        self._rows = rows
        self._alive = np.zeros(wanted, np.bool_)
        self._alive[: len(alive)] = True
        self._visitor = np.empty(wanted, np.int32)
        self._used = len(alive)
        self._places.rebuild(np.ascontiguousarray(rows["ct"][: len(alive)]), np.arange(len(alive), dtype=np.int32))


def _last_of_each(addresses: Addresses, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of these positions, the last one for each address."""
    _, last = np.unique(addresses[positions][::-1], return_index=True)
    chosen: npt.NDArray[np.int64] = positions[len(positions) - 1 - last]
    return chosen


def lengths_of(entries: Entries, buckets: int) -> Lengths:
    """The same counted from entries; they must be a whole table."""
    numbers = entries["bucket"].ravel()
    numbers = numbers[numbers != UNKNOWN_BUCKET]
    originals = int((entries["bucket"][:, 0] != UNKNOWN_BUCKET).sum())
    return Lengths(np.bincount(numbers, minlength=buckets).astype(np.uint16), originals, 0)


def in_bucket(entries: Entries, bucket: int) -> Entries:
    """Those with a node in this bucket."""
    found: Entries = entries[(entries["bucket"] == bucket).any(axis=1)]
    return found
