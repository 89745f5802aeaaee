"""What a question to a fleet costs: CPU and memory of whole runs of `ctobserve fleet`, by how many hosts a generated dataset has.

Here, without kernel or VM. The generator's hosts are those of the tests (tests/fleet): three recordings a day each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ctobserve.fleet.questions import QUESTIONS
from tests.fleet.fleet import EVERY_H, make

FEW, SOME, MANY = HOSTS = (10, 100, 1000)
HOURS, SEED = 24, 1


class Run(NamedTuple):
    """Of one process: user and system, and the most that was resident."""

    cpu_s: float
    peak_bytes: int


def measure() -> dict[int, dict[str, Run]]:
    """By number of hosts and question."""
    found = {}
    with TemporaryDirectory(dir="/var/tmp") as folder:
        for hosts in HOSTS:
            dataset = Path(folder, str(hosts))
            make(dataset, hosts, HOURS, EVERY_H, SEED)
            found[hosts] = {name: _run(name, dataset) for name in QUESTIONS}
    return found


def _run(name: str, dataset: Path) -> Run:
    command = [sys.executable, "-m", "ctobserve", "fleet", name, str(dataset), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {' '.join(command)} failed with exit code {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
