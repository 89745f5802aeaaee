"""What does it cost to watch while nothing happens: instructions a second, and memory?

The machine's own idle life, with nobody watching, is subtracted. Time is the guest's.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.instructions import Meter
from bench.measured import Measured
from bench.observers import Running, ours

SETTLED_S = 5
STRETCH_S = 10
WATCHING = (("drops",), ("buckets", "--json", "--duration", "100000"))


def measure(repeats: int) -> tuple[dict[str, Measured], dict[str, dict[str, int]]]:
    """Of each command: instructions a second, and bytes of its memory by kind."""
    alone = _several(repeats).value
    rates, memory = {}, {}
    with TemporaryDirectory(dir="/dev/shm") as directory:
        for words in WATCHING:
            observer = ours(*words)
            print(f"  {observer.name}", file=sys.stderr, flush=True)
            with Running(observer, Path(directory)) as running:
                time.sleep(SETTLED_S)
                memory[observer.name] = resident(running.process.pid)
                rates[observer.name] = Measured(*(rate - alone for rate in _several(repeats)))
    return rates, memory


def _several(repeats: int) -> Measured:
    return Measured.of(_rate() for _ in range(repeats))


def _rate() -> float:
    meter = Meter()
    time.sleep(STRETCH_S)
    return meter.read() / STRETCH_S


def resident(pid: int) -> dict[str, int]:
    """Bytes in memory: all, and of these its own, and of files (with them the ring, which is mapped twice).

    Counted page by page: what /proc/PID/status says lags behind what a mapping brought at once, such as the ring's.
    """
    counted = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(kib) << 10 for name, kib in re.findall(r"^(Rss|Anonymous):\s+(\d+) kB$", counted, re.M)}
    return {"resident": found["Rss"], "own": found["Anonymous"], "files": found["Rss"] - found["Anonymous"]}
