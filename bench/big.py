"""What grows with the CPUs that a machine may have, with its network namespaces, with its buckets, and how fast?

A command is run whole, from exec to exit (bench/alone.py). A possible CPU is a slot in every per-CPU map and a line in the
statistics of every namespace, whether or not it is ever there: the guest's kernel is told how many (possible_cpus=), and all but
one stay away. So this part is measured in two guests, namespaces in both, buckets in the first alone.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from bench.flood import SYSCTL
from bench.instructions import Meter, wait_quiet
from bench.measured import Measured
from bench.observers import ROOT, Running, ours
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.host.netns import CLONE_NEWNET, NAMED
from ctobserve.host.threads import elsewhere
from ctobserve.programs.hooks import Purpose
from ctobserve.programs.loader import possible_cpus
from tests.kernel.tool import CTOBSERVE

MANY_CPUS = 512
COMMANDS = {
    "list": ("list", "--limit", "1"),
    "buckets": ("buckets",),
    "drops": ("drops", "--duration", "0.2"),
    "top": ("top", "--plain", "--duration", "0.2"),
    "report": ("report", "--duration", "0.2"),
}
STARTED = (("drops",), ("top", "--plain"))
NAMESPACES = {1: (0, 500, 1000), MANY_CPUS: (0, 100, 200)}
BUCKETS = (262_144, 4_194_304)
MS_BIND = 0x1000
HOSTS = ("10.0.0.1", "10.0.0.2")
_libc = ctypes.CDLL(None, use_errno=True)


class Run(NamedTuple):
    """Of a whole run: instructions of the process, user and system, and the most memory that it had, in bytes."""

    instructions: int
    peak_bytes: int


class Watching(NamedTuple):
    """Of a command that watches: instructions of the whole machine until it does; bytes of its maps but the ring."""

    start: Measured
    maps_bytes: int


class Passes(NamedTuple):
    """Instructions of the reading process per bucket of an empty table; and what commands cost there."""

    lengths: Measured
    walk: Measured
    runs: dict[str, Run]


class Big(NamedTuple):
    """In one guest. `namespaces` are by how many there are beside the first, `buckets` by their number."""

    watching: dict[str, Watching]
    namespaces: dict[int, dict[str, Run]]
    buckets: dict[int, Passes]

    @classmethod
    def of_json(cls, found: list[Any]) -> Big:
        """As bench/guest.py printed it."""
        watching, namespaces, buckets = found
        return cls(
            {name: Watching(Measured(*start), size) for name, (start, size) in watching.items()},
            {int(count): _runs_of(runs) for count, runs in namespaces.items()},
            {
                int(count): Passes(Measured(*one), Measured(*other), _runs_of(runs))
                for count, (one, other, runs) in buckets.items()
            },
        )


def _runs_of(found: dict[str, list[int]]) -> dict[str, Run]:
    return {name: Run(*run) for name, run in found.items()}


def measure(repeats: int) -> Big:
    """All that this guest is for, by its possible CPUs."""
    possible = possible_cpus()
    buckets = {count: _passes(count, repeats) for count in BUCKETS} if possible == 1 else {}
    SYSCTL.joinpath("nf_conntrack_buckets").write_text(str(BUCKETS[0]))
    watching = {f"ctobserve {words[0]}": _watching(words, repeats) for words in STARTED}
    namespaces: dict[int, dict[str, Run]] = {}
    there = 0
    for count in NAMESPACES[possible]:
        for number in range(there, count):
            add_namespace(f"big{number}")
        there = count
        _say(f"{count} namespaces")
        namespaces[count] = _runs()
    return Big(watching, namespaces, buckets)


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def _watching(words: tuple[str, ...], repeats: int) -> Watching:
    """The first start is not counted: it brings files into memory."""
    _say(f"ctobserve {words[0]}")
    starts, maps = [], 0
    with TemporaryDirectory(dir="/dev/shm") as directory:
        for _ in range(repeats + 1):
            wait_quiet()
            meter = Meter()
            with Running(ours(*words), Path(directory)) as running:
                starts.append(meter.read())
                maps = _maps_bytes(running.process.pid)
    return Watching(Measured.of(starts[1:]), maps)


def _maps_bytes(process: int) -> int:
    """As the kernel says of each map itself (bpf_map_show_fdinfo); of the ring it says 0."""
    total = 0
    for path in Path(f"/proc/{process}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            text = path.read_text()
            found = re.search(r"^memlock:\s+(\d+)$", text, re.M) if "map_type:" in text else None
            total += int(found[1]) if found else 0
    return total


def _runs() -> dict[str, Run]:
    return {name: _run(words) for name, words in COMMANDS.items()}


def _run(words: tuple[str, ...]) -> Run:
    """The second of two: of the first, files and settings come into the kernel's caches."""
    command = (sys.executable, str(ROOT / "bench/alone.py"), *CTOBSERVE, *words)
    for _ in range(2):
        wait_quiet()
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise RuntimeError(f"ctobserve {' '.join(words)} failed: {done.stderr}")
    return Run(*map(int, done.stdout.split()))


def _passes(count: int, repeats: int) -> Passes:
    SYSCTL.joinpath("nf_conntrack_buckets").write_text(str(count))
    _say(f"{count:,} buckets")
    with LiveCapture(Options(Purpose(0))) as capture:
        lengths, walk = (_per_bucket(what, count, repeats) for what in (capture.lengths, capture.snapshot))
    return Passes(lengths, walk, _runs())


def _per_bucket(work: Callable[[], object], count: int, repeats: int) -> Measured:
    found = []
    for _ in range(repeats + 1):
        begun = time.process_time_ns()
        work()
        found.append(float(time.process_time_ns() - begun))
    return Measured.of(found[1:]).over(count)


def add_namespace(name: str) -> None:
    """One that `ip netns` knows by this name, with one entry."""

    def inside() -> None:
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        place = NAMED / name
        place.touch()
        if _libc.mount(b"/proc/thread-self/ns/net", str(place).encode(), None, MS_BIND, None):
            raise OSError(ctypes.get_errno(), "mount")
        one, other = (NFCTAttrTuple(saddr=a, daddr=b, proto=17, sport=1, dport=2) for a, b in (HOSTS, HOSTS[::-1]))
        with NFCTSocket() as opened:
            opened.entry("add", timeout=100_000, tuple_orig=one, tuple_reply=other)

    elsewhere(inside)
