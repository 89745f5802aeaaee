"""What one reading of the kernel's table brought, decoded batch by batch, so that no raw record is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctobserve.capture.extensions import EXTENSION, Extensions, extensions_of
from ctobserve.capture.records import Records, entries_of
from ctobserve.model import ENTRY, Entries, NDArray, join, pick

REPLY = np.dtype([("ct", "<u8"), ("bucket", "<u8")])  # an entry's reply node met in this bucket


class SnapshotBuilder:
    """Batches in, entries out: entries met twice counted once (the last time), reply buckets joined to them."""

    def __init__(self, extensions: np.dtype[np.void] | None = None) -> None:
        """`extensions`: where the records hold them (extensions_dtype), when they are wanted."""
        self._record = extensions
        self._entries: list[Entries] = [np.empty(0, ENTRY)]
        self._extensions: list[Extensions] = [np.empty(0, EXTENSION)]
        self._replies: list[NDArray[Any]] = [np.empty(0, REPLY)]

    def add(self, records: Records) -> None:
        """Records of KIND_WALK, wherever they lie: nothing of them is needed afterwards."""
        if len(records):
            self._entries.append(entries_of(records))
            if self._record is not None:
                self._extensions.append(extensions_of(records, self._record))

    @property
    def batches(self) -> int:
        """How many came so far."""
        return len(self._entries)

    def namespaces(self, since: int) -> set[int]:
        """Inode numbers of the namespaces of the entries that came after so many batches."""
        return {inum for entries in self._entries[since:] for inum in np.unique(entries["netns"]).tolist()}

    def add_replies(self, replies: NDArray[Any]) -> None:
        """Buckets of reply nodes, as REPLY."""
        self._replies.append(replies.copy())

    def result(self) -> tuple[Entries, Extensions]:
        """All entries, and a row of extensions for each when they were wanted. Gives them away: to be called once."""
        entries, self._entries = join(self._entries), []
        extensions, self._extensions = join(self._extensions), []
        # Stable: NumPy 2's vectorised argsort gives wrong orders on emulated CPUs (QEMU 7.2, AVX2).
        order = np.argsort(addresses := np.ascontiguousarray(entries["ct"]), kind="stable")
        ranked = addresses[order]
        last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
        if not last.all():
            ranked, chosen = ranked[last], order[last]
            entries, extensions = pick(entries, chosen), pick(extensions, chosen) if len(extensions) else extensions
            order = np.arange(len(chosen))
        self._join_replies(entries, order, ranked)
        return entries, extensions

    def _join_replies(self, entries: Entries, order: NDArray[np.int64], ranked: NDArray[np.uint64]) -> None:
        """`ranked` are the entries' addresses in rising order, `order` says which entry each belongs to."""
        replies, self._replies = join(self._replies), []
        if not len(entries):
            return
        addresses = np.ascontiguousarray(replies["ct"])
        at = np.searchsorted(ranked, addresses)
        at[at == len(ranked)] = 0
        known = ranked[at] == addresses
        entries["bucket"][order[at[known]], 1] = replies["bucket"][known]
