"""What comes out of the ring: into the table at once, and kept for whoever polls; the records of a listing go their own way."""

from __future__ import annotations

import numpy as np

from ctobserve.capture.address_index import Addresses
from ctobserve.capture.records import Kind, Records
from ctobserve.capture.snapshot_builder import SnapshotBuilder
from ctobserve.capture.table import Table
from ctobserve.model import join, pick
from ctobserve.programs.ring import Ring

NONE = np.empty(0, np.uint64)


class RingConsumer:
    """`seen` counts records, `resized` is set when one says that the hash has another size.

    Without a table none is followed. Without `stream` only the table takes events, straight from the ring, and `poll` has nothing
    to tell.
    """

    def __init__(self, ring: Ring, form: np.dtype[np.void], table: Table | None, stream: bool) -> None:
        self.seen = 0
        self.resized = False
        self._ring = ring
        self._form = form
        self._as_bytes = np.dtype((np.void, form.itemsize))
        self._table = table
        self._stream = stream
        self._pending: list[Records] = []

    def begin(self) -> None:
        """Everything is attached: what came before is neither told nor counted."""
        self.forget()
        self.seen = 0

    def forget(self) -> None:
        """What came is the table's alone."""
        self.take()
        self._pending.clear()

    def poll(self) -> Records:
        """Everything that happened since the last call, in the kernel's order; the table has it already."""
        self.take()
        records, self._pending = self._pending, []
        return join(records) if records else np.empty(0, self._form)

    def take(self, listed: SnapshotBuilder | None = None) -> Addresses:
        """Empty the ring; records of a listing go to `listed`. Returns the addresses that events touched."""
        if not self._ring.pending_bytes:
            return NONE
        records = self._ring.peek().view(self._form)[:, 0]
        of_listing = records["kind"] == Kind.WALK
        if of_listing.any():
            # Those that come when nobody gathers them are late, of a listing that was given up.
            if listed is not None:
                listed.add(pick(records, of_listing))
            records = pick(records, ~of_listing)
        self.seen += len(records)
        self.resized |= bool((records["kind"] == Kind.RESIZE).any())
        touched = NONE if self._table is None else self._table.apply(records)
        if self._stream and len(records):
            self._pending.append(records.view(self._as_bytes).copy().view(self._form))
        self._ring.release()
        return touched
