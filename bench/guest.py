"""The part of the bench that runs in the lab VM: prints one line of JSON, and one with a recorded ring.

Usage: python -m bench.guest PARTS NEW_ENTRIES TABLE_ENTRIES REPEATS. PARTS is a comma-separated choice of new, read, image.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import image, newentry, reading
from ctobserve.capture.records import record_dtype
from ctobserve.host import kernel_build
from ctobserve.host.kernel import release
from ctobserve.programs.hooks import FUNCTIONS

# Programs compiled for one observer are not compiled again for the next one; gone with the guest.
CACHE = Path("/dev/shm/ctobserve-bench")


def main() -> None:
    """All parts, in one boot."""
    parts, entries, table_entries, repeats = sys.argv[1].split(","), *map(int, sys.argv[2:5])
    os.environ["CTOBSERVE_CACHE_DIR"] = str(CACHE)
    layout = kernel_build.read(FUNCTIONS).layout
    found: dict[str, Any] = {"kernel": release(), "new_entries": entries, "table_entries": table_entries, "repeats": repeats}
    if "image" in parts:
        print("ring:" + image.record(entries).dumps(), flush=True)
    if "new" in parts:
        alone, costs = newentry.measure(entries, repeats, record_dtype(layout).itemsize, layout.ct_bytes)
        found["alone"], found["costs"] = alone, [asdict(cost) for cost in costs]
    if "read" in parts:
        found["reading"] = reading.measure(table_entries, repeats)
    print("result:" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
