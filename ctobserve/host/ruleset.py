"""Which firewall rules of this namespace need conntrack, which translate? Asked of `nft -j -t list ruleset`, which only reads.

A request for rules would make the kernel load nf_tables where it is not loaded, which an observer must not cause: then nobody
asks, and no rule of nftables can exist. Elements of sets are left out (-t): there may be a million of them, and rules that make
them say what they are made with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ctobserve.host import executables
from ctobserve.host.invalid_rules import Refusing, refusing
from ctobserve.host.kernel import has_module, read_text
from ctobserve.host.nat_rules import NatChain, chains_of
from ctobserve.model import printable

TIMEOUT_S = 5
# Of about 9,000 rules, as JSON; nft takes 25 times that to list them, and we ten times to read it.
OUTPUT_BYTES = 4 << 20
MEMORY_BYTES = 256 << 20
NAMED = 20  # rules that are remembered by their place
# Expressions and statements of libnftables-json(5) that work on entries; notrack is not one: it avoids them.
NEEDING = {
    "ct",
    "masquerade",
    "snat",
    "dnat",
    "redirect",
    "flow",
    "synproxy",
    "ct count",
    "ct helper",
    "ct timeout",
    "ct expectation",
}
# Extensions of iptables (through nft_compat) that work on entries.
XT_NEEDING = {
    *(
        "conntrack",
        "state",
        "connlimit",
        "connmark",
        "connbytes",
        "connlabel",
        "cluster",
        "helper",
        "CT",
        "CONNMARK",
        "CONNSECMARK",
    ),
    *("MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP", "SYNPROXY", "CLUSTERIP"),
}
# Modules that use conntrack without any rule of nftables, once somebody asks them to.
OTHER_USERS = ("openvswitch", "act_ct", "ip_vs")
LEGACY = (Path("/proc/thread-self/net/ip_tables_names"), Path("/proc/thread-self/net/ip6_tables_names"))


class Notrack(NamedTuple):
    """A rule that takes packets out of conntrack's sight: where it is, and whether it has no condition."""

    family: str
    table: str
    chain: str
    handle: int
    every_packet: bool


class Ruleset(NamedTuple):
    """`rules` and NAT `chains` there are, how many rules need conntrack; `unread` says why that is not known.

    `built_in` are parts of this kernel that may use entries without any rule, whether anybody asks them to or not. Tracking is on
    in these `families`, as a rule or a NAT chain needs it there (nf_ct_netns_get); `notracks` are the first rules that avoid it,
    `nat` the NAT chains with their rules, by priority, `refusing` the first rules that drop INVALID packets.
    """

    rules: int = 0
    chains: int = 0
    needing: int = 0
    unread: str | None = None
    built_in: tuple[str, ...] = ()
    families: frozenset[str] = frozenset()
    notracks: tuple[Notrack, ...] = ()
    nat: tuple[NatChain, ...] = ()
    refusing: tuple[Refusing, ...] = ()


def read(until: float | None = None) -> Ruleset:
    """Of the namespace of the calling thread, not later than `until` (time.monotonic, s); never raises."""
    users = tuple(filter(has_module, OTHER_USERS))
    if loaded := next(filter(_is_loaded, users), None):
        return Ruleset(unread=f"{loaded} is loaded and may use conntrack without firewall rules")
    if any(_content(path) for path in LEGACY):
        return Ruleset(unread="legacy iptables tables are in use, which are not read")
    if not has_module("nf_tables"):
        return Ruleset(built_in=users)
    left_s = TIMEOUT_S if until is None else min(TIMEOUT_S, until - time.monotonic())
    if left_s <= 0:
        return Ruleset(unread="no time was left to list its rules")
    nft = executables.trusted("nft")
    return listed(nft, left_s)._replace(built_in=users) if nft else Ruleset(unread="there is no nft to list the rules")


def _is_loaded(module: str) -> bool:
    """Somebody wanted this module; what is built in may have parameters in /sys/module, but was never initialised from a file."""
    return Path("/sys/module", module, "initstate").exists()


def _content(path: Path) -> str:
    """Of a file that is there only while a module is loaded."""
    try:
        return read_text(path).strip()
    except OSError:
        return ""


def listed(nft: Path, timeout_s: float = TIMEOUT_S) -> Ruleset:
    """As this program says within so many seconds; never raises."""
    asked = ("-j", "-t", "list", "ruleset")
    try:
        result = executables.run(nft, *asked, timeout_s=timeout_s, memory_bytes=MEMORY_BYTES, output_bytes=OUTPUT_BYTES)
    except TimeoutError:
        return Ruleset(unread=f"listing the rules took longer than {timeout_s:.1f} s")
    except OSError:
        return Ruleset(unread="nft could not be run")
    if len(result.stdout) >= OUTPUT_BYTES:
        return Ruleset(unread=f"its rules are more than {OUTPUT_BYTES >> 20} MiB as nft lists them")
    if result.returncode:
        return Ruleset(unread="nft could not list the rules")
    try:
        # Names and comments hold any byte.
        return parse(json.loads(result.stdout.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return Ruleset(unread="what nft listed is no JSON")


def parse(document: Any) -> Ruleset:
    """The output of `nft -j -t list ruleset`; `unread` where it has another form than libnftables-json(5) says."""
    try:
        return _counted(_list(document["nftables"]))
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError):
        return Ruleset(unread="nft listed the rules in an unknown form")


def _counted(items: list[Any]) -> Ruleset:
    rules = [item["rule"] for item in items if "rule" in item]
    chains = [item["chain"] for item in items if item.get("chain", {}).get("type") == "nat"]
    objects = [item for item in items if NEEDING & item.keys() or "flowtable" in item]
    # A set may have statements that each of its elements is made with.
    sets = [item["set"] for item in items if "set" in item]
    parts = [(rule, rule.get("expr", [])) for rule in rules] + [(one, one.get("stmt", [])) for one in sets]
    needing = [owner for owner, part in parts if any(map(_needs, _words(_list(part))))]
    users = chains + needing + [one for item in objects for one in item.values()]
    families = frozenset(str(one["family"]) for one in users if "family" in one)
    notracks = tuple(islice(_notracks(rules), NAMED))
    return Ruleset(
        len(rules),
        len(chains),
        len(needing) + len(objects),
        families=families,
        notracks=notracks,
        nat=chains_of(items),
        refusing=tuple(islice(refusing(items), NAMED)),
    )


def _notracks(rules: list[Any]) -> Iterator[Notrack]:
    for rule in rules:
        words = [name for statement in rule.get("expr", []) for name in statement]
        if "notrack" in words:
            family, table, chain = (printable(str(rule.get(name, ""))) for name in ("family", "table", "chain"))
            yield Notrack(family, table, chain, int(rule.get("handle", 0)), not set(words) - {"notrack", "counter"})


def _list(node: Any) -> list[Any]:
    if not isinstance(node, list):
        raise TypeError(node)
    return node


def _words(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key in a nested expression, with what it holds."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield name, inner
            yield from _words(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _words(inner)


def _needs(word: tuple[str, Any]) -> bool:
    name, inner = word
    if name == "xt":
        # Without its name an extension may be anything.
        return not isinstance(inner, dict) or inner.get("name") in XT_NEEDING or "name" not in inner
    return name in NEEDING
