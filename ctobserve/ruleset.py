"""Does any firewall rule of this namespace need conntrack? Asked of `nft -j list ruleset`, which only reads.

A request for rules would make the kernel load nf_tables where it is not loaded, which an observer must not cause: then nobody
asks, and no rule of nftables can exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctobserve import programs
from ctobserve.kernel import read_text

TIMEOUT_S = 5
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
# What uses conntrack without any rule of nftables.
OTHER_USERS = ("openvswitch", "act_ct", "ip_vs")
LEGACY = (Path("/proc/thread-self/net/ip_tables_names"), Path("/proc/thread-self/net/ip6_tables_names"))


@dataclass(frozen=True)
class Ruleset:
    """`rules` and NAT `chains` there are, how many rules need conntrack; `unread` says why that is not known."""

    rules: int = 0
    chains: int = 0
    needing: int = 0
    unread: str | None = None


def read() -> Ruleset:
    """Of the namespace of the calling thread; never raises."""
    users = [name for name in OTHER_USERS if Path("/sys/module", name).exists()]
    if users:
        return Ruleset(unread=f"{users[0]} is loaded and may use conntrack without firewall rules")
    if any(_content(path) for path in LEGACY):
        return Ruleset(unread="legacy iptables tables are in use, which are not read")
    if not Path("/sys/module/nf_tables").exists():
        return Ruleset()
    nft = programs.trusted("nft")
    return listed(nft) if nft else Ruleset(unread="there is no nft to list the rules")


def _content(path: Path) -> str:
    """Of a file that is there only while a module is loaded."""
    try:
        return read_text(path).strip()
    except OSError:
        return ""


def listed(nft: Path) -> Ruleset:
    """As this program says; never raises."""
    try:
        result = programs.run(nft, "-j", "list", "ruleset", timeout_s=TIMEOUT_S)
    except TimeoutError:
        return Ruleset(unread=f"listing the rules took longer than {TIMEOUT_S} s")
    except OSError:
        return Ruleset(unread="nft could not be run")
    if result.returncode:
        return Ruleset(unread="nft could not list the rules")
    try:
        # Names and comments hold any byte.
        return parse(json.loads(result.stdout.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return Ruleset(unread="what nft listed is no JSON")


def parse(document: Any) -> Ruleset:
    """The output of `nft -j list ruleset`; `unread` where it has another form than libnftables-json(5) says."""
    try:
        return _counted(_list(document["nftables"]))
    except (TypeError, AttributeError, LookupError, RecursionError):
        return Ruleset(unread="nft listed the rules in an unknown form")


def _counted(items: list[Any]) -> Ruleset:
    rules = [item["rule"] for item in items if "rule" in item]
    chains = [item["chain"] for item in items if item.get("chain", {}).get("type") == "nat"]
    objects = [item for item in items if NEEDING & item.keys() or "flowtable" in item]
    needing = sum(any(_needs(word) for word in _words(_list(rule.get("expr", [])))) for rule in rules)
    return Ruleset(len(rules), len(chains), needing + len(objects))


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
