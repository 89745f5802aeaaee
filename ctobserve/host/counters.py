"""The kernel's own conntrack counters, per network namespace and CPU: the truth that our drops are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ctobserve.errors import CtobserveError
from ctobserve.host import netlink
from ctobserve.host.kernel import read_text
from ctobserve.host.netns import cookie, discover, run_inside

PROC = Path("/proc/thread-self/net/stat/nf_conntrack")
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

    `unread`: inode numbers of namespaces that are there and could not be entered.
    """

    counts: dict[tuple[int, int, int], Counter[str]]
    unread: frozenset[int] = frozenset()

    @property
    def cookies(self) -> dict[int, int]:
        """By inode number."""
        return {inum: unique for inum, unique, _ in self.counts}


def read(only: int | None = None) -> Reading:
    """Of all namespaces, or `only` of the one with this inode number. Those that vanish meanwhile are left out."""
    counts: dict[tuple[int, int, int], Counter[str]] = {}
    failed = set()
    for inum, space in discover().items():
        if only in (None, inum):
            try:
                unique, cpus = run_inside(space, _read_here)
            except (CtobserveError, OSError):
                failed.add(inum)
                continue
            for cpu, values in enumerate(cpus):
                counts[inum, unique, cpu] = Counter({name: value for name, value in values.items() if name in NAMES})
    return Reading(counts, frozenset(failed & discover().keys()) if failed else frozenset())


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


def _read_here() -> tuple[int, list[dict[str, int]]]:
    """Cookie and counters of this thread's namespace: from /proc, or by netlink where the kernel lacks NF_CONNTRACK_PROCFS."""
    if PROC.exists():
        return cookie(), parse(read_text(PROC))
    return cookie(), netlink.stats() if netlink.available() else []


def limits_chains() -> bool | None:
    """Whether this kernel refuses to make chains too long (5.15, d7e7747ac5c2): its statistics then have a column for it.

    None where it was built without NF_CONNTRACK_PROCFS.
    """
    try:
        return "chainlength" in read_text(PROC).split("\n", 1)[0]
    except OSError:
        return None


def parse(text: str) -> list[dict[str, int]]:
    """Lines of /proc/net/stat/nf_conntrack, one per CPU, hexadecimal, as counters by their netlink names."""
    head, *lines = text.splitlines()
    names = [COLUMNS.get(name, name) for name in head.split()]
    return [dict(zip(names, (int(word, 16) for word in line.split()), strict=False)) for line in lines]
