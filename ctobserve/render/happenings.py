"""Records as events of the stream, each with what earlier records said about the same entry."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctobserve.capture.destroy_reasons import Destroyed, DestroyReasons
from ctobserve.capture.filters import Filter
from ctobserve.capture.memory import Memory
from ctobserve.capture.records import (
    FLAG_CLASHED,
    FLAG_COUNTERS,
    FLAG_ENTRY,
    FLAG_REPLY,
    FLAG_TEXT,
    TEXT_BYTES,
    DropReason,
    Kind,
    Records,
    entries_of,
)
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.host.kernel import Symbols
from ctobserve.model import NF_HOOKS, Entries, join, printable
from ctobserve.render.rows import Row, entry_rows

EVENTS = ("insert", "confirm", "update", "destroy", "drop")
NAMES = {
    Kind.INSERT: "insert",
    Kind.CONFIRM: "confirm",
    Kind.UPDATE: "update",
    Kind.DESTROY: "destroy",
    Kind.FREE: "destroy",
    Kind.DROP: "drop",
    Kind.RESOLVED: "resolved",
}
IN_CONFIRM = (DropReason.CLASH, DropReason.CHAINTOOLONG, DropReason.DYING, DropReason.CONFIRMED)
# IPCT_* bits, include/uapi/linux/netfilter/nf_conntrack_common.h
CHANGES = (
    "new",
    "related",
    "destroy",
    "reply",
    "assured",
    "protoinfo",
    "helper",
    "mark",
    "seqadj",
    "secmark",
    "label",
    "synproxy",
)
HOLD_NS, HOLD_RECORDS = NS_PER_S, 1 << 16
TEXT_CHARACTERS = 4 * TEXT_BYTES  # room for every byte escaped
ENTRIES_REMEMBERED, MASTERS_REMEMBERED = 1 << 17, 1 << 13
INSERT = int(Kind.INSERT)
CONTESTED = "clash_resolved"


INSERTED: Row = {"event": "insert"}  # an insert of which there is nothing more to say


@dataclass(frozen=True)
class Chosen:
    """What of the stream is wanted."""

    events: Container[str]
    only: Filter


@dataclass(frozen=True)
class Told:
    """Events in order: the entry of each, and what it says beyond its entry, first of all its name as `event`."""

    entries: Entries
    facts: list[Row]

    def __len__(self) -> int:
        return len(self.facts)

    def first(self, count: int) -> Told:
        """No more than that many."""
        return Told(self.entries[:count], self.facts[:count])

    def only(self, which: list[int]) -> Told:
        """Those alone."""
        return Told(self.entries[which], [self.facts[at] for at in which])

    def ended(self) -> set[int]:
        """Inode numbers of the namespaces whose end made entries leave (reason netns_exit)."""
        return {int(self.entries["netns"][at]) for at, facts in enumerate(self.facts) if facts.get("reason") == "netns_exit"}

    def rows(self, clock: Clock) -> list[Row]:
        """As the JSON contract has them."""
        times = map(clock.iso, self.entries["seen_ns"].tolist())
        return [
            {"event": facts["event"], "ts": ts} | row | facts
            for facts, ts, row in zip(self.facts, times, entry_rows(self.entries, clock), strict=True)
        ]


class Happenings:
    """The stream's memory: when entries were born, who their master is, what befell an entry that never entered the table."""

    def __init__(self, chosen: Chosen, clock: Clock, symbols: Symbols) -> None:
        self._chosen = chosen
        self._clock = clock
        self._departures = DestroyReasons(symbols)
        self._births: Memory[int] = Memory(ENTRIES_REMEMBERED)
        self._masters: Memory[Row] = Memory(MASTERS_REMEMBERED)
        self._fates: Memory[str] = Memory(ENTRIES_REMEMBERED)
        self._held: Records | None = None

    def of(self, records: Records, final: bool = False) -> Told:
        """The contract's events, in order. A packet lost in confirm is two: the confirm's verdict, and the drop.

        A victim of early_drop waits for the tuple it made room for, which comes microseconds later, if it comes: no longer than a
        second, and while few enough records came; `final`: wait for nothing.
        """
        if self._held is not None:
            records = join((self._held, records))
        departures = self._departures.of(records)
        evictors = records[records["kind"] == Kind.EVICTOR]
        beneficiaries = dict(zip(evictors["eviction"].tolist(), entry_rows(entries_of(evictors), self._clock), strict=True))
        end = len(records) if final else self._complete(records, departures, beneficiaries)
        self._held = records[end:] if end < len(records) else None
        records = records[:end]
        entries = entries_of(records)
        keep = self._chosen.only.mask(entries)
        masters = np.flatnonzero(records["kind"] == Kind.MASTER).tolist()
        sides = dict(zip(masters, [row["original"] for row in entry_rows(entries[masters], self._clock)], strict=True))
        which: list[int] = []
        facts: list[Row] = []
        births = self._births.latest
        columns = (records[name].tolist() for name in ("kind", "ct", "ts"))
        for at, (kind, ct, ts, master, wanted) in enumerate(
            zip(*columns, entries["master"].tolist(), keep.tolist(), strict=True)
        ):
            if kind == INSERT and not master:
                births[ct] = ts
                made = [INSERTED]
            elif at in sides:
                self._masters.latest[ct] = sides[at]
                made = []
            else:
                made = self._one(kind, ct, ts, records[at], departures.get(at), beneficiaries)
            for fact in made if wanted else ():
                if fact["event"] in self._chosen.events:
                    which.append(at)
                    facts.append(fact)
        for memory in (self._births, self._masters, self._fates):
            memory.age()
        return Told(entries[which], facts)

    @staticmethod
    def _complete(records: Records, departures: dict[int, Destroyed], beneficiaries: dict[int, Row]) -> int:
        """How many records can be told now: up to the first recent victim whose evictor is not known yet."""
        newest = int(records["ts"][-1]) if len(records) else 0
        for at, departure in departures.items():
            waits = departure.reason == "early_drop" and int(records["eviction"][at]) not in beneficiaries
            if waits and newest - int(records["ts"][at]) < HOLD_NS and len(records) - at <= HOLD_RECORDS:
                return at
        return len(records)

    def _one(
        self, kind: int, ct: int, ts: int, record: Any, departure: Destroyed | None, beneficiaries: dict[int, Row]
    ) -> list[Row]:
        master = int(record["master"]) if record["has_ct"] == 1 else 0
        if kind not in NAMES:
            return []
        if kind == Kind.INSERT:
            self._births.latest[ct] = ts
        event: Row = {"event": NAMES[Kind(kind)]}
        expected_by = self._masters.get(master)
        if expected_by:
            event["master"] = expected_by
        if kind == Kind.DROP:
            return self._drop(record, event, ts, ct)
        if departure:
            event |= self._leaving(record, departure, ts, ct, beneficiaries)
        elif kind == Kind.CONFIRM:
            event |= _verdict("accept", ts, int(record["since"]))
        elif kind == Kind.UPDATE:
            event["changes"] = [name for bit, name in enumerate(CHANGES) if int(record["changes"]) >> bit & 1]
        elif kind == Kind.RESOLVED:
            event |= {"cpu": int(record["cpu"]), "reply_only": bool(record["reply_only"])}
        return [event]

    def _drop(self, record: Any, event: Row, ts: int, ct: int) -> list[Row]:
        reason = DropReason(int(record["reason"]))
        drop = event | {
            "reason": reason.name.lower(),
            "cpu": int(record["cpu"]),
            "direction": _direction(record, reason),
            "process": _process(record),
            "interface": printable(_until_nul(record["device"])) if record["ifindex"] else None,
            "hook": NF_HOOKS[record["hook"]] if reason in (DropReason.INVALID, DropReason.ERROR) else None,
            "text": _text(record),
            "looked_at": _looked(record) if reason == DropReason.TABLE_FULL else None,
        }
        if reason not in IN_CONFIRM:
            return [drop]
        self._fates.latest[ct] = reason.name.lower()
        return [event | {"event": "confirm"} | _verdict("drop", ts, int(record["since"])), drop]

    def _leaving(self, record: Any, departure: Destroyed, ts: int, ct: int, beneficiaries: dict[int, Row]) -> Row:
        born = self._births.pop(ct)
        self._masters.pop(ct)
        counters = _counters(record)
        beneficiary = beneficiaries.get(int(record["eviction"])) if departure.reason == "early_drop" else None
        fate = self._fates.pop(ct) or (CONTESTED if record["flags"] & FLAG_CLASHED else None)
        return {
            "reason": departure.reason,
            "detail": departure.detail or fate,
            "age_s": round((ts - born) / NS_PER_S, 3) if born else None,
            "packets": counters and {"original": counters[0], "reply": counters[2]},
            "bytes": counters and {"original": counters[1], "reply": counters[3]},
            "portid": int(record["portid"]) or None,
            "process": _process(record),
            "made_room_for": beneficiary and beneficiary["original"],
            "cpu": int(record["cpu"]),
        }


def _verdict(verdict: str, ts: int, since: int) -> Row:
    return {"verdict": verdict, "since_alloc_ns": ts - since if since else None}


def _process(record: Any) -> Row | None:
    return {"pid": int(record["pid"]), "comm": printable(_until_nul(record["comm"]))} if record["pid"] else None


def _until_nul(string: bytes) -> bytes:
    return string.partition(b"\0")[0]


def _direction(record: Any, reason: DropReason) -> str | None:
    """Of the packet: only an entry's first packet asks for room or comes to confirm; an invalid one may belong to no entry."""
    if reason not in (DropReason.INVALID, DropReason.ERROR):
        return "original"
    if not record["flags"] & FLAG_ENTRY:
        return None
    return "reply" if record["flags"] & FLAG_REPLY else "original"


def _text(record: Any) -> str | None:
    if not record["flags"] & FLAG_TEXT:
        return None
    return printable(_until_nul(bytes(record["extra"])).strip(), TEXT_CHARACTERS)


def _counters(record: Any) -> list[int] | None:
    """Packets and bytes, original then reply."""
    if not record["flags"] & FLAG_COUNTERS:
        return None
    return [int(value) for value in np.frombuffer(bytes(record["extra"])[:32], "<u8")]


def _looked(record: Any) -> Row | None:
    """None where the buckets could not be read: eight buckets never hold nothing at all, not even emptiness."""
    counts = record["scanned"].tolist()
    return dict(zip(("assured", "other_netns", "other", "empty_buckets"), counts, strict=True)) if any(counts) else None
