"""One process that lives in a network namespace: what it is called, whose it is, and what its pod calls itself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ctobserve.host.kernel import read_text
from ctobserve.host.owner import Told, of_cgroups
from ctobserve.host.threads import elsewhere
from ctobserve.model import printable

CLONE_NEWUTS = 0x04000000
FIRST = "/proc/1/ns/uts"
UNSET = "(none)"  # what the kernel calls a host that nobody has named (UTS_NODENAME)
_libc = ctypes.CDLL(None, use_errno=True)


class Inhabitant(NamedTuple):
    """`told` is None where its control groups say of nobody."""

    pid: int
    comm: str
    told: Told | None


def look(pid: int, inum: int) -> Inhabitant | None:
    """This process; None where it is gone, or not in that network namespace any more: its number may be another's by now."""
    try:
        comm = printable(Path(f"/proc/{pid}/comm").read_bytes().removesuffix(b"\n"))
        cgroups = read_text(Path(f"/proc/{pid}/cgroup"))
        return Inhabitant(pid, comm, of_cgroups(cgroups)) if _is_in(pid, inum) else None
    except OSError:
        return None


def _is_in(pid: int, inum: int) -> bool:
    return os.stat(f"/proc/{pid}/ns/net").st_ino == inum


def hostnames(of: Iterable[tuple[int, int]]) -> dict[int, str]:
    """By pid, the hostnames of such processes (pid, inode number of its network namespace) as have a UTS namespace of their own.

    The kernel has it, in 64 bytes, and one thread enters them in turn. /etc/hostname of a container would be a file of its
    owner's: a FIFO, a link, on a file system that answers when he likes. Entering takes CAP_SYS_ADMIN: without, there are none.
    """

    def ask() -> dict[int, str]:
        first, found = os.stat(FIRST).st_ino, dict[int, str]()
        for pid, inum in of:
            try:
                name = _hostname(pid, inum, first)
            except OSError:
                continue
            if name and name != UNSET:
                found[pid] = printable(name)
        return found

    try:
        return elsewhere(ask)
    except OSError:
        return {}  # who may not look at the first process cannot tell whose hostname is the host's


def _hostname(pid: int, inum: int, first: int) -> str | None:
    """None where it has the host's. Raises OSError."""
    fd = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_ino == first or not _is_in(pid, inum):
            return None
        if _libc.setns(fd, CLONE_NEWUTS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return os.uname().nodename
    finally:
        os.close(fd)
