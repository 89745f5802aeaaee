"""Which entry a packet's connection had before: entries that left, the newest of them, found by either of their tuples."""

from __future__ import annotations

import numpy as np

from ctobserve.capture.address_index import Addresses, AddressIndex, Rows
from ctobserve.event import LEFT, TUPLE, Events
from ctobserve.model import ENTRY, WITH_ICMP, WITH_PORTS, Mask, NDArray, pick

HALF = 25_000  # entries
# One that left: where, both its tuples as ENTRY has them, and what LEFT says of it.
DEPARTED = np.dtype(
    [("addr", "u1", (4, 16)), ("port", ">u2", (4,)), ("netns", "<u4"), ("l3num", "u1"), ("protonum", "u1"), ("left", LEFT)]
)
Departed = NDArray[np.void]


def _plain(dtype: np.dtype[np.void], **spans: tuple[int, int]) -> np.dtype[np.void]:
    """The same bytes, with so many behind these offsets as one value each, which NumPy copies fastest."""
    fields = {name: of_field[:2] for name, of_field in (dtype.fields or {}).items()}
    fields |= {name: (np.dtype(f"V{size}"), offset) for name, (offset, size) in spans.items()}
    formats, offsets = [of_field[0] for of_field in fields.values()], [of_field[1] for of_field in fields.values()]
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize})


def _offset(dtype: np.dtype[np.void], *path: str) -> int:
    total = 0
    for name in path:
        assert dtype.fields
        total, dtype = total + dtype.fields[name][1], dtype.fields[name][0]
    return total


# Addresses, ports and namespace lie together in both, and the original's before the reply's.
ENDS = _offset(ENTRY, "netns") + 4 - _offset(ENTRY, "addr")
PLAIN_ENTRY = _plain(
    ENTRY, ends=(_offset(ENTRY, "addr"), ENDS), first=(_offset(ENTRY, "addr"), 32), first_ports=(_offset(ENTRY, "port"), 4)
)
PLAIN_DEPARTED = _plain(
    DEPARTED,
    ends=(_offset(DEPARTED, "addr"), ENDS),
    first=(_offset(DEPARTED, "left", "original", "addr"), 32),
    first_ports=(_offset(DEPARTED, "left", "original", "port"), 4),
)
HAS_ID, HAS_PORTS = (np.isin(np.arange(256), list(protocols)) for protocols in (WITH_ICMP, WITH_PORTS))  # by protocol number
# Multipliers with bits everywhere: of SplitMix64 and of the golden ratio.
FIRST, SECOND, THIRD = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x9E3779B97F4A7C15)
HIGH, ROOM = np.uint64(32), np.uint64((1 << 63) - 1)


class Departures:
    """In two halves: when the younger one is full it becomes the older, and what that held is forgotten.

    Rows are copied as they come; nothing is looked up, and no index made, before a packet asks.
    """

    def __init__(self, half: int = HALF) -> None:
        """So many entries at least are remembered, twice as many at most."""
        self._half = half
        self._young, self._old = _Half(half), _Half(0)

    def add(self, gone: Events) -> None:
        """Destroys of entries of the table, in order."""
        made = np.zeros(len(gone), DEPARTED)
        entries, left = gone["entry"].view(PLAIN_ENTRY), made["left"]
        plain = made.view(PLAIN_DEPARTED)
        for name in ("ends", "first", "first_ports"):
            plain[name] = entries[name]
        for name in ("pid", "comm", "reason"):
            left[name] = gone[name]
        for name in ("status", "tcp_state"):
            left[name] = entries[name]
        left["at_ns"] = entries["seen_ns"]
        for name in ("l3num", "protonum"):
            made[name] = left["original"][name] = entries[name]
        while len(made):
            made = made[self._young.add(made) :]
            if self._young.free == 0:
                self._young, self._old = _Half(self._half), self._young

    def of(self, packets: Events) -> NDArray[np.void]:
        """A LEFT row for each: of an ICMP error that of the packet it is about.

        The tuple may be either of the entry's, or the inverse of one: who resets a connection behind NAT sends that.
        """
        inner = packets["inner"]
        tuples = np.zeros(len(packets), TUPLE)
        tuples["addr"], tuples["port"] = packets["entry"]["addr"][:, :2], packets["entry"]["port"][:, :2]
        tuples["l3num"], tuples["protonum"] = packets["entry"]["l3num"], packets["entry"]["protonum"]
        about = inner["l3num"] != 0
        tuples[about] = inner[about]
        netns, at_ns = packets["entry"]["netns"], packets["entry"]["seen_ns"]
        found = np.zeros(len(packets), LEFT)
        for half in (self._old, self._young):
            rows, there = half.find(netns, tuples)
            there &= rows["left"]["at_ns"] <= at_ns
            found[there] = rows["left"][there]
        return found


class _Half:
    """So many rows; the index has two keys for each, as far as somebody asked."""

    def __init__(self, size: int) -> None:
        self._rows = np.zeros(size, DEPARTED)
        self._used = self._indexed = self._named = 0
        self._index = AddressIndex()
        self._newest = np.zeros(2 * size, np.int32)  # by the index's row: the last one that left with this key

    @property
    def free(self) -> int:
        """Rows that it still has room for."""
        return len(self._rows) - self._used

    def add(self, made: Departed) -> int:
        """As many as fit; says how many."""
        count = min(self.free, len(made))
        self._rows[self._used : self._used + count] = made[:count]
        self._used += count
        return count

    def find(self, netns: NDArray[np.uint32], tuples: NDArray[np.void]) -> tuple[Departed, Mask]:
        """For each tuple the last entry that left with it, and whether there is one."""
        if not self._used:
            return np.zeros(len(tuples), DEPARTED), np.zeros(len(tuples), np.bool_)
        self._catch_up()
        places = self._index.find(_keys(netns, tuples["addr"], _ports(tuples["port"], tuples["protonum"]), tuples["protonum"]))
        rows = pick(self._rows, self._newest[np.maximum(places, 0)])
        return rows, (places >= 0) & (rows["netns"] == netns) & _same(rows, tuples)

    def _catch_up(self) -> None:
        new = self._rows[self._indexed : self._used]
        if not len(new):
            return
        ports, netns, protonum = _ports(new["port"], new["protonum"]), new["netns"], new["protonum"]
        keys = [_keys(netns, new["addr"][:, ends], ports[:, ends], protonum) for ends in (slice(0, 2), slice(2, 4))]
        places, self._named = self._index.find_or_add(np.column_stack(keys).ravel(), self._named)
        # Of one key that comes twice the last row counts.
        self._newest[places] = np.repeat(np.arange(self._indexed, self._used, dtype=np.int32), 2)
        self._indexed = self._used


def _ports(port: NDArray[np.uint16], protonum: NDArray[np.uint8]) -> Rows:
    """Of each end: of ICMP the id at both, as type and code differ between question and answer; 0 where there is none."""
    ports = port.astype(np.int64)
    icmp = HAS_ID[protonum]
    ports[icmp] = np.repeat(ports[icmp][:, ::2], 2, axis=1)
    ports[~(icmp | HAS_PORTS[protonum])] = 0
    return ports


def _keys(netns: NDArray[np.uint32], addr: NDArray[np.uint8], ports: Rows, protonum: NDArray[np.uint8]) -> Addresses:
    """A number for each tuple, the same for its inverse."""
    halves = np.ascontiguousarray(addr).view("<u8")
    ends = _mixed(halves[:, :, 0] * FIRST + halves[:, :, 1] * SECOND + ports.astype(np.uint64) * THIRD)
    where = netns.astype(np.uint64) << np.uint64(8) | protonum
    keys: Addresses = _mixed(ends[:, 0] + ends[:, 1] + where * THIRD) & ROOM
    return keys


def _mixed(numbers: Addresses) -> Addresses:
    mixed: Addresses = (numbers ^ numbers >> HIGH) * FIRST
    return mixed ^ mixed >> HIGH


def _same(rows: Departed, tuples: NDArray[np.void]) -> Mask:
    """Whether it is one of the entry's two tuples, or the inverse of one; what has the same key need not."""
    found = np.zeros(len(rows), np.bool_)
    theirs, ours = _ports(rows["port"], rows["protonum"]), _ports(tuples["port"], tuples["protonum"])
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        same = (rows["addr"][:, (one, other)] == tuples["addr"]).all(axis=(1, 2))
        found |= same & (theirs[:, (one, other)] == ours).all(axis=1)
    found &= (rows["protonum"] == tuples["protonum"]) & (rows["l3num"] == tuples["l3num"])
    return found
