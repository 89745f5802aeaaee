"""The kernel tier on every machine of tests/vm/machines.py, one after the other; what came of it is kept for the pages.

Usage: python -m tests.matrix.run [--file NAME]... [MACHINE ...]

Each file's result goes to docs/kernels/MACHINE.json as soon as it is there, also one with failures: the pages say so, and a unit
test fails. With --file only these files of tests/kernel run (test_drops), and what is kept of the others stays, with the commit
that it was found at. Exit code: 0 when all tests passed on all of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.matrix import pages
from tests.matrix.guest import MARK, files

CHECKOUT = Path(__file__).parents[2]
LAB = CHECKOUT / "tests/vm/lab.py"
LIMIT_S = 4 * 3600


def main() -> int:
    """Runs the machines that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", action="append", choices=files(), default=[], metavar="NAME")
    parser.add_argument("machines", nargs="*", metavar="MACHINE")
    options, known = parser.parse_args(), machines()
    if unknown := sorted(set(options.machines) - set(known)):
        parser.error(f"no such machine: {', '.join(unknown)}; there are {', '.join(known)}")
    good = [_played(name, options.file) for name in options.machines or known]
    pages.write()
    return int(not all(good))


def machines() -> list[str]:
    """Their names, in the order of the table."""
    listed = subprocess.run([sys.executable, str(LAB), "--machines"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def _played(name: str, wanted: list[str]) -> bool:
    print(f"matrix: {name}", flush=True)
    began, at = time.monotonic(), {"of": datetime.datetime.now(datetime.UTC).date().isoformat(), "commit": _commit()}
    guest = f"cd {shlex.quote(str(CHECKOUT))} && exec /usr/bin/python3 -m tests.matrix.guest {shlex.join(wanted)}"
    command = ["env", "CTOBSERVE_KERNEL_TESTS=1", "CTOBSERVE_PART=1/9", f"PYTHONPATH={CHECKOUT}", "sh", "-c", guest]
    arguments = [sys.executable, str(LAB), "--machine", name, "--timeout", str(LIMIT_S), "--", *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, errors="replace") as lab:
        assert lab.stdout
        for line in lab.stdout:
            if line.startswith(MARK):
                _keep(name, json.loads(line.removeprefix(MARK)), at)
            else:
                print(line, end="", flush=True)
    print(f"matrix: {name}: exit code {lab.returncode} after {time.monotonic() - began:.0f} s", flush=True)
    return lab.returncode == 0


def _commit() -> str:
    """The commit that is tried, and whether what it holds was changed since; results themselves are not meant."""
    git = ("git", "-C", str(CHECKOUT))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(
        [*git, "diff", "--quiet", "HEAD", "--", "bpf", "ctobserve", "ctobserve_lab", "tests"], check=False
    ).returncode
    return f"{head}-dirty" if changed else head


def _keep(name: str, found: dict[str, Any], at: dict[str, str]) -> None:
    """The machine as it is now; of its tests those that were kept, if their files are still there, and these."""
    place = pages.RESULTS / f"{name}.json"
    kept: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"tests": {}}
    tests = kept["tests"] | {file: at | outcome for file, outcome in found.get("tests", {}).items()}
    kept |= found.get("machine", {}) | {"tests": {file: tests[file] for file in sorted(tests) if file in files()}}
    pages.RESULTS.mkdir(exist_ok=True)
    place.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
