"""The table as known: entries by address, kept true by inserts and destroys, repaired by walks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctobserve.events import Kind, Records, entries_of, picked
from ctobserve.model import ENTRY, Entries

Addresses = npt.NDArray[np.uint64]
CHANGEABLE = ("status", "timeout", "mark", "tcp_state")


@dataclass(frozen=True)
class Merge:
    """What a walk changed: entries it found that we lacked, and ours that the kernel no longer has."""

    added: Entries
    removed: Entries


class Table:
    """Rows in one array, found by the nf_conn's address.

    An address is reused as soon as its entry is freed, so within a batch only the last insert or destroy of an address
    decides; the ring's order is the kernel's order.
    """

    def __init__(self) -> None:
        self._rows = np.zeros(1024, ENTRY)
        self._row_of: dict[int, int] = {}
        self._free: list[int] = list(range(1023, -1, -1))

    def __len__(self) -> int:
        return len(self._row_of)

    def entries(self) -> Entries:
        """Copy of all rows, in no particular order."""
        return self._rows[self._rows_in_use()]

    def find(self, addresses: Addresses) -> Entries:
        """Rows of those of these addresses that are in the table."""
        found = [row for row in map(self._row_of.get, addresses.tolist()) if row is not None]
        return self._rows[np.array(found, np.int64)]

    def apply(self, records: Records) -> Addresses:
        """Carry out the inserts and destroys among these records, in order; returns the addresses they touched."""
        kinds = records["kind"]
        life = np.flatnonzero((kinds == Kind.INSERT) | (kinds == Kind.DESTROY))
        final = records[_last_of_each(records["ct"], life)]
        inserted = final["kind"] == Kind.INSERT
        self.remove(final["ct"][~inserted])
        self.put(entries_of(final[inserted]))
        changed = np.flatnonzero(kinds == Kind.UPDATE)
        if len(changed):
            self._change(entries_of(records[_last_of_each(records["ct"], changed)]))
        touched: Addresses = final["ct"]
        return touched

    def _change(self, entries: Entries) -> None:
        """Take over what an update can change, of entries that are in the table."""
        rows = [self._row_of.get(address, -1) for address in entries["ct"].tolist()]
        at = np.array(rows, np.int64)
        known = at >= 0
        newer = known.copy()
        newer[known] = entries["seen_ns"][known] >= self._rows["seen_ns"][at[known]]
        for name in CHANGEABLE:
            self._rows[name][at[newer]] = entries[name][newer]

    def put(self, entries: Entries) -> None:
        """Add entries, or replace those with the same address."""
        addresses = entries["ct"].tolist()
        rows = [self._row_of.get(address, -1) for address in addresses]
        missing = [i for i, row in enumerate(rows) if row < 0]
        self._grow(len(missing))
        for i in missing:
            rows[i] = self._free.pop()
        self._rows[np.array(rows, np.int64)] = entries
        self._row_of.update(zip(addresses, rows, strict=True))

    def remove(self, addresses: Addresses) -> None:
        """Forget entries; addresses that are not in the table are ignored."""
        for address in addresses.tolist():
            row = self._row_of.pop(address, None)
            if row is not None:
                self._free.append(row)

    def merge(self, walked: Entries, touched: Addresses) -> Merge:
        """Make the table what a walk saw, but for addresses that events touched since shortly before it began.

        Rows that stay take the walk's state (status, timeout, TCP state) and keep the time of their insert.
        """
        ours = self.entries()
        mine = ours[~np.isin(ours["ct"], touched)]
        theirs = walked[~np.isin(walked["ct"], touched)]
        removed = mine[~np.isin(mine["ct"], theirs["ct"])]
        known = np.isin(theirs["ct"], mine["ct"])
        kept = theirs[known]
        if len(kept):
            # Stable sorts throughout: NumPy 2's vectorised argsort gives wrong orders on emulated CPUs (QEMU 7.2, AVX2).
            order = np.argsort(mine["ct"], kind="stable")
            at = order[np.searchsorted(mine["ct"], kept["ct"], sorter=order)]
            kept["seen_ns"] = mine["seen_ns"][at]
            kept["chain"] = mine["chain"][at]
        self.remove(removed["ct"])
        self.put(kept)
        self.put(theirs[~known])
        return Merge(added=theirs[~known], removed=removed)

    def _rows_in_use(self) -> npt.NDArray[np.int64]:
        return np.fromiter(self._row_of.values(), np.int64, len(self._row_of))

    def _grow(self, needed: int) -> None:
        size = len(self._rows)
        if needed <= len(self._free):
            return
        wanted = max(size + size // 2, size + needed)
        rows = np.zeros(wanted, ENTRY)
        rows[:size] = self._rows
        self._free.extend(range(wanted - 1, size - 1, -1))
        self._rows = rows


def _last_of_each(addresses: Addresses, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of these positions, the last one for each address."""
    _, last = np.unique(addresses[positions][::-1], return_index=True)
    chosen: npt.NDArray[np.int64] = positions[len(positions) - 1 - last]
    return chosen


def walked_records(records: Records) -> Records:
    """Of a walk's records, the last one of each entry, by address."""
    walked = np.flatnonzero(records["kind"] == Kind.WALK)
    return picked(records, _last_of_each(records["ct"], walked))


def entries_of_walk(records: Records) -> Entries:
    """The entries of a walk: reply buckets joined to them, entries met twice counted once (the last time)."""
    entries = entries_of(walked_records(records))
    addresses = entries["ct"]
    replies = records[records["kind"] == Kind.WALK_REPLY]
    if len(replies) and len(entries):
        at = np.searchsorted(addresses, replies["ct"])
        at[at == len(addresses)] = 0
        known = addresses[at] == replies["ct"]
        entries["bucket"][at[known], 1] = replies["bucket"][known, 1]
    return entries
