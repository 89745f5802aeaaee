"""The exporter under systemd, as its unit has it: a user that is not root, with its capabilities and no others."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ctobserve_lab.errors import LabError
from ctobserve_lab.traffic import load
from ctobserve_lab.world import Net, Space
from tests.kernel.systemd import Systemd
from tests.kernel.test_flight_recorder import bits
from tests.kernel.tool import PATIENCE_S
from tests.unit.test_service import settings

UNIT = "ctobserve-export"
URL = "http://127.0.0.1:9877/metrics"


@pytest.fixture
def space(net: Net) -> Space:
    """Before systemd: the first that is named makes /run/netns a mount, which a host's systemd would hand on."""
    return net.space("served")


@pytest.fixture
def systemd(space: Space) -> Iterator[Systemd]:
    with TemporaryDirectory(dir="/run") as work, Systemd(Path(work)) as made:
        yield made
        with suppress(LabError):
            made.ctl("stop", UNIT)  # what systemd itself attached to its control group goes with it


def scraped() -> str:
    """Empty while nobody answers."""
    try:
        with urllib.request.urlopen(URL, timeout=30) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def until(systemd: Systemd, pattern: str) -> str:
    """What is scraped, once it says this."""
    end = time.monotonic() + PATIENCE_S
    while not re.search(pattern, said := scraped(), re.M):
        assert time.monotonic() < end, f"{said}\n{systemd.ctl('show', UNIT)}\n{systemd.log()}"
        time.sleep(0.5)
    return said


def test_the_exporter_counts_as_a_user_of_its_own_with_its_capabilities_and_no_other(space, systemd):
    load(space, 101)
    systemd.ctl("start", UNIT)
    said = until(systemd, rf'^ctobserve_entries{{netns="{space.name}"}} 101')
    assert re.search(rf'^ctobserve_entries_limit{{netns="{space.name}"}} [1-9]', said, re.M)
    assert re.search(r'^ctobserve_build_info{.*attach="(fentry|kprobe)"', said, re.M)
    load(space, 7, target="10.60.0.2")
    until(systemd, rf'^ctobserve_inserts_total{{netns="{space.name}"}} [1-9]')
    status = Path(f"/proc/{systemd.pid(UNIT)}/status").read_text()
    (line,) = settings("export")["CapabilityBoundingSet"]
    assert f"CapEff:\t{bits(line.split()):016x}" in status and "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    (uid,) = re.findall(r"^Uid:\t(\d+)\t", status, re.M)
    assert int(uid) >= 61184, "one of those that systemd gives out"
    systemd.ctl("stop", UNIT)
    assert (systemd.asked(UNIT, "Result"), systemd.asked(UNIT, "ExecMainStatus")) == ("success", "0")
