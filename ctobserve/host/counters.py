"""The kernel's own conntrack counters, per network namespace and CPU: the truth that our drops are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ctobserve.host import netlink
from ctobserve.host.kernel import read_text
from ctobserve.host.netns import cookie, discover, inside_each

PROC = Path("/proc/thread-self/net/stat/nf_conntrack")
ONLINE = Path("/sys/devices/system/cpu/online")
# Columns of ct_cpu_seq_show that have another name than in `conntrack -S`.
COLUMNS = {"clashres": "clash_resolve", "icmp_error": "error", "chainlength": "chaintoolong"}
NAMES = (
    "found",
    "invalid",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "error",
    "search_restart",
    "clash_resolve",
    "chaintoolong",
    # What helpers expected: came true, made, gone. Netlink does not tell these with the others.
    "expect_new",
    "expect_create",
    "expect_delete",
)
Place = tuple[int, int]  # namespace's inode number, CPU
Moved = dict[Place, Counter[str]]


class Reading(NamedTuple):
    """Counters by namespace's inode number, its cookie, and CPU: the number alone can be another's a moment later.

    All CPUs that are online are there, and those that went offline after they had counted something. Of the others there may be
    thousands, in each of thousands of namespaces.

    `unread`: inode numbers of namespaces that are there and could not be entered. Of an instant of a recording at which nobody
    read them there are none, and `last_ns` (CLOCK_MONOTONIC) is when somebody did, 0 where nobody had.
    """

    counts: dict[tuple[int, int, int], Counter[str]]
    unread: frozenset[int] = frozenset()
    last_ns: int = 0

    @property
    def cookies(self) -> dict[int, int]:
        """By inode number."""
        return {inum: unique for inum, unique, _ in self.counts}


def read(only: int | None = None) -> Reading:
    """Of all namespaces, or `only` of the one with this inode number. Those that vanish meanwhile are left out."""
    asked = (space for inum, space in discover().items() if only in (None, inum))
    online = ranges(read_text(ONLINE))
    found, failed = inside_each(asked, lambda _: _read_here(online))
    counts = {
        (inum, unique, cpu): Counter({name: value for name, value in values.items() if name in NAMES})
        for inum, (unique, cpus) in found.items()
        for cpu, values in cpus.items()
    }
    return Reading(counts, frozenset(failed.keys() & discover().keys()) if failed else frozenset())


def delta(before: Reading, after: Reading) -> Moved:
    """What was added to each counter between two readings.

    A namespace that was not read before is left out: it may be older than the reading, held by an open file alone. But where its
    number was another's then, it is new, and began at 0.
    """
    moved: Moved = {}
    known = before.cookies
    for (inum, unique, cpu), now in after.counts.items():
        then = before.counts.get((inum, unique, cpu))
        if then is None and inum not in known:
            continue
        # Before Linux 5.14 there are no cookies: where a counter fell, it is another namespace's.
        if then is None or any(now[name] < then[name] for name in now):
            then = Counter()
        moved[inum, cpu] = Counter({name: value - then[name] for name, value in now.items()})
    return moved


def total(parts: Iterable[Counter[str]]) -> Counter[str]:
    """Sum, zeros kept."""
    result: Counter[str] = Counter()
    for part in parts:
        result.update(part)
    return result


def _read_here(online: Container[int]) -> tuple[int, Mapping[int, Mapping[str, int]]]:
    """Cookie and counters of this thread's namespace: from /proc, or by netlink where the kernel lacks NF_CONNTRACK_PROCFS."""
    if PROC.exists():
        return cookie(), parse(read_text(PROC), online)
    every = netlink.stats() if netlink.available() else []
    return cookie(), {cpu: counts for cpu, counts in enumerate(every) if cpu in online or any(counts.values())}


def limits_chains() -> bool | None:
    """Whether this kernel refuses to make chains too long (5.15, d7e7747ac5c2): its statistics then have a column for it.

    None where it was built without NF_CONNTRACK_PROCFS.
    """
    try:
        return "chainlength" in read_text(PROC).split("\n", 1)[0]
    except OSError:
        return None


def ranges(text: str) -> frozenset[int]:
    """Numbers of CPUs as the kernel lists them, such as 0-3,8."""
    parts = (part.partition("-") for part in text.strip().split(",") if part)
    return frozenset(cpu for first, _, last in parts for cpu in range(int(first), int(last or first) + 1))


def parse(text: str, online: Container[int]) -> dict[int, dict[str, int]]:
    """Lines of /proc/net/stat/nf_conntrack, one per possible CPU, hexadecimal, as counters by their netlink names.

    Of CPUs that are not `online` only those that counted anything; the first column has the entries of all CPUs.
    """
    head, *lines = text.splitlines()
    names = [COLUMNS.get(name, name) for name in head.split()]
    found: dict[int, dict[str, int]] = {}
    idle: set[str] = set()  # lines without their first column: looked up, a line costs a tenth of what it costs to read it
    for cpu, line in enumerate(lines):
        own, here = line.partition(" ")[2], cpu in online
        if not here and own in idle:
            continue
        counts = dict(zip(names, (int(word, 16) for word in line.split()), strict=False))
        if here or any(list(counts.values())[1:]):
            found[cpu] = counts
        else:
            idle.add(own)
    return found
