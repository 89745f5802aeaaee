"""How much memory does the table take, how large must it be, and what would other timeouts free?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.lifetimes import Group, Lifetimes
from ctobserve.host.slab import PAGE_BYTES, Slab
from ctobserve.host.sysctls import INT_MAX

TEXTBOOK_OBJECT, TEXTBOOK_HEAD = 376, 16  # bytes: the figures handed down in books and forums
HEAD = 8  # bytes of a struct hlist_nulls_head
EXTENSION = 128  # bytes of an entry's extensions: NF_CT_EXT_PREALLOC, the class kmalloc-128
GIB = 1 << 30
MOST_BUCKETS = INT_MAX // PAGE_BYTES * PAGE_BYTES // HEAD  # nf_ct_alloc_hashtable: INT_MAX bytes at most, in whole pages


@dataclass(frozen=True)
class Memory:
    """Bytes of a full table. `extensions_bytes`: more, if every entry has extensions; None in the textbook."""

    object_bytes: float
    head_bytes: int
    entries_bytes: int
    heads_bytes: int
    extensions_bytes: int | None

    @property
    def total_bytes(self) -> int:
        """Entries and hash, without extensions."""
        return self.entries_bytes + self.heads_bytes


@dataclass(frozen=True)
class Defaults:
    """What nf_conntrack_init_start() chooses on this machine when nothing is given."""

    buckets: int
    max: int
    factor: int


@dataclass(frozen=True)
class Change:
    """What another value of a timeout would do. `gone`: entries that would not be there; `unknown`: it cannot be said of them."""

    name: str
    before: int | None
    after: int
    entries: int
    gone: int | None
    unknown: int | None


@dataclass(frozen=True)
class Need:
    """Rate of new entries x their mean lifetime = entries at a time (Little's law); None what was not measured."""

    rate_per_s: float | None
    lifetime_s: float | None
    entries: int | None
    headroom: float
    max: int | None


def textbook(limit: int, buckets: int) -> Memory:
    """The formula of books: `limit` x 376 + `buckets` x 16."""
    return Memory(TEXTBOOK_OBJECT, TEXTBOOK_HEAD, limit * TEXTBOOK_OBJECT, buckets * TEXTBOOK_HEAD, None)


def real(limit: int, buckets: int, slab: Slab) -> Memory:
    """What this kernel takes: whole slabs, heads in whole pages (nf_ct_alloc_hashtable), extensions beside them."""
    slabs = -(-limit // slab.objects_per_slab)
    heads = whole_buckets(buckets) * HEAD
    return Memory(slab.slab_bytes / slab.objects_per_slab, HEAD, slabs * slab.slab_bytes, heads, limit * EXTENSION)


def whole_buckets(buckets: int) -> int:
    """Number of buckets the kernel makes of a request: as many as fill the last page."""
    per_page = PAGE_BYTES // HEAD
    return -(-buckets // per_page) * per_page


def defaults(memory_bytes: int, limits_chains: bool) -> Defaults:
    """By size of memory; kernels that limit chains (5.15, d532bcd0b269) take more buckets and as many entries as buckets."""
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
    return Defaults(buckets, factor * buckets, factor)


def change(name: str, before: int | None, after: int, table: Lifetimes | None) -> Change:
    """An entry idle for as long as the new timeout, or longer, would be gone; what it would be without traffic is not guessed.

    Idle is the timeout minus the seconds left. More left than the timeout: it was changed since, or the entry has one of its own.
    """
    parts = [left for group, left in (table or {}).items() if group[2] == name]
    left = np.concatenate(parts) if parts else np.empty(0, np.int64)
    if table is None or before is None:
        return Change(name, before, after, len(left), None, None)
    strange = left > before
    gone = ~strange & (before - left >= after)
    return Change(name, before, after, len(left), int(gone.sum()), int(strange.sum()))


def groups(table: Lifetimes) -> list[tuple[Group, int, float]]:
    """Entries by protocol and state, the most numerous first, with the median of the seconds left."""
    found = [(group, len(left), float(np.median(left))) for group, left in table.items() if len(left)]
    return sorted(found, key=lambda one: (-one[1], one[0][0], one[0][1] or "", one[0][2] or ""))


def need(rate_per_s: float | None, measured_per_s: float | None, count: int | None, headroom: float) -> Need:
    """Lifetime from what was measured: entries now / rate now; the size for `rate_per_s`, or for the rate now."""
    lifetime = count / measured_per_s if measured_per_s and count is not None else None
    rate = measured_per_s if rate_per_s is None else rate_per_s
    if rate is None or lifetime is None:
        return Need(rate, lifetime, None, headroom, None)
    entries = math.ceil(rate * lifetime)
    return Need(rate, lifetime, entries, headroom, math.ceil(entries * headroom))
