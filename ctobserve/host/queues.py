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

QUEUES = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
SOCKETS = Path("/proc/thread-self/net/netlink")
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
    """netlink_autobind() gives a process's first socket the process id as port id: believed only if that process holds it."""
    try:
        sockets = {f"socket:[{inode}]" for inode in _inodes(read_text(SOCKETS), queue.portid)}
        if not sockets.intersection(_open_files(Path("/proc", str(queue.portid), "fd"))):
            return queue
        comm = printable(Path("/proc", str(queue.portid), "comm").read_bytes().removesuffix(b"\n"))
    except OSError:
        return queue
    return queue._replace(pid=queue.portid, comm=comm)


def _open_files(fds: Path) -> Iterator[str]:
    """What a process has open; some may be closed meanwhile."""
    for name in os.listdir(fds):
        with suppress(FileNotFoundError):
            yield os.readlink(fds / name)


def _inodes(text: str, portid: int) -> list[str]:
    """Of the sockets for netfilter with this port id: second, third and last column of /proc/net/netlink."""
    rows = (line.split() for line in text.splitlines())
    return [row[-1] for row in rows if row[1:3] == [NETLINK_NETFILTER, str(portid)]]
