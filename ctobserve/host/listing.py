"""The entries of this thread's network namespace as the kernel lists them: what says how long they have left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ctobserve.errors import KernelLacks
from ctobserve.host import dump, netlink
from ctobserve.host.sysctls import STATES
from ctobserve.model import IPS_ASSURED, IPS_OFFLOAD, IPS_SEEN_REPLY

PROC = Path("/proc/thread-self/net/nf_conntrack")
LINE = re.compile(r"^\S+ +\d+ \S+ +(\d+) (?:(\d+) )?(?:([A-Z][A-Z0-9_]*) )?")

Listed = tuple[int, str | None, int, int]  # protocol number, state, IPS_* bits, seconds left


def of_proc() -> Iterator[Listed]:
    """From /proc/net/nf_conntrack, line by line; raises OSError where that cannot be read, now or later.

    The file is opened now and stays this namespace's, whoever reads on (seq_open_net() holds it).
    """
    return _of_lines(PROC.open(encoding="utf-8", errors="surrogateescape"))


def _of_lines(lines: TextIO) -> Iterator[Listed]:
    with lines:
        yield from filter(None, map(parse_line, lines))


def parse_line(line: str) -> Listed | None:
    """What matters here of a line of ct_seq_show; None when it is no such line."""
    found = LINE.match(line)
    if not found:
        return None
    bits = 0 if "[UNREPLIED]" in line else IPS_SEEN_REPLY
    bits |= IPS_ASSURED if "[ASSURED]" in line else 0
    bits |= IPS_OFFLOAD if "OFFLOAD]" in line else 0
    return int(found[1]), found[3], bits, int(found[2] or 0)


def of_netlink() -> Iterator[Listed]:
    """By a dump, made now; raises KernelLacks where a dump would make the kernel load a module."""
    if not netlink.available():
        raise KernelLacks("nf_conntrack_netlink is not loaded; try: modprobe nf_conntrack_netlink")
    return _dumped(dump.dump())


def _dumped(dumped: dump.Dumped) -> Iterator[Listed]:
    columns = (dumped[name].tolist() for name in ("protonum", "state", "status", "left_s"))
    for protonum, state, status, left in zip(*columns, strict=True):
        names = STATES[protonum][1] if protonum in STATES else ()
        yield protonum, names[state] if state < len(names) else None, status, left
