"""`make bench`: what observing costs, as one table of ratios; the same in .lab/bench.json.

Instructions are counted in a lab VM (bench/guest.py), events per second here, on the ring that the VM recorded. Ratios are to be
quoted: they hold on any machine. Of numbers, only events/s is time, and only of this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import replay
from bench.image import Image
from bench.rows import lines, rows

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / ".lab"
RING, RESULT = LAB / "ring.json", LAB / "bench.json"
NATIVE_REPEATS = 15


def in_guest(parts: str, options: argparse.Namespace) -> dict[str, Any]:
    """Boot, measure; the guest's result. The ring it records is kept."""
    command = [sys.executable, str(ROOT / "tests/vm/lab.py"), "--icount", "--timeout", str(options.timeout)]
    command += ["--memory", options.memory, "--", sys.executable, "-m", "bench.guest"]
    command += [parts, str(options.new_entries), str(options.table_entries), str(options.repeats)]
    result: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        for line in process.stdout:
            kind, _, text = line.partition(":")
            if kind == "ring":
                RING.write_text(text)
            elif kind == "result":
                result = json.loads(text)
            else:
                sys.stderr.write(line)
    if process.returncode or not result:
        sys.exit(f"bench: the guest's part failed with exit code {process.returncode}")
    return result


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="image,new,read", help="what to measure in the VM; empty: only what needs none")
    parser.add_argument("--new-entries", type=int, default=10_000, help="datagrams of a flood")
    parser.add_argument("--table-entries", type=int, default=100_000, help="entries of the table that is read, up to 1,000,000")
    parser.add_argument("--repeats", type=int, default=3, help="floods, or readings, of which the median counts")
    parser.add_argument("--memory", default="3G")
    parser.add_argument("--timeout", type=int, default=3000)
    options = parser.parse_args()
    LAB.mkdir(exist_ok=True)
    guest = in_guest(options.parts, options) if options.parts else {}
    if not RING.exists():
        sys.exit("bench: no recorded ring yet; run it once with --parts image")
    table = rows(guest, replay.measure(Image.loads(RING.read_text()), NATIVE_REPEATS))
    RESULT.write_text(json.dumps({"guest": guest, "rows": [asdict(row) for row in table]}, indent=2))
    for line in lines(table):
        print(line)


if __name__ == "__main__":
    main()
