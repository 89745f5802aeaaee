"""The parts of what `size` says: each described, and made of values that somebody has read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ctobserve.analysis import size as sums
from ctobserve.analysis.time_left import TimeLeft
from ctobserve.capture.capture import NamespaceState
from ctobserve.documents.base import doc
from ctobserve.host.slab import Slab
from ctobserve.host.sysctls import INT_MAX, PREFIX, known

Values = Mapping[str, int | None]  # of sysctls by full name, None where there is no number to be read
MAX, BUCKETS, COUNT, EXPECT = (PREFIX + name for name in ("max", "buckets", "count", "expect_max"))


@dataclass(frozen=True)
class Now:
    """The table as it is."""

    count: int | None = doc("entries of this namespace")
    max: int | None = doc("most entries of this namespace")
    buckets: int | None = doc("size of the hash, which all namespaces share")
    fill: float | None = doc("count / max")
    objects_all_netns: int | None = doc("entries of all namespaces in the slab cache")
    slab_bytes: int | None = doc("what the slab cache takes for them")
    hash_bytes: int | None = doc("what the hash takes")


def now_of(values: Values, slab: Slab | None) -> Now:
    """With these sysctls, and this slab cache where it could be read."""
    count, limit, buckets = (values.get(name) for name in (COUNT, MAX, BUCKETS))
    return Now(
        count=count,
        max=limit,
        buckets=buckets,
        fill=count / limit if limit and count is not None else None,
        objects_all_netns=slab.objects if slab else None,
        slab_bytes=slab.slabs * slab.slab_bytes if slab and slab.slabs is not None else None,
        hash_bytes=None if buckets is None else sums.hash_bytes(buckets),
    )


@dataclass(frozen=True)
class Defaults:
    """What the kernel chooses on this machine when nothing is given."""

    buckets: int = doc("size of the hash")
    max: int = doc("most entries")
    factor: int = doc("max / buckets")
    memory_bytes: int = doc("memory of this machine, from which they follow")


def defaults_of(memory_bytes: int | None, limits_chains: bool | None) -> Defaults | None:
    """None where the machine's memory, or which rule its kernel follows, could not be read."""
    if memory_bytes is None or limits_chains is None:
        return None
    buckets, limit = sums.default_sizes(memory_bytes, limits_chains)
    return Defaults(buckets, limit, limit // buckets, memory_bytes)


@dataclass(frozen=True)
class TableMemory:
    """What a full table takes."""

    object_bytes: float = doc("bytes of one entry, with its share of what a slab wastes")
    head_bytes: int = doc("bytes of one bucket")
    entries_bytes: int = doc("all entries")
    heads_bytes: int = doc("all buckets")
    extensions_bytes: int | None = doc("more, if every entry has extensions; null in the textbook")
    total_bytes: int = doc("entries and heads")


def textbook(limit: int, buckets: int) -> TableMemory:
    """The formula of books: `limit` x 376 + `buckets` x 16."""
    entries, heads = limit * sums.TEXTBOOK_OBJECT, buckets * sums.TEXTBOOK_HEAD
    return TableMemory(sums.TEXTBOOK_OBJECT, sums.TEXTBOOK_HEAD, entries, heads, None, entries + heads)


def real(limit: int, buckets: int, slab: Slab) -> TableMemory:
    """What this kernel takes: whole slabs, heads in whole pages, extensions beside them."""
    entries, heads = sums.slabs_bytes(limit, slab), sums.hash_bytes(buckets)
    each = slab.slab_bytes / slab.objects_per_slab
    return TableMemory(each, sums.HEAD, entries, heads, limit * sums.EXTENSIONS, entries + heads)


@dataclass(frozen=True)
class Full:
    """The full table, with the values asked about where such were given."""

    max: int | None = doc("most entries")
    buckets: int | None = doc("size of the hash")
    mean_chain: float | None = doc("nodes per bucket, two an entry")
    textbook: TableMemory | None = doc("by the figures handed down in books")
    real: TableMemory | None = doc("by what this kernel takes")
    real_from: str | None = doc("what told the size of an entry")
    why: tuple[str, ...] = doc("why the two differ")


def full_of(limit: int | None, buckets: int | None, slab: Slab | None) -> Full:
    """With so many entries and buckets."""
    return Full(
        max=limit,
        buckets=buckets,
        mean_chain=2 * limit / sums.whole_buckets(buckets) if limit and buckets else None,
        textbook=textbook(limit, buckets) if limit and buckets else None,
        real=real(limit, buckets, slab) if limit and buckets and slab else None,
        real_from=slab.source if slab else None,
        why=_why(slab),
    )


def _why(slab: Slab | None) -> tuple[str, ...]:
    """Why textbook and kernel differ."""
    if slab is None:
        return ()
    each = slab.slab_bytes / slab.objects_per_slab
    took = f"an nf_conn of {slab.object_bytes} bytes" if slab.object_bytes else "an nf_conn"
    return (
        f"{took} takes {each:.0f} bytes of a slab here, not {sums.TEXTBOOK_OBJECT}: newer kernels keep less there",
        f"a bucket is one pointer, {sums.HEAD} bytes, not {sums.TEXTBOOK_HEAD}: a list's head has no way back",
        f"what NAT, accounting, events, helpers add lies outside: {sums.EXTENSIONS} bytes for an entry with any of them",
    )


@dataclass(frozen=True)
class EntryGroup:
    """Entries of one protocol and state."""

    proto: str = doc("protocol")
    state: str | None = doc("state of its tracker; `OFFLOAD` where a flow table keeps them alive")
    timeout: str | None = doc("sysctl that holds them; null where none does")
    timeout_s: int | None = doc("its value")
    entries: int = doc("so many")
    median_left_s: float = doc("seconds until they expire, the median")


def groups_of(values: Values, left: TimeLeft) -> tuple[EntryGroup, ...]:
    """Entries by protocol and state, the most numerous first."""
    return tuple(
        EntryGroup(*held, values.get(held.timeout) if held.timeout else None, entries, median)
        for held, entries, median in sums.groups(left)
    )


@dataclass(frozen=True)
class TimeoutChange:
    """What another value of a timeout would do to the entries there are now."""

    name: str = doc("sysctl")
    before: int | None = doc("its value, seconds")
    after: int = doc("the value asked about, seconds")
    entries: int = doc("held by it")
    gone: int | None = doc("idle so long that they would not be there")
    unknown: int | None = doc("more left than the timeout allows: it was changed since, or they have one of their own")


def change_of(name: str, before: int | None, after: int, left: TimeLeft | None) -> TimeoutChange:
    """What another value of this timeout would do; nothing is known of it unless the entries were read."""
    held = sums.held_by(name, left or {})
    if left is None or before is None:
        return TimeoutChange(name, before, after, len(held), None, None)
    return TimeoutChange(name, before, after, len(held), *sums.gone(held, before, after))


@dataclass(frozen=True)
class Need:
    """How large the table must be."""

    rate_per_s: float | None = doc("new entries, given or measured")
    lifetime_s: float | None = doc("mean lifetime: entries now / rate measured")
    entries: int | None = doc("at a time: rate x lifetime")
    headroom: float = doc("factor between need and size")
    max: int | None = doc("entries x headroom")


def need_of(rate_per_s: float | None, measured_per_s: float | None, count: int | None, headroom: float) -> Need:
    """For this rate, or for the one measured; the lifetime follows from what was measured alone."""
    lifetime = sums.mean_lifetime_s(count, measured_per_s)
    rate = measured_per_s if rate_per_s is None else rate_per_s
    if rate is None or lifetime is None:
        return Need(rate, lifetime, None, headroom, None)
    entries = sums.entries_needed(rate, lifetime)
    return Need(rate, lifetime, entries, headroom, math.ceil(entries * headroom))


@dataclass(frozen=True)
class SysctlRow:
    """One of net.netfilter.nf_conntrack_*."""

    name: str = doc("its full name")
    value: int | None = doc("as it is set")
    default: int | None = doc("the kernel's default; null for names unknown to us")
    unit: str | None = doc("of both")
    writable: bool = doc("it can be set in this namespace")
    meaning: str | None = doc("what it does")


def sysctl_row(state: NamespaceState, name: str, defaults: Defaults | None) -> SysctlRow:
    """What is set, and what is known of it."""
    found = known(name)
    default = found.default if found else None
    if defaults is not None:
        default = {MAX: defaults.max, BUCKETS: defaults.buckets}.get(name, default)
    buckets = state.sysctls.get(BUCKETS)
    if name == EXPECT and buckets:
        default = 4 * max(buckets // 256, 1)  # nf_conntrack_expect_init
    return SysctlRow(
        name=name,
        value=state.sysctls[name],
        default=default,
        unit=found.unit if found else None,
        writable=name in state.writable,
        meaning=found.meaning if found else None,
    )


@dataclass(frozen=True)
class Paste:
    """Lines that make the values asked about, or the need, last."""

    sysctl_d: tuple[str, ...] = doc("for a file in /etc/sysctl.d")
    modprobe_d: tuple[str, ...] = doc("for a file in /etc/modprobe.d")
    buckets_settable_here: bool = doc("false outside the initial namespace")


def paste_of(state: NamespaceState, limit: int | None, buckets: int | None, timeouts: Mapping[str, int], need: Need) -> Paste:
    """What was asked about, or the measured need; where nothing was, there is no line."""
    limit = limit or (need.max and min(need.max, INT_MAX))
    wanted = buckets or (limit and min(max(limit, state.sysctls.get(BUCKETS) or 0), sums.MOST_BUCKETS))
    heads = wanted and sums.whole_buckets(wanted)
    here = BUCKETS in state.writable
    lines = {BUCKETS: heads if here else None, MAX: limit, **timeouts}
    return Paste(
        sysctl_d=tuple(f"net.netfilter.{name} = {value}" for name, value in lines.items() if value is not None),
        modprobe_d=(f"options nf_conntrack hashsize={heads}",) if heads else (),
        buckets_settable_here=here,
    )
