"""Which entries a command shows: the common filters, as a mask over entry rows."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import numpy as np

from ctobserve.model import IPS_ASSURED, IPS_SEEN_REPLY, TCP, TCP_STATES, WITH_PORTS, Entries, Mask, pick

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
STATUS_FILTERS = {"ASSURED": (IPS_ASSURED, True), "UNREPLIED": (IPS_SEEN_REPLY, False), "REPLIED": (IPS_SEEN_REPLY, True)}


class Filter(NamedTuple):
    """All given conditions must hold; what is unknown of an entry, or what it lacks, meets none.

    Addresses and ports are those of the original direction.
    """

    netns: int | None = None
    src: Network | None = None
    dst: Network | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    proto: int | None = None
    state: str | None = None
    zone: int | None = None
    mark: int | None = None

    def mask(self, entries: Entries) -> Mask:
        """True for the entries that pass."""
        keep = np.ones(len(entries), np.bool_)
        if self.netns is not None:
            keep &= entries["netns"] == self.netns
        if self.proto is not None:
            keep &= entries["protonum"] == self.proto
        if self.zone is not None:
            keep &= (entries["zone"] == self.zone) & (entries["has_ct"] != 0)
        if self.mark is not None:
            keep &= (entries["mark"] == self.mark) & (entries["has_ct"] == 1)
        for at, network in enumerate((self.src, self.dst)):
            if network is not None:
                keep &= _in_network(entries, at, network)
        for at, ports in enumerate((self.sport, self.dport)):
            if ports is not None:
                keep &= _in_ports(entries, at, ports)
        if self.state is not None:
            keep &= _in_state(entries, self.state)
        return keep

    def passing(self, entries: Entries) -> Entries:
        """Those that pass; the same array, not a copy, when all do."""
        keep = self.mask(entries)
        return entries if keep.all() else pick(entries, keep)


def _in_network(entries: Entries, at: int, network: Network) -> Mask:
    size = network.max_prefixlen // 8
    mask = np.frombuffer(network.netmask.packed, np.uint8)
    wanted = np.frombuffer(network.network_address.packed, np.uint8)
    same: Mask = ((entries["addr"][:, at, :size] & mask) == wanted).all(axis=1)
    same &= entries["l3num"] == (2 if size == 4 else 10)
    return same


def _in_ports(entries: Entries, at: int, ports: tuple[int, int]) -> Mask:
    """Of protocols that have ports: of others the same bytes are an ICMP type, a GRE key."""
    value = entries["port"][:, at]
    within: Mask = (value >= ports[0]) & (value <= ports[1]) & np.isin(entries["protonum"], list(WITH_PORTS))
    return within


def _in_state(entries: Entries, state: str) -> Mask:
    found: Mask = entries["has_ct"] == 1
    if state in STATUS_FILTERS:
        bit, wanted = STATUS_FILTERS[state]
        found &= ((entries["status"] & bit) != 0) == wanted
    else:
        found &= (entries["protonum"] == TCP) & (entries["tcp_state"] == TCP_STATES.index(state))
    return found
