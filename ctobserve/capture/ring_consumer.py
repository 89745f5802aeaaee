"""What comes out of the ring: into the table as it lies there, decoded for whoever asks; a listing goes its own way."""

from __future__ import annotations

import numpy as np

from ctobserve.capture.address_index import Addresses
from ctobserve.capture.decoder import Decoded, Decoder
from ctobserve.capture.records import RecordKind, Records, kinds_among
from ctobserve.capture.snapshot_builder import SnapshotBuilder
from ctobserve.capture.table import Kinds, Table
from ctobserve.model import pick
from ctobserve.programs.ring import Ring

NONE = np.empty(0, np.uint64)


class RingConsumer:
    """`seen` counts records, `seen_of` those of namespace `only` where one is given; `resized` is set when one says that the hash
    has another size.

    Without a table none is followed; its rows are those of `record` (row_dtype). Without a decoder there are no events.
    """

    def __init__(
        self, ring: Ring, record: np.dtype[np.void], table: Table | None, decoder: Decoder | None, only: int | None = None
    ) -> None:
        self.seen = 0
        self.seen_of = 0
        self._only = only
        self.resized = False
        self._ring = ring
        self._record = record
        self._table = table
        self._decoder = decoder
        self._pending: list[Decoded] = []

    def came(self, seen: int) -> bool:
        """Whether anything came since that many were seen."""
        return self.seen != seen or self._ring.pending_bytes > 0

    def begin(self) -> None:
        """Everything is attached: what came before is neither told nor counted."""
        self.take()
        self._pending.clear()
        self.seen = self.seen_of = 0

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
        kinds = np.ascontiguousarray(records["kind"])
        there = kinds_among(kinds)
        if RecordKind.WALK in there:
            of_listing = kinds == int(RecordKind.WALK)
            # Those that come when nobody gathers them are late, of a listing that was given up.
            if listed is not None:
                listed.add(pick(records, of_listing))
            records, kinds = pick(records, ~of_listing), kinds[~of_listing]
        self.seen += len(records)
        if self._only is not None:
            self.seen_of += int(np.count_nonzero(records["netns"] == self._only))
        self.resized |= RecordKind.RESIZE in there
        touched = self._told(records, kinds) if len(records) else NONE
        self._ring.release()
        return touched

    def _told(self, records: Records, kinds: Kinds) -> Addresses:
        if self._decoder is not None:
            self._pending.append(self._decoder.decode(records))
        return NONE if self._table is None else self._table.change(kinds, records["ct"], records["row"])
