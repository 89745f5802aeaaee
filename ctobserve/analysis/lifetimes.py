"""How long the entries of the table have left, by protocol, state and the timeout that holds them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ctobserve.capture.extensions import Extensions
from ctobserve.clock import Clock
from ctobserve.host.listing import Listed
from ctobserve.host.sysctls import STATES, timeout_of
from ctobserve.model import IPS_ASSURED, IPS_OFFLOAD, IPS_SEEN_REPLY, TCP, TCP_STATES, Entries, protocol_name

# Protocol, state, name of the timeout (None: no sysctl holds these) -> seconds left of each entry.
Group = tuple[str, str | None, str | None]
Lifetimes = dict[Group, npt.NDArray[np.int64]]


def of_walk(entries: Entries, details: Extensions, clock: Clock) -> Lifetimes:
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


def of_listing(listed: Iterable[Listed]) -> Lifetimes:
    """Of entries as the kernel lists them."""
    found: dict[Group, list[int]] = defaultdict(list)
    for protonum, state, bits, left in listed:
        found[_group(protonum, state, bits)].append(left)
    return {group: np.array(parts, np.int64) for group, parts in found.items()}


def _group(protonum: int, state: str | None, bits: int) -> Group:
    """An offloaded entry is kept alive by the flow table, not by its timeout."""
    if bits & IPS_OFFLOAD:
        return protocol_name(protonum), "OFFLOAD", None
    name = timeout_of(protonum, state, bool(bits & IPS_SEEN_REPLY), bool(bits & IPS_ASSURED))
    return protocol_name(protonum), state if state in TCP_STATES or protonum in STATES else None, name
