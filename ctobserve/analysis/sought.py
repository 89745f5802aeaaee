"""Which connections are asked about? Any part of a tuple, held against both tuples of an entry, in either direction."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ctobserve.event import Events
from ctobserve.model import WITH_PORTS, Entries, Mask, NDArray, somewhere

HAS_PORTS = np.isin(np.arange(256), list(WITH_PORTS))  # by protocol number


class End(NamedTuple):
    """One end of a connection, None: any. `address` has 4 or 16 bytes, in network order."""

    address: bytes | None = None
    port: int | None = None

    def mask(self, addr: NDArray[np.uint8], port: NDArray[Any], l3num: NDArray[np.uint8], protonum: NDArray[np.uint8]) -> Mask:
        """Where it is this one: shapes (n, 16), and (n,) of all others."""
        found = np.ones(len(port), np.bool_)
        if self.port is not None:
            found &= (port == self.port) & HAS_PORTS[protonum]
        if self.address is not None:
            size = len(self.address)
            found &= l3num == (2 if size == 4 else 10)
            found &= (addr[:, :size] == np.frombuffer(self.address, np.uint8)).all(axis=1)
        return found


class Sought(NamedTuple):
    """Connections between these two ends, whichever of them began, of this protocol or of any. `typed` is how it was asked.

    Who sees packets behind NAT asks with the addresses that they have there: either tuple of an entry may be meant.
    """

    typed: str
    one: End
    other: End = End()
    protonum: int | None = None

    def entries(self, entries: Entries) -> Mask:
        """Which entries have such a tuple; of a packet without one (`has_ct` other than 1) there is only the original."""
        found = self._tuples(entries, slice(0, 2))
        found |= self._tuples(entries, slice(2, 4)) & (entries["has_ct"] == 1)
        return found

    def events(self, events: Events) -> Mask:
        """Which are of such an entry or packet, or of one that is about such a packet, or comes after such an entry."""
        found = self.entries(events["entry"])
        for tuples in (events["inner"], events["left"]["original"]):
            there = tuples["l3num"] != 0
            if somewhere(there):
                found[there] |= self._tuples(tuples[there], slice(0, 2))
        return found

    def _tuples(self, rows: NDArray[np.void], places: slice) -> Mask:
        """Of the tuple that these rows, ENTRY or TUPLE, have at these places."""
        addr, port = rows["addr"][:, places], rows["port"][:, places]
        l3num, protonum = rows["l3num"], rows["protonum"]
        found = np.zeros(len(rows), np.bool_)
        for src, dst in ((self.one, self.other), (self.other, self.one)):
            found |= src.mask(addr[:, 0], port[:, 0], l3num, protonum) & dst.mask(addr[:, 1], port[:, 1], l3num, protonum)
        return found if self.protonum is None else found & (protonum == self.protonum)
