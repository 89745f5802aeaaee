"""How long the entries of the table have left, by protocol, state and the timeout that holds them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctobserve import dump, netlink
from ctobserve.clock import Clock
from ctobserve.details import Details
from ctobserve.errors import KernelLacks
from ctobserve.model import IPS_ASSURED, IPS_OFFLOAD, IPS_SEEN_REPLY, TCP, TCP_STATES, Entries, protocol_name
from ctobserve.sysctls import STATES, timeout_of

PROC = Path("/proc/thread-self/net/nf_conntrack")
LINE = re.compile(r"^\S+ +\d+ \S+ +(\d+) (?:(\d+) )?(?:([A-Z][A-Z0-9_]*) )?")

# Protocol, state, name of the timeout (None: no sysctl holds these) -> seconds left of each entry.
Group = tuple[str, str | None, str | None]
Lifetimes = dict[Group, npt.NDArray[np.int64]]
Seen = tuple[int, str | None, int, int]  # protocol number, state, IPS_* bits, seconds left


def of_walk(entries: Entries, details: Details, clock: Clock) -> Lifetimes:
    """Of entries that a walk with details read; expired ones are left out."""
    left = clock.remaining_s(entries["timeout"], entries["seen_ns"])
    state = np.where(entries["protonum"] == TCP, entries["tcp_state"], details["state"])
    bits = entries["status"] & (IPS_SEEN_REPLY | IPS_ASSURED | IPS_OFFLOAD)
    both = entries["protonum"].astype(np.uint64) << 40 | state.astype(np.uint64) << 32 | bits
    alive = clock.remaining_ticks(entries["timeout"], entries["seen_ns"]) > 0
    found: dict[Group, list[npt.NDArray[np.int64]]] = defaultdict(list)
    for kind in np.unique(both[alive]).tolist():
        protonum, number = kind >> 40, kind >> 32 & 255
        names = STATES[protonum][1] if protonum in STATES else ()
        name = names[number] if number < len(names) else None
        found[_group(protonum, name, kind & 0xFFFFFFFF)].append(left[alive & (both == kind)])
    return {group: np.concatenate(parts) for group, parts in found.items()}


def of_proc() -> Lifetimes:
    """Of the namespace of this thread, from /proc/net/nf_conntrack; raises OSError where that cannot be read."""
    with PROC.open(encoding="utf-8", errors="surrogateescape") as lines:
        return _gathered(filter(None, map(parse_line, lines)))


def parse_line(line: str) -> Seen | None:
    """What matters here of a line of ct_seq_show; None when it is no such line."""
    found = LINE.match(line)
    if not found:
        return None
    bits = 0 if "[UNREPLIED]" in line else IPS_SEEN_REPLY
    bits |= IPS_ASSURED if "[ASSURED]" in line else 0
    bits |= IPS_OFFLOAD if "OFFLOAD]" in line else 0
    return int(found[1]), found[3], bits, int(found[2] or 0)


def of_netlink() -> Lifetimes:
    """Of the namespace of this thread, by a dump; raises KernelLacks where a dump would make the kernel load a module."""
    if not netlink.available():
        raise KernelLacks("nf_conntrack_netlink is not loaded; try: modprobe nf_conntrack_netlink")
    seen = []
    dumped = dump.dump()
    for protonum, state, status, left in zip(
        *(dumped[name].tolist() for name in ("protonum", "state", "status", "left_s")), strict=True
    ):
        names = STATES[protonum][1] if protonum in STATES else ()
        seen.append((protonum, names[state] if state < len(names) else None, status, left))
    return _gathered(seen)


def _gathered(seen: Iterable[Seen]) -> Lifetimes:
    found: dict[Group, list[int]] = defaultdict(list)
    for protonum, state, bits, left in seen:
        found[_group(protonum, state, bits)].append(left)
    return {group: np.array(parts, np.int64) for group, parts in found.items()}


def _group(protonum: int, state: str | None, bits: int) -> Group:
    """An offloaded entry is kept alive by the flow table, not by its timeout."""
    if bits & IPS_OFFLOAD:
        return protocol_name(protonum), "OFFLOAD", None
    name = timeout_of(protonum, state, bool(bits & IPS_SEEN_REPLY), bool(bits & IPS_ASSURED))
    return protocol_name(protonum), state if state in TCP_STATES or protonum in STATES else None, name
