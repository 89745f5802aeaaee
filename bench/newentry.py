"""What does a new entry cost the machine while somebody watches, over nobody watching?

Per observer one warm-up and REPEATS floods; each is measured from its first datagram until the machine has nothing left to do, so
the observer's own process is in the number, and so is whatever it makes others do. The median counts. Between floods the entries
are deleted, unmeasured. For ctobserve the flood is also sent while its process is stopped: what it costs then is the kernel side.
"""

from __future__ import annotations

import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.flood import Flood
from bench.instructions import Meter, wait_quiet
from bench.observers import Observer, Running, observers
from ctobserve_lab.world import Net, Space


@dataclass(frozen=True)
class Cost:
    """Instructions per new entry beyond those without observer; None where the observer is not installed.

    `kernel` is the part spent while the observer's process stands still, where that was measured. `seen` is the share of
    inserts that the observer itself reported, None where it does not tell.
    """

    name: str
    total: float | None
    kernel: float | None = None
    seen: float | None = None


class Bench:
    """One namespace, one flood, repeated beside each observer."""

    def __init__(self, space: Space, entries: int, repeats: int) -> None:
        self._space = space
        self._flood = Flood(space, entries)
        self._repeats = repeats
        self._directory = TemporaryDirectory(dir="/dev/shm")
        # Everything is compared with this one: one flood that the kernel's own work fell into must not move it.
        self.alone = statistics.median([self._once() for _ in range(2 * repeats + 3)][2:])

    def _once(self, stopped: Running | None = None) -> float:
        wait_quiet()
        if stopped:
            stopped.pause()
        meter = Meter()
        self._flood.send()
        wait_quiet()
        spent = meter.read()
        if stopped:
            stopped.resume()
            wait_quiet()
        if self._space.count() != self._flood.entries:
            raise RuntimeError(f"{self._space.count()} entries from {self._flood.entries} datagrams")
        self._space.run("conntrack", "-F")
        wait_quiet()
        return spent / self._flood.entries

    def _median(self, stopped: Running | None = None) -> float:
        self._once(stopped)
        return statistics.median(self._once(stopped) for _ in range(self._repeats))

    def beside(self, observer: Observer) -> Cost:
        """The cost of this one."""
        if not observer.installed:
            return Cost(observer.name, None)
        print(f"  {observer.name}", file=sys.stderr, flush=True)
        in_process = observer.program == sys.executable and "buckets" in observer.name
        with Running(observer, Path(self._directory.name)) as running:
            total = self._median() - self.alone
            kernel = self._median(running) - self.alone if in_process else None
            said = running.end()
        inserted = (2 if in_process else 1) * (self._repeats + 1) * self._flood.entries
        return Cost(observer.name, total, kernel, _seen(said, inserted, inserted))


def _seen(said: str, inserted: int, deleted: int) -> float | None:
    """The share of what happened that an observer says it has seen; None when it does not say."""
    for words, happened in (
        (r"(\d+) events seen", inserted + deleted),  # ctobserve
        (r"(\d+) flow events", inserted + deleted),  # conntrack -E
        (r"(\d+) records", inserted),  # bccring.py
    ):
        found = re.search(words, said)
        if found:
            return int(found[1]) / happened
    return None


def measure(entries: int, repeats: int, record_bytes: int, ct_bytes: int) -> tuple[float, list[Cost]]:
    """Instructions of a datagram that makes an entry while nobody watches, and every observer's cost on top."""
    with Net() as net:
        space = net.space("flood")
        bench = Bench(space, entries, repeats)
        return bench.alone, [bench.beside(observer) for observer in observers(space, record_bytes, ct_bytes)]
