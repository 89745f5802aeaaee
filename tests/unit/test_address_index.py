"""Addresses and their rows against a dict, and the table against one that is told every event in turn."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.capture.address_index import AddressIndex
from ctobserve.capture.records import RecordKind
from ctobserve.capture.table import Table
from tests.unit.samples import DTYPE
from tests.unit.test_table import WAYS

SLAB = 0xFFFF888003400000


def test_every_address_keeps_its_row_through_growth():
    rng = np.random.default_rng(7)
    index, rows, known = AddressIndex(), 0, {}
    for _ in range(60):
        addresses = np.unique(SLAB + 256 * rng.integers(0, 9000, 500).astype(np.uint64))
        given, rows = index.find_or_add(addresses, rows)
        for address, row in zip(addresses.tolist(), given.tolist(), strict=True):
            assert known.setdefault(address, row) == row
    assert sorted(known.values()) == list(range(len(known)))
    assert index.find(np.array([SLAB + 1], np.uint64)).tolist() == [-1]


def test_addresses_that_all_want_one_place():
    # Products by the multiplier's inverse: their high bits are all zero.
    inverse = pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    addresses = np.array([inverse * n % (1 << 64) for n in range(300)], np.uint64)
    index = AddressIndex()
    given, _ = index.find_or_add(addresses, 0)
    assert sorted(given.tolist()) == list(range(300))
    assert index.find(addresses).tolist() == given.tolist()


@pytest.mark.parametrize(("apply", "row"), WAYS)
def test_table_is_what_the_events_say_in_turn(apply, row):
    rng = np.random.default_rng(3)
    table, truth = Table(row), {}
    for batch in range(150):
        made = np.zeros(int(rng.integers(0, 1500)), DTYPE)
        made["ct"] = SLAB + 256 * rng.integers(0, int(rng.integers(10, 20000)), len(made)).astype(np.uint64)
        mixed = rng.choice(
            [RecordKind.INSERT, RecordKind.INSERT, RecordKind.DESTROY, RecordKind.UPDATE, RecordKind.CONFIRM], len(made)
        )
        made["kind"] = mixed if rng.random() < 0.6 else RecordKind.INSERT
        made["has_ct"], made["mark"] = 1, rng.integers(0, 1 << 30, len(made))
        made["ts"] = batch * 10_000 + np.arange(len(made))
        apply(table, made)
        for ct, kind, mark in zip(made["ct"].tolist(), made["kind"].tolist(), made["mark"].tolist(), strict=True):
            if kind == RecordKind.INSERT or (kind == RecordKind.UPDATE and ct in truth):
                truth[ct] = mark
            elif kind == RecordKind.DESTROY:
                truth.pop(ct, None)
        entries = table.entries()
        assert dict(zip(entries["ct"].tolist(), entries["mark"].tolist(), strict=True)) == truth
        assert len(table) == len(truth)
