"""Which row of an array an address has: a hash in arrays, so that a batch is looked up without a Python step per address."""

from __future__ import annotations

import numpy as np

from ctobserve.model import NDArray

Addresses = NDArray[np.uint64]
Rows = NDArray[np.int64]

NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)
# Fibonacci hashing: objects of a slab lie at equal distances, and the product's high bits spread those over the whole table.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
FULL = 0.4


class AddressIndex:
    """Open addressing with triangular probing; addresses stay until `rebuild`."""

    def __init__(self, room: int = 0) -> None:
        """`room`: for so many at once, before it has to grow."""
        self._used = 0
        self._make(_size_for(room))

    def _make(self, size: int) -> None:
        self._keys = np.full(size, NOBODY, np.uint64)
        self._rows = np.zeros(size, np.int32)
        self._mask = np.int64(size - 1)
        self._shift = np.uint64(65 - size.bit_length())

    def _home(self, addresses: Addresses) -> Rows:
        slots: Rows = (addresses * MULTIPLIER >> self._shift).view(np.int64)
        return slots

    def _seek(self, addresses: Addresses) -> tuple[Rows, Rows]:
        """The slot of each address, or the first empty one where it would stand; and the indexes of those that have none."""
        slots = self._home(addresses)
        found = self._keys[slots]
        left = np.flatnonzero((found != addresses) & (found != NOBODY))
        step = 0
        while len(left):
            # Growing steps: steps of one make long runs, and every round costs NumPy calls, however few addresses are left.
            step += 1
            slots[left] = (slots[left] + step) & self._mask
            found[left] = self._keys[slots[left]]
            left = left[(found[left] != addresses[left]) & (found[left] != NOBODY)]
        return slots, np.flatnonzero(found != addresses)

    def find(self, addresses: Addresses) -> Rows:
        """Row of each address, -1 for an unknown one."""
        slots, missing = self._seek(addresses)
        rows = self._rows[slots].astype(np.int64)
        rows[missing] = -1
        return rows

    def find_or_add(self, addresses: Addresses, first_row: int) -> tuple[Rows, int]:
        """Row of each address; unknown ones get the rows from `first_row` on. An address that comes twice may waste a row.

        Also returns the row after the last one given.
        """
        if (self._used + len(addresses)) > FULL * len(self._keys):
            self._enlarge(len(addresses))
        slots, left = self._seek(addresses)
        row = first_row
        while len(left):
            at = slots[left]
            # Several that want one slot: whoever's address stands there afterwards has it, the others go on.
            self._keys[at] = addresses[left]
            won = self._keys[at] == addresses[left]
            mine = at[won]
            self._rows[mine] = np.arange(row, row + len(mine))
            row += len(mine)
            self._used += len(mine)
            left = left[~won]
            if len(left):
                slots[left], none = self._seek(addresses[left])
                left = left[none]
        return self._rows[slots].astype(np.int64), row

    def known(self) -> tuple[Addresses, NDArray[np.int32]]:
        """All addresses, and their rows."""
        known = (self._keys != NOBODY).nonzero()[0]
        return self._keys[known], self._rows[known]

    def _enlarge(self, more: int) -> None:
        self.rebuild(*self.known(), more)

    def rebuild(self, addresses: Addresses, rows: NDArray[np.int32], more: int = 0) -> None:
        """Only these distinct addresses, with these rows, and room for `more`."""
        self._make(_size_for(len(addresses) + more))
        self._used = 0
        given, _ = self.find_or_add(addresses, 0)
        order = np.empty(len(rows), np.int32)
        order[given] = rows
        filled = self._keys != NOBODY
        self._rows[filled] = order[self._rows[filled]]


def _size_for(addresses: int) -> int:
    """A power of two of slots, of which these take at most half as many as may be taken."""
    return max(2048, 1 << int(2 * addresses / FULL).bit_length())
