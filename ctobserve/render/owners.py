"""Who owns a network namespace, in text: said beside what it is called, but that the host owns its own goes without saying."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.documents.base import Labels
from ctobserve.host.owner import HOST


def worth_saying(owners: Labels, inums: Iterable[int]) -> Labels:
    """Of these namespaces, by inode number."""
    return {inum: owner for inum in inums if (owner := owners.get(inum, HOST.label)) != HOST.label}


def with_owner(label: str, owner: str | None) -> str:
    """What a namespace is called, and who owns it."""
    return label if owner in (None, HOST.label) else f"{label} ({owner})"
