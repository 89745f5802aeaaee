from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ctobserve.capture.address_index import Addresses
from ctobserve.capture.decoder import Decoder
from ctobserve.capture.records import ENTRY_ROW, RecordKind, Records, entries_of, row_dtype
from ctobserve.capture.table import Table
from ctobserve.model import UNKNOWN_BUCKET
from tests.unit.samples import DTYPE, record, records

NONE = np.empty(0, np.uint64)


def by_events(table: Table, made: Records) -> Addresses:
    return table.apply(Decoder(SimpleNamespace(containing=lambda _: None)).decode(made).events)


def by_records(table: Table, made: Records) -> Addresses:
    """Straight from the ring."""
    return table.change(made["kind"], made["ct"], made["row"])


# What a table is given, and the form of its rows for that.
WAYS = ((by_events, ENTRY_ROW), (by_records, row_dtype(DTYPE)))


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def apply(way):
    return way[0]


@pytest.fixture
def table(way):
    return Table(way[1])


def ports(table: Table) -> list[int]:
    return sorted(table.entries()["port"][:, 0].tolist())


def test_insert_and_destroy(apply, table):
    touched = apply(
        table,
        records(
            record(RecordKind.INSERT, 0xA, sport=1), record(RecordKind.INSERT, 0xB, sport=2), record(RecordKind.DESTROY, 0xA)
        ),
    )
    assert ports(table) == [2]
    assert touched.tolist() == [0xA, 0xB, 0xA]


def test_address_reused_within_a_batch_and_between_batches(apply, table):
    apply(
        table,
        records(
            record(RecordKind.INSERT, 0xA, sport=1), record(RecordKind.DESTROY, 0xA), record(RecordKind.INSERT, 0xA, sport=2)
        ),
    )
    assert ports(table) == [2]
    apply(table, records(record(RecordKind.DESTROY, 0xA), record(RecordKind.INSERT, 0xA, sport=3)))
    assert ports(table) == [3]
    apply(table, records(record(RecordKind.INSERT, 0xA, sport=4), record(RecordKind.DESTROY, 0xA)))
    assert ports(table) == []


def test_destroy_of_an_unknown_entry_is_ignored(apply, table):
    apply(table, records(record(RecordKind.DESTROY, 0xA)))
    assert len(table) == 0


def test_grows_and_reuses_rows(apply, table):
    for start in (0, 3000):
        apply(table, records(*(record(RecordKind.INSERT, 8 * i, sport=i) for i in range(start, start + 3000))))
    assert len(table) == 6000 and ports(table) == list(range(6000))
    apply(table, records(*(record(RecordKind.DESTROY, 8 * i) for i in range(5990))))
    apply(table, records(*(record(RecordKind.INSERT, 8 * i, sport=i) for i in range(7000, 7010))))
    assert ports(table) == [*range(5990, 6000), *range(7000, 7010)]


def test_merge_takes_the_walk_but_for_what_events_touched(apply, table):
    apply(
        table,
        records(
            record(RecordKind.INSERT, 0xA, sport=1, ts=5),
            record(RecordKind.INSERT, 0xB, sport=2),
            record(RecordKind.INSERT, 0xC, sport=3),
        ),
    )
    walked = entries_of(
        records(
            record(RecordKind.WALK, 0xA, sport=1, ts=99, status=14, bucket=(4, UNKNOWN_BUCKET)),
            record(RecordKind.WALK, 0xD, sport=4),
            record(RecordKind.WALK, 0xE, sport=5),
        )
    )
    # C was inserted and E destroyed while the walk ran: events know better.
    table.merge(walked, np.array([0xC, 0xE], np.uint64))
    assert ports(table) == [1, 3, 4]
    kept = table.find(np.array([0xA], np.uint64))[0]
    assert (kept["status"], kept["seen_ns"], kept["bucket"][0]) == (14, 5, 4)


def test_merge_into_an_empty_table_and_of_an_empty_walk(apply, table):
    table.merge(entries_of(records(record(RecordKind.WALK, 0xA))), NONE)
    assert len(table) == 1
    table.merge(entries_of(records()), NONE)
    assert len(table) == 0


def test_updates_change_state_but_not_bucket_or_birth(apply, table):
    apply(table, records(record(RecordKind.INSERT, 0xA, proto=6, tcp_state=1, bucket=(3, 4), ts=5)))
    apply(
        table,
        records(
            record(RecordKind.UPDATE, 0xA, proto=6, tcp_state=2, ts=6),
            record(RecordKind.UPDATE, 0xA, proto=6, tcp_state=3, status=14, ts=7),
        ),
    )
    row = table.entries()[0]
    assert (row["tcp_state"], row["status"], row["bucket"].tolist(), row["seen_ns"]) == (3, 14, [3, 4], 5)
    apply(
        table,
        records(
            record(RecordKind.UPDATE, 0xA, proto=6, tcp_state=9, ts=8), record(RecordKind.INSERT, 0xA, proto=6, tcp_state=1, ts=9)
        ),
    )
    assert table.entries()[0]["tcp_state"] == 1
    apply(table, records(record(RecordKind.UPDATE, 0xBAD)))
    assert len(table) == 1
