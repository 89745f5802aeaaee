"""A recording becomes part of a dataset: what lies where, once and for all, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from ctobserve import __version__
from ctobserve.capture.store.joined import opened
from ctobserve.clock import iso
from ctobserve.documents import convert
from ctobserve.errors import CtobserveError, by_pip
from ctobserve.event import Kind
from ctobserve.fleet import rows, storage, writing
from ctobserve.fleet.adding import add
from ctobserve.fleet.layout import NS_PER_DAY
from ctobserve.fleet.listing import listing
from ctobserve.fleet.schema import COLUMNS, CONVERTED, KEY, RECORDINGS, SCHEMA, TABLES
from ctobserve.render.tables import WHEN, WHOSE, Batch
from ctobserve_lab.recordings import recording
from tests import scripted
from tests.scripted import CLOCK, ScriptedCapture
from tests.unit.flights import Churning, fly
from tests.unit.objectstore import serving
from tests.unit.recordings import in_time, record
from tests.unit.tables import entries, tcp
from tests.unit.test_convert import tables
from tests.unit.test_recording import busy
from tests.unit.typed import run

Table = list[dict[str, Any]]
NO_NAMES = (*("a/b", "a=b", ".", "..", ".a", "-a", "ä", "x" * 129), *(f"a{one}b" for one in "\x1b\\%'\"$*?"))
TIMES = {"events": "wall_ns", "snapshots": "wall_ns", "counters": "wall_ns", "recordings": "began_wall_ns"}
DAY = iso(CLOCK.wall_ns)[:10]


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Runs a command there; FILE is a recording."""
    record(busy(), tmp_path / "FILE", keyframe_s=1)
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(monkeypatch, capsys, *words)


def added(typed: Any, path: str = "FILE", host: str = "web-1", *more: str) -> str:
    code, out, err = typed("convert", path, "ds", "--dataset", "--host", host, *more)
    assert (code, err) == (0, "") and out.count("\n") == 1
    return str(out)


def files(dataset: Path = Path("ds")) -> dict[str, bytes]:
    return {str(path.relative_to(dataset)): path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()}


def table(name: str, dataset: Path = Path("ds")) -> Table:
    found = sorted(dataset.glob(f"{name}/*/*/*.parquet"))
    return [row for path in found for row in parquet.ParquetFile(path).read().to_pylist()]


def identity(path: str) -> str:
    return sha256(Path(path).read_bytes()).hexdigest()[:32]


def test_each_table_lies_by_day_and_host_and_says_what_it_is(typed):
    number = identity("FILE")
    out = added(typed)
    assert out.startswith(f"ds: web-1 {number}: events ")
    assert list(files()) == sorted(f"{name}/date={DAY}/host=web-1/{number}.parquet" for name in TABLES)
    for name in TABLES:
        found = parquet.ParquetFile(f"ds/{name}/date={DAY}/host=web-1/{number}.parquet")
        assert found.schema_arrow.names == [one.name for one in COLUMNS[name]]
        assert {str(kind) for kind in found.schema_arrow.types} <= {"int64", "string", "double"}
        said = json.loads(found.metadata.metadata[KEY.encode()])
        assert said == {"schema": SCHEMA, "table": name, "version": __version__}
    assert {row["recording"] for name in TABLES for row in table(name)} == {number}


def test_events_entries_and_counters_are_those_of_convert(typed):
    added(typed)
    whole = tables(Path("FILE"), tuple(CONVERTED))
    for theirs, ours in CONVERTED.items():
        found = [{"table": theirs, **row} for row in table(ours)]
        assert found and [{name: value for name, value in row.items() if name != "recording"} for row in found] == whole[theirs]


def test_a_recording_has_a_row_of_its_own(typed):
    added(typed, "FILE", "web-1", "--image", "debian 12.13")
    (row,) = table("recordings")
    assert row == {
        "recording": identity("FILE"),
        "boot_id": None,
        "kernel": "6.1.0-test",
        "began_wall_ns": CLOCK.wall_ns,
        "ended_wall_ns": CLOCK.wall_ns + 5_000_000_000,
        "machine": "x86_64",
        "image": "debian 12.13",
        "events": len(table("events")),
        "records_lost": 0,
        "damaged": 0,
        "ctobserve": __version__,
    }


def test_verdicts_are_those_of_the_report(typed):
    for name in ("table_full", "healthy", "udp_race"):
        shutil.copy(recording(name), name)
        added(typed, name, name.replace("_", "-"))
        code, out, _ = typed("report", "--from", name, "--format", "json")
        assert code == 0
        report = json.loads(out)
        found = [row for row in table("verdicts") if row["recording"] == unpacked(name)]
        assert [(row["id"], row["severity"], row["sentence"], json.loads(row["evidence"]), row["owner"]) for row in found] == [
            (one["id"], one["severity"], one["sentence"], one["evidence"], one["owner"]) for one in report["verdicts"]
        ]
        for row, one in zip(found, report["verdicts"], strict=True):
            netns = one["evidence"].get("netns")
            assert row["netns"] == netns
            assert row["netns_name"] == (None if netns is None else report["meta"]["netns_names"][str(netns)])
            assert (iso(row["from_wall_ns"]), iso(row["to_wall_ns"])) == (report["meta"]["started"], report["meta"]["ended"])


def unpacked(name: str) -> str:
    made = subprocess.run(["xz", "-dc", name], capture_output=True, check=True).stdout
    return sha256(made).hexdigest()[:32]


def test_a_recording_that_xz_compressed_is_the_same_recording(typed):
    subprocess.run(["xz", "-k", "FILE"], check=True)
    assert identity("FILE") in added(typed)
    assert "is there already" in added(typed, "FILE.xz")


def test_namespaces_say_how_full_they_are_and_what_they_may_have(typed):
    shutil.copy(recording("table_full"), "real")
    added(typed, "real", "gw")
    found = [(row["netns_name"], row["entries"], row["entries_limit"], row["buckets"]) for row in table("namespaces")]
    assert found == [("init", 0, 65536, 65536), ("full", 7, 65536, 65536), ("init", 0, 7, 65536), ("full", 7, 7, 65536)]


def test_settings_are_said_once_and_again_when_they_change(typed):
    shutil.copy(recording("table_full"), "real")
    added(typed, "real", "gw")
    found = table("settings")
    begin = min(row["wall_ns"] for row in found)
    first = [row for row in found if row["wall_ns"] == begin]
    assert len(first) == len({(row["netns"], row["name"]) for row in found}) and len(first) > 90
    assert {row["name"] for row in first} >= {"nf_conntrack_max", "nf_conntrack_buckets", "nf_conntrack_udp_timeout"}
    assert "nf_conntrack_count" not in {row["name"] for row in found}
    later = [(row["netns_name"], row["name"], row["value"]) for row in found if row["wall_ns"] > begin]
    assert later == [("init", "nf_conntrack_max", "7"), ("full", "nf_conntrack_max", "7")]


def test_a_second_time_nothing_is_changed(typed):
    added(typed)
    before = {path: os.stat(f"ds/{path}") for path in files()}
    assert added(typed) == f"ds: web-1 {identity('FILE')}: is there already; nothing was changed\n"
    assert {path: os.stat(f"ds/{path}") for path in files()} == before


def test_another_host_or_recording_leaves_what_is_there(typed):
    added(typed)
    before = files()
    shutil.copy(recording("healthy"), "other")
    added(typed, "other", "web-2")
    assert before.items() < files().items()


def test_one_recording_is_not_of_two_hosts(typed):
    added(typed)
    before = files()
    code, out, err = typed("convert", "FILE", "ds", "--dataset", "--host", "web-2")
    assert (code, out) == (2, "") and files() == before
    assert err == "ctobserve: FILE is there as a recording of the host web-1; give --host web-1\n"


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_run_that_was_interrupted_is_completed_with_the_same_bytes(typed, monkeypatch, at):
    added(typed)
    whole = files()
    shutil.rmtree("ds")
    begun: list[str] = []
    new = writing.ParquetTable

    def interrupted(*given: Any) -> Any:
        begun.append("")
        if len(begun) > at:
            raise KeyboardInterrupt
        return new(*given)

    monkeypatch.setattr(writing, "ParquetTable", interrupted)
    code, out, err = typed("convert", "FILE", "ds", "--dataset", "--host", "web-1")
    assert (code, out) == (
        1,
        "",
    ) and err == "ctobserve: ds: not all of the recording is there: interrupted; give the same command again\n"
    # Whole files or none, and never the one that says that all are there.
    assert files().items() <= whole.items() and not list(Path("ds").glob("recordings/*/*/*"))
    monkeypatch.setattr(writing, "ParquetTable", new)
    added(typed)
    assert files() == whole


def test_two_at_once_do_no_harm(typed):
    added(typed)
    whole = files()
    shutil.rmtree("ds")

    def both() -> None:
        with closing(opened(Path("FILE"))) as one, storage.opened("ds") as place:
            barrier.wait()
            add(one, place, "web-1", None, lambda _: None)

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=both) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files() == whole


def test_only_its_owner_may_read_it(typed):
    added(typed)
    for path in [Path("ds"), *Path("ds").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


@pytest.mark.parametrize(
    ("dataset", "planted"),
    [
        *(
            ("ds", planted)
            for planted in ("events", f"events/date={DAY}", f"events/date={DAY}/host=web-1", f"recordings/date={DAY}")
        ),
        *((url, "events") for url in ("file://{}/ds", "local://{}/ds")),
    ],
)
def test_a_link_in_it_leads_nowhere(typed, tmp_path, planted, dataset):
    Path("elsewhere").mkdir()
    Path("ds", planted).parent.mkdir(parents=True)
    Path("ds", planted).symlink_to(Path("elsewhere").absolute())
    code, out, err = typed("convert", "FILE", dataset.format(tmp_path), "--dataset", "--host", "web-1")
    assert (code, out) == (1, "") and err.count("\n") == 1 and "not all of the recording is there: " in err
    assert not os.listdir("elsewhere")


def test_a_link_in_place_of_a_file_is_replaced_and_not_written_through(typed):
    Path("precious").write_text("of somebody")
    folder = Path(f"ds/events/date={DAY}/host=web-1")
    folder.mkdir(parents=True)
    (folder / f"{identity('FILE')}.parquet").symlink_to(Path("precious").absolute())
    added(typed)
    assert Path("precious").read_text() == "of somebody" and not next(folder.iterdir()).is_symlink()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("FILE ds --dataset", "give --host NAME"),
        ("FILE ds --host a", "--host is of a dataset; give --dataset"),
        ("FILE ds --image a", "--image is of a dataset; give --dataset"),
        ("FILE ds --dataset --host a --tables events", "no use for --tables"),
        ("FILE ds --dataset --host a --format jsonl", "no use for --format"),
        ("FILE foo://bar/ds --dataset --host a", "foo://bar/ds is on no file system that is known here"),
        ("FILE foo://me:secret@bar/ds?key=secret --dataset --host a", "foo://bar/ds is on no"),
        ("FILE - --dataset --host a", "- is stdout, which can be no dataset; give a folder"),
        ("FILE FILE --dataset --host a", "FILE: not a directory; give a folder, or a URL like s3://BUCKET/FOLDER"),
        ("FILE nowhere/ds --dataset --host a", "no such file or directory"),
        *((f"FILE ds --dataset --host {host}", "is no name for a host") for host in NO_NAMES),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_makes_nothing(typed, words, says):
    code, out, err = typed("convert", *words.split(" "))
    assert (code, out) == (2, "") and err.startswith("ctobserve: ") and err.count("\n") == 1 and says in err
    assert "secret" not in err and err.strip().isprintable() and os.listdir() == ["FILE"]


def test_without_pyarrow_it_says_what_to_install(typed, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, out, err = typed("convert", "FILE", "ds", "--dataset", "--host", "a")
    assert (code, out) == (3, "") and err.endswith(f"install it with: {by_pip('parquet')}\n")
    assert os.listdir() == ["FILE"]


def test_an_image_is_shown_as_a_terminal_can(typed):
    added(typed, "FILE", "web-1", "--image", "a\x1b[2J")
    assert table("recordings")[0]["image"] == "a\\x1b[2J"


def test_what_is_damaged_is_left_out_and_counted(typed):
    with closing(sqlite3.connect("FILE")) as made:
        made.execute("UPDATE chunks SET body = x'00' WHERE kind = 'event'")
        made.commit()
    code, out, err = typed("convert", "FILE", "ds", "--dataset", "--host", "web-1")
    assert code == 0 and "events 0," in out and err.startswith("ctobserve: FILE: not all could be read") and err.count("\n") == 1
    (row,) = table("recordings")
    assert row["damaged"] > 0 and row["events"] == 0 and not table("events") and table("snapshots")


def test_what_cannot_be_judged_has_no_verdicts_and_a_line_says_so(typed, monkeypatch):
    monkeypatch.setattr("ctobserve.capture.replay.MOST_ENTRIES", 3)
    code, out, err = typed("convert", "FILE", "ds", "--dataset", "--host", "web-1")
    assert code == 0 and "verdicts 0" in out
    assert err == "ctobserve: FILE has no verdicts in ds: FILE: more entries than a table has\n"
    assert len(table("recordings")) == 1 and table("events") and not table("verdicts")


def test_records_that_the_recorder_lost_are_counted(typed):
    lost = scripted.FIDELITY._replace(lost={"insert": 7, "drop": 4})
    record(ScriptedCapture(entries=entries(3), told=lost), Path("lossy"))
    added(typed, "lossy")
    assert table("recordings")[0]["records_lost"] == 11


def test_an_anonymised_recording_is_one_like_any_other(typed):
    shutil.copy(recording("greedy_source"), "real")
    assert typed("anonymise", "real", "shared")[0] == 0
    added(typed, "real", "a")
    added(typed, "shared", "b")
    one, other = (table_of(host) for host in ("a", "b"))
    assert {name: len(found) for name, found in one.items()} == {name: len(found) for name, found in other.items()}
    assert [row["id"] for row in one["verdicts"]] == [row["id"] for row in other["verdicts"]]
    assert [row["value"] for row in one["settings"]] == [row["value"] for row in other["settings"]]
    sources = [{row["original.src"] for row in found["snapshots"]} for found in (one, other)]
    assert len(sources[0]) == len(sources[1]) and not sources[0] & sources[1]


def table_of(host: str) -> dict[str, Table]:
    return {
        name: [row for path in Path("ds").glob(f"{name}/*/host={host}/*") for row in parquet.ParquetFile(path).read().to_pylist()]
        for name in TABLES
    }


def test_a_flight_recorders_directory_is_one_recording(typed):
    fly(Churning(pace_s=0.5), Path("dir"), 60, keep_s=40, keyframe_s=10)
    parts = sorted(Path("dir").glob("part-*"))
    content = sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:32]
    assert len(parts) > 1 and content in added(typed, "dir")
    assert len(table("recordings")) == 1 and len(table("events")) == len(tables(Path("dir/" + parts[0].name))["events"]) + sum(
        len(tables(path)["events"]) for path in parts[1:]
    )


def test_rows_lie_in_the_day_in_which_they_happened(typed, monkeypatch):
    late = CLOCK._replace(wall_ns=CLOCK.wall_ns // NS_PER_DAY * NS_PER_DAY + NS_PER_DAY - 2_500_000_000)
    monkeypatch.setattr(scripted, "CLOCK", late)
    happened = scripted.events(Kind.INSERT, tcp(50), at_s=np.linspace(0, 4.9, 50))
    record(ScriptedCapture(batches=in_time(happened), entries=entries(9)), Path("late"), keyframe_s=1)
    added(typed, "late")
    days = sorted({path.split("/")[1] for path in files()})
    assert len(days) == 2
    for name, column in TIMES.items():
        for path in Path("ds", name).rglob("*.parquet"):
            times = parquet.ParquetFile(path).read()[column].to_pylist()
            assert {f"date={iso(ns)[:10]}" for ns in times} == {path.parts[2]}
    assert len(table("events")) == 50 and len(table("recordings")) == 1
    assert len(list(Path("ds/events").iterdir())) == 2 and len(list(Path("ds/verdicts").iterdir())) == 1


def test_rows_of_more_days_than_any_recording_has_are_refused(tmp_path):
    time = writing.time_at("settings")
    refused = pytest.raises(CtobserveError, match="more than 100 days")
    with storage.opened(str(tmp_path)) as place, refused, writing.writing(place, "a", "0" * 32) as made:
        for day in range(101):
            values: list[Any] = [None] * len(COLUMNS["settings"])
            values[time] = [day * NS_PER_DAY]
            made.write(Batch("settings", values, 1))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_of_many_days_the_rows_of_one_are_held(tmp_path, monkeypatch):
    flushed: list[int] = []
    flush = writing.ParquetTable.flush
    monkeypatch.setattr(writing.ParquetTable, "flush", lambda self: (flushed.append(self._rows), flush(self))[1])
    time = writing.time_at("settings")
    with storage.opened(str(tmp_path)) as place, writing.writing(place, "a", "0" * 32) as made:
        for day in range(5):
            values: list[Any] = [None] * len(COLUMNS["settings"])
            values[time] = [day * NS_PER_DAY] * 3
            made.write(Batch("settings", values, 3))
        assert flushed == [3] * 4
    assert len(table("settings", tmp_path)) == 15


def test_few_rows_are_made_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "TOGETHER", 10)
    with closing(opened(recording("healthy"))) as reader:
        counts = [batch.rows for batch in rows.told(rows.Source(reader, "x"))]
    assert max(counts) == 10 and sum(counts) == 150


@pytest.mark.parametrize("url", ["file://{}/ds", "memory://fleet{}"])
def test_a_url_is_a_dataset_too(typed, tmp_path, url):
    added(typed)
    whole = {path.partition("/")[2]: content for path, content in files(Path()).items() if path.startswith("ds/")}
    shutil.rmtree("ds")
    where = url.format(tmp_path)
    assert typed("convert", "FILE", where, "--dataset", "--host", "web-1")[0] == 0
    system, base = storage.located(where)
    paths = remote_files(system, base)
    assert {path.removeprefix(base).lstrip("/"): bytes(system.open_input_file(path).read()) for path in paths} == whole
    code, out, _ = typed("convert", "FILE", where, "--dataset", "--host", "web-1")
    assert code == 0 and "is there already" in out
    code, _, err = typed("convert", "FILE", where, "--dataset", "--host", "web-2")
    assert code == 2 and "give --host web-1" in err


def remote_files(system: Any, base: str) -> list[str]:
    from ctobserve.fleet.remote import infos

    return [one.path for one in infos(system, base) if one.is_file]


def test_in_an_object_store_it_is_the_same_and_nothing_is_deleted(typed, monkeypatch):
    added(typed)
    whole = {f"fleet/{path}": content for path, content in files(Path("ds")).items()}
    new = writing.ParquetTable
    words = ("--dataset", "--host", "web-1")

    def interrupted(*given: Any) -> Any:
        if given[0] == COLUMNS["verdicts"]:
            raise KeyboardInterrupt
        return new(*given)

    with serving() as objects:
        monkeypatch.setattr(writing, "ParquetTable", interrupted)
        code, _, err = typed("convert", "FILE", objects.url, *words)
        assert code == 1 and "s3://bucket/fleet: not all of the recording is there: interrupted" in err
        assert not [key for key in objects.held if RECORDINGS in key]
        monkeypatch.setattr(writing, "ParquetTable", new)
        code, out, err = typed("convert", "FILE", objects.url, *words)
        assert (code, err) == (0, "") and out.startswith("s3://bucket/fleet: web-1 ") and "secret" not in out
        assert objects.held == whole and not objects.refused
        assert "is there already" in typed("convert", "FILE", objects.url, *words)[1]
        found = listing(objects.url, TABLES)
        assert [file.place.host for name in TABLES for file in found.files[name]] == ["web-1"] * len(TABLES)
        assert not found.skipped


def test_far_away_too_a_run_that_fails_leaves_no_part_of_a_file(typed, monkeypatch):
    new = writing.ParquetTable

    def failing(*given: Any) -> Any:
        if given[0] == COLUMNS[RECORDINGS]:
            raise OSError(28, "No space left on device")
        return new(*given)

    monkeypatch.setattr(writing, "ParquetTable", failing)
    code, _, err = typed("convert", "FILE", "memory://failing", "--dataset", "--host", "web-1")
    assert code == 1 and err.endswith("not all of the recording is there: no space left on device; give the same command again\n")
    system, base = storage.located("memory://failing")
    assert sorted({path.rsplit("/", 4)[1] for path in remote_files(system, base)}) == sorted(set(TABLES) - {RECORDINGS})


def test_the_page_has_each_column_and_the_catalogue_those_of_its_table():
    page = Path(__file__).parents[2].joinpath("docs/fleet.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \|(.*)\|$", page.partition("## Questions")[0], re.M))
    assert rows.keys() >= set(TABLES)
    said = {name for name in TABLES if "those of `convert`" not in rows[name]}
    assert said == set(TABLES) - set(CONVERTED.values())
    for name in said:
        begin = [*WHOSE, *WHEN] if WHEN[0] in COLUMNS[name] else [*WHOSE]
        own = [one.name for one in COLUMNS[name] if one not in begin]
        assert [one for one in re.findall(r"`(\w+)`", rows[name]) if one in own] == own[1:]
    (columns,) = re.findall(r"CREATE TABLE hive\.fleet\.verdicts \((.*?)\) WITH", page, re.S)
    forms = {str: "varchar", int: "bigint"}
    wanted = [(one.name, forms[one.form]) for one in COLUMNS["verdicts"]]
    assert [tuple(one.split()) for one in columns.split(",")] == [*wanted, ("date", "varchar"), ("host", "varchar")]


def test_what_convert_makes_without_a_dataset_is_as_it_was(typed):
    assert typed("convert", "FILE", "made")[0] == 0
    assert sorted(os.listdir("made")) == sorted(f"{name}.parquet" for name in convert.TABLES)
