"""ctobserve size: memory and sysctl arithmetic for this host, and what-if."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from ctobserve import __version__
from ctobserve.analysis import size as sums
from ctobserve.analysis.lifetimes import Lifetimes, of_listing, of_walk
from ctobserve.analysis.size_report import Known, Wish, report
from ctobserve.capture.filters import Filter
from ctobserve.capture.observer import Observer, Options
from ctobserve.capture.records import Kind
from ctobserve.commands.help import ENTRIES, OBSERVE, OUTPUT, WHAT_IF, Command, Example, option
from ctobserve.commands.session import out
from ctobserve.commands.values import Value, number, real, whole
from ctobserve.errors import CtobserveError, KernelLacks, UsageError
from ctobserve.host import counters, kernel, listing, netns, slab, sysctls
from ctobserve.host.sysctls import INT_MAX
from ctobserve.programs.hooks import Purpose
from ctobserve.render.jsonout import document
from ctobserve.render.size import size_lines

SELF = Path("/proc/thread-self/ns/net")
HEADROOM = 2.0


@dataclass
class Place:
    """The namespace asked about: its inode number, and how to call a function inside it."""

    inum: int
    inside: Callable[[Callable[[], Any]], Any]


def _timeout(text: str) -> tuple[str, int]:
    """Full name and seconds; raises ValueError."""
    short, _, seconds = text.partition("=")
    name = sysctls.PREFIX + short.removeprefix("net.netfilter.").removeprefix(sysctls.PREFIX)
    found = sysctls.known(name)
    if found is None or found.unit != "s":
        raise ValueError("names no timeout; write it like udp_timeout=10; `ctobserve size` lists them")
    try:
        return name, number(seconds, 0, INT_MAX)
    except ValueError:
        raise ValueError(f"has no seconds from 0 to {INT_MAX}; write it like udp_timeout=10") from None


def _one_netns(text: str) -> int:
    """Inode number; raises UsageError."""
    inum = netns.resolve(text)
    if inum is None:
        raise UsageError("--netns all: a count and a maximum are of one network namespace; name it, or leave --netns out")
    return inum


@click.command(
    cls=Command,
    examples=(
        Example("how many entries a shorter timeout would free", "ctobserve size --timeout tcp_timeout_time_wait=30"),
        Example("what a million entries would take", "ctobserve size --max 1048576 --buckets 1048576"),
    ),
)
@option(WHAT_IF, "--max", "limit", type=whole(1), metavar="N", help="What if nf_conntrack_max were N.")
@option(WHAT_IF, "--buckets", type=whole(1, sums.MOST_BUCKETS), metavar="N", help="What if nf_conntrack_buckets were N.")
@option(
    WHAT_IF, "--timeout", "timeouts", type=Value(_timeout), multiple=True, metavar="NAME=SECONDS",
    help="What if this timeout were so. Repeatable.",
)  # fmt: skip
@option(WHAT_IF, "--rate", type=real(0), metavar="N", help="Size for N new entries per second, not for the rate now.")
@option(WHAT_IF, "--headroom", type=real(1), default=HEADROOM, metavar="FACTOR", help="Factor between need and size. Default: 2.")
@option(
    ENTRIES, "--netns", "inum", type=Value(_one_netns), metavar="NAME|INUM",
    help="Of this network namespace. Default: the one we are in.",
)  # fmt: skip
@option(OBSERVE, "--duration", type=real(0), metavar="SECONDS", help="Measure the rate of new entries that long (by BPF).")
@option(
    OBSERVE, "--source", "source", type=click.Choice(["auto", "walk", "proc", "netlink", "none"]), metavar="WAY",
    help="How to read the entries for --timeout: walk (by BPF), proc, netlink, none, or auto: the first that works. "
    "Default: auto with --timeout, else none.",
)  # fmt: skip
@option(OUTPUT, "--json", "as_json", is_flag=True, help="As JSON (docs/json.md).")
def size(
    as_json: bool,
    limit: int | None,
    buckets: int | None,
    timeouts: tuple[tuple[str, int], ...],
    rate: float | None,
    headroom: float,
    duration: float | None,
    inum: int | None,
    source: str | None,
) -> None:
    """Memory of a full table, the kernel's defaults, what other values would do, and the lines to paste. Writes nothing.

    Needs neither root nor BPF; what could not be read is null, or `-`, and a note says why.
    """
    started = time.time()
    wish = Wish(limit, buckets, dict(timeouts), rate, headroom)
    how = source or ("auto" if timeouts else "none")
    place = _place(inum)
    known = _read(place)
    if how != "none":
        _read_table(known, place, how)
    if duration:
        _measure(known, place, duration)
    meta = {
        "command": "size",
        "version": __version__,
        "kernel": kernel.release(),
        "started": _iso(started),
        "ended": _iso(time.time()),
        "duration_s": round(time.time() - started, 3),
        "netns": place.inum,
    }
    document_ = {"meta": meta} | report(known, wish)
    if as_json:
        out([document(document_)])
    else:
        out(size_lines(document_))


def _place(inum: int | None) -> Place:
    here = os.stat(SELF).st_ino
    if inum is None or inum == here:
        return Place(here, lambda function: function())
    space = netns.discover().get(inum)
    if space is None:
        raise UsageError(f"no process and no name holds network namespace {inum}, so it cannot be looked into")
    return Place(inum, lambda function: netns.run_inside(space, function))


def _read(place: Place) -> Known:
    values = place.inside(kernel.sysctls)
    if not values:
        raise KernelLacks("nf_conntrack is not loaded, so there is no table to size; try: modprobe nf_conntrack")
    memory, limits = kernel.memory_bytes(), place.inside(counters.limits_chains)
    found = None if memory is None or limits is None else sums.defaults(memory, limits)
    known = Known(values, slab.read(), found, memory)
    if known.slab is None:
        known.notes.append("size of an entry: /sys/kernel/slab, /proc/slabinfo and BTF are all unreadable; run as root")
    if found is None:
        known.notes.append(
            "the kernel's defaults: which rule it follows /proc/net/stat/nf_conntrack would tell, which is not here"
        )
    return known


def _read_table(known: Known, place: Place, how: str) -> None:
    """By the first way that works; each that does not is a note."""
    ways: dict[str, Callable[[], Lifetimes]] = {
        "walk": lambda: _walk(known, place.inum),
        "proc": lambda: of_listing(place.inside(listing.of_proc)),
        "netlink": lambda: of_listing(place.inside(listing.of_netlink)),
    }
    for way in ways if how == "auto" else (how,):
        try:
            known.table, known.table_source = ways[way](), way
            return
        except (CtobserveError, OSError) as error:
            known.notes.append(f"entries by {way}: {error}")


def _walk(known: Known, inum: int) -> Lifetimes:
    with Observer(Options(Purpose(0))) as observer:
        walk, _ = observer.walk(details=True)
        of = Filter(netns=inum).mask(walk.entries)
        known.extensions = int(np.count_nonzero(walk.details["has_ext"][of]))
        return of_walk(walk.entries[of], walk.details[of], observer.clock())


def _measure(known: Known, place: Place, duration: float) -> None:
    """New entries per second, from insert events: none of the kernel's counters counts the entries that packets make."""
    try:
        with Observer(Options(Purpose.TABLE)) as observer:
            observer.poll()
            begin, count = time.monotonic(), 0
            for records in observer.watch(lambda: time.monotonic() - begin >= duration):
                count += int(np.count_nonzero((records["kind"] == Kind.INSERT) & (records["netns"] == place.inum)))
            lost = observer.lost().get(Kind.INSERT, 0)
            if lost:
                known.notes.append(f"rate: {lost} inserts of all namespaces were lost, so it is higher")
            known.rate_per_s = count / (time.monotonic() - begin)
    except (CtobserveError, OSError) as error:
        known.notes.append(f"rate of new entries: {error}")


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"
