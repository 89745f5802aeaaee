"""Where a scenario plays: a world of its own, sysctls put back, nothing left when it ends, however it ends."""

from __future__ import annotations

import contextlib
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ctobserve_lab.world import Net, Space, run

SYSCTLS = Path("/proc/sys/net/netfilter")
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stage:
    """Context manager around one scenario. Namespaces are called by their role, so that lines can be typed from a guide."""

    def __init__(self) -> None:
        self.net = Net(suffixes=False)
        self.said: list[str] = []
        self._sysctls: dict[Path, bytes] = {}
        self._modules: list[str] = []

    def __enter__(self) -> Stage:
        writable = (path for path in sorted(SYSCTLS.iterdir()) if path.stat().st_mode & stat.S_IWUSR)
        self._sysctls = {path: path.read_bytes() for path in writable if path.stat().st_mode & stat.S_IRUSR}
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not stop the undoing.
        with _deaf():
            self.net.__exit__()
            for path, value in self._sysctls.items():
                if path.read_bytes() != value:
                    path.write_bytes(value)
            for module in self._modules:
                run("rmmod", module, check=False)

    def space(self, role: str) -> Space:
        """A new namespace."""
        return self.net.space(role)

    def sysctl(self, name: str, value: int) -> None:
        """Set a net.netfilter sysctl of the initial namespace: a limit of all."""
        (SYSCTLS / name).write_text(str(value))

    def module(self, name: str, shows: Path) -> None:
        """Load a module that changes what happens in all namespaces, unless what it `shows` is there already."""
        if not shows.exists():
            self._modules.append(name)
            run("modprobe", name)

    def say(self, what: str) -> None:
        """What the ones in the world notice: the symptom."""
        self.said.append(what)

    def do(self, line: str, check: bool = True) -> str:
        """Output of a line as an operator types it, errors included; with `check` a failure raises LabError."""
        return run("sh", "-c", f"{line} 2>&1", check=check)


class Ended(BaseException):
    """A signal asks the lab to end; everything is undone on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _raise(number: int, _: FrameType | None) -> None:
    raise Ended(number)


def end_by_exception() -> None:
    """From now on Ctrl-C, SIGTERM and SIGHUP raise Ended."""
    for number in ENDINGS:
        signal.signal(number, _raise)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
