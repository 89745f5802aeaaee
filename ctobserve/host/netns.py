"""Network namespaces: which exist, what they are called, and how to read a file as seen from inside one."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from ctobserve.errors import CtobserveError, UsageError
from ctobserve.host.inhabitant import Inhabitant, look
from ctobserve.host.owner import SHORT
from ctobserve.host.threads import elsewhere
from ctobserve.model import printable

NAMED = Path("/run/netns")
HERE = Path("/proc/thread-self/ns/net")
CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h
MENTIONED = 20  # namespaces in a message
ASKED = 4  # processes of a namespace, those with the lowest numbers, that say whose it is
ENTER_TRIES = 8  # as often may the process by which a namespace is entered end meanwhile
_NUMBER = re.compile(r"[0-9]{1,10}")
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


class Namespace(NamedTuple):
    """One namespace: its inode number, names given by `ip netns`, a path by which it can be entered, its first processes."""

    inum: int
    path: Path
    names: Sequence[str] = ()
    init: bool = False
    pids: Sequence[int] = ()

    @property
    def pid(self) -> int | None:
        """Its first process."""
        return self.pids[0] if self.pids else None

    @property
    def label(self) -> str:
        """What text calls it."""
        needless = self.names or self.init or self.pid is None
        return called(self, None if needless else look(self.pids[0], self.inum))


def called(space: Namespace, first: Inhabitant | None) -> str:
    """Its name where it has one, `init` for the first, else its `first` process: comm@container or comm[pid]; else the number."""
    if space.names or space.init:
        return printable(space.names[0]) if space.names else "init"
    if first is None:
        return str(space.inum)
    container = first.told and first.told.owner.container
    return f"{first.comm}@{container[:SHORT]}" if container else f"{first.comm}[{first.pid}]"


def discover() -> dict[int, Namespace]:
    """All namespaces that a name or a process holds, by inode number; others cannot be entered by anyone."""
    found: dict[int, Namespace] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        path = f"/proc/{pid}/ns/net"
        try:
            inum = os.stat(path).st_ino
        except OSError:
            continue
        space = found.get(inum)
        if space is None:
            found[inum] = Namespace(inum, Path(path), init=pid == 1, pids=(pid,))
        elif len(space.pids) < ASKED:
            found[inum] = space._replace(pids=(*space.pids, pid))
    kind = os.stat("/proc/self/ns/net").st_dev
    for path in sorted(str(one) for one in NAMED.glob("*")) if NAMED.is_dir() else []:
        named = _network(path, kind)
        if named is not None:
            space = found.get(named) or Namespace(named, Path(path))
            found[named] = space._replace(names=(*space.names, os.path.basename(path)))
    return found


def _network(path: str, kind: int) -> int | None:
    """Inode number of the network namespace mounted here: else a name is a plain file, or another kind of namespace."""
    try:
        status = os.stat(path)
        if status.st_dev != kind:
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return status.st_ino if ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET else None
        finally:
            os.close(fd)
    except OSError:
        return None


class Called(Protocol):
    """A namespace with what it is called."""

    @property
    def inum(self) -> int:
        """Inode number."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Those of `ip netns`."""
        ...

    @property
    def label(self) -> str:
        """What text calls it."""
        ...


def resolve(choice: str) -> int | None:
    """Inode number for a --netns value (name, inode number), None for `all`; raises UsageError where there is no such one."""
    return None if choice == "all" else chosen(choice, discover())


def chosen(choice: str, spaces: Mapping[int, Called]) -> int:
    """The same among these, by inode number."""
    named = [space.inum for space in spaces.values() if choice in space.names]
    # A process can be called anything: what it is called chooses a namespace only where nothing else is called so.
    meant = named or [space.inum for space in spaces.values() if choice == space.label]
    if len(meant) > 1:
        raise UsageError(f"several network namespaces are called {printable(choice)}; give one's inode number: {_listed(meant)}")
    if meant:
        return meant[0]
    if not _NUMBER.fullmatch(choice):
        raise UsageError(f"no network namespace is called {printable(choice)}; {_there_are(spaces)}")
    if int(choice) not in spaces:
        raise UsageError(
            f"no process and no name holds network namespace {choice}, so it cannot be looked into; {_there_are(spaces)}"
        )
    return int(choice)


def _there_are(spaces: Mapping[int, Called]) -> str:
    return f"there are: {_listed(sorted(space.label for space in spaces.values()))} (give a name, an inode number, or all)"


def _listed(items: Sequence[object]) -> str:
    more = f" and {len(items) - MENTIONED} more" if len(items) > MENTIONED else ""
    return ", ".join(map(str, items[:MENTIONED])) + more


def cookie() -> int:
    """Number of this thread's network namespace that no other ever gets, as long as the host is up; 0 before Linux 5.14.

    SO_NETNS_COOKIE: sock_getsockopt() gives net->net_cookie.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as some:
        try:
            return int.from_bytes(some.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0


def run_inside(space: Namespace, function: Callable[[], T]) -> T:
    """Result of `function`, called in a thread that entered the namespace; its exceptions are ours.

    Raises CtobserveError when the namespace cannot be entered, because it is gone or CAP_SYS_ADMIN is missing.
    """

    def inside() -> T:
        _enter(space)
        return function()

    return elsewhere(inside)


def inside_each(
    spaces: Iterable[Namespace], function: Callable[[Namespace], T]
) -> tuple[dict[int, T], dict[int, CtobserveError | OSError]]:
    """What `function` gives in each namespace, by inode number; and why of the others there is nothing: gone, or refused.

    One thread enters them in turn: there may be thousands, and a thread for each costs more than most functions do. Where we
    are already nothing is entered, which would take root.
    """
    given: dict[int, T] = {}
    failed: dict[int, CtobserveError | OSError] = {}

    def inside() -> None:
        here = os.stat(HERE).st_ino
        for space in sorted(spaces, key=lambda space: space.inum != here):
            try:
                if space.inum != here:
                    _enter(space)
                given[space.inum] = function(space)
            except (CtobserveError, OSError) as error:
                failed[space.inum] = error

    elsewhere(inside)
    return given, failed


def _enter(space: Namespace) -> None:
    """setns(2) of this thread. The process that led here may have ended or moved: then by another one that is there now."""
    why: str | None = "it is gone"
    there: Namespace | None = space
    for _ in range(ENTER_TRIES):
        if there is None:
            break
        try:
            fd = os.open(there.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_ino == space.inum:
                    if _libc.setns(fd, CLONE_NEWNET) == 0:
                        return
                    raise _refused(ctypes.get_errno())
            finally:
                os.close(fd)
        except OSError as error:
            why = error.strerror
        there = discover().get(space.inum)
    raise CtobserveError(f"cannot look into network namespace {space.label}: {why}")


def _refused(code: int) -> OSError:
    """setns(2) takes CAP_SYS_ADMIN, here and in the user namespace to which the network namespace belongs (netns_install)."""
    said = os.strerror(code)
    return OSError(code, f"{said} (CAP_SYS_ADMIN is missing)" if code == errno.EPERM else said)
