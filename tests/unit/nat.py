"""Rule sets that translate, as `nft -j -t list ruleset` lists them, and namespaces that have them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

from ctobserve.diagnosis.evidence import NamespaceEvidence
from ctobserve.host.addresses import Address
from ctobserve.host.ruleset import Ruleset, parse
from tests.unit.tables import NETNS, namespace

OURS = ("eth0 10.1.0.1/24", "eth0 fd00:1::1/64", "br0 172.17.0.1/16", "lo 127.0.0.1/8")


def meets(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, field: str, right: Any, op: str = "==") -> dict[str, Any]:
    return meets({"payload": {"protocol": protocol, "field": field}}, right, op)


def meta(key: str, right: Any, op: str = "==") -> dict[str, Any]:
    return meets({"meta": {"key": key}}, right, op)


def dnat(address: Any, port: Any = None) -> dict[str, Any]:
    return {"dnat": {"addr": address} | ({} if port is None else {"port": port})}


def ruleset(*rules: list[dict[str, Any]], hook: str = "prerouting", family: str = "ip", **chains: list[Any]) -> Ruleset:
    """One base chain `pre` at this hook with these rules, and others that it may lead to, each a list of rules."""
    items: list[dict[str, Any]] = [
        {"chain": {"family": family, "table": "nat", "name": "pre", "type": "nat", "hook": hook, "prio": -100}},
        *({"chain": {"family": family, "table": "nat", "name": name}} for name in chains),
    ]
    numbered = [("pre", expr) for expr in rules] + [(name, expr) for name, exprs in chains.items() for expr in exprs]
    for handle, (name, expr) in enumerate(numbered, 2):
        items.append({"rule": {"family": family, "table": "nat", "chain": name, "handle": handle, "expr": expr}})
    made = parse({"nftables": items})
    assert made.unread is None, made
    return made


def addresses(*listed: str) -> tuple[Address, ...]:
    """Each like `eth0 10.1.0.1/24`."""
    return tuple(Address(device, ip_interface(interface)) for device, interface in map(str.split, listed))


def translating(rules: Ruleset | None, *ours: str) -> dict[int, NamespaceEvidence]:
    """The one namespace of a made evidence, with these rules and addresses (else OURS)."""
    return {NETNS: replace(namespace(nf_conntrack_count=9), ruleset=rules, addresses=addresses(*(ours or OURS)))}
