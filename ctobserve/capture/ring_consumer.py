"""What comes out of the ring: into the table at once, and decoded for whoever asks; the records of a listing go their own way."""

from __future__ import annotations

import numpy as np

from ctobserve.capture.address_index import Addresses, Rows
from ctobserve.capture.decoder import Decoded, Decoder
from ctobserve.capture.records import RecordKind, Records, entries_of
from ctobserve.capture.snapshot_builder import SnapshotBuilder
from ctobserve.capture.table import Table
from ctobserve.model import Entries, pick
from ctobserve.programs.ring import Ring

NONE = np.empty(0, np.uint64)


class RingConsumer:
    """`seen` counts records, `resized` is set when one says that the hash has another size.

    Without a table none is followed. Without a decoder only the table takes records, straight from the ring, and there are no
    events.
    """

    def __init__(self, ring: Ring, record: np.dtype[np.void], table: Table | None, decoder: Decoder | None) -> None:
        self.seen = 0
        self.resized = False
        self._ring = ring
        self._record = record
        self._table = table
        self._decoder = decoder
        self._pending: list[Decoded] = []

    def begin(self) -> None:
        """Everything is attached: what came before is neither told nor counted."""
        self.take()
        self._pending.clear()
        self.seen = 0

    def cease(self) -> None:
        """From now on what comes is the table's alone."""
        self._decoder = None
        self._pending.clear()

    def decoded(self) -> Decoded:
        """Everything that happened since the last call, in the kernel's order; the table has it already."""
        self.take()
        pending, self._pending = self._pending, []
        return Decoded.joined(pending)

    def take(self, listed: SnapshotBuilder | None = None) -> Addresses:
        """Empty the ring; records of a listing go to `listed`. Returns the addresses that events touched."""
        if not self._ring.pending_bytes:
            return NONE
        records = self._ring.peek().view(self._record)[:, 0]
        of_listing = records["kind"] == RecordKind.WALK
        if of_listing.any():
            # Those that come when nobody gathers them are late, of a listing that was given up.
            if listed is not None:
                listed.add(pick(records, of_listing))
            records = pick(records, ~of_listing)
        self.seen += len(records)
        self.resized |= bool((records["kind"] == RecordKind.RESIZE).any())
        touched = self._told(records) if len(records) else NONE
        self._ring.release()
        return touched

    def _told(self, records: Records) -> Addresses:
        if self._decoder is not None:
            decoded = self._decoder.decode(records)
            self._pending.append(decoded)
            return NONE if self._table is None else self._table.apply(decoded.events)

        def entries(which: Rows | None) -> Entries:
            return entries_of(records if which is None else pick(records, which))

        return NONE if self._table is None else self._table.change(records["kind"], records["ct"], entries)
