"""What does a start cost, from exec to the ready file, with an empty cache and with a full one?

Instructions of the whole machine: also what the kernel does for it elsewhere. The end is seen by asking for the file every POLL_S
of the guest's time, which makes the number too large by half a percent or less. Modules of Python are compiled and files are in
memory: one start before, unmeasured. The programs come compiled in either case, as an installed ctobserve has them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.instructions import Meter, wait_quiet
from bench.measured import Measured
from bench.observers import Observer, Running, ours

COMMANDS = ("list", "drops")


class Start(NamedTuple):
    """Instructions of a start with an empty cache directory and of one that finds in it what an earlier one kept."""

    cold: Measured
    warm: Measured


def measure(cache: Path, repeats: int) -> dict[str, Start]:
    """For each command, as JSON; `cache` is emptied."""
    found = {}
    with TemporaryDirectory(dir="/dev/shm") as directory:
        for command in COMMANDS:
            print(f"  ctobserve {command}", file=sys.stderr, flush=True)
            observer = ours(command, "--json")
            _once(observer, Path(directory))
            cold = []
            for _ in range(repeats):
                shutil.rmtree(cache)
                cold.append(_once(observer, Path(directory)))
            found[command] = Start(Measured.of(cold), Measured.of(_once(observer, Path(directory)) for _ in range(repeats)))
    return found


def _once(observer: Observer, directory: Path) -> float:
    wait_quiet()
    meter = Meter()
    with Running(observer, directory):
        return meter.read()
