"""A real Prometheus with our rules scrapes the exporter while an incident is played: its alert fires, is right, and resolves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctobserve.host import counters
from ctobserve_lab.scenarios import SCENARIOS
from ctobserve_lab.stage import Stage
from tests.kernel.tool import PATIENCE_S
from tests.prometheus import Prometheus

RULES = Path(__file__).resolve().parents[2] / "deploy/prometheus"
PLACE = "127.0.0.1:9878"
LOST = 23  # packets, as the scenario says


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def test_the_alert_of_a_full_table_fires_with_the_numbers_of_the_kernel_and_resolves(stage, start, tmp_path):
    rules = []
    for name in ("records.yml", "alerts.yml"):
        rules.append(tmp_path / name)
        # An emulated machine is slow, and nobody waits for five minutes: what is long is the window, not the rule.
        rules[-1].write_text((RULES / name).read_text().replace("5m", "40s"))
    play = SCENARIOS["table_full"].play(stage)
    space = next(play)
    assert space
    running = start("export", "--listen", PLACE)
    with Prometheus(tmp_path, [PLACE], rules) as prometheus:
        lost = f'ctobserve_drops_total{{netns="{space.name}", reason="table_full"}}'
        prometheus.until(lambda: prometheus.series(f"{lost} == 0") != {}, PATIENCE_S)
        assert "CtobserveTableFull" not in prometheus.alerts()
        next(play)
        prometheus.until(lambda: "CtobserveTableFull" in prometheus.alerts(), PATIENCE_S)
        (alert,) = prometheus.alerts()["CtobserveTableFull"]
        assert alert["labels"]["netns"] == space.name and f"in namespace {space.name}." in alert["annotations"]["summary"]
        # A scrape that an emulated machine was too slow for leaves a gap.
        prometheus.until(lambda: prometheus.series(lost) == {(space.name, "table_full"): LOST}, PATIENCE_S)
        kernel = counters.total(counters.read(space.inum).counts.values())
        assert kernel["drop"] == LOST
        prometheus.until(lambda: "CtobserveTableFull" not in prometheus.alerts(), PATIENCE_S)
        prometheus.until(lambda: prometheus.series(lost) == {(space.name, "table_full"): LOST}, PATIENCE_S)
    running.end()
