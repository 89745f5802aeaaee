"""The kernel's own conntrack counters, per network namespace: the truth that our drops are compared with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ctobserve import kernel, netlink
from ctobserve.errors import CtobserveError
from ctobserve.netns import Namespace, discover, run_inside

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
)


def read(only: int | None = None) -> dict[int, Counter[str]]:
    """Counters summed over CPUs, by namespace inode number; `only` that one. Namespaces that vanish meanwhile are left out."""
    found = {}
    for inum, space in discover().items():
        if only in (None, inum):
            try:
                found[inum] = run_inside(space, _read_here)
            except CtobserveError:
                continue
    return found


def entry_counts(spaces: list[Namespace]) -> dict[int, int]:
    """nf_conntrack_count of each namespace, by inode number."""
    counts = {}
    for space in spaces:
        value = run_inside(space, lambda: kernel.sysctl("nf_conntrack_count"))
        if value is not None:
            counts[space.inum] = value
    return counts


def delta(before: dict[int, Counter[str]], after: dict[int, Counter[str]]) -> Counter[str]:
    """What was added to each counter between two readings, over all namespaces; a new namespace began at 0."""
    total: Counter[str] = Counter()
    for inum, now in after.items():
        total.update({name: value - before.get(inum, Counter())[name] for name, value in now.items()})
    return total


def _read_here() -> Counter[str]:
    """Of the namespace of this thread: from /proc, or by netlink where the kernel was built without NF_CONNTRACK_PROCFS."""
    total: Counter[str] = Counter()
    for cpu in parse(PROC.read_text()) if PROC.exists() else netlink.stats() if netlink.available() else []:
        total.update({name: value for name, value in cpu.items() if name in NAMES})
    return total


def parse(text: str) -> list[dict[str, int]]:
    """Lines of /proc/net/stat/nf_conntrack, one per CPU, hexadecimal, as counters by their netlink names."""
    head, *lines = text.splitlines()
    names = [COLUMNS.get(name, name) for name in head.split()]
    return [dict(zip(names, (int(word, 16) for word in line.split()), strict=False)) for line in lines]
