"""`make bench`: what observing costs, with ratios and bars: printed, as JSON in .lab/bench.json, as a page in docs/cost.md.

Instructions are counted in a lab VM (bench/guest.py), events per second here, on the ring that the VM recorded. Ratios are to be
quoted: they hold on any machine. Of numbers, only events/s is time, and only of this machine. The page is written when all parts
were measured, which takes half an hour; else it stays as it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import fleet, record, replay
from bench.big import MANY_CPUS
from bench.image import Image
from bench.rows import as_json, sections
from bench.text import lines

ROOT = Path(__file__).resolve().parents[1]
LAB, PAGE = ROOT / ".lab", ROOT / "docs/cost.md"
RING, RESULT = LAB / "ring.json", LAB / "bench.json"
IN_GUEST, HERE = ("image", "new", "start", "idle", "terminal", "scrape", "read", "big"), ("ring", "fleet")
STARTS, NATIVE_REPEATS = 3, 15


class Clock:
    """Says on stderr how long each part took here, the boot of the VM among them."""

    def __init__(self) -> None:
        self._part, self._since = "", time.monotonic()

    def next(self, part: str) -> None:
        """It begins; the one before, if there was one, has ended."""
        now = time.monotonic()
        if self._part:
            print(f"bench: {self._part} took {now - self._since:.0f} s", file=sys.stderr, flush=True)
        self._part, self._since = part, now


def in_guest(parts: list[str], options: argparse.Namespace, clock: Clock, append: str = "") -> dict[str, Any]:
    """Boot, with these words for the kernel; measure; the guest's result. The ring it records is kept."""
    command = [sys.executable, str(ROOT / "tests/vm/lab.py"), "--icount", "--timeout", str(options.timeout)]
    command += ["--memory", options.memory, "--append", append, "--", sys.executable, "-m", "bench.guest", ",".join(parts)]
    command += [",".join(map(str, options.new_entries)), str(options.table_entries), str(options.repeats), str(STARTS)]
    result: dict[str, Any] = {}
    clock.next("boot")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        for line in process.stdout:
            kind, _, text = line.partition(":")
            if kind == "part":
                clock.next(text.strip())
            elif kind == "ring":
                RING.write_text(text)
            elif kind == "result":
                result = json.loads(text)
            else:
                sys.stderr.write(line)
    if process.returncode or not result:
        sys.exit(f"bench: the guest's part failed with exit code {process.returncode}")
    return result


def of_choice(text: str) -> list[str]:
    """Parts, in their own order."""
    wanted = set(text.split(","))
    if wanted - {*IN_GUEST, *HERE}:
        raise argparse.ArgumentTypeError(f"{text}: parts are {', '.join((*IN_GUEST, *HERE))}")
    return [part for part in (*IN_GUEST, *HERE) if part in wanted]


def numbers(text: str) -> list[int]:
    """Comma-separated."""
    return [int(word) for word in text.split(",")]


def recorded() -> Image:
    """The ring that a VM recorded last; ends the bench where records have changed since."""
    try:
        return Image.loads(RING.read_text())
    except (LookupError, TypeError, ValueError):
        sys.exit(f"bench: {RING.name} is of other records than these sources'; record it anew with --parts image,ring")


def made(guest: dict[str, Any], options: argparse.Namespace) -> record.Made:
    """What the page says of how it was made."""
    return record.Made(
        f"{datetime.now(UTC):%Y-%m-%d}",
        f"Linux {guest['kernel']}, Python {guest['python']}, NumPy {guest['numpy']}, {options.memory} of memory",
        record.here(),
        f"{options.repeats} floods, readings and stretches of idle time, {STARTS} starts, {NATIVE_REPEATS} readings of the ring",
    )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ",".join((*IN_GUEST, *HERE))
    parser.add_argument(
        "--parts", type=of_choice, default=every, help=f"what to measure; default: {every}; ring and fleet are measured here"
    )
    parser.add_argument("--new-entries", type=numbers, default="20000,200000", help="datagrams of a flood, of each size in turn")
    parser.add_argument("--table-entries", type=int, default=100_000, help="entries of the table that is read, up to 1,000,000")
    parser.add_argument("--repeats", type=int, default=5, help="floods, or readings, of which the median counts")
    parser.add_argument("--memory", default="3G")
    parser.add_argument("--timeout", type=int, default=3000)
    options = parser.parse_args()
    LAB.mkdir(exist_ok=True)
    parts = [part for part in options.parts if part not in HERE]
    if "ring" in options.parts and "image" not in parts and not RING.exists():
        sys.exit("bench: no recorded ring yet; run it once with --parts image,ring")
    clock = Clock()
    guest = in_guest(parts, options, clock) if parts else {}
    if "big" in parts:
        guest["big_cpus"] = in_guest(["big"], options, clock, f"possible_cpus={MANY_CPUS}")["big"]
    native = {}
    if "ring" in options.parts:
        clock.next("ring")
        native = replay.measure(recorded(), NATIVE_REPEATS)
    asked = {}
    if "fleet" in options.parts:
        clock.next("fleet")
        asked = fleet.measure()
    clock.next("end")
    table = sections(guest, native, asked)
    RESULT.write_text(json.dumps({"guest": guest, "native": native, "fleet": asked, "rows": as_json(table)}, indent=2))
    for line in lines(table):
        print(line)
    if options.parts == [*IN_GUEST, *HERE]:
        PAGE.write_text("".join(f"{line}\n" for line in record.page(table, made(guest, options))))


if __name__ == "__main__":
    main()
