"""Entries in the kernel's own line format: what /proc/net/nf_conntrack prints (ct_seq_show), also where that file is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
    WITH_ICMP,
    WITH_PORTS,
    Entries,
)
from ctobserve.render.addresses import addresses
from ctobserve.render.columns import Mask, Numbers, Part, Texts, column, glued, joined, named, texts, where, written

BATCH = 1 << 16
ZONE_ORIG, ZONE_REPLY, ZONE_BOTH = 1, 2, 3
READER = 1  # ct_seq_show holds a reference while it prints `use`


@dataclass(frozen=True)
class Kernel:
    """What of a line depends on the kernel: its trackers, and names of security ids (secmark) as far as they are known."""

    trackers: frozenset[int]
    contexts: dict[int, str]


def kernel_lines(entries: Entries, details: Extensions, clock: Clock, kernel: Kernel) -> Iterator[str]:
    """Lines, many at a time, in the kernel's order of buckets; `details` has a row for each entry."""
    order = np.argsort(entries["bucket"][:, 0], kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield joined(_columns(entries[rows], details[rows], clock, kernel))


def _columns(entries: Entries, details: Extensions, clock: Clock, kernel: Kernel) -> list[Part]:
    status, zone_dir = entries["status"], entries["zone_dir"]
    tracker = np.where(np.isin(entries["protonum"], list(kernel.trackers)), entries["protonum"], 255)
    online = status & IPS_OFFLOAD == 0
    left = clock.remaining_s(entries["timeout"], entries["seen_ns"])
    columns: list[Part] = [
        _head(entries, tracker),
        where(online, texts(left, "%d ")),
        *_state(entries, details, tracker, online, clock.hz),
    ]
    for direction, of_zone in ((0, (ZONE_ORIG, "zone-orig=%d ")), (1, (ZONE_REPLY, "zone-reply=%d "))):
        columns += _tuple(entries, tracker, direction)
        columns += _optional(zone_dir == of_zone[0], texts(entries["zone"], of_zone[1]))
        columns += _optional(details["has_counters"], texts(details["packets"][:, direction], "packets=%d "))
        columns += _optional(details["has_counters"], texts(details["bytes"][:, direction], "bytes=%d "))
        if direction == 0:
            columns += _optional(status & IPS_SEEN_REPLY == 0, "[UNREPLIED] ")
    columns.append(_mood(entries))
    columns.append(texts(entries["mark"], "mark=%d "))
    contexts = {number: f"secctx={name} " for number, name in kernel.contexts.items()}
    if contexts:
        columns.append(written(details["secmark"], lambda number: contexts.get(number, "")))
    columns += _optional(zone_dir == ZONE_BOTH, texts(entries["zone"], "zone=%d "))
    age = np.maximum(clock.wall_ns - details["start_ns"].astype(np.int64), 0) // NS_PER_S
    columns += _optional(details["has_start"], texts(age, "delta-time=%d "))
    columns.append(texts(details["use"] + np.uint32(READER), "use=%d"))
    return columns


def _optional(mask: Mask, part: Part) -> list[Part]:
    return [where(mask, part)] if mask.any() else []


def _head(entries: Entries, tracker: Numbers) -> Texts:
    """Both protocols with name and number."""
    both = entries["l3num"].astype(np.uint32) << 16 | tracker.astype(np.uint32) << 8 | entries["protonum"]
    return written(
        both,
        lambda kind: (
            f"{L3.get(kind >> 16, 'unknown'):<8} {kind >> 16} {PROTOCOLS.get(kind >> 8 & 255, 'unknown'):<8} {kind & 255} "
        ),
    )


def _state(entries: Entries, details: Extensions, tracker: Numbers, online: Mask, hz: int) -> list[Part]:
    """What the trackers print of their own (print_conntrack)."""
    columns = _optional((tracker == TCP) & online, named(entries["tcp_state"], TCP_STATES, "%s "))
    columns += _optional(tracker == SCTP, named(details["state"], SCTP_STATES, "%s "))
    columns += _optional(tracker == DCCP, named(details["state"], DCCP_STATES, "%s "))
    columns += _optional(tracker == GRE, texts(details["gre_timeout"] // hz, "timeout=%d, "))
    return columns + _optional(tracker == GRE, texts(details["gre_stream_timeout"] // hz, "stream_timeout=%d "))


def _tuple(entries: Entries, tracker: Numbers, direction: int) -> list[Part]:
    """One direction (print_tuple)."""
    addressed = np.isin(entries["l3num"], list(L3))
    one, other = entries["port"][:, 2 * direction], entries["port"][:, 2 * direction + 1]
    columns: list[Part] = [
        where(addressed, glued(before, addresses(entries, 2 * direction + at, full=True), " "))
        for at, before in enumerate(("src=", "dst="))
    ]
    ports = np.isin(tracker, list(WITH_PORTS))
    if ports.any():
        columns.append(where(ports, texts(one, "sport=%d ")))
        columns.append(where(ports, texts(other, "dport=%d ")))
    icmp = np.isin(tracker, list(WITH_ICMP))
    if icmp.any():
        columns.append(where(icmp, texts(other >> 8, "type=%d ")))
        columns.append(where(icmp, texts(other & 255, "code=%d ")))
        columns.append(where(icmp, texts(one, "id=%d ")))
    columns += _optional(tracker == GRE, texts(one, "srckey=0x%x "))
    return columns + _optional(tracker == GRE, texts(other, "dstkey=0x%x "))


def _mood(entries: Entries) -> Texts:
    """At most one word: where its packets go, or else that early drop spares it."""
    status = entries["status"]
    hard, soft, assured = (status & bit != 0 for bit in (IPS_HW_OFFLOAD, IPS_OFFLOAD, IPS_ASSURED))
    words = column(["", "[ASSURED] ", "[OFFLOAD] ", "[HW_OFFLOAD] "])
    mood: Texts = words[np.where(hard, 3, np.where(soft, 2, np.where(assured, 1, 0)))]
    return mood
