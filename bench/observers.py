"""Who may be watching while new entries are made: each is started, waited for until it watches, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ctobserve_lab.world import Space
from tests.kernel.tool import CTOBSERVE

LISTENER = "conntrack -E"
POLL_S = 0.01
READY_S = 100_000  # of the guest's clock, which runs ahead while it waits for the host
ROOT = Path(__file__).resolve().parents[1]
# A flush brings all events at once. Every socket of the guest is so wide: conntrack's -b widens one that gets no events (1.4.7).
LISTENER_BYTES = 256 << 20
RMEM_DEFAULT = Path("/proc/sys/net/core/rmem_default")
ONE_LINER = 'BEGIN { printf("ready\\n"); } kprobe:__nf_conntrack_confirm { @ = count(); }'


class Observer(NamedTuple):
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
    """One that runs; a context manager. It watches, give or take POLL_S, when it is made."""

    def __init__(self, observer: Observer, directory: Path) -> None:
        self.out, self.errors = directory / "out", directory / "errors"
        ready = directory / "ready"
        recording = directory / "recording"
        for path in (self.out, self.errors, ready, recording):
            path.unlink(missing_ok=True)
        named = {"READY": str(ready), "RECORDING": str(recording)}
        arguments = [named.get(word, word) for word in observer.arguments]
        # What is printed while entries come goes nowhere: only what it costs to print it is asked.
        with self.errors.open("wb") as errors, (self.out if "OUT" in arguments else Path(os.devnull)).open("wb") as out:
            arguments = [word for word in arguments if word != "OUT"]
            self.process = subprocess.Popen(arguments, stdout=out, stderr=errors, cwd=ROOT)
        end = time.monotonic() + READY_S
        while True:
            ended = self.process.poll() is not None
            if observer.ready(ready, self.out):
                break
            if ended or time.monotonic() > end:
                raise RuntimeError(f"{observer.name} did not begin to watch: {self.errors.read_text()}")
            time.sleep(POLL_S)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    def end(self) -> str:
        """Ctrl-C; everything it said."""
        self.__exit__()
        return (self.out.read_text() if self.out.exists() else "") + self.errors.read_text()


def ours(*words: str) -> Observer:
    """ctobserve with this command and these options."""
    name = f"ctobserve {words[0]}"
    return Observer(name, sys.executable, (*CTOBSERVE, *words, "--ready-file", "READY"), lambda ready, _: ready.exists())


def own() -> list[Observer]:
    """Ours that are measured, in the order of the table."""
    buckets = ("buckets", "--json", "--duration", "100000", "--attach")
    forms = [ours(*buckets, form)._replace(name=f"ctobserve buckets, {form}") for form in ("kprobe", "fentry")]
    # Of the table no more is kept than at begin and end: what a reading costs has a row of its own.
    counting = [ours("export", "--attach", form)._replace(name=f"ctobserve export, {form}") for form in ("kprobe", "fentry")]
    return [*forms, *counting, ours("events"), ours("record", "RECORDING", "--keyframe", "100000", "OUT")]


def peers(space: Space, record_bytes: int, ct_bytes: int) -> list[Observer]:
    """Those of others, in the order of the table."""

    def listens(_ready: Path, _out: Path) -> bool:
        lines = space.inside(lambda: Path("/proc/thread-self/net/netlink").read_text()).splitlines()[1:]
        return any(line.split()[1] == "12" and int(line.split()[3], 16) for line in lines)

    RMEM_DEFAULT.write_text(str(LISTENER_BYTES))
    listener = ("ip", "netns", "exec", space.name, "conntrack", "-E")
    callback = (sys.executable, str(ROOT / "bench/bccring.py"), "READY", str(record_bytes), str(ct_bytes), "OUT")
    return [
        Observer(LISTENER, "conntrack", listener, listens),
        Observer("bpftrace, counting confirms", "bpftrace", ("bpftrace", "-e", ONE_LINER, "OUT"), _says_ready),
        Observer("bcc ring_buffer_poll, bytes kept", sys.executable, callback, lambda ready, _: ready.exists()),
    ]


def _says_ready(_ready: Path, out: Path) -> bool:
    return "ready" in out.read_text()
