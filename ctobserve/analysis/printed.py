"""Which entries would the kernel's own listing print?"""

from __future__ import annotations

from ctobserve.clock import Clock
from ctobserve.model import Entries, Mask


def printed(entries: Entries, clock: Clock) -> Mask:
    """The kernel reaps the expired before it prints, and never meets those without an original node (ct_seq_show)."""
    alive: Mask = clock.remaining_ticks(entries["timeout"], entries["seen_ns"]) > 0
    alive &= entries["reply_only"] == 0
    return alive
