"""What would NAT chains do with a new packet? All that is possible, where conditions cannot be known.

As nft_do_chain() and nf_nat_inet_fn() go through them: the first rule that translates decides, and accept ends one base chain,
after which the next one of the hook is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from ctobserve.host.addresses import Address, Interface
from ctobserve.host.nat_rules import TRANSLATES, Does, Field, Match, NatChain, NatRule

JUMPS = 16  # NFT_JUMP_STACK_SIZE
FAMILY_NAMES = {2: "ip", 10: "ip6"}


class Surroundings:
    """Addresses and networks of a namespace, asked by addresses as numbers."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._own: set[tuple[int, int]] = set()
        self._networks: list[tuple[int, int, int, Address]] = []
        for one in addresses:
            family, network = 2 if one.interface.version == 4 else 10, one.interface.network
            self._own.add((family, int(one.interface.ip)))
            if network.num_addresses > 1:
                self._networks.append((family, int(network.network_address), int(network.broadcast_address), one))
        # A network of two addresses has none (RFC 3021).
        self._broadcasts = {(family, last) for family, first, last, _ in self._networks if family == 2 and last - first > 1}

    def is_local(self, family: int, address: int) -> bool:
        """Whether it is an address of this namespace itself."""
        return (family, address) in self._own or (family == 2 and address >> 24 == 127)

    def ends_here(self, family: int, address: int) -> bool:
        """Whether packets of others to it go no further than here: an address of ours, multicast, or our networks' broadcast.

        Of multicast a daemon may route some; most of it is of one link.
        """
        if self.is_local(family, address):
            return True
        if family == 10:
            return address >> 120 == 0xFF
        return address >> 28 == 0xE or address == 0xFFFFFFFF or (family, address) in self._broadcasts

    def within(self, family: int, *addresses: int) -> Interface | None:
        """The address by which we are in the smallest network that has all these in it."""
        return next((one.interface for one in self._around(family, addresses)), None)

    def devices(self, family: int, address: int) -> frozenset[str]:
        """Devices that are in the smallest network with this address, several where each has such a network (fe80::/64)."""
        return frozenset(one.device for one in self._around(family, (address,)))

    def _around(self, family: int, addresses: Sequence[int]) -> list[Address]:
        found = [
            one
            for which, first, last, one in self._networks
            if which == family and all(first <= address <= last for address in addresses)
        ]
        longest = max((one.interface.network.prefixlen for one in found), default=0)
        return [one for one in found if one.interface.network.prefixlen == longest]


class NewPacket(NamedTuple):
    """The first packet of a connection, addresses as numbers; `iif` and `oif` are devices by which it may come and go.

    Empty: not known.
    """

    family: int
    proto: int
    src: int
    dst: int
    dport: int
    iif: frozenset[str] = frozenset()
    dst_local: bool | None = None
    oif: frozenset[str] = frozenset()


class Possible(NamedTuple):
    """Rules that may translate it, whether it may pass all chains as it is, and whether something unread may happen to it."""

    rules: tuple[NatRule, ...] = ()
    untouched: bool = True
    unread: bool = False


class _Way(NamedTuple):
    """How a chain is left: at its end, or by accept."""

    rules: tuple[NatRule, ...] = ()
    falls: bool = True
    accepted: bool = False
    unread: bool = False


def possible(chains: Sequence[NatChain], hook: str, packet: NewPacket) -> Possible:
    """What the NAT chains of this hook may do with it, in order of their priority."""
    own = FAMILY_NAMES[packet.family]
    named = {(chain.family, chain.table, chain.name): chain for chain in chains}
    rules: tuple[NatRule, ...] = ()
    untouched, unread = True, False
    for chain in chains:
        if chain.hook != hook or chain.family not in (own, "inet") or not untouched:
            continue
        way = _through(chain, packet, named, 0)
        rules += way.rules
        untouched, unread = way.falls or way.accepted, unread or way.unread
    return Possible(rules, untouched, unread)


def _through(chain: NatChain, packet: NewPacket, named: Mapping[tuple[str, str, str], NatChain], depth: int) -> _Way:
    rules: list[NatRule] = []
    accepted = unread = left = False
    for rule in chain.rules:
        applies = _applies(rule.matches, packet)
        if applies is False:
            continue
        ends = rule.does not in (Does.CONTINUE, Does.JUMP, Does.UNKNOWN)
        if rule.does in TRANSLATES:
            rules.append(rule)
        elif rule.does is Does.ACCEPT:
            accepted = True
        elif rule.does is Does.RETURN:
            left = True
        elif rule.does is Does.UNKNOWN:
            unread = True
        elif rule.does in (Does.JUMP, Does.GOTO):
            inner = named.get((chain.family, chain.table, rule.to))
            way = _through(inner, packet, named, depth + 1) if inner and depth < JUMPS else _Way(unread=True)
            rules += way.rules
            accepted, unread = accepted or way.accepted, unread or way.unread
            if rule.does is Does.GOTO:
                left |= way.falls
            else:
                ends = not way.falls
        if ends and applies:
            return _Way(tuple(rules), left, accepted, unread)
    return _Way(tuple(rules), True, accepted, unread)


def _applies(matches: Iterable[Match], packet: NewPacket) -> bool | None:
    """Whether all of them are met; None where that depends on what is not known."""
    applies: bool | None = True
    for match in matches:
        met = _met(match, packet)
        if met is False:
            return False
        applies = applies and met
    return applies


def _met(match: Match, packet: NewPacket) -> bool | None:
    if match.field in VALUES:
        value = VALUES[match.field](packet)
        found = None if value is None else any(first <= value <= last for first, last in match.ranges)
    else:
        devices = packet.iif if match.field is Field.IIF else packet.oif if match.field is Field.OIF else ()
        of_each = {any(_named(device, name) for name in match.names) for device in devices}
        found = of_each.pop() if len(of_each) == 1 else None
    return None if found is None else found != match.negated


VALUES: dict[Field, Callable[[NewPacket], int | None]] = {
    Field.FAMILY: lambda packet: packet.family,
    Field.PROTO: lambda packet: packet.proto,
    Field.SRC: lambda packet: packet.src,
    Field.DST: lambda packet: packet.dst,
    Field.DPORT: lambda packet: packet.dport,
    Field.DST_LOCAL: lambda packet: packet.dst_local,
}


def _named(device: str, pattern: str) -> bool:
    return device.startswith(pattern[:-1]) if pattern.endswith("*") else device == pattern


def gives(rule: NatRule, family: int, kept: tuple[int, int], chosen: tuple[int, int], surroundings: Surroundings) -> bool | None:
    """Whether this rule can have made of the address and port `kept` those `chosen`; None where that is not known."""
    address, port = chosen
    first, last = (kept[1], kept[1]) if rule.ports is None else rule.ports
    ports = first <= port <= last
    if rule.does in (Does.REDIRECT, Does.MASQUERADE):
        return ports and surroundings.is_local(family, address)
    if rule.addresses is None:
        return None if ports and address != kept[0] else False
    if not rule.addresses:
        return ports and address == kept[0]
    return ports and any(first <= address <= last for first, last in rule.addresses)


def target(rule: NatRule, family: int, kept: tuple[int, int]) -> tuple[str | None, int | None]:
    """The one address and port that it translates to, None for what is not one or not known."""
    ports = (kept[1], kept[1]) if rule.ports is None else rule.ports
    port = ports[0] if ports[0] == ports[1] else None
    one = rule.addresses[0] if rule.addresses and len(rule.addresses) == 1 else None
    if rule.does in (Does.DNAT, Does.SNAT) and rule.addresses == ():
        one = (kept[0], kept[0])
    if one is None or one[0] != one[1]:
        return None, port
    return shown(family, one[0]), port


def shown(family: int, address: int) -> str:
    """An address as people read it."""
    return str(ip_address(address.to_bytes(4 if family == 2 else 16, "big")))
