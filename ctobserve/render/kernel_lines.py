"""Entries in the kernel's own line format: what /proc/net/nf_conntrack prints (ct_seq_show), also where that file is not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.capture.capture import Host
from ctobserve.capture.extensions import Extensions
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.model import (
    DCCP,
    DCCP_STATES,
    GRE,
    IPS_ASSURED,
    IPS_HW_OFFLOAD,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    L3,
    PROTOCOLS,
    SCTP,
    SCTP_STATES,
    TCP,
    TCP_STATES,
    ZONE_BOTH,
    ZONE_ORIGINAL,
    ZONE_REPLY,
    Entries,
    Mask,
    pick,
)
from ctobserve.render.addresses import addresses
from ctobserve.render.columns import Numbers, Part, Texts, column, glued, joined, named, texts, where, written
from ctobserve.render.entry_fields import (
    CODE,
    DPORT,
    DSTKEY,
    HAS_PORTS,
    HAS_TYPE,
    ID,
    MARK,
    SPORT,
    SRCKEY,
    STATUS_BITS,
    TCP_STATE,
    TYPE,
    ZONE,
    EntryView,
    TupleView,
)

BATCH = 1 << 16
READER = 1  # ct_seq_show holds a reference while it prints `use`


def kernel_lines(entries: Entries, extensions: Extensions, clock: Clock, host: Host) -> Iterator[str]:
    """Lines, many at a time, in the kernel's order of buckets; `extensions` has a row for each entry.

    What a line says of trackers and security contexts is the host's.
    """
    order = np.argsort(entries["bucket"][:, 0], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        columns = _columns(EntryView(pick(entries, rows), clock), pick(extensions, rows), clock, host)
        yield joined(columns, count=len(rows))


def _columns(view: EntryView, extensions: Extensions, clock: Clock, host: Host) -> list[Part]:
    entries, status, zone_dir = view.entries, STATUS_BITS.values(view), view.entries["zone_dir"]
    tracker = np.where(np.isin(entries["protonum"], list(host.trackers)), entries["protonum"], 255)
    online = status & IPS_OFFLOAD == 0
    left = clock.remaining_s(entries["timeout"], entries["seen_ns"])
    columns: list[Part] = [
        _head(entries, tracker),
        where(online, texts(left, "%d ")),
        *_state(view, extensions, tracker, online, clock.hz),
    ]
    for direction, of_zone in ((0, (ZONE_ORIGINAL, "zone-orig=%d ")), (1, (ZONE_REPLY, "zone-reply=%d "))):
        columns += _tuple(view.tuples(direction), tracker)
        columns += _optional(zone_dir == of_zone[0], texts(ZONE.values(view), of_zone[1]))
        columns += _optional(extensions["has_counters"], texts(extensions["packets"][:, direction], "packets=%d "))
        columns += _optional(extensions["has_counters"], texts(extensions["bytes"][:, direction], "bytes=%d "))
        if direction == 0:
            columns += _optional(status & IPS_SEEN_REPLY == 0, "[UNREPLIED] ")
    columns.append(_mood(status))
    columns.append(texts(MARK.values(view), "mark=%d "))
    contexts = {number: f"secctx={name} " for number, name in host.security_contexts.items()}
    if contexts:
        columns.append(written(extensions["secmark"], lambda number: contexts.get(number, "")))
    columns += _optional(zone_dir == ZONE_BOTH, texts(ZONE.values(view), "zone=%d "))
    age = np.maximum(clock.wall_ns - extensions["start_ns"].astype(np.int64), 0) // NS_PER_S
    columns += _optional(extensions["has_start"], texts(age, "delta-time=%d "))
    columns.append(texts(extensions["use"] + np.uint32(READER), "use=%d"))
    return columns


def _optional(mask: Mask, part: Part) -> list[Part]:
    return [where(mask, part)] if mask.any() else []


def _head(entries: Entries, tracker: Numbers) -> Part:
    """Both protocols with name and number."""
    both = entries["l3num"].astype(np.uint32) << 16 | tracker.astype(np.uint32) << 8 | entries["protonum"]
    return written(
        both,
        lambda kind: (
            f"{L3.get(kind >> 16, 'unknown'):<8} {kind >> 16} {PROTOCOLS.get(kind >> 8 & 255, 'unknown'):<8} {kind & 255} "
        ),
    )


def _state(view: EntryView, extensions: Extensions, tracker: Numbers, online: Mask, hz: int) -> list[Part]:
    """What the trackers print of their own (print_conntrack)."""
    columns = _optional((tracker == TCP) & online, named(TCP_STATE.values(view), TCP_STATES, "%s "))
    columns += _optional(tracker == SCTP, named(extensions["state"], SCTP_STATES, "%s "))
    columns += _optional(tracker == DCCP, named(extensions["state"], DCCP_STATES, "%s "))
    columns += _optional(tracker == GRE, texts(extensions["gre_timeout"] // hz, "timeout=%d, "))
    return columns + _optional(tracker == GRE, texts(extensions["gre_stream_timeout"] // hz, "stream_timeout=%d "))


def _tuple(view: TupleView, tracker: Numbers) -> list[Part]:
    """One direction (print_tuple)."""
    addressed = np.isin(view.l3num, list(L3))
    columns: list[Part] = [
        where(addressed, glued(before, addresses(view.addr[:, at], view.six, full=True), " "))
        for at, before in enumerate(("src=", "dst="))
    ]
    ports, icmp, gre = HAS_PORTS[tracker], HAS_TYPE[tracker], tracker == GRE
    for shown, field, form in (
        (ports, SPORT, "sport=%d "),
        (ports, DPORT, "dport=%d "),
        (icmp, TYPE, "type=%d "),
        (icmp, CODE, "code=%d "),
        (icmp, ID, "id=%d "),
        (gre, SRCKEY, "srckey=0x%x "),
        (gre, DSTKEY, "dstkey=0x%x "),
    ):
        if shown.any():
            columns.append(where(shown, texts(field.values(view), form)))
    return columns


def _mood(status: Numbers) -> Texts:
    """At most one word: where its packets go, or else that early drop spares it."""
    hard, soft, assured = (status & bit != 0 for bit in (IPS_HW_OFFLOAD, IPS_OFFLOAD, IPS_ASSURED))
    words = column(["", "[ASSURED] ", "[OFFLOAD] ", "[HW_OFFLOAD] "])
    mood: Texts = words[np.where(hard, 3, np.where(soft, 2, np.where(assured, 1, 0)))]
    return mood
