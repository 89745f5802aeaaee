"""Warm starts of ctobserve: forked from a process that has imported it, which in an emulated machine takes most of a start.

What is asked or watched is the same. Where the start itself is tested it is a real one (CTOBSERVE of tool.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, get_context
from pathlib import Path

from ctobserve.__main__ import start

COMMANDS = "cli report why drops top list events buckets size verify record export check"
# What a start finds imported; what it misses it imports itself.
MODULES = [__name__, "ctobserve.host.surroundings", *(f"ctobserve.commands.{name}" for name in COMMANDS.split())]
FORKED = get_context("forkserver")


def warm_up() -> None:
    """Begin the process whose forks are starts: before there is anything that it should not inherit. It ends with ours."""
    FORKED.set_forkserver_preload(MODULES)
    forkserver.ensure_running()


class Warm:
    """A start whose output goes to these files, with what tests use of subprocess.Popen."""

    def __init__(self, arguments: Sequence[str], out: Path, err: Path) -> None:
        for path in (out, err):
            path.write_bytes(b"")
        self._process = FORKED.Process(target=_go_on, args=(arguments, dict(os.environ), out, err), daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("ctobserve", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def told(*arguments: str) -> str:
    """What ctobserve says on stdout, and ends well."""
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        assert Warm(arguments, out, err).wait() == 0, err.read_text()
        return out.read_text()


def _go_on(arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """In the fork: let go of what a start would not have, and be one."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["ctobserve", *arguments]
    sys.exit(start())
