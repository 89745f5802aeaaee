"""What does it cost to read a table of many entries, for each way of reading it?

Instructions of the reading process, user and system, which are the scheduler's run time under icount. Start-up is left out:
our own ways and pyroute2 are called inside this process, and a listing of an empty namespace is subtracted from conntrack's.
Each of ours is done once to warm up and then REPEATS times, the slow ones of others, which the empty listing warms up, only
REPEATS times. Entries of both namespaces stand in one hash table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from bench.flood import Flood, make_room
from bench.instructions import of_child, wait_quiet
from bench.measured import Measured
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.host.dump import dump
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.world import Net, Space

FEW = 500  # for pyroute2, which takes half a million instructions for each
PROC_MOST = 100_000  # every read() of /proc/net/nf_conntrack begins at the first entry: a million take more than half an hour
CHUNK = 1 << 20


def _several(repeats: int, measure: Callable[[], float], warm_up: bool = True) -> Measured:
    if warm_up:
        measure()
    return Measured.of(measure() for _ in range(repeats))


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


def measure(entries: int, repeats: int) -> tuple[dict[str, Measured | None], tuple[float, float]]:
    """Instructions per entry of each way, None where it would take too long; bytes per entry of our table, kept and at most."""
    make_room(entries)
    found: dict[str, Measured | None] = {}
    with Net() as net:
        few, many, empty = net.space("few"), net.space("many"), net.space("empty")
        Flood(few, FEW).send()
        print("  pyroute2", file=sys.stderr, flush=True)
        found["pyroute2 dump"] = _several(1, lambda: few.inside(lambda: _in_process(_pyroute2))).over(FEW)
        flood = Flood(many, entries)
        flood.send()
        wait_quiet()
        total = many.count() + few.count()
        if many.count() != entries:
            raise RuntimeError(f"{many.count()} entries from {entries} datagrams")
        print("  conntrack -L", file=sys.stderr, flush=True)
        start_up = _several(repeats, lambda: _listing(empty)).value
        found["conntrack -L"] = _several(repeats, lambda: _listing(many) - start_up, False).over(entries)
        print("  /proc/net/nf_conntrack", file=sys.stderr, flush=True)
        few_enough = entries <= PROC_MOST
        of_proc = _several(repeats, lambda: many.inside(lambda: _in_process(_read_proc)), False) if few_enough else None
        found["/proc/net/nf_conntrack"] = of_proc and of_proc.over(entries)
        print("  ctobserve", file=sys.stderr, flush=True)
        found["ctobserve netlink dump"] = _several(repeats, lambda: many.inside(lambda: _in_process(dump))).over(entries)
        with LiveCapture(Options(Purpose(0))) as capture:
            found["ctobserve walk"] = _several(repeats, lambda: _in_process(capture.snapshot)).over(total)
            found["ctobserve table filled"] = _several(1, lambda: _in_process(capture.follow), False).over(total)
            found["ctobserve lengths"] = _several(repeats, lambda: _in_process(capture.lengths)).over(total)
        kept, peak = _memory()
    return found, (kept / total, peak / total)


def _memory() -> tuple[int, int]:
    """What a table keeps after it was filled, and at most while it was."""
    with LiveCapture(Options(Purpose(0))) as capture:
        tracemalloc.start()
        capture.follow()
        capture.step()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return kept, peak
