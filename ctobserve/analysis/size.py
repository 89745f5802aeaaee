"""How much memory does the table take, how large must it be, and what would other timeouts free?"""

from __future__ import annotations

import math

import numpy as np

from ctobserve.analysis.time_left import Held, Seconds, TimeLeft
from ctobserve.host.slab import PAGE_BYTES, Slab
from ctobserve.host.sysctls import INT_MAX

TEXTBOOK_OBJECT, TEXTBOOK_HEAD = 376, 16  # bytes: the figures handed down in books and forums
HEAD = 8  # bytes of a struct hlist_nulls_head
EXTENSIONS = 128  # bytes of an entry's extensions: NF_CT_EXT_PREALLOC, the class kmalloc-128
GIB = 1 << 30
MOST_BUCKETS = INT_MAX // PAGE_BYTES * PAGE_BYTES // HEAD  # nf_ct_alloc_hashtable: INT_MAX bytes at most, in whole pages


def slabs_bytes(entries: int, slab: Slab) -> int:
    """Of so many entries: the allocator takes whole slabs."""
    return -(-entries // slab.objects_per_slab) * slab.slab_bytes


def whole_buckets(buckets: int) -> int:
    """Number of buckets the kernel makes of a request: as many as fill the last page."""
    per_page = PAGE_BYTES // HEAD
    return -(-buckets // per_page) * per_page


def hash_bytes(buckets: int) -> int:
    """Of the heads of so many chains, in whole pages (nf_ct_alloc_hashtable)."""
    return whole_buckets(buckets) * HEAD


def default_sizes(memory_bytes: int, limits_chains: bool) -> tuple[int, int]:
    """Buckets and nf_conntrack_max that nf_conntrack_init_start() chooses with so much memory when nothing is given.

    Kernels that limit chains (5.15, d532bcd0b269) take more buckets and as many entries as buckets.
    """
    buckets = memory_bytes // 16384 // HEAD
    if limits_chains:
        large, middle, least, factor = 262144, 65536, 1024, 1
    else:
        large, middle, least, factor = 65536, 16384, 32, 4
    if memory_bytes > 4 * GIB:
        buckets = large
    elif memory_bytes > GIB:
        buckets = middle
    buckets = whole_buckets(max(buckets, least))
    return buckets, factor * buckets


def held_by(timeout: str, table: TimeLeft) -> Seconds:
    """Seconds left of the entries that this timeout holds."""
    parts = [left for held, left in table.items() if held.timeout == timeout]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def gone(left: Seconds, before: int, after: int) -> tuple[int, int]:
    """How many would not be there with another value of their timeout, and of how many that cannot be said.

    An entry idle for as long as the new timeout, or longer, would be gone; what it would be without traffic is not guessed. Idle
    is the timeout minus the seconds left. More left than the timeout: it was changed since, or the entry has one of its own.
    """
    unknown = left > before
    return int((~unknown & (before - left >= after)).sum()), int(unknown.sum())


def groups(table: TimeLeft) -> list[tuple[Held, int, float]]:
    """Entries by protocol and state, the most numerous first, with the median of the seconds left."""
    found = [(held, len(left), float(np.median(left))) for held, left in table.items() if len(left)]
    return sorted(found, key=lambda one: (-one[1], one[0].proto, one[0].state or "", one[0].timeout or ""))


def mean_lifetime_s(entries: int | None, new_per_s: float | None) -> float | None:
    """Entries at a time = rate of new ones x their mean lifetime (Little's law); None where one is not known, or none came."""
    return entries / new_per_s if new_per_s and entries is not None else None


def entries_needed(new_per_s: float, lifetime_s: float) -> int:
    """At a time, by the same law."""
    return math.ceil(new_per_s * lifetime_s)
