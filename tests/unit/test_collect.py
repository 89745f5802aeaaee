"""What a report keeps of an observation: bounded, whatever comes."""

from __future__ import annotations

import tracemalloc

import numpy as np

from ctobserve.diagnosis.collect import KEPT, Kept
from ctobserve.event import Kind
from tests.scripted import events
from tests.unit.tables import entries


def test_a_flood_of_losses_keeps_so_many_of_each_reason_and_no_more():
    batch = np.repeat(events(Kind.DROP, entries(1)), 20_000)
    batch["entry"]["ct"] = np.arange(len(batch))
    batch["reason"] = np.where(np.arange(len(batch)) % 10 == 0, 7, 1)
    kept = Kept()
    tracemalloc.start()
    try:
        for _ in range(20):
            kept.add(batch)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept.rows()) == 2 * KEPT
    assert held < 3 * KEPT * batch.itemsize
    assert kept.rows()["entry"]["ct"][:3].tolist() == [1, 2, 3], "the first that came"
