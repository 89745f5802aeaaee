"""The row of an event: an entry, and what happened to it. Everything above capture/ sees these, never a kernel's layout."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from ctobserve.model import ENTRY, Entries, Mask, NDArray

TEXT_BYTES, DETAIL_BYTES = 84, 64
RING_MIB = 32  # of the ring through which every event comes, unless another size is asked for


class Kind(IntEnum):
    """What happened."""

    INSERT = 1  # the entry's nodes entered the hash
    CONFIRM = 2  # __nf_conntrack_confirm accepted a packet's new entry; with a reason: the packet was lost there
    DESTROY = 3  # the entry left the table, or died without ever entering it (UNCONFIRMED)
    DROP = 5  # a packet was lost, or judged invalid
    UPDATE = 9  # status, TCP state, mark, helper changed
    RESOLVED = 12  # a clash was resolved: the packet goes on with the entry that won


class DropReason(IntEnum):
    """Why a packet was lost; enum drop_reason of bpf/ctobserve.h."""

    TABLE_FULL = 1
    NO_MEMORY = 2
    CLASH = 3
    CHAINTOOLONG = 4
    DYING = 5
    CONFIRMED = 6
    INVALID = 7
    ERROR = 8
    HELPER = 9


class DestroyReason(IntEnum):
    """Why an entry left; capture/destroy_reasons.py finds it."""

    TIMEOUT = 1
    EARLY_DROP = 2
    GC_EARLY_DROP = 3
    DELETED = 4
    FLUSHED = 5
    TCP_REUSE = 6
    NETNS_EXIT = 7
    UNCONFIRMED = 8
    OTHER = 9
    IPVS = 10


# Reasons of packets that were lost in __nf_conntrack_confirm: such a drop is also the verdict of a confirm.
IN_CONFIRM = (DropReason.CLASH, DropReason.CHAINTOOLONG, DropReason.DYING, DropReason.CONFIRMED)

# Reasons of packets that are let pass, with no entry: a rule may drop them.
FOUND_BAD = (DropReason.INVALID, DropReason.ERROR)

# One direction's tuple; `l3num` 0: there is none. Addresses and ports as in ENTRY: source, destination.
TUPLE = np.dtype([("addr", "u1", (2, 16)), ("port", ">u2", (2,)), ("l3num", "u1"), ("protonum", "u1")])
# The entry that a connection had before, and why it has none any more; `at_ns` 0: none is known.
LEFT = np.dtype(
    [
        ("at_ns", "<u8"),  # CLOCK_MONOTONIC of its destroy
        ("status", "<u4"),  # IPS_* bits it had then
        ("pid", "<u4"),  # process that asked for the removal, 0 = none known
        ("original", TUPLE),
        ("reason", "u1"),  # DestroyReason
        ("tcp_state", "u1"),  # of an entry of TCP
        ("comm", "S16"),  # name of pid's thread
    ]
)

ORIGINAL, REPLY, NO_DIRECTION = 0, 1, 255
HAS_COUNTERS, HAS_TEXT = 1, 2  # bits of `has`

# What a kind of event does not tell is zero. Strings are the kernel's bytes up to their first NUL, zeros behind it.
EVENT = np.dtype(
    [
        ("entry", ENTRY),  # as it was then: `seen_ns` is when it happened
        ("since_alloc_ns", "<u8"),  # confirm, and drop in confirm: since __nf_conntrack_alloc; 0 = unknown
        ("born_ns", "<u8"),  # destroy: CLOCK_MONOTONIC of its insert, 0 = unknown
        ("packets", "<u8", (2,)),  # destroy, with HAS_COUNTERS: original, reply
        ("bytes", "<u8", (2,)),
        ("left", LEFT),  # drop, invalid and error: the last entry with the packet's tuple, or with the inner one
        ("changes", "<u4"),  # update: IPCT_* bits
        ("portid", "<u4"),  # destroy: netlink port of who asked, 0 = none
        ("pid", "<u4"),  # process that sent the packet, or asked for the removal; 0 = unknown
        ("ifindex", "<u4"),  # drop: device of the packet, 0 = unknown
        ("scanned", "<u2", (4,)),  # drop, table_full: what early_drop met: assured, other netns, otherwise kept; empty buckets
        ("master", TUPLE),  # original tuple of the entry whose helper expected this one
        ("evictor", TUPLE),  # destroy by early_drop: the new tuple that it made room for
        ("inner", TUPLE),  # drop, invalid and error: of an ICMP error, the packet that it is about
        ("cpu", "<u2"),
        ("kind", "u1"),
        ("reason", "u1"),  # drop, confirm: DropReason; destroy: DestroyReason
        ("direction", "u1"),  # drop: of the packet; NO_DIRECTION = it belongs to no known entry
        ("hook", "u1"),  # drop, invalid and error: index of model.NF_HOOKS
        ("tcp_flags", "u1"),  # drop, invalid: byte 13 of the header when it is TCP
        ("has", "u1"),
        ("comm", "S16"),  # name of pid's thread
        ("device", "S16"),  # name of ifindex
        ("detail", f"S{DETAIL_BYTES}"),  # destroy: what more is known of the reason, printable
        ("text", f"S{TEXT_BYTES}"),  # drop, invalid, with HAS_TEXT: the kernel's own words
        ("padding", "<u2"),
    ]
)
Events = NDArray[np.void]
NO_EVENTS: Events = np.empty(0, EVENT)
_HALVES = np.dtype([("entry", np.void, ENTRY.itemsize), ("more", np.void, EVENT.itemsize - ENTRY.itemsize)])
_NOTHING_MORE = np.zeros(1, _HALVES["more"])


def entries_alone(count: int) -> Events:
    """So many rows that tell nothing but their entries, which are still to be written: they are not even zero."""
    events = np.empty(count, EVENT)
    events.view(_HALVES)["more"] = _NOTHING_MORE
    return events


def entries_in(events: Events, which: NDArray[Any] | slice) -> Entries:
    """events["entry"][which], each copied as so many bytes: NumPy would go through it field by field."""
    entries: Entries = np.ascontiguousarray(events.view(_HALVES)["entry"][which]).view(ENTRY)
    return entries


def has_text(events: Events, name: str) -> Mask:
    """Where this string is not empty, by its first byte: NumPy compares strings at ten times the cost."""
    assert EVENT.fields
    return events.getfield(np.uint8, EVENT.fields[name][1]).astype(np.bool_)


def drop_name(reason: int) -> str:
    """The contract's word for a packet lost; a number that this version does not know keeps it."""
    return DropReason(reason).name.lower() if reason in DropReason._value2member_map_ else f"reason_{reason}"


def destroy_name(reason: int) -> str:
    """The contract's word for why an entry left; a number that this version does not know keeps it."""
    return DestroyReason(reason).name.lower() if reason in DestroyReason._value2member_map_ else f"reason_{reason}"
