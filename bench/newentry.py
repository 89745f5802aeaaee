"""What does a new entry cost the machine while somebody watches, over nobody watching?

Per observer and size of flood: a cold flood, the first after it began to watch, then REPEATS warm ones. Each is measured from its
first datagram until the machine has nothing left to do, so the observer's own process is in the number, and so is whatever it
makes others do. What its process did, its clock says; the rest is the kernel's part: programs, copies, wake-ups. Between floods
the entries are deleted, unmeasured. Other people's observers watch the smallest flood alone: larger ones would take them an hour.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.flood import Flood, make_room
from bench.instructions import Meter, of_process, wait_quiet
from bench.measured import Measured
from bench.observers import Observer, Running, own, peers
from ctobserve_lab.world import Net, Space


@dataclass(frozen=True)
class Cost:
    """Instructions per new entry beyond those without observer; None where the observer is not installed.

    `warm` is the sum of `kernel` and `process`, flood by flood; `cold` is the sum in the first flood. `seen` is the share of
    inserts and destroys that the observer itself reported, None where it does not tell; `event_bytes` is what each of them took
    in its file, None where it keeps none.
    """

    name: str
    warm: Measured | None = None
    kernel: Measured | None = None
    process: Measured | None = None
    cold: float | None = None
    seen: float | None = None
    event_bytes: float | None = None


@dataclass(frozen=True)
class NewEntries:
    """Floods of one size: what a new entry costs in all while nobody watches, and every observer on top."""

    entries: int
    alone: Measured
    costs: list[Cost]


class Spent(NamedTuple):
    """Instructions of one flood per entry: of the whole machine, and of the observer's process."""

    total: float
    process: float


class Bench:
    """One namespace, one flood, repeated beside each observer."""

    def __init__(self, space: Space, entries: int, repeats: int) -> None:
        self._space = space
        self._flood = Flood(space, entries)
        self._repeats = repeats
        self._directory = TemporaryDirectory(dir="/dev/shm")
        # The first floods fill the kernel's caches for all that come after them.
        self.alone = Measured.of([self._once().total for _ in range(2 + repeats)][2:])

    def _once(self, running: Running | None = None) -> Spent:
        wait_quiet()
        process = of_process(running.process.pid) if running else 0
        meter = Meter()
        self._flood.send()
        wait_quiet()
        total = meter.read()
        process = of_process(running.process.pid) - process if running else 0
        if self._space.count() != self._flood.entries:
            raise RuntimeError(f"{self._space.count()} entries from {self._flood.entries} datagrams")
        self._space.run("conntrack", "-F")
        wait_quiet()
        return Spent(total / self._flood.entries, process / self._flood.entries)

    def beside(self, observer: Observer) -> Cost:
        """The cost of this one."""
        if not observer.installed:
            return Cost(observer.name)
        print(f"  {observer.name}, {self._flood.entries:,} entries", file=sys.stderr, flush=True)
        with Running(observer, Path(self._directory.name)) as running:
            cold, *warm = [self._once(running) for _ in range(1 + self._repeats)]
            said = running.end()
        return Cost(
            observer.name,
            Measured.of(flood.total - self.alone.value for flood in warm),
            Measured.of(flood.total - flood.process - self.alone.value for flood in warm),
            Measured.of(flood.process for flood in warm),
            cold.total - self.alone.value,
            _seen(said, (1 + self._repeats) * self._flood.entries),
            _event_bytes(said),
        )


def _seen(said: str, entries: int) -> float | None:
    """The share of what happened that an observer says it has seen; None when it does not say."""
    for words, happened in (
        (r"(\d+) events seen", 2 * entries),  # ctobserve
        (r"(\d+) flow events", 2 * entries),  # conntrack -E
        (r"(\d+) records", entries),  # bccring.py
    ):
        found = re.search(words, said)
        if found:
            return int(found[1]) / happened
    return None


def _event_bytes(said: str) -> float | None:
    """Bytes of a recording for each event in it; None when this is none."""
    found = re.search(r": (\d+) events.*; (\d+) bytes compressed", said)
    return int(found[2]) / int(found[1]) if found else None


def measure(sizes: list[int], repeats: int, record_bytes: int, ct_bytes: int) -> list[NewEntries]:
    """Floods of each size, the smallest first."""
    found: list[NewEntries] = []
    for entries in sorted(sizes):
        make_room(entries)
        with Net() as net:
            space = net.space("flood")
            bench = Bench(space, entries, repeats)
            observers = own() if found else [*peers(space, record_bytes, ct_bytes), *own()]
            found.append(NewEntries(entries, bench.alone, [bench.beside(observer) for observer in observers]))
    return found
