"""What rows and facts of a file must be before anybody uses them: numbers that are indexes, sizes and times have bounds."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface

import numpy as np

from ctobserve.capture.capture import Allocation, NamespaceState
from ctobserve.capture.store.chunks import Damaged, Rows
from ctobserve.capture.store.facts import Keyframe
from ctobserve.clock import Clock
from ctobserve.event import NO_DIRECTION, ORIGINAL, REPLY, Kind
from ctobserve.host.account import Account
from ctobserve.model import NF_HOOKS, UNKNOWN_BUCKET, Entries, NDArray

MOST_NS = 4_000_000_000_000_000_000  # 126 years: sums of two are still dates
MOST_BUCKETS = 1 << 25
MOST_ENTRIES = 1 << 24
MOST_HZ = 1_000_000
MOST_MEMORY, MOST_SLAB = 1 << 56, 1 << 32  # bytes
MOST_SETTING = 1 << 64  # of the kernel's sysctls the widest are 64 bits
KINDS = np.isin(np.arange(256), list(Kind))
DIRECTIONS = (ORIGINAL, REPLY, NO_DIRECTION)


def check_rows(kind: str, rows: Rows) -> None:
    """Raises Damaged where one of these rows cannot be."""
    if kind == "entry":
        _entries(rows)
    elif kind == "event":
        _entries(rows["entry"])
        _need(bool(KINDS[rows["kind"]].all()), "a kind of event")
        _need(bool(np.isin(rows["direction"], DIRECTIONS).all()), "a direction")
        _need(bool((rows["hook"] < len(NF_HOOKS)).all()), "a hook")
        _need(_shows(np.ascontiguousarray(rows["detail"])), "a detail")
        _need(bool((rows["left"]["at_ns"] <= MOST_NS).all() and (rows["born_ns"] <= MOST_NS).all()), "a time")


def _entries(rows: Entries) -> None:
    _need(bool((rows["seen_ns"] <= MOST_NS).all()), "a time")
    _need(bool(((rows["bucket"] < MOST_BUCKETS) | (rows["bucket"] == UNKNOWN_BUCKET)).all()), "a bucket")
    _need(bool((rows["has_ct"] <= 2).all()), "how much is known of an entry")


def check_fact(found: object) -> None:
    """Raises Damaged where this fact cannot be."""
    if isinstance(found, Mapping):
        bridges = [bridge for one in found.values() if isinstance(one, Account) for bridge in one.bridges]
        _need(all(_is_interface(address) for bridge in bridges for address in bridge.addresses), "an address of a bridge")
    if isinstance(found, Clock):
        _need(0 <= found.monotonic_ns <= MOST_NS and 0 <= found.wall_ns <= MOST_NS, "a time")
        _need(0 <= found.jiffies < 1 << 32 and 1 <= found.hz <= MOST_HZ, "a number of jiffies")
    elif isinstance(found, NamespaceState):
        _need(all(value is None or abs(value) <= MOST_SETTING for value in found.sysctls.values()), "a setting")
    elif isinstance(found, Allocation):
        _allocation(found)
    elif isinstance(found, Keyframe):
        _need(1 <= found.buckets <= MOST_BUCKETS, "a number of buckets")
        _need(0 <= found.began_ns <= MOST_NS and found.unread >= 0, "a time")
        _need(
            all(0 <= count <= MOST_ENTRIES for count in (found.entries, found.extensions, found.touched)), "a number of entries"
        )


def _allocation(found: Allocation) -> None:
    _need(found.memory_bytes is None or 0 < found.memory_bytes <= MOST_MEMORY, "a size of memory")
    if found.slab is not None:
        _, object_bytes, *sizes, objects, slabs = found.slab
        _need(all(1 <= size <= MOST_SLAB for size in sizes), "a size of a slab")
        _need(all(count is None or 0 <= count <= MOST_MEMORY for count in (object_bytes, objects, slabs)), "a number of objects")


def _is_interface(address: str) -> bool:
    try:
        return bool(ip_interface(address))
    except ValueError:
        return False


def _shows(texts: NDArray[np.bytes_]) -> bool:
    """Whether all are what a terminal can show, and end at their first NUL: the only text of an event that is shown as it is."""
    letters = texts.view(np.uint8).reshape(len(texts), -1)
    ends = letters == 0
    plain = ends | ((letters >= ord(" ")) & (letters <= ord("~")))
    return bool(plain.all() and not (ends[:, :-1] & ~ends[:, 1:]).any())


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise Damaged(f"{what} that cannot be")
