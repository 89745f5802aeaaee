"""What of the bench runs in the lab VM: prints a line as each part begins, one with a recorded ring, one of JSON.

Usage: python -m bench.guest PARTS NEW_ENTRIES TABLE_ENTRIES REPEATS STARTS. PARTS is a comma-separated choice of image, new,
start, idle, terminal, scrape, read, big; NEW_ENTRIES has the sizes of floods, comma-separated.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench import big, idle, image, newentry, reading, scrape, starts, terminal
from ctobserve.capture.records import record_dtype
from ctobserve.host import kernel_build
from ctobserve.host.kernel import release
from ctobserve.programs.hooks import FUNCTIONS

# Gone with the guest; what one observer found out serves the next.
CACHE = Path("/dev/shm/ctobserve-bench")
RECORDED = 10_000


def main() -> None:
    """All parts, in one boot."""
    parts, sizes = sys.argv[1].split(","), [int(word) for word in sys.argv[2].split(",")]
    table_entries, repeats, start_repeats = map(int, sys.argv[3:6])
    os.environ["CTOBSERVE_CACHE_DIR"] = str(CACHE)
    found: dict[str, Any] = {"kernel": release(), "python": platform.python_version(), "numpy": np.__version__}
    for part in parts:
        print(f"part:{part}", flush=True)
        if part == "image":
            print("ring:" + image.record(RECORDED).dumps(), flush=True)
        elif part == "new":
            layout = kernel_build.read(FUNCTIONS).layout
            new = newentry.measure(sizes, repeats, record_dtype(layout).itemsize, layout.ct_bytes)
            found["new"] = [asdict(flood) for flood in new]
        elif part == "start":
            found["starts"] = {command: start._asdict() for command, start in starts.measure(CACHE, start_repeats).items()}
        elif part == "idle":
            found["idle"], found["memory"] = idle.measure(repeats)
        elif part == "terminal":
            found["terminal"] = terminal.measure(repeats)
        elif part == "scrape":
            found["scrape"] = scrape.measure(repeats)
        elif part == "read":
            found["reading"], found["table_bytes"] = reading.measure(table_entries, repeats)
        elif part == "big":
            found["big"] = big.measure(start_repeats)
    print("result:" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
