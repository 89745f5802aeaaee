"""Who may be watching while new entries are made: each is started, waited for until it watches, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ctobserve_lab.world import Space
from tests.kernel.tool import CTOBSERVE

READY_S = 100_000  # of the guest's clock, which runs ahead while it waits for the host
ROOT = Path(__file__).resolve().parents[1]
LISTENER_BYTES = 512 << 20  # an event takes a page or two of it, and a flush brings all at once
ONE_LINER = 'BEGIN { printf("ready\\n"); } kprobe:__nf_conntrack_confirm { @ = count(); }'


@dataclass(frozen=True)
class Observer:
    """A program that watches; `ready` is asked until it says yes. `program` names what must be installed."""

    name: str
    program: str
    arguments: tuple[str, ...]
    ready: Callable[[Path, Path], bool]

    @property
    def installed(self) -> bool:
        """Whether this machine has it."""
        return shutil.which(self.program) is not None


class Running:
    """One that runs; a context manager."""

    def __init__(self, observer: Observer, directory: Path) -> None:
        self.out, self.errors = directory / "out", directory / "errors"
        ready = directory / "ready"
        for path in (self.out, self.errors, ready):
            path.unlink(missing_ok=True)
        arguments = [word.replace("READY", str(ready)) for word in observer.arguments]
        # What is printed while entries come goes nowhere: only what it costs to print it is asked.
        with self.errors.open("wb") as errors, (self.out if "OUT" in arguments else Path(os.devnull)).open("wb") as out:
            arguments = [word for word in arguments if word != "OUT"]
            self.process = subprocess.Popen(arguments, stdout=out, stderr=errors, cwd=ROOT)
        end = time.monotonic() + READY_S
        while not observer.ready(ready, self.out):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{observer.name} did not begin to watch: {self.errors.read_text()}")
            time.sleep(0.05)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    def pause(self) -> None:
        """Let the kernel side run alone."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> str:
        """Ctrl-C; everything it said."""
        self.__exit__()
        return (self.out.read_text() if self.out.exists() else "") + self.errors.read_text()


def observers(space: Space, record_bytes: int, ct_bytes: int) -> list[Observer]:
    """All that are compared, in the order of the table."""

    def file(ready: Path, _out: Path) -> bool:
        return ready.exists()

    def listens(_ready: Path, _out: Path) -> bool:
        lines = space.inside(lambda: Path("/proc/thread-self/net/netlink").read_text()).splitlines()[1:]
        return any(line.split()[1] == "12" and int(line.split()[3], 16) for line in lines)

    def says_ready(_ready: Path, out: Path) -> bool:
        return "ready" in out.read_text()

    def buckets(form: str) -> tuple[str, ...]:
        return (*CTOBSERVE, "buckets", "--json", "--duration", "100000", "--attach", form, "--ready-file", "READY")

    inside = ("ip", "netns", "exec", space.name)
    listener = (*inside, "conntrack", "-E", "-b", str(LISTENER_BYTES))
    callback = (sys.executable, str(ROOT / "bench/bccring.py"), "READY", str(record_bytes), str(ct_bytes), "OUT")
    return [
        Observer("conntrack -E", "conntrack", listener, listens),
        Observer("bpftrace, counting confirms", "bpftrace", ("bpftrace", "-e", ONE_LINER, "OUT"), says_ready),
        Observer("bcc ring_buffer_poll, bytes kept", sys.executable, callback, file),
        Observer("ctobserve buckets, kprobe", sys.executable, buckets("kprobe"), file),
        Observer("ctobserve buckets, fentry", sys.executable, buckets("fentry"), file),
        Observer("ctobserve events", sys.executable, (*CTOBSERVE, "events", "--ready-file", "READY"), file),
    ]
