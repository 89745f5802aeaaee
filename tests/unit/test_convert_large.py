"""A recording larger than memory as tables: chunk by chunk, and a directory part by part, with nothing else in them."""

from __future__ import annotations

import csv
import json
import os
import weakref
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.store.chunks import MOST_ROWS
from ctobserve.capture.store.reader import Reader
from ctobserve.documents import convert
from ctobserve.event import Kind
from ctobserve.host.dump import HELPED
from ctobserve.model import IPS_HELPER
from ctobserve.render.entry_fields import LISTED_FIELDS
from ctobserve.render.fields import flat_names
from ctobserve.render.parquet import ParquetTable
from ctobserve.render.tables import COLUMNS, Batch, batches
from tests.scripted import NETNS, ScriptedCapture, events
from tests.unit.flights import Churning, fly
from tests.unit.recordings import in_time, record
from tests.unit.tables import tcp
from tests.unit.test_convert import tables
from tests.unit.typed import run

COUNT = 5 * MOST_ROWS + 7


def large() -> ScriptedCapture:
    """Chains, masters and helpers go across chunks of a reading, whose last row alone counts packets; and as many events."""
    some = np.random.default_rng(3)
    rows = tcp(COUNT, ct=(np.arange(COUNT) + 1) * 320, sport=np.arange(COUNT) % 60_000 + 1, dport=np.arange(COUNT) // 60_000 + 1)
    rows["bucket"] = some.integers(0, 512, (COUNT, 2))
    rows["master"][::7] = rows["ct"][::-1][::7]
    rows["status"][::1000] |= IPS_HELPER
    told = np.zeros(len(rows[::1000]), HELPED)
    for name in ("l3num", "protonum", "addr", "port"):
        told[name] = rows[name][::1000]
    told["helper"] = [f"h{at}".encode() for at in range(len(told))]
    more = np.zeros(COUNT, EXTENSION)
    more["packets"][:, 0], more["has_counters"] = np.arange(COUNT), np.arange(COUNT) % 3 > 0
    happened = in_time(events(Kind.UPDATE, rows, at_s=np.linspace(0, 4, COUNT), changes=1))
    return ScriptedCapture(batches=happened, entries=rows, extensions=more, with_helper={NETNS: told})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "FILE"
    record(large(), path)
    return path


def test_an_entry_is_what_csv_says_of_it_in_whichever_chunk_it_is(recorded, monkeypatch, capsys):
    rows = tables(recorded, ("entries",))["entries"]
    newest = max(row["number"] for row in rows)
    last = [row for row in rows if row["number"] == newest]
    code, out, _ = run(monkeypatch, capsys, "list", "--from", str(recorded), "--format", "csv")
    heading, *cells = csv.reader(out.splitlines())
    assert code == 0 and heading == list(flat_names(LISTED_FIELDS))
    assert sorted(cells) == sorted(["" if row[name] is None else str(row[name]) for name in heading] for row in last)
    assert len(last) == COUNT and sum(row["master.src"] is not None for row in last) > MOST_ROWS // 2
    assert sum(row["helper"] is not None for row in last) == len(range(0, COUNT, 1000))
    assert [row["packets.original"] for row in last] == [at if at % 3 else None for at in range(COUNT)]


def test_few_rows_are_held_at_once_however_many_a_reading_has(recorded, monkeypatch):
    held: list[tuple[weakref.ref[Any], int]] = []
    most = [0]
    read = Reader.chunk

    def chunk(reader: Reader, kind: str, one: Any) -> Any:
        rows = owner = read(reader, kind, one)
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        held.append((weakref.ref(owner), len(rows)))
        most[0] = max(most[0], sum(count for alive, count in held if alive() is not None))
        return rows

    monkeypatch.setattr(Reader, "chunk", chunk)
    counts = dict.fromkeys(convert.TABLES, 0)
    with closing(Reader(recorded)) as reader:
        for batch in batches(convert.collect(reader, convert.TABLES, lambda _: None)):
            assert batch.rows <= MOST_ROWS
            counts[batch.table] += batch.rows
    assert counts["entries"] == 2 * COUNT and counts["events"] == COUNT
    # One that is told, one that is made beside it, of entries and of what they count.
    assert 0 < most[0] <= 4 * MOST_ROWS


def test_rows_of_many_bytes_are_not_held_until_they_are_many(monkeypatch):
    monkeypatch.setattr("ctobserve.render.parquet.MOST_BYTES", 100_000)
    made = BytesIO()
    with closing(ParquetTable(COLUMNS["facts"], made)) as table:
        for at in range(9):
            table.write(Batch("facts", [["b"], ["k"], [at], *[None] * (len(COLUMNS["facts"]) - 4), ["x" * 40_000]], 1))
    found = parquet.ParquetFile(BytesIO(made.getvalue()))
    assert [found.metadata.row_group(at).num_rows for at in range(found.num_row_groups)] == [3, 3, 3]
    assert found.read().column("number").to_pylist() == list(range(9))


def test_a_directory_becomes_what_its_parts_become(tmp_path, monkeypatch, capsys):
    fly(Churning(pace_s=0.5), tmp_path / "dir", 100, keep_s=40, keyframe_s=10)
    parts = sorted((tmp_path / "dir").glob("part-*"))
    each = [tables(part) for part in parts]
    assert len(parts) > 3
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, "convert", "dir", "lines", "--format", "jsonl")[0] == 0
    assert run(monkeypatch, capsys, "convert", "dir", "made")[0] == 0
    assert sorted(os.listdir("made")) == sorted(f"{table}.parquet" for table in convert.TABLES)
    for table in convert.TABLES:
        rows = [row for one in each for row in one[table]]
        assert rows and list(map(json.loads, Path(f"lines/{table}.jsonl").read_text().splitlines())) == rows
        assert [{"table": table, **row} for row in parquet.read_table(f"made/{table}.parquet").to_pylist()] == rows
    numbers = [row["number"] for one in each for row in one["facts"]]
    assert numbers == sorted(set(numbers))
