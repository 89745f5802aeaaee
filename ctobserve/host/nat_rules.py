"""The NAT chains of a namespace, as `nft -j list ruleset` has them: what each rule asks of a packet, and what it does with it.

What cannot be read is not guessed: such a condition is UNKNOWN, and so is a target. Rules of iptables-nft show their addresses,
ports and devices as nft's own do, but of an extension (`xt`) only its name: that it translates is known, and not to where.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

Range = tuple[int, int]  # first and last
ANY_PORT: Range = (0, 0xFFFF)
FAMILIES = {"ip": 2, "ipv4": 2, "ip6": 10, "ipv6": 10}
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58}
PROTOCOLS |= {"sctp": 132, "udplite": 136}
# Statements that let every packet pass on to the next one.
PASSING = {"counter", "log", "comment", "mangle"}
# Those that may end its way, or lead it anywhere.
OPAQUE = {"vmap", "queue", "reject", "tproxy", "fwd"}
# Keys that a map has an element for, whatever the packet.
SPREADING = {"numgen", "jhash", "symhash"}


class Field(Enum):
    """What a condition asks for: numbers, but for names of devices, and of DST_LOCAL 1 or 0."""

    FAMILY = "family"
    PROTO = "proto"
    SRC = "src"
    DST = "dst"
    DPORT = "dport"
    IIF = "iif"
    OIF = "oif"
    DST_LOCAL = "dst_local"
    UNKNOWN = "unknown"


class Does(Enum):
    """What a rule does with a packet that it matches. UNKNOWN may be anything, CONTINUE is nothing."""

    DNAT = "dnat"
    REDIRECT = "redirect"
    SNAT = "snat"
    MASQUERADE = "masquerade"
    ACCEPT = "accept"
    DROP = "drop"
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"
    CONTINUE = "continue"
    UNKNOWN = "unknown"


TRANSLATES = frozenset((Does.DNAT, Does.REDIRECT, Does.SNAT, Does.MASQUERADE))
XT = {"DNAT": Does.DNAT, "REDIRECT": Does.REDIRECT, "SNAT": Does.SNAT, "MASQUERADE": Does.MASQUERADE}
VERDICTS = {"accept": Does.ACCEPT, "drop": Does.DROP, "return": Does.RETURN, "continue": Does.CONTINUE}


class Match(NamedTuple):
    """The field lies in one of these ranges, or is one of these names; if `negated`, in none."""

    field: Field
    ranges: tuple[Range, ...] = ()
    names: tuple[str, ...] = ()
    negated: bool = False


class NatRule(NamedTuple):
    """`to` is the chain that it leads to. Of DNAT and SNAT: `addresses` it may choose (None: not known, empty: it keeps the
    packet's), `ports` the same (None: it keeps the packet's)."""

    table: str
    chain: str
    handle: int
    matches: tuple[Match, ...]
    does: Does
    to: str = ""
    addresses: tuple[Range, ...] | None = ()
    ports: Range | None = None


class NatChain(NamedTuple):
    """`hook` is None of a chain that others lead to. `family` is ip, ip6 or inet."""

    family: str
    table: str
    name: str
    hook: str | None
    priority: int
    rules: tuple[NatRule, ...]


def chains_of(items: list[Any]) -> tuple[NatChain, ...]:
    """NAT chains and those in their tables that they may lead to, by priority.

    Raises TypeError, ValueError, AttributeError or LookupError where an item has another form than libnftables-json(5) says.
    """
    chains = [item["chain"] for item in items if "chain" in item]
    tables = {_table(chain) for chain in chains if chain.get("type") == "nat" and chain.get("hook")}
    if not tables:
        return ()
    rules: dict[tuple[object, ...], list[NatRule]] = {}
    for rule in (item["rule"] for item in items if "rule" in item):
        if _table(rule) in tables:
            rules.setdefault((*_table(rule), rule["chain"]), []).append(_rule(rule))
    found = [
        NatChain(
            chain["family"],
            chain["table"],
            chain["name"],
            chain.get("hook"),
            int(chain.get("prio", 0)),
            tuple(rules.get((*_table(chain), chain["name"]), ())),
        )
        for chain in chains
        if _table(chain) in tables and chain.get("type", "nat") == "nat"
    ]
    return tuple(sorted(found, key=lambda chain: chain.priority))


def _table(one: dict[str, Any]) -> tuple[object, object]:
    return one.get("family"), one.get("table")


def _rule(rule: dict[str, Any]) -> NatRule:
    matches: list[Match] = []
    made = NatRule(rule["table"], rule["chain"], int(rule["handle"]), (), Does.CONTINUE)
    for part in rule.get("expr", []):
        ((name, inner),) = part.items()
        if name == "match":
            matches += _matches(inner)
        elif name in VERDICTS or name in ("jump", "goto"):
            made = made._replace(does=VERDICTS.get(name) or Does(name), to=inner["target"] if name in ("jump", "goto") else "")
        elif name in ("dnat", "snat", "redirect", "masquerade"):
            given = inner or {}
            made = _translating(made, Does(name), given)
            family = FAMILIES.get(given.get("family", ""))
            matches += [Match(Field.FAMILY, ((family, family),))] if family else []
            matches += [match for one in given.values() for match in _in_map(one)]
        elif name == "xt" and isinstance(inner, dict) and inner.get("name") in XT:
            made = made._replace(does=XT[inner["name"]], addresses=None, ports=ANY_PORT)
        elif name in OPAQUE or (name == "xt" and not _is_xt_match(inner)):
            made = made._replace(does=Does.UNKNOWN)
            # Without its name an extension may be a condition of what follows.
            matches += [] if isinstance(inner, dict) else [Match(Field.UNKNOWN)]
        elif name not in PASSING:
            matches.append(Match(Field.UNKNOWN))
    return made._replace(matches=tuple(matches))


def _is_xt_match(inner: Any) -> bool:
    return isinstance(inner, dict) and inner.get("type") == "match"


def _in_map(given: Any) -> Iterator[Match]:
    """What a packet must be for a map to have an address or a port for it: else the rule does nothing (nft_lookup_eval)."""
    if not isinstance(given, dict) or "map" not in given or SPREADING & given["map"]["key"].keys():
        return
    data = given["map"]["data"]
    pairs = data.get("set") if isinstance(data, dict) else None
    keys = [pair[0] if isinstance(pair, list) else pair for pair in pairs] if isinstance(pairs, list) else [data]
    yield from _matches({"op": "==", "left": given["map"]["key"], "right": {"set": keys}})


def _translating(made: NatRule, does: Does, inner: dict[str, Any]) -> NatRule:
    addresses: tuple[Range, ...] | None = ()
    ports: Range | None = None
    if "addr" in inner:
        addresses = _targets(inner["addr"])
        if addresses is None and isinstance(inner["addr"], dict) and "prefix" not in inner["addr"]:
            ports = ANY_PORT  # a map may give ports too
    if "port" in inner:
        found = _ranges(inner["port"], _number)
        ports = found[0] if found and len(found) == 1 else ANY_PORT
    return made._replace(does=does, addresses=addresses, ports=ports)


def _targets(node: Any) -> tuple[Range, ...] | None:
    """Addresses that a statement may choose from; those of a map that is written out, whatever its key is."""
    if isinstance(node, dict) and "map" in node:
        data = node["map"].get("data")
        pairs = data.get("set") if isinstance(data, dict) else None
        if not isinstance(pairs, list):
            return None
        parts = [_ranges(pair[1], _address) for pair in pairs if isinstance(pair, list) and len(pair) == 2]
        return tuple(one for part in parts for one in part or ()) if parts and all(parts) else None
    # Netmap keeps the rest of the packet's address: any of the prefix.
    return _ranges(node, _address)


def _matches(inner: dict[str, Any]) -> Iterator[Match]:
    """A condition, and before it those that nft leaves out for being implied: `ip daddr` is of IPv4, `tcp dport` of TCP."""
    left, right, negated = inner["left"], inner["right"], inner["op"] == "!="
    unknown = inner["op"] not in ("==", "!=", "in")
    payload = left.get("payload") if isinstance(left, dict) else None
    if isinstance(payload, dict):
        protocol, name = payload.get("protocol"), payload.get("field")
        if protocol in FAMILIES:
            yield Match(Field.FAMILY, ((FAMILIES[protocol], FAMILIES[protocol]),))
        elif protocol in PROTOCOLS:
            yield Match(Field.PROTO, ((PROTOCOLS[protocol], PROTOCOLS[protocol]),))
        fields = {"saddr": Field.SRC, "daddr": Field.DST, "dport": Field.DPORT, "protocol": Field.PROTO, "nexthdr": Field.PROTO}
        read = {Field.SRC: _address, Field.DST: _address, Field.DPORT: _number, Field.PROTO: _protocol}
        field = fields.get(str(name))
        ranges = _ranges(right, read[field]) if field and not unknown else None
        yield Match(Field.UNKNOWN) if field is None or ranges is None else Match(field, ranges, negated=negated)
    elif unknown or not isinstance(left, dict):
        yield Match(Field.UNKNOWN)
    elif "meta" in left:
        yield _meta(left["meta"].get("key"), right, negated)
    elif "fib" in left:
        # One flag alone is no list since nft 1.1.2.
        of_target = left["fib"].get("result") == "type" and left["fib"].get("flags") in ("daddr", ["daddr"]) and right == "local"
        yield Match(Field.DST_LOCAL, ((1, 1),), negated=negated) if of_target else Match(Field.UNKNOWN)
    elif left.get("ct", {}).get("key") == "state" and not negated and _holds_new(right):
        return  # a packet that meets a NAT chain is new
    else:
        yield Match(Field.UNKNOWN)


def _holds_new(right: Any) -> bool:
    return right == "new" or (isinstance(right, list) and "new" in right)


def _meta(key: object, right: Any, negated: bool) -> Match:
    if key in ("iifname", "iif", "oifname", "oif"):
        names = right.get("set") if isinstance(right, dict) else [right]
        # A named set, of which elements are not listed, begins with @, and so does no name that nft takes.
        if isinstance(names, list) and all(isinstance(name, str) and not name.startswith("@") for name in names):
            return Match(Field.IIF if str(key).startswith("iif") else Field.OIF, names=tuple(names), negated=negated)
        return Match(Field.UNKNOWN)
    read = {"l4proto": (Field.PROTO, _protocol), "nfproto": (Field.FAMILY, _family), "protocol": (Field.FAMILY, _family)}
    if key not in read:
        return Match(Field.UNKNOWN)
    field, reader = read[str(key)]
    ranges = _ranges(right, reader)
    return Match(Field.UNKNOWN) if ranges is None else Match(field, ranges, negated=negated)


def _ranges(node: Any, read: Any) -> tuple[Range, ...] | None:
    """What a right side stands for, None where that is not known: a named set, of which elements are not listed."""
    if isinstance(node, dict) and isinstance(node.get("set"), list):
        parts = [_ranges(one, read) for one in node["set"]]
        return tuple(one for part in parts for one in part or ()) if all(part is not None for part in parts) else None
    if isinstance(node, dict) and "elem" in node:
        return _ranges(node["elem"].get("val"), read)
    if isinstance(node, dict) and "prefix" in node:
        return _prefix(node["prefix"])
    ends = node["range"] if isinstance(node, dict) and "range" in node else [node, node]
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    first, last = map(read, ends)
    return None if first is None or last is None else ((first, last),)


def _prefix(prefix: dict[str, Any]) -> tuple[Range, ...] | None:
    try:
        network = ipaddress.ip_network((prefix["addr"], prefix["len"]), strict=False)
    except (ValueError, TypeError, KeyError):
        return None
    return ((int(network.network_address), int(network.broadcast_address)),)


def _address(node: Any) -> int | None:
    try:
        return int(ipaddress.ip_address(node)) if isinstance(node, str) else None
    except ValueError:
        return None


def _number(node: Any) -> int | None:
    return node if isinstance(node, int) else None


def _protocol(node: Any) -> int | None:
    return node if isinstance(node, int) else PROTOCOLS.get(node) if isinstance(node, str) else None


def _family(node: Any) -> int | None:
    return FAMILIES.get(node) if isinstance(node, str) else None
