"""Records of the kernel side become EVENT rows: each once, here. Nothing above this room knows a record's layout."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np

from ctobserve.capture.address_index import Rows
from ctobserve.capture.destroy_reasons import DestroyReasons
from ctobserve.capture.records import (
    FLAG_CLASHED,
    FLAG_COUNTERS,
    FLAG_ENTRY,
    FLAG_KILLED,
    FLAG_REPLY,
    FLAG_TEXT,
    RecordKind,
    Records,
    entries_of,
    kinds_among,
)
from ctobserve.event import (
    HAS_COUNTERS,
    HAS_TEXT,
    IN_CONFIRM,
    NO_DIRECTION,
    NO_EVENTS,
    ORIGINAL,
    REPLY,
    TUPLE,
    DestroyReason,
    DropReason,
    Events,
    entries_alone,
)
from ctobserve.host.symbols import Symbols
from ctobserve.model import TCP, WITH_ICMP, WITH_PORTS, Mask, NDArray, join, pick
from ctobserve.programs.constants import COUNTERS_BYTES

# What ties a record to others, beside its event: its kind, if a clash came before it, and the call of early_drop that it is of.
LINK = np.dtype([("kind", "u1"), ("clashed", "?"), ("eviction", "<u8")])
Links = NDArray[np.void]
LEAVING = (RecordKind.DESTROY, RecordKind.FREE)
# By protocol number: whose header has ports, or type and id; and whose may speak of another packet.
TELLING, SPEAKING = (np.isin(np.arange(256), list(protocols)) for protocols in (WITH_PORTS | WITH_ICMP, WITH_ICMP))


class Decoded:
    """Events in the kernel's order, and a LINK for each; those of kinds MASTER, EVICTOR and RESIZE are there for others alone.

    `kinds`: all that there are, or more.
    """

    def __init__(self, events: Events, links: Links, kinds: Set[int]) -> None:
        self.events, self.links, self.kinds = events, links, kinds

    def __len__(self) -> int:
        return len(self.links)

    @classmethod
    def joined(cls, parts: list[Decoded]) -> Decoded:
        """All, in order."""
        if len(parts) < 2:
            return parts[0] if parts else NOTHING
        kinds = frozenset().union(*(part.kinds for part in parts))
        return cls(join([part.events for part in parts]), join([part.links for part in parts]), kinds)

    def parted(self, at: int) -> tuple[Decoded, Decoded]:
        """Those before this one, and the rest."""
        before, rest = (Decoded(self.events[part], self.links[part], self.kinds) for part in (slice(at), slice(at, None)))
        return before, rest

    def of(self, *kinds: int) -> Mask:
        """Which are of one of these."""
        found = np.zeros(len(self), np.bool_)
        for kind in kinds:
            if kind in self.kinds:
                # As a number of its own type: of another one NumPy asks at length what it is.
                found |= self.links["kind"] == np.uint8(kind)
        return found


NOTHING = Decoded(NO_EVENTS, np.empty(0, LINK), frozenset())


class Decoder:
    """Decodes each batch of records by itself; what earlier ones said is the correlator's (capture/correlator.py)."""

    def __init__(self, symbols: Symbols) -> None:
        self._reasons = DestroyReasons(symbols)

    def decode(self, records: Records) -> Decoded:
        """One event and one link for each record; nothing of the records is needed afterwards."""
        events, links = entries_alone(len(records)), np.zeros(len(records), LINK)
        entries_of(records, events["entry"])
        kinds = np.ascontiguousarray(records["kind"])
        events["kind"] = links["kind"] = kinds
        events["cpu"] = records["cpu"]
        decoded = Decoded(events, links, kinds_among(kinds))
        if RecordKind.EVICTOR in decoded.kinds:
            evictors = decoded.of(RecordKind.EVICTOR)
            links["eviction"][evictors] = records["eviction"][evictors]
        for some, tell in (
            (LEAVING, self._destroys),
            ((RecordKind.DROP,), _drops),
            ((RecordKind.CONFIRM,), _confirms),
            ((RecordKind.UPDATE,), _updates),
        ):
            if not decoded.kinds.isdisjoint(some):
                at = decoded.of(*some).nonzero()[0]
                tell(events, links, at, pick(records, at))
        return decoded

    def _destroys(self, events: Events, links: Links, at: Rows, records: Records) -> None:
        flags, freed, asked = records["flags"], records["kind"] == RecordKind.FREE, records["portid"] != 0
        reasons, details = self._reasons.of(records["caller"], records["iterator"], asked, flags & FLAG_KILLED != 0)
        if freed.any():
            # Of one that never entered the table nobody asked, and nobody called nf_ct_delete.
            asked &= ~freed
            reasons[freed] = DestroyReason.UNCONFIRMED
            links["clashed"][at] = freed & (flags & FLAG_CLASHED != 0)
        events["reason"][at] = reasons
        if details is not None:
            events["detail"][at] = np.where(freed, b"", details)
        if asked.any():
            events["portid"][at[asked]] = records["portid"][asked]
        evicted = reasons == DestroyReason.EARLY_DROP
        if evicted.any():
            links["eviction"][at[evicted]] = records["eviction"][evicted]
        counted = flags & FLAG_COUNTERS != 0
        if counted.any():
            numbers = np.ascontiguousarray(records["extra"][counted, :COUNTERS_BYTES]).view("<u8")
            events["packets"][at[counted]], events["bytes"][at[counted]] = numbers[:, ::2], numbers[:, 1::2]
            events["has"][at[counted]] = HAS_COUNTERS
        _process(events, at, records)


def _confirms(events: Events, _: Links, at: Rows, records: Records) -> None:
    events["since_alloc_ns"][at] = _since(records)


def _updates(events: Events, _: Links, at: Rows, records: Records) -> None:
    events["changes"][at] = records["changes"]


def _drops(events: Events, _: Links, at: Rows, records: Records) -> None:
    reasons, flags = records["reason"], records["flags"]
    bad = (reasons == DropReason.INVALID) | (reasons == DropReason.ERROR)
    events["reason"][at] = reasons
    # Whoever is lost on the way into the table is an entry's first packet, and goes in its original direction.
    first = ~bad & (reasons != DropReason.HELPER)
    events["direction"][at] = np.where(
        first, ORIGINAL, np.where(flags & FLAG_ENTRY == 0, NO_DIRECTION, np.where(flags & FLAG_REPLY != 0, REPLY, ORIGINAL))
    )
    events["hook"][at] = np.where(bad, records["hook"], 0)
    seen = (reasons == DropReason.INVALID) & (records["protonum0"] == TCP)
    events["tcp_flags"][at] = np.where(seen, records["tcp_flags"], 0)
    if bad.any():
        _headers(events, at[bad], pick(records, bad))
    full, confirming = reasons == DropReason.TABLE_FULL, np.isin(reasons, IN_CONFIRM)
    events["scanned"][at[full]] = records["scanned"][full]
    events["since_alloc_ns"][at[confirming]] = _since(records[confirming])
    sent = records["ifindex"] != 0
    events["ifindex"][at] = records["ifindex"]
    events["device"][at[sent]] = _until_nul(records["device"][sent])
    spoken = flags & FLAG_TEXT != 0
    events["text"][at[spoken]] = _until_nul(records["extra"][spoken])
    events["has"][at[spoken]] = HAS_TEXT
    _process(events, at, records)


def _headers(events: Events, at: Rows, records: Records) -> None:
    """What a packet found bad says of itself was read from its headers, ports and all, whatever its protocol."""
    entries = events["entry"]
    entries["port"][at[~TELLING[records["protonum0"]]]] = 0
    speaking = SPEAKING[records["protonum0"]] & (records["l3num1"] != 0)
    if not speaking.any():
        return
    at, records = at[speaking], pick(records, speaking)
    inner = np.zeros(len(records), TUPLE)
    for end, (address, port) in enumerate((("src1", "sport1"), ("dst1", "dport1"))):
        inner["addr"][:, end], inner["port"][:, end] = records[address], records[port]
    inner["port"][~TELLING[records["protonum1"]]] = 0
    inner["l3num"], inner["protonum"] = records["l3num1"], records["protonum1"]
    events["inner"][at] = inner


def _process(events: Events, at: Rows, records: Records) -> None:
    there = records["pid"] != 0
    if there.any():
        events["pid"][at[there]] = records["pid"][there]
        events["comm"][at[there]] = _until_nul(records["comm"][there])


def _since(records: Records) -> NDArray[np.uint64]:
    """From allocation to now: ns, 0 = unknown."""
    since: NDArray[np.uint64] = np.where(records["since"] != 0, records["ts"] - records["since"], 0).astype(np.uint64)
    return since


def _until_nul(strings: NDArray[Any]) -> NDArray[np.bytes_]:
    """The same without what lies behind the first NUL, which is an earlier record's; byte strings, or rows of bytes."""
    size = strings.dtype.itemsize * math.prod(strings.shape[1:])
    letters = np.ascontiguousarray(strings).view(np.uint8).reshape(len(strings), size)
    kept = np.ascontiguousarray(letters * np.logical_and.accumulate(letters != 0, axis=1))
    clean: NDArray[np.bytes_] = kept.view(f"S{size}")[:, 0]
    return clean
