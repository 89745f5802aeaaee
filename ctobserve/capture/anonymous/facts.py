"""Facts of a recording for others: names and addresses become others, numbers stay, and what nobody decided about is no text.

Which text says what is in TEXTS, by class and member; a text that is not there does not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_interface,
    summarize_address_range,
)
from typing import Any

from ctobserve.capture.anonymous.addresses import Addresses, Network
from ctobserve.capture.anonymous.names import Names
from ctobserve.capture.capture import NamespaceState
from ctobserve.host.nat_rules import FAMILIES, Field, Match, NatChain, NatRule, Range
from ctobserve.model import printable

Text = Callable[["Facts", str], str]
MOST_NETWORKS = 50_000  # of which the ranges in the rules of one namespace are made; rules that come later are not known
NOWHERE: Range = (1, 0)  # a range that nothing is in
IPV4_NUMBERS = 1 << 32
_SYSCTL = re.compile("nf_conntrack_[a-z0-9_]+")


def _stays(_: Facts, text: str) -> str:
    return text


def _gone(_: Facts, __: str) -> str:
    return "not said in an anonymous recording"


def _process(facts: Facts, text: str) -> str:
    return facts.names.process(text)


def _boot(facts: Facts, text: str) -> str:
    return facts.names.boot(text)


def _context(facts: Facts, text: str) -> str:
    return facts.names.context(text)


def _label(facts: Facts, text: str) -> str:
    return facts.names.namespace(text)


def _called(facts: Facts, text: str) -> str:
    return facts.names.namespace(printable(text))


def _owner(facts: Facts, text: str) -> str:
    return facts.names.owner(text)


def _pod_uid(facts: Facts, text: str) -> str:
    return facts.names.pod_uid(text)


def _container(facts: Facts, text: str) -> str:
    return facts.names.container(text)


def _device(facts: Facts, text: str) -> str:
    return facts.names.device(text)


def _rule(facts: Facts, text: str) -> str:
    return facts.names.rule(text)


def _network(facts: Facts, text: str) -> str:
    return str(facts.interface(ip_interface(text)))


# By the class that has it and its name there, or by the kind of fact where that has no class. Helpers are named after protocols.
TEXTS: dict[str, Text] = {
    "Host.release": _stays,
    "Host.machine": _stays,
    "Host.security_contexts": _context,
    "Host.boot": _boot,
    "Slab.source": _stays,
    "names": _label,
    "Owner.name": _owner,
    "Owner.pod_uid": _pod_uid,
    "Owner.container": _container,
    "NamespaceState.label": _label,
    "NamespaceState.names": _called,
    "NamespaceState.sysctls": _stays,
    "NamespaceState.writable": _stays,
    "NamespaceState.not_entered": _gone,
    "Ruleset.unread": _stays,
    "Ruleset.built_in": _stays,
    "Ruleset.families": _rule,
    "Notrack.family": _rule,
    "Notrack.table": _rule,
    "Notrack.chain": _rule,
    "NatChain.family": _rule,
    "NatChain.table": _rule,
    "NatChain.name": _rule,
    "NatChain.hook": _rule,
    "NatRule.table": _rule,
    "NatRule.chain": _rule,
    "NatRule.to": _rule,
    "Match.names": _device,
    "Refusing.family": _rule,
    "Refusing.table": _rule,
    "Refusing.chain": _rule,
    "Refusing.hook": _rule,
    "Address.device": _device,
    "Queue.comm": _process,
    "Bridge.name": _device,
    "Bridge.addresses": _network,
    "Fidelity.attach": _stays,
    "Fidelity.not_attached": _stays,
    "Fidelity.read_via": _stays,
    "Fidelity.lost": _stays,
    "Fidelity.recorded_in": _gone,
    "ExpectedRead.helpers": _stays,
    "Trigger.why": _stays,
    "Trigger.says": _gone,
}


class Facts:
    """In place of any fact that a recording may have, another of the same kind."""

    def __init__(self, addresses: Addresses, names: Names) -> None:
        self.addresses, self.names = addresses, names
        self._left = MOST_NETWORKS

    def of(self, kind: str, found: Any) -> Any:
        """What is so of an anonymous host where this was of the one that there is. Raises KeyError for a text without a rule."""
        self._left = MOST_NETWORKS
        return self._of(found, kind)

    def _of(self, value: Any, name: str) -> Any:
        """`name`: of the member that it is, or of the kind of fact."""
        if isinstance(value, str):
            # What is no Enum: those are words of ours.
            return value if type(value) is not str else TEXTS[name](self, value)
        if isinstance(value, IPv4Interface | IPv6Interface):
            return self.interface(value)
        if isinstance(value, Mapping):
            return {self._of(key, name): self._of(part, name) for key, part in value.items()}
        if isinstance(value, frozenset):
            return frozenset(self._of(part, name) for part in value)
        return self._tuple(value, name) if isinstance(value, tuple) else value

    def _tuple(self, value: tuple[Any, ...], name: str) -> tuple[Any, ...]:
        fields = getattr(value, "_fields", None)
        if fields is None:
            return tuple(self._of(part, name) for part in value)
        if isinstance(value, NatChain):
            value = value._replace(rules=tuple(self._rule(rule, value.family) for rule in value.rules))
        if isinstance(value, NamespaceState):
            value = _without_foreign_sysctls(value)
        kind = type(value)
        return kind(*(self._of(part, f"{kind.__name__}.{field}") for field, part in zip(fields, value, strict=True)))

    def interface(self, one: IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
        """An address with its network."""
        return type(one)((self.addresses.one(one.ip), one.network.prefixlen))

    def _rule(self, rule: NatRule, family: str) -> NatRule:
        """With other addresses in its conditions, and where it sends packets."""
        is_ipv4 = _is_of_ipv4(rule, family)
        addresses = None if rule.addresses is None else self._ranges(rule.addresses, is_ipv4)
        return rule._replace(matches=tuple(self._match(match, is_ipv4) for match in rule.matches), addresses=addresses)

    def _match(self, match: Match, is_ipv4: bool | None) -> Match:
        if match.field not in (Field.SRC, Field.DST):
            return match
        ranges = self._ranges(match.ranges, is_ipv4)
        return Match(Field.UNKNOWN) if ranges is None else match._replace(ranges=ranges)

    def _ranges(self, ranges: tuple[Range, ...], is_ipv4: bool | None) -> tuple[Range, ...] | None:
        """None: more than are taken of a fact."""
        made: list[Range] = []
        for one in ranges:
            made += self._range(one, is_ipv4)
            if len(made) > self._left:
                return None
        self._left -= len(made)
        return tuple(made)

    def _range(self, one: Range, is_ipv4: bool | None) -> Iterator[Range]:
        """Networks become networks, so a range becomes those that it is made of."""
        first, last = one
        kind = IPv4Address if last < IPV4_NUMBERS and is_ipv4 is not False else IPv6Address
        try:
            networks: list[Network] = list(summarize_address_range(kind(first), kind(last)))
        except ValueError:
            networks = []
        for network in map(self.addresses.network, networks):
            yield int(network.network_address), int(network.broadcast_address)
        if not networks:
            yield NOWHERE


def _is_of_ipv4(rule: NatRule, family: str) -> bool | None:
    """Which addresses the numbers of a rule are; None: of both, which are told apart by their size."""
    if family in FAMILIES:
        return FAMILIES[family] == FAMILIES["ip"]
    asked = {number for match in rule.matches if match.field is Field.FAMILY and not match.negated for number, _ in match.ranges}
    return FAMILIES["ip"] in asked if len(asked) == 1 else None


def _without_foreign_sysctls(state: NamespaceState) -> NamespaceState:
    """Those of conntrack alone, whose names say nothing."""
    return state._replace(
        sysctls={name: value for name, value in state.sysctls.items() if _SYSCTL.fullmatch(name)},
        writable=frozenset(filter(_SYSCTL.fullmatch, state.writable)),
    )
