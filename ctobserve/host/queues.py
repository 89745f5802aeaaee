"""Which packets of this namespace wait for a program's verdict (NFQUEUE)? They hold entries that no timeout ends.

/proc/net/netfilter/nfnetlink_queue is there once nfnetlink_queue is loaded; a queue is, as long as its reader's socket is open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ctobserve.host.kernel import read_text
from ctobserve.model import printable

PROC = Path("/proc")
QUEUES = PROC / "thread-self/net/netfilter/nfnetlink_queue"
SOCKETS = PROC / "thread-self/net/netlink"
NETLINK_NETFILTER = "12"  # include/uapi/linux/netlink.h


class Queue(NamedTuple):
    """One queue: its number, its reader's netlink port id, how many packets wait.

    `pid` and `comm` are the reader's process where it can be told, else None and empty.
    """

    number: int
    portid: int
    waiting: int
    pid: int | None = None
    comm: str = ""


def read() -> tuple[Queue, ...]:
    """Of the namespace of the calling thread; none where nfnetlink_queue is not loaded."""
    try:
        queues = parse(read_text(QUEUES))
    except (OSError, ValueError):
        return ()
    return tuple(_with_reader(queue) if queue.waiting else queue for queue in queues)


def parse(text: str) -> tuple[Queue, ...]:
    """Lines of seq_show (net/netfilter/nfnetlink_queue.c): queue number, peer portid, queue total, and more."""
    rows = (tuple(map(int, line.split()[:3])) for line in text.splitlines())
    return tuple(Queue(number, portid, waiting) for number, portid, waiting in rows)


def _with_reader(queue: Queue) -> Queue:
    """With the process that holds the socket of that port id, where one is found."""
    try:
        sockets = {f"socket:[{inode}]" for inode in _inodes(read_text(SOCKETS), queue.portid)}
    except OSError:
        return queue
    for pid in _candidates(queue.portid) if sockets else ():
        with suppress(OSError):
            if sockets.intersection(_open_files(PROC / str(pid) / "fd")):
                return queue._replace(pid=pid, comm=printable((PROC / str(pid) / "comm").read_bytes().removesuffix(b"\n")))
    return queue


def _candidates(portid: int) -> Iterator[int]:
    """netlink_autobind() gives a process's first socket the process id as port id; then all that live in this namespace."""
    yield portid
    here = os.stat(PROC / "thread-self/ns/net").st_ino
    for name in filter(str.isdecimal, os.listdir(PROC)):
        with suppress(OSError):
            if os.stat(PROC / name / "ns/net").st_ino == here:
                yield int(name)


def _open_files(fds: Path) -> Iterator[str]:
    """What a process has open; some may be closed meanwhile."""
    for name in os.listdir(fds):
        with suppress(FileNotFoundError):
            yield os.readlink(fds / name)


def _inodes(text: str, portid: int) -> list[str]:
    """Of the sockets for netfilter with this port id: second, third and last column of /proc/net/netlink."""
    rows = (line.split() for line in text.splitlines())
    return [row[-1] for row in rows if row[1:3] == [NETLINK_NETFILTER, str(portid)]]
