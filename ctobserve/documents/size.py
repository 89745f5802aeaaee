"""How large the table is and could be: its memory, the kernel's defaults, what other values would do, what to paste."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.time_left import TimeLeft, of_listing, of_walk
from ctobserve.capture.capture import Allocation, Capture, HostView, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.documents.base import doc
from ctobserve.documents.meta import Timed, timed_of
from ctobserve.documents.size_parts import (
    BUCKETS,
    COUNT,
    MAX,
    Defaults,
    EntryGroup,
    Full,
    Need,
    Now,
    Paste,
    SysctlRow,
    TimeoutChange,
    change_of,
    defaults_of,
    full_of,
    groups_of,
    need_of,
    now_of,
    paste_of,
    sysctl_row,
)
from ctobserve.errors import CtobserveError, KernelLacks, UsageError
from ctobserve.event import Kind
from ctobserve.programs.hooks import Purpose

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
    host, timeouts = view.host, dict(request.timeouts)
    state = _entered(view, host.here if request.netns is None else request.netns)
    allocation = view.allocation()
    values, slab, defaults = state.sysctls, allocation.slab, defaults_of(allocation.memory_bytes, host.limits_chains)
    notes = _unreadable(allocation, defaults)
    read = _read_entries(view, opens, state.inum, request.via, notes)
    measured = _rate(opens, state.inum, request.duration, notes) if request.duration else None
    count = None if measured is None else _counted(view, state)
    need = need_of(request.rate_per_s, measured, count, request.headroom)
    return SizeDocument(
        meta=timed_of("size", view, started_ns, state.inum),
        now=now_of(values, slab),
        defaults=defaults,
        full=full_of(request.max or values.get(MAX), request.buckets or values.get(BUCKETS), slab),
        entries_from=read.via.value if read.via else None,
        entries_with_extensions=read.with_extensions,
        entries=None if read.left is None else groups_of(values, read.left),
        timeouts=tuple(change_of(name, values.get(name), after, read.left) for name, after in timeouts.items()),
        need=need,
        sysctls=tuple(sysctl_row(state, name, defaults) for name in sorted(values)),
        paste=paste_of(state, request.max, request.buckets, timeouts, need),
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


def _counted(view: HostView, state: NamespaceState) -> int | None:
    """Entries when the rate has been measured: of a table that has just begun to fill more than before."""
    now = view.namespaces(sysctls=(COUNT,), among=(state.inum,)).get(state.inum)
    return state.sysctls.get(COUNT) if now is None else now.sysctls.get(COUNT, state.sysctls.get(COUNT))


def _unreadable(allocation: Allocation, defaults: Defaults | None) -> list[str]:
    notes = []
    if allocation.slab is None:
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
