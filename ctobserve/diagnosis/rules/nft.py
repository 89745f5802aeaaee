"""Lines to paste that add firewall rules: a table and a chain of their own first, so that they are easy to take away again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ctobserve.diagnosis.evidence import NamespaceEvidence
from ctobserve.diagnosis.rules.paste import inside, remark
from ctobserve.host.invalid_rules import Refusing

RAW = "raw"  # priority: before conntrack sees the packet
MANGLE = "mangle"  # priority: behind it
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # what nft reads as one word, whatever else it may be part of


class Chain(NamedTuple):
    """A base chain of family inet, its type, and where it hooks in; neither name may be a word of nft's own (`fwd` is one)."""

    table: str
    name: str
    hook: str
    priority: str = RAW
    type: str = "filter"


def add_table(namespace: NamespaceEvidence, table: str) -> str:
    """Of family inet."""
    return inside(namespace, "nft", "add", "table", "inet", table)


def add_chain(namespace: NamespaceEvidence, chain: Chain) -> str:
    """To its table, which is there."""
    kind = f"type {chain.type} hook {chain.hook} priority {chain.priority};"
    return inside(namespace, "nft", f"add chain inet {chain.table} {chain.name} {{ {kind} }}")


def add_rule(namespace: NamespaceEvidence, chain: Chain, *words: str | int) -> str:
    """To its chain, which is there."""
    return inside(namespace, "nft", "add", "rule", "inet", chain.table, chain.name, *words)


def add_helper(namespace: NamespaceEvidence, table: str, name: str, kind: str, proto: str) -> str:
    """An object of this name by which rules of its table give the helper that the kernel calls `kind`."""
    return inside(namespace, "nft", f'add ct helper inet {table} {name} {{ type "{kind}" protocol {proto}; }}')


def for_source(namespace: NamespaceEvidence, chains: Sequence[Chain], source: str, *words: str | int) -> tuple[str, ...]:
    """All lines that are needed to treat packets from this address so, in chains of one table.

    Prerouting sees all that arrive, whether forwarded or for the host, and output what the host itself sends: with a chain in
    each it does not matter whose address it is.
    """
    family = "ip6" if ":" in source else "ip"
    lines = [add_table(namespace, chains[0].table)]
    for chain in chains:
        lines += [add_chain(namespace, chain), add_rule(namespace, chain, family, "saddr", source, *words)]
    return tuple(lines)


def delete_rule(namespace: NamespaceEvidence, family: str, table: str, chain: str, handle: int) -> str:
    """A rule that is there. A name that is no plain word nft would read as more than a name: then only a remark comes."""
    if not all(map(_PLAIN.fullmatch, (family, table, chain))):
        return remark(f"delete rule {handle} of that chain, whose name is no plain word")
    return inside(namespace, "nft", "delete", "rule", family, table, chain, "handle", handle)


def insert_rule(namespace: NamespaceEvidence, before: Refusing, words: str) -> str:
    """At the beginning of the chain that has this rule; a remark where a name is no plain word."""
    names = (before.family, before.table, before.chain)
    if not all(map(_PLAIN.fullmatch, names)):
        return remark(f"insert rule: {words}; before rule {before.handle} of a chain whose name is no plain word")
    return inside(namespace, "nft", f"insert rule {' '.join(names)} {words}")
