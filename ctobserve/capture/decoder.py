"""Records of the kernel side become EVENT rows: each once, here. Nothing above this room knows a record's layout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
)
from ctobserve.event import (
    EVENT,
    HAS_COUNTERS,
    HAS_TEXT,
    IN_CONFIRM,
    NO_DIRECTION,
    ORIGINAL,
    REPLY,
    DestroyReason,
    DropReason,
    Events,
)
from ctobserve.host.kernel import Symbols
from ctobserve.model import TCP, Mask, join, pick
from ctobserve.programs.constants import COUNTERS_BYTES

# What ties a record to others, beside its event: its kind, if a clash came before it, and the call of early_drop that it is of.
LINK = np.dtype([("kind", "u1"), ("clashed", "?"), ("eviction", "<u8")])
Links = npt.NDArray[np.void]
INSERT = int(RecordKind.INSERT)


@dataclass(frozen=True)
class Decoded:
    """Events in the kernel's order, and a LINK for each; those of kinds MASTER, EVICTOR and RESIZE are there for others alone."""

    events: Events
    links: Links

    def __len__(self) -> int:
        return len(self.links)

    @classmethod
    def none(cls) -> Decoded:
        """Nothing came."""
        return cls(np.empty(0, EVENT), np.empty(0, LINK))

    @classmethod
    def joined(cls, parts: list[Decoded]) -> Decoded:
        """All, in order."""
        return cls(join([part.events for part in parts]), join([part.links for part in parts])) if parts else cls.none()


class Decoder:
    """Decodes each batch of records by itself; what earlier ones said is the correlator's (capture/correlator.py)."""

    def __init__(self, symbols: Symbols) -> None:
        self._reasons = DestroyReasons(symbols)

    def decode(self, records: Records) -> Decoded:
        """One event and one link for each record; nothing of the records is needed afterwards."""
        events, links = np.zeros(len(records), EVENT), np.zeros(len(records), LINK)
        entries_of(records, events["entry"])
        kinds = np.ascontiguousarray(records["kind"])
        events["kind"] = links["kind"] = kinds
        events["cpu"] = records["cpu"]
        if (kinds == INSERT).all():
            return Decoded(events, links)
        links["eviction"] = np.where(kinds == RecordKind.EVICTOR, records["eviction"], 0)
        leaving = np.flatnonzero((kinds == RecordKind.DESTROY) | (kinds == RecordKind.FREE))
        if len(leaving):
            self._destroys(events, links, leaving, pick(records, leaving))
        dropped = np.flatnonzero(kinds == RecordKind.DROP)
        if len(dropped):
            _drops(events, dropped, pick(records, dropped))
        confirmed = np.flatnonzero(kinds == RecordKind.CONFIRM)
        if len(confirmed):
            some = pick(records, confirmed)
            events["since_alloc_ns"][confirmed] = _since(some)
        changed = kinds == RecordKind.UPDATE
        if changed.any():
            events["changes"][changed] = records["changes"][changed]
        return Decoded(events, links)

    def _destroys(self, events: Events, links: Links, at: npt.NDArray[np.int64], records: Records) -> None:
        flags = records["flags"]
        freed = records["kind"] == RecordKind.FREE
        killed, counted = flags & FLAG_KILLED != 0, flags & FLAG_COUNTERS != 0
        reasons, details = self._reasons.of(
            np.where(freed, 0, records["caller"]), records["iterator"], records["portid"] != 0, killed
        )
        reasons[freed] = DestroyReason.UNCONFIRMED
        details[freed] = b""
        events["reason"][at], events["detail"][at] = reasons, details
        events["portid"][at] = np.where(freed, 0, records["portid"])
        numbers = np.ascontiguousarray(records["extra"][:, :COUNTERS_BYTES]).view("<u8")
        for name, column in (("packets", 0), ("bytes", 1)):
            events[name][at] = np.where(counted[:, None], numbers[:, column::2], 0)
        events["has"][at] = np.where(counted, HAS_COUNTERS, 0)
        _process(events, at, records)
        links["clashed"][at] = freed & (flags & FLAG_CLASHED != 0)
        links["eviction"][at] = np.where(reasons == DestroyReason.EARLY_DROP, records["eviction"], 0)


def _drops(events: Events, at: npt.NDArray[np.int64], records: Records) -> None:
    reasons, flags = records["reason"], records["flags"]
    bad = (reasons == DropReason.INVALID) | (reasons == DropReason.ERROR)
    spoken = flags & FLAG_TEXT != 0
    events["reason"][at] = reasons
    events["direction"][at] = np.where(
        ~bad, ORIGINAL, np.where(flags & FLAG_ENTRY == 0, NO_DIRECTION, np.where(flags & FLAG_REPLY != 0, REPLY, ORIGINAL))
    )
    events["hook"][at] = np.where(bad, records["hook"], 0)
    seen = (reasons == DropReason.INVALID) & (records["protonum0"] == TCP)
    events["tcp_flags"][at] = np.where(seen, records["tcp_flags"], 0)
    events["scanned"][at] = np.where((reasons == DropReason.TABLE_FULL)[:, None], records["scanned"], 0)
    confirming = np.isin(reasons, IN_CONFIRM)
    events["since_alloc_ns"][at] = np.where(confirming, _since(records), 0)
    events["ifindex"][at] = records["ifindex"]
    events["device"][at] = _until_nul(records["device"], records["ifindex"] != 0)
    events["text"][at] = _until_nul(np.ascontiguousarray(records["extra"]).view(f"S{records['extra'].shape[1]}")[:, 0], spoken)
    events["has"][at] = np.where(spoken, HAS_TEXT, 0)
    _process(events, at, records)


def _process(events: Events, at: npt.NDArray[np.int64], records: Records) -> None:
    events["pid"][at] = records["pid"]
    events["comm"][at] = _until_nul(records["comm"], records["pid"] != 0)


def _since(records: Records) -> npt.NDArray[np.uint64]:
    """From allocation to now: ns, 0 = unknown."""
    since: npt.NDArray[np.uint64] = np.where(records["since"] != 0, records["ts"] - records["since"], 0).astype(np.uint64)
    return since


def _until_nul(strings: npt.NDArray[np.bytes_], there: Mask) -> npt.NDArray[np.bytes_]:
    """The same without what lies behind the first NUL, which is an earlier record's; empty where they are not there."""
    size = strings.dtype.itemsize
    letters = np.ascontiguousarray(strings).view(np.uint8).reshape(len(strings), size)
    kept = np.logical_and.accumulate(letters != 0, axis=1) & there[:, None]
    clean: npt.NDArray[np.bytes_] = np.ascontiguousarray(letters * kept).view(f"S{size}")[:, 0]
    return clean
