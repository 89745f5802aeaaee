"""How long the entries of a table have left, by protocol, state and the timeout that holds them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import OFFLOAD
from ctobserve.capture.extensions import Extensions
from ctobserve.clock import Clock
from ctobserve.host.listing import Listed
from ctobserve.host.sysctls import STATES, timeout_of
from ctobserve.model import IPS_ASSURED, IPS_OFFLOAD, IPS_SEEN_REPLY, TCP, TCP_STATES, Entries, NDArray, protocol_name

Seconds = NDArray[np.int64]


class Held(NamedTuple):
    """What entries have in common. `timeout` is the full name of the sysctl that holds them, None where none does."""

    proto: str
    state: str | None
    timeout: str | None


TimeLeft = Mapping[Held, Seconds]  # of each entry


def of_walk(entries: Entries, extensions: Extensions, clock: Clock) -> TimeLeft:
    """Of entries that a walk read, with their extensions; expired ones are left out."""
    left = clock.remaining_s(entries["timeout"], entries["seen_ns"])
    alive = clock.remaining_ticks(entries["timeout"], entries["seen_ns"]) > 0
    kinds, labels = kinds_of(entries, extensions["state"])
    known = {held: left[alive & (labels == at)] for at, held in enumerate(kinds)}
    return {held: seconds for held, seconds in known.items() if len(seconds)}


def kinds_of(entries: Entries, states: NDArray[np.uint8] | None = None) -> tuple[list[Held], NDArray[np.int64]]:
    """What holds these entries, and of each entry the place in that list; `states` of those that are not TCP, where known."""
    no_state = np.uint8(255)
    state = np.where(entries["protonum"] == TCP, entries["tcp_state"], no_state if states is None else states)
    bits = entries["status"] & (IPS_SEEN_REPLY | IPS_ASSURED | IPS_OFFLOAD)
    both = entries["protonum"].astype(np.uint64) << 40 | state.astype(np.uint64) << 32 | bits
    numbers = np.unique(both)
    places: dict[Held, int] = {}
    for number in numbers.tolist():
        places.setdefault(_kind(number), len(places))
    place = np.array([places[_kind(number)] for number in numbers.tolist()], np.int64)
    return list(places), place[np.searchsorted(numbers, both)]


def _kind(number: int) -> Held:
    protonum, state = number >> 40, number >> 32 & 255
    names = STATES[protonum][1] if protonum in STATES else ()
    return _held(protonum, names[state] if state < len(names) else None, number & 0xFFFFFFFF)


def of_listing(listed: Iterable[Listed]) -> TimeLeft:
    """Of entries as the kernel lists them."""
    found: dict[Held, list[int]] = defaultdict(list)
    for protonum, state, bits, left in listed:
        found[_held(protonum, state, bits)].append(left)
    return {held: np.array(parts, np.int64) for held, parts in found.items()}


def _held(protonum: int, state: str | None, bits: int) -> Held:
    """An offloaded entry is kept alive by the flow table, not by its timeout."""
    if bits & IPS_OFFLOAD:
        return Held(protocol_name(protonum), OFFLOAD, None)
    name = timeout_of(protonum, state, bool(bits & IPS_SEEN_REPLY), bool(bits & IPS_ASSURED))
    return Held(protocol_name(protonum), state if state in TCP_STATES or protonum in STATES else None, name)
