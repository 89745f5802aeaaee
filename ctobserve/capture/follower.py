"""The kernel's table followed: seeded by a reading, kept true by events, read again after a loss or a resize."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ctobserve.capture.address_index import Addresses
from ctobserve.capture.capture import Snapshot
from ctobserve.capture.ring_consumer import RingConsumer
from ctobserve.capture.snapshot_builder import SnapshotBuilder
from ctobserve.capture.table import Lengths, Table, in_bucket, lengths_of
from ctobserve.capture.table_reader import HashReader, Lister
from ctobserve.errors import CtobserveError
from ctobserve.host.threads import elsewhere
from ctobserve.model import UNKNOWN_BUCKET, Entries

SETTLE_S = 0.02
READ_TRIES = 5
RESIZING = "the hash table was resized during every attempt to read it; try again when that has ended"
CHECK_NS = 1_000_000_000
DRAIN_S = 0.005
T = TypeVar("T")


class Follower:
    """`read_ns` is when the kernel's table was read last (0 = never), `unread` what could not be read of it then.

    `uncertain_ns`: how long in all the table was wrong because records were lost. `repairs`: how often it was read again for
    that, or because the hash was resized.
    """

    def __init__(
        self,
        table: Table,
        consumer: RingConsumer,
        reader: HashReader | Lister,
        extensions: np.dtype[np.void],
        lost: Callable[[], int],
    ) -> None:
        """`extensions`: where the records of a walk hold them. `lost` counts records that never came."""
        self.table = table
        self.read_ns = self.unread = self.uncertain_ns = self.repairs = 0
        self._consumer = consumer
        self._reader = reader
        self._extensions = extensions
        self._lost = lost
        self._lost_known = self._checked_ns = self._began_ns = self._seen = 0

    def begin(self) -> None:
        """Everything is attached: what came before is neither told nor counted."""
        self._consumer.begin()
        self._began_ns = time.monotonic_ns()

    @property
    def buckets(self) -> int:
        """Size of the hash when it was read last."""
        return self._reader.buckets

    def read(self) -> None:
        """Fill or repair the table by a reading, keeping what events say meanwhile."""
        self._consumer.resized = False
        found = self.snapshot()
        self.read_ns, self.unread = found.at_ns, found.unread
        self.table.merge(found.entries, found.touched)

    def repair(self, at_once: bool = False) -> None:
        """Read again when the hash was resized, or records were lost; the time in which the table was wrong is added up."""
        if not self.read_ns:
            return
        now = time.monotonic_ns()
        if self._consumer.resized:
            self.read()
            self.repairs += 1
        elif at_once or now - self._checked_ns > CHECK_NS:
            # Where no record came none was lost: a full ring has some, and so has a program that another call found at work.
            if at_once or self._consumer.came(self._seen):
                self._seen = self._consumer.seen
                lost = self._lost()
                if lost != self._lost_known:
                    self._lost_known = lost
                    self.read()
                    self.repairs += 1
                    self.uncertain_ns += time.monotonic_ns() - max(self._checked_ns, self._began_ns)
            self._checked_ns = time.monotonic_ns()

    def settle(self) -> None:
        """Take what is in the ring, and repair the table now."""
        self._consumer.take()
        self.repair(at_once=True)

    def drained(self, function: Callable[[], T]) -> T:
        """Result of a function that takes its time, while the ring is emptied; its exceptions are ours."""
        return elsewhere(function, self._consumer.take, DRAIN_S)

    def snapshot(self, extensions: bool = False) -> Snapshot:
        """The kernel's table; raises CtobserveError when the hash is resized again and again meanwhile."""
        beside: list[Addresses] = [self._consumer.take()]

        def drain(listed: SnapshotBuilder | None = None) -> None:
            beside.append(self._consumer.take(listed))

        time.sleep(SETTLE_S)
        for _ in range(READ_TRIES):
            found = SnapshotBuilder(self._extensions if extensions else None)
            unread = self._reader.entries(found, drain, extensions)
            if unread is not None:
                return Snapshot(*found.result(), self.buckets, time.monotonic_ns(), unread, np.concatenate(beside))
        raise CtobserveError(RESIZING)

    def lengths(self) -> Lengths:
        """The lengths of all chains; where the hash can be walked, by a pass that copies no entry and leaves the table alone.

        Raises CtobserveError when the hash is resized again and again meanwhile.
        """
        if isinstance(self._reader, Lister):
            self.read()
            return lengths_of(self.table.entries(), self.buckets)
        for _ in range(READ_TRIES):
            found = self._reader.lengths()
            if found is not None:
                self.read_ns, self.unread = time.monotonic_ns(), found.unread
                return found
        raise CtobserveError(RESIZING)

    def chain(self, bucket: int) -> Entries:
        """The entries with a node in this bucket, and both their buckets: read now, or from the table after a listing."""
        if isinstance(self._reader, Lister):
            return in_bucket(self.table.entries(), bucket)
        builder = SnapshotBuilder()
        self._reader.chain(bucket, builder)
        found, _ = builder.result()
        for entry in found:
            for direction in (1,) if entry["reply_only"] else (0, 1):
                if entry["bucket"][direction] == UNKNOWN_BUCKET:
                    entry["bucket"][direction] = self._reader.locate(int(entry["ct"]), direction)
        return found
