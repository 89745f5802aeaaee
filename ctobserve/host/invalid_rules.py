"""Which rules of a namespace drop INVALID packets, as `nft -j list ruleset` has them?

A rule that asks for the state alone drops every INVALID packet that comes to it. One that asks for more, an extension of iptables
(which shows its name, and nothing of what it asks for), one that leads them to another chain, or a chain whose policy is drop may
drop some: which, cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ctobserve.model import printable

# Statements that let a packet go on to the next one.
PASSING = {"counter", "log", "comment"}
ENDS = {"drop", "reject"}
ELSEWHERE = {"jump", "goto"}  # to a chain that may drop what comes there
IS, IS_NOT = ("in", "=="), ("!=", "!")
XT_STATE = {"conntrack", "state"}
XT_REJECT = {"type": "target", "name": "REJECT"}
FAMILIES = {2: ("ip", "inet"), 10: ("ip6", "inet")}  # of tables that see IPv4, and IPv6, on its way through IP hooks


class Refusing(NamedTuple):
    """A rule, or a chain with its policy: `handle` 0. `hook` is None of a chain that others lead to."""

    family: str
    table: str
    chain: str
    handle: int
    hook: str | None
    every_invalid: bool

    def sees(self, l3num: int) -> bool:
        """Whether packets of this address family (ENTRY's l3num) come to it."""
        return self.family in FAMILIES[l3num]


def refusing(items: list[Any]) -> Iterator[Refusing]:
    """Rules in their order, then policies; raises as ruleset.parse expects where an item has another form."""
    chains = [item["chain"] for item in items if "chain" in item]
    hooks = {_place(chain.get("family"), chain.get("table"), chain.get("name")): chain.get("hook") for chain in chains}
    for rule in (item["rule"] for item in items if "rule" in item):
        every = _drops(rule.get("expr", []))
        if every is not None:
            place = _place(rule.get("family"), rule.get("table"), rule.get("chain"))
            yield Refusing(*place, int(rule.get("handle", 0)), hooks.get(place), every)
    for chain in chains:
        if chain.get("policy") == "drop":
            yield Refusing(*_place(chain.get("family"), chain.get("table"), chain.get("name")), 0, chain.get("hook"), False)


def _place(family: object, table: object, chain: object) -> tuple[str, str, str]:
    return printable(str(family)), printable(str(table)), printable(str(chain))


def _drops(parts: list[dict[str, Any]]) -> bool | None:
    """Whether a rule with these parts drops every INVALID packet; None: none for being INVALID."""
    asks = more = ends = xt = False
    for name, inner in (pair for part in parts for pair in part.items()):
        if name == "match" and _is_state(inner.get("left")):
            if inner.get("op") not in (IS if _holds_invalid(inner.get("right")) else IS_NOT):
                return None
            asks = True
        elif name == "vmap" and _is_state(inner.get("key")):
            asks = ends = _leads_to(ENDS | ELSEWHERE, inner.get("data"))
            more |= not _leads_to(ENDS, inner.get("data"))
        elif name == "xt" and isinstance(inner, dict) and inner.get("name") in XT_STATE:
            asks = more = xt = True
        elif name in ELSEWHERE and not xt:
            ends = more = True
        elif name in ENDS or (name == "xt" and inner == XT_REJECT):
            ends = True
        elif name not in PASSING:
            more = True
    return None if not (asks and ends) else not more


def _is_state(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("ct"), dict) and node["ct"].get("key") == "state"


def _holds_invalid(node: Any) -> bool:
    """As a word, a list of words, a set of them, or several bits."""
    if isinstance(node, dict):
        node = node.get("set", node.get("|"))
    return node == "invalid" or (isinstance(node, list) and "invalid" in node)


def _leads_to(verdicts: set[str], data: Any) -> bool:
    """To one of these for INVALID, by pairs of a state and a verdict that are written out; a named map does not show its own."""
    pairs = data.get("set") if isinstance(data, dict) else None
    if not isinstance(pairs, list):
        return False
    return any(_holds_invalid(pair[0]) and isinstance(pair[1], dict) and verdicts & pair[1].keys() for pair in pairs)
