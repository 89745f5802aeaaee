"""What does a scrape cost on a big machine: many network namespaces, each with an entry, and many buckets?"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

from bench.big import add_namespace
from bench.flood import SYSCTL
from bench.instructions import Meter, wait_quiet
from bench.measured import Measured
from bench.observers import Running, ours
from ctobserve_lab.world import run

SPACES, HASH = 1_000, 262_144
PAGE = "http://127.0.0.1:9877/metrics"
FORMS = {"in Prometheus' text": "text/plain", "in OpenMetrics": "application/openmetrics-text; version=1.0.0"}


def measure(repeats: int) -> dict[str, Measured]:
    """Instructions of one scrape, by form; the first is not counted, and the machine is left as it was."""
    buckets = SYSCTL.joinpath("nf_conntrack_buckets")
    before = buckets.read_text()
    buckets.write_text(str(HASH))
    names = [f"scrape{number}" for number in range(SPACES)]
    print(f"  ctobserve export, {SPACES} namespaces", file=sys.stderr, flush=True)
    for name in names:
        add_namespace(name)
    try:
        with TemporaryDirectory(dir="/dev/shm") as directory, Running(ours("export"), Path(directory)):
            return {form: Measured.of([_once(accept) for _ in range(repeats + 1)][1:]) for form, accept in FORMS.items()}
    finally:
        for name in names:
            run("ip", "netns", "del", name)
        buckets.write_text(before)


def _once(accept: str) -> float:
    wait_quiet()
    meter = Meter()
    with urlopen(Request(PAGE, headers={"Accept": accept}), timeout=1000) as answer:
        page = answer.read()
    spent = float(meter.read())
    if page.count(b"ctobserve_inserts_total{") <= SPACES:
        raise RuntimeError(f"a page of {len(page)} bytes does not have {SPACES} namespaces")
    return spent
