"""The whole kernel tier on every machine of tests/vm/machines.py, one after the other; what came of it is kept for the pages.

Usage: python -m tests.matrix.run [MACHINE ...]

Each result goes to docs/kernels/MACHINE.json, also one with failures: the pages say so, and a unit test fails. Where a guest ends
without a result, what is kept stays. Exit code: 0 when all tests passed on all of them.
"""

from __future__ import annotations

import datetime
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.matrix import pages
from tests.matrix.guest import MARK

CHECKOUT = Path(__file__).parents[2]
LAB = CHECKOUT / "tests/vm/lab.py"
LIMIT_S = 4 * 3600


def main() -> int:
    """Runs the machines that are named, or all."""
    known = machines()
    wanted = sys.argv[1:] or known
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        print(f"matrix: no such machine: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    good = [_played(name) for name in wanted]
    pages.write()
    return int(not all(good))


def machines() -> list[str]:
    """Their names, in the order of the table."""
    listed = subprocess.run([sys.executable, str(LAB), "--machines"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def _played(name: str) -> bool:
    print(f"matrix: {name}", flush=True)
    began, result = time.monotonic(), ""
    guest = f"cd {shlex.quote(str(CHECKOUT))} && exec /usr/bin/python3 -m tests.matrix.guest"
    command = ["env", "CTOBSERVE_KERNEL_TESTS=1", "CTOBSERVE_PART=1/9", f"PYTHONPATH={CHECKOUT}", "sh", "-c", guest]
    arguments = [sys.executable, str(LAB), "--machine", name, "--timeout", str(LIMIT_S), "--", *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, errors="replace") as lab:
        assert lab.stdout
        for line in lab.stdout:
            if line.startswith(MARK):
                result = line.removeprefix(MARK)
            else:
                print(line, end="", flush=True)
    print(f"matrix: {name}: exit code {lab.returncode} after {time.monotonic() - began:.0f} s", flush=True)
    if result:
        _keep(name, json.loads(result))
    return lab.returncode == 0


def _keep(name: str, found: dict[str, Any]) -> None:
    commit = subprocess.run(
        ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout.strip()
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    pages.RESULTS.mkdir(exist_ok=True)
    pages.RESULTS.joinpath(f"{name}.json").write_text(json.dumps({"of": day, "commit": commit, **found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
