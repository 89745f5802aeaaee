"""What a report keeps of an observation: bounded, whatever comes."""

from __future__ import annotations

import tracemalloc

import numpy as np

from ctobserve.capture.records import Kind
from ctobserve.diagnosis.collect import KEPT, Kept
from tests.unit.samples import record, records


def test_a_flood_of_losses_keeps_so_many_of_each_reason_and_no_more():
    batch = np.repeat(records(record(Kind.DROP, 256)), 20_000)
    batch["ct"] = np.arange(len(batch))
    reasons = np.where(np.arange(len(batch)) % 10 == 0, 7, 1)
    kept = Kept(batch[:0])
    tracemalloc.start()
    try:
        for _ in range(20):
            kept.add(batch, reasons)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept.rows()) == 2 * KEPT
    assert held < 3 * KEPT * batch.itemsize
    assert kept.rows()["ct"][:3].tolist() == [1, 2, 3], "the first that came"
