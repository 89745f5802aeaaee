"""Connections whose client and server, to which DNAT sends them, are in one network: the server answers the client directly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import key
from ctobserve.analysis.translation import Surroundings
from ctobserve.diagnosis.by_rules import Judged, Place, number
from ctobserve.diagnosis.mappings import MOST, Mappings
from ctobserve.event import DropReason, Events
from ctobserve.host.bridges import Bridge
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, TCP, Mask, NDArray, pick

Network = IPv4Network | IPv6Network
GUESSED = {2: 24, 10: 64}  # bits of a network that we are not in


class Hairpin(NamedTuple):
    """The network that both are in; `guessed`: by their addresses alone."""

    network: Network
    guessed: bool


class Hairpins(NamedTuple):
    """Which rows of Mappings are such, and of each group of Mappings that is, where."""

    rows: Mask
    of_group: dict[int, Hairpin]


def hairpins(found: Mappings, place: Callable[[int], Place], bridges: Callable[[int], Iterable[Bridge]]) -> Hairpins:
    """Among unanswered entries with DNAT and without SNAT, which would be mapped so again.

    `bridges` are those of a namespace (inode number) whose packets pass through IP hooks: there NAT meets what one neighbour
    answers another, too.
    """
    mapped = (found.rows["status"] & (IPS_DST_NAT | IPS_SRC_NAT)) == IPS_DST_NAT
    mapped &= ~found.judged(Judged.OTHER) & ~found.leaves_otherwise
    of_group: dict[int, Hairpin] = {}
    for at in np.unique(found.groups.labels[mapped])[:MOST].tolist():
        entry = found.rows[found.groups.first[at]]
        inum, family = int(entry["netns"]), int(entry["l3num"])
        met = _network(entry, place(inum).around)
        if met and not any(family in bridge.families and _may_be_of(bridge, met) for bridge in bridges(inum)):
            of_group[at] = met
    return Hairpins(mapped & np.isin(found.groups.labels, list(of_group)), of_group)


def past_us(found: Mappings, which: Hairpins, losses: Events) -> Mask:
    """INVALID packets, seen in whatever namespace, that server and client of such a connection sent each other directly."""
    rows, bad = pick(found.rows, which.rows), losses["entry"]
    known = {_ends(row["addr"][2:], row["port"][2:]) for row in rows}
    known |= {_ends(row["addr"][:1:-1], row["port"][:1:-1]) for row in rows}
    invalid = (losses["reason"] == DropReason.INVALID) & (bad["protonum"] == TCP)
    if known:
        invalid[invalid] = [_ends(row["addr"][:2], row["port"][:2]) in known for row in pick(bad, invalid)]
    return invalid if known else np.zeros(len(losses), np.bool_)


def _ends(addresses: NDArray[np.uint8], ports: NDArray[np.uint16]) -> bytes:
    return addresses.tobytes() + ports.tobytes()


def _network(entry: np.void, own: Surroundings | None) -> Hairpin | None:
    family, client, server = int(entry["l3num"]), number(entry, "src"), number(entry, "reply_src")
    guess = ip_network(f"{key(entry, 'src')}/{GUESSED[family]}", strict=False)
    if own is None:
        return Hairpin(guess, True) if _holds(guess, server) else None
    if own.is_local(family, client) or own.is_local(family, server):
        return None
    shared = own.within(family, client, server)
    if shared is not None:
        return Hairpin(shared.network, False)
    known = own.devices(family, client) or own.devices(family, server)
    return Hairpin(guess, True) if not known and _holds(guess, server) else None


def _may_be_of(bridge: Bridge, met: Hairpin) -> bool:
    """Whether client and server may be ports of it; of one without an address nobody knows its network."""
    networks = [ip_interface(one).network for one in bridge.addresses]
    return met.network in networks or not networks or met.guessed


def _holds(network: Network, address: int) -> bool:
    return int(network.network_address) <= address <= int(network.broadcast_address)
