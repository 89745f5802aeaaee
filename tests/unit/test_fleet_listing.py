"""What a dataset has, what does not belong there, and why; the rest answers."""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ctobserve.errors import UsageError
from ctobserve.fleet.footer import Footers, NotOurs
from ctobserve.fleet.layout import Place, host_name, place_of
from ctobserve.fleet.listing import listing
from ctobserve.fleet.remote import here
from ctobserve.fleet.schema import COLUMNS, TABLES, told
from ctobserve.render.parquet import ParquetTable
from ctobserve_lab.recordings import recording
from tests.unit.typed import run


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two hosts."""
    path = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name in ("healthy", "table_full"):
            patch.setattr("sys.argv", ["ctobserve", "convert", str(recording(name)), "ds", "--dataset", "--host", name])
            from ctobserve.commands.cli import main

            assert main() == 0
    return path / "ds"


@pytest.fixture
def dataset(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "ds")
    return tmp_path / "ds"


def one(dataset: Path, table: str, host: str = "healthy") -> Path:
    return next(dataset.glob(f"{table}/*/host={host}/*"))


def names(dataset: Path, tables: tuple[str, ...] = TABLES) -> dict[str, list[str]]:
    return {table: [file.place.host for file in files] for table, files in listing(str(dataset), tables).files.items()}


def skipped(dataset: Path, tables: tuple[str, ...] = TABLES) -> list[tuple[str, str]]:
    return [tuple(one) for one in listing(str(dataset), tables).skipped]


def test_all_that_was_written_is_found(dataset):
    found = listing(str(dataset), TABLES)
    assert names(dataset) == {table: ["healthy", "table_full"] for table in TABLES} and not found.skipped
    for table, files in found.files.items():
        for file in files:
            assert file.rows == parquet.read_metadata(file.path).num_rows and file.bytes == os.stat(file.path).st_size
            assert file.path == str(one(dataset, table, file.place.host))
            assert found.system.open_input_file(file.path).size() == file.bytes


def test_of_some_tables_days_and_hosts(dataset):
    assert names(dataset, ("verdicts",)) == {"verdicts": ["healthy", "table_full"]}
    found = listing(str(dataset), ("events", "verdicts"), lambda place: place.host == "healthy")
    assert {table: [file.place.host for file in files] for table, files in found.files.items()} == {
        "events": ["healthy"],
        "verdicts": ["healthy"],
    }
    assert listing(str(dataset), ("events",), lambda place: place.day > "2030-01-01").files == {"events": ()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zeroed(path: Path) -> None:
    path.write_bytes(b"\0" * 5000)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("no Parquet at all, but long enough to look into")


def foreign(path: Path) -> None:
    parquet.write_table(pyarrow.table({"a": [1]}), path)


def of_schema_2(path: Path) -> None:
    rewritten(path, lambda said: {key: value.replace('"schema": 1', '"schema": 2') for key, value in said.items()})


def of_another_table(path: Path) -> None:
    rewritten(path, lambda _: told("settings"))


def nonsense(path: Path) -> None:
    rewritten(path, lambda _: {"ctobserve": "[" * 100_000})


def rewritten(path: Path, say: Any, columns: Any = COLUMNS["events"]) -> None:
    table = ParquetTable(columns, content := BytesIO(), say(told("events")))
    table.close()
    path.write_bytes(content.getvalue())


def with_other_columns(path: Path) -> None:
    rewritten(path, dict, COLUMNS["events"][:-1])


DAMAGE = {
    cut: "is damaged, or no Parquet file",
    zeroed: "is damaged, or no Parquet file",
    emptied: "is damaged, or no Parquet file",
    text: "is damaged, or no Parquet file",
    foreign: "is no file of ctobserve's: its metadata do not say so",
    of_schema_2: "has schema 2, and this version reads 1",
    of_another_table: "is of the table settings, and lies in events",
    nonsense: "is no file of ctobserve's: its metadata do not say so",
    with_other_columns: "has other columns than the table events",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_or_foreign_file_is_named_and_the_rest_is_there(dataset, damage):
    path = one(dataset, "events")
    damage(path)
    assert names(dataset) == {table: ["healthy", "table_full"] for table in TABLES} | {"events": ["table_full"]}
    ((where, why),) = skipped(dataset)
    assert where == str(path.relative_to(dataset)) and why.startswith(DAMAGE[damage]) and "\n" not in why


def test_a_file_in_the_folder_of_another_day_or_host_is_named(dataset):
    path = one(dataset, "events")
    name, day = path.name, path.parts[-3]
    path.parent.rename(dataset / "events" / day / "host=other")
    moved = dataset / "events/date=2026-01-01/host=table_full"
    moved.mkdir(parents=True)
    other = one(dataset, "events", "table_full")
    other.rename(moved / other.name)
    assert names(dataset)["events"] == []
    assert skipped(dataset) == [
        (f"events/date=2026-01-01/host=table_full/{other.name}", "has rows of 2026-11-26, and lies in date=2026-01-01"),
        (f"events/{day}/host=other/{name}", "not all of its recording is there; give `ctobserve convert` that recording again"),
    ]


def test_a_recording_without_its_mark_is_not_there_yet(dataset):
    one(dataset, "recordings").unlink()
    assert names(dataset) == {table: ["table_full"] for table in TABLES}
    assert len(skipped(dataset)) == len(TABLES) - 1


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("README", "lies where no file of a dataset does: TABLE/date=YYYY-MM-DD/host=HOST/RECORDING.parquet"),
        ("events/x.parquet", "lies where no file of a dataset does"),
        ("events/date=2026-11-26/host=a/deeper/x.parquet", "lies where no file of a dataset does"),
        ("other/date=2026-11-26/host=a/x.parquet", "lies where no file of a dataset does"),
        (f"events/day=2026-11-26/host=a/{'0' * 32}.parquet", "lies in a folder whose name does not begin with date="),
        (f"events/date=2026-11-31/host=a/{'0' * 32}.parquet", "lies in a folder whose date is no day like 2026-11-26"),
        (f"events/date=20261126/host=a/{'0' * 32}.parquet", "lies in a folder whose date is no day like 2026-11-26"),
        (f"events/date=2026-11-26/a/{'0' * 32}.parquet", "lies in a folder whose name does not begin with host="),
        (f"events/date=2026-11-26/host=a b/{'0' * 32}.parquet", "is no name for a host"),
        ("events/date=2026-11-26/host=a/x.parquet", "has another name than 32 hex digits and .parquet"),
        (f"events/date=2026-11-26/host=a/{'0' * 32}", "has another name than 32 hex digits and .parquet"),
        (f"events/date=2026-11-26/host=a/{'0' * 32}.csv", "has another name than 32 hex digits and .parquet"),
    ],
)
def test_what_lies_where_nothing_belongs_is_named(dataset, path, why):
    there = dataset / path
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(b"PAR1")
    ((where, said),) = skipped(dataset)
    assert where == (path.partition("/")[0] if path.startswith("other") else path) and said.startswith(why)


def test_a_name_is_shown_as_a_terminal_can(dataset):
    (dataset / "events" / "\x1b[2J").write_bytes(b"")
    assert skipped(dataset)[0][0] == "events/\\x1b[2J"


def test_hidden_files_are_those_of_who_writes(dataset):
    for path in (".ctobserve.1", "_SUCCESS", "events/.tmp", "events/_delta_log/0.json", "_metadata/x"):
        (dataset / path).parent.mkdir(exist_ok=True)
        (dataset / path).write_bytes(b"")
    assert not skipped(dataset)


def test_a_pipe_is_not_waited_for(dataset):
    path = one(dataset, "events")
    path.unlink()
    os.mkfifo(path)
    assert skipped(dataset) == [(str(path.relative_to(dataset)), "is no regular file")]


def test_where_no_recording_is_there_is_no_dataset(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="has no recordings; `ctobserve convert FILE OUT --dataset` puts some there"):
            listing(str(path), TABLES)


def test_a_place_is_what_its_path_says():
    place = Place("events", "2026-11-26", "web-1.example", "0" * 32)
    assert place_of("/".join((*place.folders, place.name))) == place


@pytest.mark.parametrize("name", ["a", "web-1.example.org", "_a", "9", "A" * 128])
def test_a_host_may_be_called_so(name):
    assert host_name(name) == name


def test_what_a_footer_lacks_is_said(tmp_path):
    (tmp_path / "x").write_bytes(b"PAR1" + b"\xff" * 50 + b"PAR1")
    with pytest.raises(NotOurs, match="is damaged"):
        Footers(here()).rows(Place("events", "2026-11-26", "a", "0" * 32), str(tmp_path / "x"))


def test_bytes_of_others_raise_nothing_else(dataset):
    """Each byte of a footer changed, some of them at a time."""
    path = one(dataset, "recordings")
    whole = path.read_bytes()
    place = place_of(str(path.relative_to(dataset)))
    footers = Footers(here())
    assert footers.rows(place, str(path)) == 1
    failed = 0
    for at in range(8, len(whole), 37):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 0xFF,)) + whole[at + 1 :])
        try:
            footers.rows(place, str(path))
        except NotOurs:
            failed += 1
    assert failed > 10


def test_a_dataset_can_be_asked_by_url(dataset, monkeypatch, capsys):
    url = "memory://listed"
    assert run(monkeypatch, capsys, "convert", str(recording("healthy")), url, "--dataset", "--host", "a")[0] == 0
    found = listing(url, ("verdicts", "recordings"))
    assert [file.place.host for file in found.files["recordings"]] == ["a"] and not found.skipped
    with found.system.open_input_file(found.files["verdicts"][0].path) as file:
        assert parquet.read_table(file).num_rows == found.files["verdicts"][0].rows > 0
