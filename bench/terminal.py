"""What does the full screen of `top` cost while 10,000 entries a second are new, beside plain frames, and beside `drops`?

Whole machine, less the same flood with nobody watching: kernel, programs, drawing, and the terminal, which somebody must read.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.flood import Flood, make_room
from bench.instructions import Meter, wait_quiet
from bench.measured import Measured
from bench.observers import POLL_S, ROOT, Running, ours
from ctobserve_lab.world import Net, Space
from tests.kernel.tool import CTOBSERVE

PER_S, TENTHS = 10_000, 100
LINES, COLUMNS = 24, 80
FULL, PLAIN, DROPS = "ctobserve top, full screen", "ctobserve top, plain frames", "ctobserve drops"


def measure(repeats: int) -> dict[str, Measured]:
    """By who watches: instructions a second beyond those with nobody."""
    make_room(2 * PER_S * TENTHS // 10)
    with Net() as net, TemporaryDirectory(dir="/dev/shm") as name:
        directory, space = Path(name), net.space("terminal")
        flood = Flood(space, PER_S * TENTHS // 10)
        alone = _several(space, flood, repeats).value
        rates = {}
        plain = ours("top", "--plain", "--interval", "1")._replace(name=PLAIN)
        for observer in (ours("drops"), plain):
            print(f"  {observer.name}", file=sys.stderr, flush=True)
            with Running(observer, directory):
                rates[observer.name] = _several(space, flood, repeats)
        print(f"  {FULL}", file=sys.stderr, flush=True)
        with _filling(directory / "ready"):
            rates[FULL] = _several(space, flood, repeats)
    return {who: Measured(*(rate - alone for rate in found)) for who, found in rates.items()}


def _several(space: Space, flood: Flood, repeats: int) -> Measured:
    return Measured.of(_rate(space, flood) for _ in range(repeats))


def _rate(space: Space, flood: Flood) -> float:
    """Of ten seconds, in which a thousand datagrams go every tenth; the table is empty when they begin."""
    space.run("conntrack", "-F")
    wait_quiet()
    meter, began_s = Meter(), time.monotonic()
    for tenth in range(TENTHS):
        flood.send(tenth * PER_S // 10, PER_S // 10)
        time.sleep(max(began_s + (tenth + 1) / 10 - time.monotonic(), 0))
    return meter.read() / (time.monotonic() - began_s)


@contextmanager
def _filling(ready: Path) -> Iterator[None]:
    """The full screen in a terminal of 80 x 24 that takes all at once."""
    mine, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    command = (*CTOBSERVE, "top", "--ready-file", str(ready))
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment)
    threading.Thread(target=_read, args=(mine,), daemon=True).start()
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError("the full screen ended before it watched; is Textual there?")
        time.sleep(POLL_S)
    yield
    os.write(mine, b"q")
    process.wait()
    os.close(theirs)


def _read(terminal: int) -> None:
    with suppress(OSError):  # EIO: nobody has the other end any more
        while os.read(terminal, 1 << 16):
            pass
