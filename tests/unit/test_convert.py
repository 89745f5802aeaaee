"""A recording as tables: what is in them is what the other commands say, under the same names, in types that others read."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.store.facts import encoded
from ctobserve.capture.store.reader import Fact, Reader
from ctobserve.clock import iso
from ctobserve.documents import convert
from ctobserve.errors import by_pip
from ctobserve.event import Kind
from ctobserve.host.dump import HELPED
from ctobserve.model import IPS_HELPER, join
from ctobserve.render.entry_fields import LISTED_FIELDS
from ctobserve.render.event_fields import OF_KIND
from ctobserve.render.event_rows import event_rows
from ctobserve.render.fields import flat_names
from ctobserve.render.jsonlines import json_lines
from ctobserve.render.parquet import ParquetTable
from ctobserve.render.tables import COLUMNS, WHEN, WHOSE, Batch, batches
from tests import scripted
from tests.scripted import CLOCK, HOST, NETNS, ScriptedCapture
from tests.unit.recordings import in_time, record
from tests.unit.tables import entries, tcp
from tests.unit.test_anonymous import telling
from tests.unit.test_recording import busy
from tests.unit.test_same_facts import everything
from tests.unit.test_same_facts_of_events import HAPPENED
from tests.unit.typed import run

Table = list[dict[str, Any]]
BETWEEN = {"status": " ", "changes": ",", "tcp_flags": "+"}  # of a list as a text: as CSV and text have it


def of_everything() -> ScriptedCapture:
    """Entries and events of all kinds."""
    return ScriptedCapture(batches=[HAPPENED[:0]] * 2 + [HAPPENED], entries=everything(400), states=busy().states)


MADE: dict[str, Callable[[], ScriptedCapture]] = {"busy": busy, "telling": telling, "everything": of_everything}


def tables(path: Path, wanted: tuple[str, ...] = convert.TABLES) -> dict[str, Table]:
    """The rows of each, as they are printed."""
    found: dict[str, Table] = {table: [] for table in wanted}
    with closing(Reader(path)) as reader:
        for batch in batches(convert.collect(reader, wanted, lambda _: None)):
            found[batch.table] += map(json.loads, json_lines(batch))
        assert reader.complaint is None
    return found


def flat(row: dict[str, Any], before: str = "") -> dict[str, Any]:
    """An object of JSON as columns have it."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        else:
            found[before + name] = BETWEEN[name].join(value) if isinstance(value, list) else value
    return found


@pytest.fixture(params=MADE)
def recorded(request, tmp_path) -> Path:
    record(MADE[request.param](), tmp_path / "FILE", keyframe_s=1)
    return tmp_path / "FILE"


def of_kind(path: Path, kind: str) -> list[Any]:
    """Rows as the file has them."""
    with closing(Reader(path)) as reader:
        return [reader.chunk(kind, one) for one in reader.told() if not isinstance(one, Fact) and one.kind == kind]


def test_an_event_is_what_json_says_of_it(recorded):
    happened = join(of_kind(recorded, "event"))
    said = [flat(row) for row in event_rows(happened, CLOCK)]
    names = [column.name for column in COLUMNS["events"]]
    extra = {"boot_id", "kernel", "wall_ns", "monotonic_ns", "ct", "netns_name", "table"}
    rows = tables(recorded)["events"]
    assert len(rows) == len(said) == len(happened) > 0
    for row, event in zip(rows, said, strict=True):
        assert list(row) == ["table", *names]
        # An object that is null has no members.
        assert {name: value for name, value in event.items() if value is not None}.items() <= row.items()
        assert not [name for name, value in row.items() if value is not None and name not in extra | event.keys()]
    assert [row["ct"] or 0 for row in rows] == happened["entry"]["ct"].tolist()
    assert [row["monotonic_ns"] for row in rows] == happened["entry"]["seen_ns"].tolist()
    assert [iso(row["wall_ns"]) for row in rows] == [row["ts"] for row in rows]


def test_an_entry_is_what_csv_says_of_it(recorded, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "list", "--from", str(recorded), "--format", "csv")
    assert code == 0
    heading, *cells = csv.reader(out.splitlines())
    rows = tables(recorded)["entries"]
    last = [row for row in rows if row["number"] == max(row["number"] for row in rows)]
    assert heading == list(flat_names(LISTED_FIELDS)) and set(heading) <= set(last[0])
    assert sorted(cells) == sorted(["" if row[name] is None else str(row[name]) for name in heading] for row in last)


def test_each_reading_of_the_table_is_there_and_the_last_with_what_it_counted(tmp_path):
    more = np.zeros(9, EXTENSION)
    more["packets"], more["bytes"], more["start_ns"] = [3, 4], [30, 40], CLOCK.wall_ns
    more["has_counters"], more["has_start"] = True, np.arange(9) > 0
    host = HOST._replace(boot="a-b-c")
    record(ScriptedCapture(entries=tcp(9), extensions=more, host=host), tmp_path / "FILE", keyframe_s=1)
    rows = tables(tmp_path / "FILE")["entries"]
    numbers = sorted({row["number"] for row in rows})
    assert len(numbers) == 6 and len(rows) == 6 * 9
    names = ("packets.original", "packets.reply", "bytes.original", "bytes.reply", "start_wall_ns")
    for row in rows:
        known = [row[name] for name in names]
        if row["number"] == numbers[-1]:
            assert known in ([3, 4, 30, 40, None], [3, 4, 30, 40, CLOCK.wall_ns])
        else:
            assert known == [None] * 5
    assert [row["start_wall_ns"] for row in rows].count(CLOCK.wall_ns) == 8
    assert {(row["boot_id"], row["kernel"], row["netns_name"]) for row in rows} == {("a-b-c", HOST.release, "blue")}


def test_counters_are_those_that_were_read(tmp_path):
    record(busy(), tmp_path / "FILE")
    first, last = tables(tmp_path / "FILE")["counters"]
    assert (first["drop"], last["drop"], last["early_drop"], last["expect_new"]) == (0, 9, 2, None)
    assert (last["netns"], last["netns_name"], last["cpu"]) == (NETNS, "blue", 0) and last["ts"] > first["ts"]


def test_every_fact_is_there_and_can_be_shown(recorded):
    rows = tables(recorded)["facts"]
    with closing(Reader(recorded)) as reader:
        facts = [one for one in reader.told() if isinstance(one, Fact)]
    assert [(row["number"], row["fact"], row["monotonic_ns"]) for row in rows] == [
        (one.number, one.kind, one.at_ns) for one in facts
    ]
    for row, fact in zip(rows, facts, strict=True):
        assert json.loads(row["body"]).__class__ is json.loads(encoded(fact.found)).__class__
        assert "".join(map(str, texts(json.loads(row["body"])))).isprintable()
        assert row["netns"] == (fact.found.inum if fact.kind == "namespace" else None)


def texts(value: Any) -> list[str]:
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] if isinstance(value, str) else [text for part in parts for text in texts(part)]


def test_who_is_named_is_named_as_in_json(tmp_path):
    by_whom = {"comm": b"nc\x1b[2J", "pid": 9, "device": b"e\xff", "ifindex": 2}
    happened = scripted.events(Kind.DROP, entries(3), at_s=1, reason=1, **by_whom)
    record(ScriptedCapture(batches=in_time(happened)), tmp_path / "FILE")
    rows = tables(tmp_path / "FILE")["events"]
    assert {(row["process.comm"], row["process.pid"], row["interface"]) for row in rows} == {("nc\\x1b[2J", 9, "e\\xff")}


def test_helpers_are_those_that_netlink_told(tmp_path):
    rows = tcp(3, dport=[21, 21, 80], sport=[1, 2, 3], status=IPS_HELPER)
    told = np.zeros(2, HELPED)
    for name in ("l3num", "protonum", "addr", "port"):
        told[name] = rows[name][:2]
    told["helper"] = [b"ftp", b"amanda"]
    record(ScriptedCapture(entries=rows, with_helper={NETNS: told}), tmp_path / "FILE")
    found = tables(tmp_path / "FILE")["entries"]
    assert [row["helper"] for row in sorted(found, key=lambda row: (row["number"], row["original.sport"]))] == [
        "ftp",
        "amanda",
        None,
    ] * 2


def test_columns_of_one_name_are_one_fact():
    for members in OF_KIND.values():
        for member in members:
            assert all(member is other for others in OF_KIND.values() for other in others if other.name == member.name)
    for table, columns in COLUMNS.items():
        names = [column.name for column in columns]
        assert len(set(names)) == len(names) and columns[:2] == WHOSE and set(WHEN) <= set(columns), table
        assert all(column.says for column in columns)


def read(path: Path) -> tuple[Table, Any]:
    found = parquet.read_table(path)
    return found.to_pylist(), found.schema


def test_parquet_has_the_same_rows_in_types_of_their_own(recorded, monkeypatch, capsys):
    made = recorded.with_name("made")
    assert run(monkeypatch, capsys, "convert", str(recorded), str(made))[0] == 0
    assert os.stat(made).st_mode & 0o777 == 0o700
    assert sorted(os.listdir(made)) == ["counters.parquet", "entries.parquet", "events.parquet", "facts.parquet"]
    forms = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    for table, lines in tables(recorded).items():
        path = made / f"{table}.parquet"
        rows, schema = read(path)
        assert rows == [{name: value for name, value in line.items() if name != "table"} for line in lines], table
        assert [(one.name, one.type) for one in schema] == [(one.name, forms[one.form]) for one in COLUMNS[table]]
        assert [one.metadata[b"says"].decode() for one in schema] == [one.says for one in COLUMNS[table]]
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_row_group_holds_so_many_rows(monkeypatch, tmp_path):
    monkeypatch.setattr("ctobserve.render.parquet.TOGETHER", 10)
    made = BytesIO()
    with closing(ParquetTable(COLUMNS["facts"], made)) as table:
        for at in range(7):
            table.write(Batch("facts", [None, ["k"] * 4, [at] * 4, *[None] * (len(COLUMNS["facts"]) - 3)], 4))
    found = parquet.ParquetFile(BytesIO(made.getvalue()))
    assert [found.metadata.row_group(at).num_rows for at in range(found.num_row_groups)] == [10, 2, 10, 2, 4]
    assert found.read().column("number").to_pylist() == [at for at in range(7) for _ in range(4)]


def test_lines_go_into_files_or_to_stdout(tmp_path, monkeypatch, capsys):
    record(busy(), tmp_path / "FILE")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "convert", "FILE", "made", "--format", "jsonl", "--tables", "events,facts")
    expected = tables(Path("FILE"), ("events", "facts"))
    assert (code, err) == (0, "") and out == f"made: events {len(expected['events'])}, facts {len(expected['facts'])}\n"
    assert sorted(os.listdir("made")) == ["events.jsonl", "facts.jsonl"]
    for table, rows in expected.items():
        assert list(map(json.loads, Path(f"made/{table}.jsonl").read_text().splitlines())) == rows
        assert os.stat(f"made/{table}.jsonl").st_mode & 0o777 == 0o600
    code, out, err = run(monkeypatch, capsys, "convert", "FILE", "-", "--tables", "events")
    assert (code, err) == (0, "") and list(map(json.loads, out.splitlines())) == expected["events"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("convert NONE made", 1, "NONE: no such file or directory"),
        ("convert FILE FILE", 2, "FILE: file exists; OUT is a directory that does not exist yet, or -"),
        ("convert FILE .", 2, "exists"),
        ("convert FILE nowhere/made", 2, "no such file or directory"),
        ("convert FILE - --format parquet", 2, "OUT - takes lines of JSON alone"),
        ("convert FILE made --tables events,nothing", 2, "nothing"),
        ("convert FILE made --format csv", 2, "--format"),
        ("convert FILE", 2, "OUT"),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_nothing(tmp_path, monkeypatch, capsys, words, code, says):
    record(busy(), tmp_path / "FILE")
    monkeypatch.chdir(tmp_path)
    found, out, err = run(monkeypatch, capsys, *words.split())
    assert (found, out) == (code, "") and err.startswith("ctobserve: ") and err.count("\n") == 1 and says in err
    assert os.listdir() == ["FILE"]


def test_without_pyarrow_it_says_what_to_install_and_lines_need_none(tmp_path, monkeypatch, capsys):
    record(busy(), tmp_path / "FILE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, out, err = run(monkeypatch, capsys, "convert", "FILE", "made")
    assert (code, out) == (3, "") and err.count("\n") == 1 and not Path("made").exists()
    assert f"install it with: {by_pip('parquet')}, or give --format jsonl" in err
    assert run(monkeypatch, capsys, "convert", "FILE", "made", "--format", "jsonl")[0] == 0


def test_events_are_converted_piece_by_piece(tmp_path):
    happened = np.repeat(scripted.events(Kind.INSERT, tcp(1), at_s=1), 60_000)
    record(ScriptedCapture(batches=in_time(happened), entries=entries(9)), tmp_path / "FILE")
    tracemalloc.start()
    with closing(Reader(tmp_path / "FILE")) as reader:
        rows = sum(batch.rows for batch in batches(convert.collect(reader, ("events",), lambda _: None)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 60_000 and peak < happened.nbytes // 2


def test_a_number_beyond_64_bits_with_a_sign_is_unknown(tmp_path):
    made = busy(readings=[scripted.reading(drop=(1 << 64) - 1), scripted.reading(drop=(1 << 63) - 1)])
    record(made, tmp_path / "FILE")
    assert [row["drop"] for row in tables(tmp_path / "FILE")["counters"]] == [None, (1 << 63) - 1]


def test_what_is_damaged_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    record(busy(), tmp_path / "FILE")
    whole = tables(tmp_path / "FILE")
    with closing(sqlite3.connect(tmp_path / "FILE")) as made:
        made.execute("UPDATE chunks SET body = x'00' WHERE kind = 'event'")
        made.commit()
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "convert", "FILE", "-", "--format", "jsonl")
    assert code == 0 and err.startswith("ctobserve: FILE: not all could be read") and err.count("\n") == 1
    assert len(out.splitlines()) == sum(map(len, whole.values())) - len(whole["events"])


@pytest.fixture
def small(tmp_path):
    """A disk with room for less than a recording."""
    made = tmp_path / "disk"
    made.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(made)], check=True)
    yield made
    subprocess.run(["umount", str(made)], check=True)


@pytest.mark.parametrize("words", ["convert FILE disk/made", "convert FILE disk/made --format jsonl"])
def test_on_a_full_disk_it_says_that_it_is_not_whole(small, tmp_path, monkeypatch, capsys, words):
    record(busy(), tmp_path / "FILE", keyframe_s=1)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, *words.split())
    assert (code, out) == (1, "")
    assert err == "ctobserve: disk/made is not whole: no space left on device; remove it, and try again\n"


@pytest.mark.parametrize("words", ["convert FILE made", "convert FILE made --format jsonl", "anonymise FILE made"])
def test_who_interrupts_it_is_told_that_it_is_not_whole(tmp_path, monkeypatch, capsys, words):
    record(busy(), tmp_path / "FILE")
    monkeypatch.chdir(tmp_path)
    told = Reader.told

    def interrupted(reader: Reader) -> Any:
        for at, one in enumerate(told(reader)):
            if at == 9:
                signal.raise_signal(signal.SIGINT)
            yield one

    monkeypatch.setattr(Reader, "told", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, out, err = run(monkeypatch, capsys, *words.split())
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out) == (1, "")
    assert err == "ctobserve: made is not whole: interrupted; remove it, and try again\n"
