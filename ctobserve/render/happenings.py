"""Records as rows of the event stream."""

from __future__ import annotations

from collections.abc import Container

from ctobserve.clock import Clock
from ctobserve.departures import reasons
from ctobserve.events import DropReason, Kind, Records, entries_of
from ctobserve.filters import Filter
from ctobserve.kernel import Symbols
from ctobserve.render.rows import Row, entry_rows

EVENTS = ("insert", "confirm", "update", "destroy", "drop")
NAMES = {Kind.INSERT: "insert", Kind.CONFIRM: "confirm", Kind.DESTROY: "destroy", Kind.FREE: "destroy", Kind.DROP: "drop"}
IN_CONFIRM = (DropReason.CLASH, DropReason.CHAINTOOLONG, DropReason.DYING, DropReason.CONFIRMED)


def event_rows(records: Records, chosen: Container[str], only: Filter, clock: Clock, symbols: Symbols) -> list[Row]:
    """The contract's events, in order. A packet lost in confirm is two: the confirm's verdict, and the drop."""
    records = records[[NAMES.get(kind) in chosen or kind == Kind.DROP for kind in records["kind"].tolist()]]
    entries = entries_of(records)
    keep = only.mask(entries)
    records, entries = records[keep], entries[keep]
    rows = []
    details = zip(
        records["kind"].tolist(),
        records["reason"].tolist(),
        records["ts"].tolist(),
        records["since"].tolist(),
        records["portid"].tolist(),
        reasons(records, symbols),
        strict=True,
    )
    for row, (kind, reason, ts, since, portid, departure) in zip(entry_rows(entries, clock), details, strict=True):
        event: Row = {"event": NAMES[kind], "ts": clock.iso(ts)} | row
        if kind == Kind.DROP:
            if "confirm" in chosen and reason in IN_CONFIRM:
                rows.append(event | {"event": "confirm"} | _verdict("drop", ts, since))
            if "drop" in chosen:
                rows.append(event | {"reason": DropReason(reason).name.lower()})
            continue
        if kind == Kind.CONFIRM:
            event |= _verdict("accept", ts, since)
        elif departure:
            event |= {"reason": departure, "portid": portid or None}
        rows.append(event)
    return rows


def _verdict(verdict: str, ts: int, since: int) -> Row:
    return {"verdict": verdict, "since_alloc_ns": ts - since if since else None}
