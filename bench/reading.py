"""What does it cost to read a table of many entries, for each way of reading it?

Instructions of the reading process, user and system, which are the scheduler's run time under icount. Start-up is left out:
our own ways and pyroute2 are called inside this process, and a listing of an empty namespace is subtracted from conntrack's.
Each of ours is done once to warm up and then REPEATS times, the slow ones of others, which the empty listing warms up, only
REPEATS times; the median counts. Entries of both namespaces stand in one hash table.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from bench.flood import Flood
from bench.instructions import of_child, wait_quiet
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.host.dump import dump
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.world import Net, Space

FEW = 500  # for pyroute2, which takes half a million instructions for each
PROC_MOST = 100_000  # every read() of /proc/net/nf_conntrack begins at the first entry: a million take more than half an hour
CHUNK = 1 << 20
SYSCTL = Path("/proc/sys/net/netfilter")


def _median(repeats: int, measure: Callable[[], float], warm_up: bool = True) -> float:
    if warm_up:
        measure()
    return statistics.median(measure() for _ in range(repeats))


def _in_process(work: Callable[[], object]) -> float:
    begun = time.process_time_ns()
    work()
    return float(time.process_time_ns() - begun)


def _listing(space: Space) -> float:
    command = ("ip", "netns", "exec", space.name, "conntrack", "-L")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.returncode = 0  # waited for below
    return float(of_child(process.pid))


def _read_proc() -> None:
    descriptor = os.open("/proc/thread-self/net/nf_conntrack", os.O_RDONLY)
    while os.read(descriptor, CHUNK):
        pass
    os.close(descriptor)


def _pyroute2() -> None:
    with NFCTSocket() as opened:
        for _ in opened.dump():
            pass


def _make_room(entries: int) -> None:
    """As many buckets as entries, as the kernel itself sizes a table that may be full."""
    buckets = 1 << (entries - 1).bit_length()
    SYSCTL.joinpath("nf_conntrack_buckets").write_text(str(buckets))
    SYSCTL.joinpath("nf_conntrack_max").write_text(str(2 * buckets))


def measure(entries: int, repeats: int) -> dict[str, float | None]:
    """Instructions per entry of each way, and bytes per entry of our table; None where there is no such way."""
    _make_room(entries)
    found: dict[str, float | None] = {}
    with Net() as net:
        few, many, empty = net.space("few"), net.space("many"), net.space("empty")
        Flood(few, FEW).send()
        print("  pyroute2", file=sys.stderr, flush=True)
        found["pyroute2 dump"] = _median(1, lambda: few.inside(lambda: _in_process(_pyroute2))) / FEW
        flood = Flood(many, entries)
        flood.send()
        wait_quiet()
        total = many.count() + few.count()
        if many.count() != entries:
            raise RuntimeError(f"{many.count()} entries from {entries} datagrams")
        print("  conntrack -L", file=sys.stderr, flush=True)
        start_up = _median(repeats, lambda: _listing(empty))
        found["conntrack -L"] = (_median(repeats, lambda: _listing(many), False) - start_up) / entries
        print("  /proc/net/nf_conntrack", file=sys.stderr, flush=True)
        of_proc = _median(repeats, lambda: many.inside(lambda: _in_process(_read_proc)), False) if entries <= PROC_MOST else None
        found["/proc/net/nf_conntrack"] = of_proc and of_proc / entries
        print("  ctobserve", file=sys.stderr, flush=True)
        found["ctobserve netlink dump"] = _median(repeats, lambda: many.inside(lambda: _in_process(dump))) / entries
        with LiveCapture(Options(Purpose(0))) as capture:
            found["ctobserve walk"] = _median(repeats, lambda: _in_process(capture.snapshot)) / total
            found["ctobserve table filled"] = _in_process(capture.follow) / total
            found["ctobserve lengths"] = _median(repeats, lambda: _in_process(capture.lengths)) / total
        found["bytes per entry"], found["bytes per entry, peak"] = (value / total for value in _memory())
    return found


def _memory() -> tuple[int, int]:
    """What a table keeps after it was filled, and at most while it was."""
    with LiveCapture(Options(Purpose(0))) as capture:
        tracemalloc.start()
        capture.follow()
        capture.step()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return kept, peak
