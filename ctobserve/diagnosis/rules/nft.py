"""Lines to paste that add firewall rules: a table and a chain of their own first, so that they are easy to take away again."""

from __future__ import annotations

from typing import NamedTuple

from ctobserve.diagnosis.evidence import NamespaceEvidence
from ctobserve.diagnosis.rules.paste import inside

RAW = "raw"  # priority: before conntrack sees the packet


class Chain(NamedTuple):
    """A base chain of family inet, and where it hooks in."""

    table: str
    name: str
    hook: str
    priority: str = RAW


def add_table(namespace: NamespaceEvidence, table: str) -> str:
    """Of family inet."""
    return inside(namespace, "nft", "add", "table", "inet", table)


def add_chain(namespace: NamespaceEvidence, chain: Chain) -> str:
    """To its table, which is there."""
    kind = f"type filter hook {chain.hook} priority {chain.priority};"
    return inside(namespace, "nft", f"add chain inet {chain.table} {chain.name} {{ {kind} }}")


def add_rule(namespace: NamespaceEvidence, chain: Chain, *words: str | int) -> str:
    """To its chain, which is there."""
    return inside(namespace, "nft", "add", "rule", "inet", chain.table, chain.name, *words)


def add_helper(namespace: NamespaceEvidence, table: str, name: str, kind: str, proto: str) -> str:
    """An object of this name by which rules of its table give the helper that the kernel calls `kind`."""
    return inside(namespace, "nft", f'add ct helper inet {table} {name} {{ type "{kind}" protocol {proto}; }}')


def for_source(namespace: NamespaceEvidence, chain: Chain, source: str, *words: str | int) -> tuple[str, ...]:
    """All lines that are needed to treat packets from this address so."""
    family = "ip6" if ":" in source else "ip"
    return (
        add_table(namespace, chain.table),
        add_chain(namespace, chain),
        add_rule(namespace, chain, family, "saddr", source, *words),
    )
