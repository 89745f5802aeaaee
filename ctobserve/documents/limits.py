"""How many entries each namespace may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ctobserve.capture.capture import NamespaceState
from ctobserve.host.sysctls import allowed

MAX = "nf_conntrack_max"


def limits(inums: Iterable[int], states: Mapping[int, NamespaceState]) -> dict[int, int | None]:
    """Its nf_conntrack_max, or the first one's where that is less, by inode number. None: unknown, or no limit."""
    first = next((state for state in states.values() if state.init), None)
    cap = _limit(first)
    own = {inum: _limit(states.get(inum)) for inum in inums}
    return {inum: allowed(limit, cap) for inum, limit in own.items()}


def _limit(state: NamespaceState | None) -> int | None:
    """None also for 0, which newer kernels take as no limit."""
    return None if state is None else state.sysctls.get(MAX) or None
