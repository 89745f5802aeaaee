"""The table as known: entries by address, kept true by inserts and destroys, repaired by walks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctobserve.capture.address_index import Addresses, AddressIndex, Rows
from ctobserve.capture.records import ENTRY_ROW, Held, entries_of_rows, rows_of_entries
from ctobserve.event import Events, Kind
from ctobserve.model import UNKNOWN_BUCKET, Entries, Mask, NDArray, pick

CHUNK = 1 << 16  # entries that take another form at a time
Kinds = NDArray[np.uint8]
CHANGEABLE = ("status", "timeout", "mark", "tcp_state")


class Lengths(NamedTuple):
    """Nodes in every bucket, shape (buckets,), and how many of all nodes are original ones; `unread` counts buckets left out."""

    of_bucket: NDArray[np.uint16]
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
    same addresses out again. An unknown address has row -1, the spare one at the end, in which nobody lives.
    """

    def __init__(self, row: np.dtype[np.void] = ENTRY_ROW) -> None:
        """`row`: the form of what `change` is given, and in which entries are kept until somebody asks for them."""
        self._row = row
        self._as_bytes = np.dtype((np.void, row.itemsize))
        self._index = AddressIndex()
        self._fill(np.empty(1024, row), 0)

    def _fill(self, rows: Held, used: int) -> None:
        """These rows, of which the first `used` are entries."""
        self._rows = rows
        self._alive = np.zeros(len(rows) + 1, np.bool_)
        self._alive[:used] = True
        self._visitor = np.empty(len(rows) + 1, np.int32)
        self._used = used

    def __len__(self) -> int:
        return int(np.count_nonzero(self._alive))

    def entries(self) -> Entries:
        """Copy of all rows, in no particular order."""
        return entries_of_rows(pick(self._rows, np.flatnonzero(self._alive)))

    def find(self, addresses: Addresses) -> Entries:
        """Rows of those of these addresses that are in the table."""
        return entries_of_rows(pick(self._rows, self._present(addresses)))

    def _present(self, addresses: Addresses) -> Rows:
        rows = self._index.find(addresses)
        present: Rows = rows[self._alive[rows]]
        return present

    def apply(self, events: Events) -> Addresses:
        """Carry out the inserts, destroys and updates among these events, in order; returns the addresses of the first two.

        For a table whose rows are ENTRY_ROW.
        """
        return self.change(events["kind"], events["entry"]["ct"], events["entry"])

    def change(self, kinds: Kinds, addresses: Addresses, held: Held) -> Addresses:
        """The same of whatever has these kinds, addresses and rows, which lie wherever they like."""
        kinds, held = np.ascontiguousarray(kinds), held.view(self._as_bytes)
        # A copy in every case: the caller keeps it, and what it is of may lie in the ring.
        addresses = addresses.copy()
        inserted = kinds == Kind.INSERT
        # A flood: nothing but inserts, of which the last that is written to a row stays.
        if inserted.all():
            self._write(self._rows_for(addresses), held)
            return addresses
        life = np.flatnonzero(inserted | (kinds == Kind.DESTROY))
        touched = addresses[life]
        self._live(held, life, touched, inserted[life])
        if len(life) < len(kinds):
            changed = np.flatnonzero(kinds == Kind.UPDATE)
            rows = self._index.find(addresses[changed])
            latest = self._last(rows) & self._alive[rows]
            self._change(rows[latest], held[changed[latest]].view(self._row))
        return touched

    def _live(self, held: Held, life: Rows, addresses: Addresses, inserted: Mask) -> None:
        """Inserts and destroys: those at these positions, with these addresses."""
        rows = np.empty(len(life), np.int64)
        rows[inserted] = self._rows_for(addresses[inserted])
        rows[~inserted] = self._index.find(addresses[~inserted])
        last = self._last(rows)
        new = last & inserted
        self._write(rows[new], held[life[new]])
        self._alive[rows[last & ~inserted]] = False

    def _last(self, rows: Rows) -> Mask:
        """Which of these does not come again further on: every row remembers the last one who came."""
        order = np.arange(len(rows), dtype=np.int32)
        self._visitor[rows] = order
        last: Mask = self._visitor[rows] == order
        return last

    def _change(self, rows: Rows, held: Held) -> None:
        """Take over what an update can change."""
        newer = held["seen_ns"] >= self._rows["seen_ns"][rows]
        for name in CHANGEABLE:
            self._rows[name][rows[newer]] = held[name][newer]

    def put(self, entries: Entries) -> None:
        """Add entries, or replace those with the same address."""
        self._write_entries(self._rows_for(np.ascontiguousarray(entries["ct"])), entries)

    def _rows_for(self, addresses: Addresses) -> Rows:
        if self._used + len(addresses) > len(self._rows):
            # Those who are known take no new row: where the slab gives the same addresses out again, the array is large enough.
            unknown = int(np.count_nonzero(self._index.find(addresses) < 0))
            if self._used + unknown > len(self._rows):
                self._make_room(len(addresses))
        rows, self._used = self._index.find_or_add(addresses, self._used)
        return rows

    def _write(self, rows: Rows, held: Held) -> None:
        self._rows.view(self._as_bytes)[rows] = held
        self._alive[rows] = True

    def _write_entries(self, rows: Rows, entries: Entries) -> None:
        for first in range(0, len(rows), CHUNK):
            some = slice(first, first + CHUNK)
            self._write(rows[some], rows_of_entries(entries[some], self._row).view(self._as_bytes))

    def merge(self, walked: Entries, touched: Addresses) -> None:
        """Make the table what a walk saw, but for addresses that events touched since shortly before it began.

        Rows that stay take the walk's state (status, timeout, TCP state) and keep the time of their insert.
        """
        if len(touched):
            walked = pick(walked, ~np.isin(walked["ct"], touched))
        at = self._index.find(np.ascontiguousarray(walked["ct"]))
        known = self._alive[at]
        mine = at[known]
        stays = np.zeros(len(self._alive), np.bool_)
        stays[mine] = stays[self._present(touched)] = True
        self._alive &= stays
        kept = pick(walked, known)
        for name in ("seen_ns", "chain"):
            # A pair is one number in a row.
            kept[name] = self._rows[name][mine].view(kept[name].dtype).reshape(kept[name].shape)
        self._write_entries(mine, kept)
        self.put(pick(walked, ~known))

    def _make_room(self, needed: int) -> None:
        """Rows of the dead are given up when they are many; otherwise the array grows."""
        alive = np.flatnonzero(self._alive)
        size = len(self._rows)
        wanted = size if 2 * (len(alive) + needed) < size else max(size + size // 2, len(alive) + needed)
        rows = np.empty(wanted, self._row)
        rows[: len(alive)] = pick(self._rows, alive)
        self._fill(rows, len(alive))
        self._index.rebuild(np.ascontiguousarray(rows["ct"][: len(alive)]), np.arange(len(alive), dtype=np.int32))


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
