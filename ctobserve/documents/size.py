"""How large the table is and could be: its memory, the kernel's defaults, what other values would do, what to paste."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from ctobserve import __version__
from ctobserve.analysis import size as sums
from ctobserve.analysis.time_left import TimeLeft, of_listing, of_walk
from ctobserve.capture.capture import Capture, Host, HostView, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S, iso
from ctobserve.documents.base import doc
from ctobserve.documents.meta import SCHEMA, Timed
from ctobserve.errors import CtobserveError, KernelLacks, UsageError
from ctobserve.event import Kind
from ctobserve.host.slab import Slab
from ctobserve.host.sysctls import INT_MAX, PREFIX, known
from ctobserve.programs.hooks import Purpose

MAX, BUCKETS, COUNT, EXPECT = (PREFIX + name for name in ("max", "buckets", "count", "expect_max"))
HEADROOM = 2.0
Opens = Callable[[Purpose], AbstractContextManager[Capture]]


@dataclass(frozen=True)
class SizeRequest:
    """What to reckon for and with; None stands for what is there now.

    `netns` is an inode number; `timeouts` are full names and seconds, the last of a name counts; the entries are read `via` the
    first of these that works; `duration` in seconds measures the rate.
    """

    netns: int | None = None
    max: int | None = None
    buckets: int | None = None
    timeouts: tuple[tuple[str, int], ...] = ()
    rate_per_s: float | None = None
    headroom: float = HEADROOM
    via: tuple[ReadVia, ...] = ()
    duration: float | None = None


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


@dataclass(frozen=True)
class Defaults:
    """What the kernel chooses on this machine when nothing is given."""

    buckets: int = doc("size of the hash")
    max: int = doc("most entries")
    factor: int = doc("max / buckets")
    memory_bytes: int = doc("memory of this machine, from which they follow")


@dataclass(frozen=True)
class TableMemory:
    """What a full table takes."""

    object_bytes: float = doc("bytes of one entry, with its share of what a slab wastes")
    head_bytes: int = doc("bytes of one bucket")
    entries_bytes: int = doc("all entries")
    heads_bytes: int = doc("all buckets")
    extensions_bytes: int | None = doc("more, if every entry has extensions; null in the textbook")
    total_bytes: int = doc("entries and heads")


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


@dataclass(frozen=True)
class EntryGroup:
    """Entries of one protocol and state."""

    proto: str = doc("protocol")
    state: str | None = doc("state of its tracker; `OFFLOAD` where a flow table keeps them alive")
    timeout: str | None = doc("sysctl that holds them; null where none does")
    timeout_s: int | None = doc("its value")
    entries: int = doc("so many")
    median_left_s: float = doc("seconds until they expire, the median")


@dataclass(frozen=True)
class TimeoutChange:
    """What another value of a timeout would do to the entries there are now."""

    name: str = doc("sysctl")
    before: int | None = doc("its value, seconds")
    after: int = doc("the value asked about, seconds")
    entries: int = doc("held by it")
    gone: int | None = doc("idle so long that they would not be there")
    unknown: int | None = doc("more left than the timeout allows: it was changed since, or they have one of their own")


@dataclass(frozen=True)
class Need:
    """How large the table must be."""

    rate_per_s: float | None = doc("new entries, given or measured")
    lifetime_s: float | None = doc("mean lifetime: entries now / rate measured")
    entries: int | None = doc("at a time: rate x lifetime")
    headroom: float = doc("factor between need and size")
    max: int | None = doc("entries x headroom")


@dataclass(frozen=True)
class SysctlRow:
    """One of net.netfilter.nf_conntrack_*."""

    name: str = doc("its full name")
    value: int | None = doc("as it is set")
    default: int | None = doc("the kernel's default; null for names unknown to us")
    unit: str | None = doc("of both")
    writable: bool = doc("it can be set in this namespace")
    meaning: str | None = doc("what it does")


@dataclass(frozen=True)
class Paste:
    """Lines that make the values asked about, or the need, last."""

    sysctl_d: tuple[str, ...] = doc("for a file in /etc/sysctl.d")
    modprobe_d: tuple[str, ...] = doc("for a file in /etc/modprobe.d")
    buckets_settable_here: bool = doc("false outside the initial namespace")


@dataclass(frozen=True)
class SizeDocument:
    """The table of one network namespace, and of the hash that all share; null is what is not known."""

    meta: Timed = doc("who says it; `netns` is the namespace reckoned for")
    now: Now = doc("the table as it is")
    defaults: Defaults | None = doc("what the kernel would choose")
    full: Full = doc("memory of a full table")
    entries_from: str | None = doc("walk, proc, netlink: how the entries were read; null unless they were")
    entries_with_extensions: int | None = doc("entries that have any; only after a walk")
    entries: tuple[EntryGroup, ...] | None = doc("by protocol and state, the most numerous first; null unless they were read")
    timeouts: tuple[TimeoutChange, ...] = doc("one per `--timeout`")
    need: Need = doc("rate x lifetime")
    sysctls: tuple[SysctlRow, ...] = doc("all that this kernel has")
    paste: Paste = doc("lines to paste")
    notes: tuple[str, ...] = doc("why something is null")


@dataclass(frozen=True)
class _Read:
    """How long the entries have left, how they were read, and how many have extensions; None where that could not be seen."""

    left: TimeLeft | None = None
    via: ReadVia | None = None
    with_extensions: int | None = None


def collect(view: HostView, opens: Opens, request: SizeRequest) -> SizeDocument:
    """Of one namespace. `opens` makes the capture that a walk and the rate need; what fails there is a note.

    Raises UsageError where there is no such namespace, KernelLacks without conntrack, CtobserveError where the namespace may not
    be entered.
    """
    started_ns = view.wall_ns()
    host = view.host
    state = _entered(view, host.here if request.netns is None else request.netns)
    defaults = _defaults(host)
    notes = list(_unreadable(host, defaults))
    read = _read_entries(view, opens, state.inum, request.via, notes)
    measured = _rate(opens, state.inum, request.duration, notes) if request.duration else None
    need = need_of(request.rate_per_s, measured, state.sysctls.get(COUNT), request.headroom)
    ended_ns = view.wall_ns()
    return SizeDocument(
        meta=Timed(
            command="size",
            version=__version__,
            schema=SCHEMA,
            kernel=host.release,
            started=iso(started_ns),
            ended=iso(ended_ns),
            duration_s=round((ended_ns - started_ns) / NS_PER_S, 3),
            netns=state.inum,
        ),
        now=_now(state, host.slab),
        defaults=defaults,
        full=_full(request.max or state.sysctls.get(MAX), request.buckets or state.sysctls.get(BUCKETS), host.slab),
        entries_from=read.via.value if read.via else None,
        entries_with_extensions=read.with_extensions,
        entries=None if read.left is None else _groups(state, read.left),
        timeouts=tuple(change(name, state.sysctls.get(name), after, read.left) for name, after in dict(request.timeouts).items()),
        need=need,
        sysctls=tuple(_sysctl(state, name, defaults) for name in sorted(state.sysctls)),
        paste=_paste(state, request, need),
        notes=tuple(notes),
    )


def _entered(view: HostView, inum: int) -> NamespaceState:
    state = view.namespaces(sysctls=None, among=(inum,)).get(inum)
    if state is None:
        raise UsageError(f"no process and no name holds network namespace {inum}, so it cannot be looked into")
    if state.not_entered:
        raise CtobserveError(state.not_entered)
    if not state.sysctls:
        raise KernelLacks("nf_conntrack is not loaded, so there is no table to size; try: modprobe nf_conntrack")
    return state


def _unreadable(host: Host, defaults: Defaults | None) -> list[str]:
    notes = []
    if host.slab is None:
        notes.append("size of an entry: /sys/kernel/slab, /proc/slabinfo and BTF are all unreadable; run as root")
    if defaults is None:
        notes.append("the kernel's defaults: which rule it follows /proc/net/stat/nf_conntrack would tell, which is not here")
    return notes


def _read_entries(view: HostView, opens: Opens, inum: int, ways: tuple[ReadVia, ...], notes: list[str]) -> _Read:
    """By the first way that works; each that does not is a note."""
    for via in ways:
        try:
            return _walk(opens, inum) if via is ReadVia.WALK else _Read(of_listing(view.listing(inum, via)), via)
        except (CtobserveError, OSError) as error:
            notes.append(f"entries by {via.value}: {error}")
    return _Read()


def _walk(opens: Opens, inum: int) -> _Read:
    with opens(Purpose(0)) as capture:
        snapshot = capture.snapshot(extensions=True)
        of = Filter(netns=inum).mask(snapshot.entries)
        extensions = snapshot.extensions[of]
        left = of_walk(snapshot.entries[of], extensions, capture.clock())
        return _Read(left, ReadVia.WALK, int(np.count_nonzero(extensions["has_ext"])))


def _rate(opens: Opens, inum: int, duration: float, notes: list[str]) -> float | None:
    """New entries per second, from insert events: none of the kernel's counters counts the entries that packets make."""
    try:
        with opens(Purpose.TABLE) as capture:
            capture.step()
            begin_ns, count = capture.now_ns(), 0
            for events in watch(capture, Stretch(duration)):
                count += int(np.count_nonzero((events["kind"] == Kind.INSERT) & (events["entry"]["netns"] == inum)))
            lost = capture.fidelity().lost.get(Kind.INSERT.name.lower(), 0)
            if lost:
                notes.append(f"rate: {lost} inserts of all namespaces were lost, so it is higher")
            return count * NS_PER_S / (capture.now_ns() - begin_ns)
    except (CtobserveError, OSError) as error:
        notes.append(f"rate of new entries: {error}")
        return None


def _now(state: NamespaceState, slab: Slab | None) -> Now:
    count, limit, buckets = (state.sysctls.get(name) for name in (COUNT, MAX, BUCKETS))
    return Now(
        count=count,
        max=limit,
        buckets=buckets,
        fill=count / limit if limit and count is not None else None,
        objects_all_netns=slab.objects if slab else None,
        slab_bytes=slab.slabs * slab.slab_bytes if slab and slab.slabs is not None else None,
        hash_bytes=None if buckets is None else sums.hash_bytes(buckets),
    )


def _defaults(host: Host) -> Defaults | None:
    if host.memory_bytes is None or host.limits_chains is None:
        return None
    buckets, limit = sums.default_sizes(host.memory_bytes, host.limits_chains)
    return Defaults(buckets, limit, limit // buckets, host.memory_bytes)


def _full(limit: int | None, buckets: int | None, slab: Slab | None) -> Full:
    return Full(
        max=limit,
        buckets=buckets,
        mean_chain=2 * limit / sums.whole_buckets(buckets) if limit and buckets else None,
        textbook=textbook(limit, buckets) if limit and buckets else None,
        real=real(limit, buckets, slab) if limit and buckets and slab else None,
        real_from=slab.source if slab else None,
        why=_why(slab),
    )


def textbook(limit: int, buckets: int) -> TableMemory:
    """The formula of books: `limit` x 376 + `buckets` x 16."""
    entries, heads = limit * sums.TEXTBOOK_OBJECT, buckets * sums.TEXTBOOK_HEAD
    return TableMemory(sums.TEXTBOOK_OBJECT, sums.TEXTBOOK_HEAD, entries, heads, None, entries + heads)


def real(limit: int, buckets: int, slab: Slab) -> TableMemory:
    """What this kernel takes: whole slabs, heads in whole pages, extensions beside them."""
    entries, heads = sums.slabs_bytes(limit, slab), sums.hash_bytes(buckets)
    each = slab.slab_bytes / slab.objects_per_slab
    return TableMemory(each, sums.HEAD, entries, heads, limit * sums.EXTENSIONS, entries + heads)


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


def _groups(state: NamespaceState, left: TimeLeft) -> tuple[EntryGroup, ...]:
    return tuple(
        EntryGroup(
            held.proto, held.state, held.timeout, state.sysctls.get(held.timeout) if held.timeout else None, entries, median
        )
        for held, entries, median in sums.groups(left)
    )


def change(name: str, before: int | None, after: int, left: TimeLeft | None) -> TimeoutChange:
    """What another value of this timeout would do; nothing is known of it unless the entries were read."""
    held = sums.held_by(name, left or {})
    if left is None or before is None:
        return TimeoutChange(name, before, after, len(held), None, None)
    return TimeoutChange(name, before, after, len(held), *sums.gone(held, before, after))


def need_of(rate_per_s: float | None, measured_per_s: float | None, count: int | None, headroom: float) -> Need:
    """For this rate, or for the one measured; the lifetime follows from what was measured alone."""
    lifetime = sums.mean_lifetime_s(count, measured_per_s)
    rate = measured_per_s if rate_per_s is None else rate_per_s
    if rate is None or lifetime is None:
        return Need(rate, lifetime, None, headroom, None)
    entries = sums.entries_needed(rate, lifetime)
    return Need(rate, lifetime, entries, headroom, math.ceil(entries * headroom))


def _sysctl(state: NamespaceState, name: str, defaults: Defaults | None) -> SysctlRow:
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


def _paste(state: NamespaceState, request: SizeRequest, need: Need) -> Paste:
    """What was asked about, or the measured need; where nothing was, there is no line."""
    limit = request.max or (need.max and min(need.max, INT_MAX))
    wanted = request.buckets or (limit and min(max(limit, state.sysctls.get(BUCKETS) or 0), sums.MOST_BUCKETS))
    heads = wanted and sums.whole_buckets(wanted)
    here = BUCKETS in state.writable
    lines = {BUCKETS: heads if here else None, MAX: limit} | dict(request.timeouts)
    return Paste(
        sysctl_d=tuple(f"net.netfilter.{name} = {value}" for name, value in lines.items() if value is not None),
        modprobe_d=(f"options nf_conntrack hashsize={heads}",) if heads else (),
        buckets_settable_here=here,
    )
