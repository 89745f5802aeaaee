"""Network namespaces: which exist, what they are called, and how to read a file as seen from inside one."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ctobserve.errors import CtobserveError, UsageError

NAMED = Path("/run/netns")
CLONE_NEWNET = 0x40000000
T = TypeVar("T")
_CONTAINER = re.compile(r"[/-]([0-9a-f]{64})(?:\.scope)?(?:/|$)", re.M)


@dataclass
class Namespace:
    """One namespace: its inode number, names given by `ip netns`, a path by which it can be entered, its first process."""

    inum: int
    path: Path
    names: list[str] = field(default_factory=list)
    init: bool = False
    pid: int | None = None

    @property
    def label(self) -> str:
        """Name where it has one, `init` for the first, else who lives in it: comm@container, or comm[pid]; else the number."""
        if self.names or self.init:
            return self.names[0] if self.names else "init"
        return str(self.inum) if self.pid is None else _inhabitant(self.pid) or str(self.inum)


def discover() -> dict[int, Namespace]:
    """All namespaces that a name or a process holds, by inode number; others cannot be entered by anyone."""
    found: dict[int, Namespace] = {}
    for pid in sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        path = Path(f"/proc/{pid}/ns/net")
        try:
            inum = path.stat().st_ino
        except OSError:
            continue
        found.setdefault(inum, Namespace(inum, path, init=pid == 1, pid=pid))
    for path in sorted(NAMED.glob("*")) if NAMED.is_dir() else []:
        try:
            inum = path.stat().st_ino
        except OSError:
            continue
        found.setdefault(inum, Namespace(inum, path)).names.append(path.name)
    return found


def _inhabitant(pid: int) -> str | None:
    try:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        container = container_of(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return None
    return f"{comm}@{container}" if container else f"{comm}[{pid}]"


def container_of(cgroup: str) -> str | None:
    """The first 12 digits of the container id in a /proc/PID/cgroup, as docker, podman, containerd and CRI-O write it."""
    found = _CONTAINER.search(cgroup)
    return found[1][:12] if found else None


def resolve(choice: str) -> int | None:
    """Inode number for a --netns value (name, inode number), None for `all`; raises UsageError with the names there are."""
    if choice == "all":
        return None
    spaces = discover()
    if choice.isdigit():
        return int(choice)
    for space in spaces.values():
        if choice in space.names or choice == space.label:
            return space.inum
    known = ", ".join(sorted(space.label for space in spaces.values())) or "none"
    raise UsageError(f"no network namespace is called {choice!r}; there are: {known} (or give an inode number, or all)")


def run_inside(space: Namespace, function: Callable[[], T]) -> T:
    """Result of `function`, called in a thread that entered the namespace; its exceptions are ours.

    Raises CtobserveError when the namespace cannot be entered, because it is gone or we are not root.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _enter(space)
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _enter(space: Namespace) -> None:
    """setns(2) of this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open(space.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(fd)
    except OSError as error:
        raise CtobserveError(f"cannot look into network namespace {space.label}: {error.strerror}") from error
