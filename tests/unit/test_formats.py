"""A file of another program or another version: nothing is believed before it is ours, and what is not known is left out."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.columns import ROWS, columns_of
from ctobserve.capture.store.container import APPLICATION, FORMAT, SCHEMA, Unreadable
from ctobserve.capture.store.facts import KINDS
from ctobserve.capture.store.reader import Reader
from tests.scripted import ScriptedCapture
from tests.unit.recordings import record
from tests.unit.tables import entries


def small(path: Path) -> Path:
    """A whole recording."""
    record(ScriptedCapture(entries=entries(5)), path, seconds=0.1)
    return path


def test_a_foreign_file_or_one_of_another_format_is_named_as_such(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other")) as made:
        made.execute("CREATE TABLE x (y)")
    (tmp_path / "text").write_text("x" * 4096)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    for name in ("other", "text", "empty"):
        with pytest.raises(Unreadable, match="is no recording of ctobserve"):
            Reader(tmp_path / name)
    with pytest.raises(Unreadable, match="is no regular file"):
        Reader(tmp_path / "fifo")
    for other in (FORMAT - 1, FORMAT + 1):
        with closing(sqlite3.connect(small(tmp_path / f"{other}"))) as made:
            made.execute(f"PRAGMA user_version={other}")
        with pytest.raises(
            Unreadable, match=rf"has format {other}, and this version reads {FORMAT}; use the ctobserve that made it"
        ):
            Reader(tmp_path / f"{other}")


def test_what_another_version_of_the_format_says_beside_is_left_out(tmp_path):
    with closing(Reader(small(tmp_path / "one"))) as reader:
        known = RecordedView(reader)
        host, kinds = known.host, {kind: list(reader.all(kind)) for kind in KINDS}
    with closing(sqlite3.connect(tmp_path / "one")) as made, made:
        made.execute("INSERT INTO facts SELECT max(id) + 1, max(at_ns), 'weather', NULL, '{\"rain\": true}' FROM facts")
        made.execute("INSERT INTO chunks SELECT max(id) + 2, 'drop_of_rain', NULL, 1, 1, 1, x'00' FROM facts")
        made.execute("INSERT INTO columns VALUES ('drop_of_rain', 'size', '<u8', '', 'squared', 'mm', 'how large')")
        made.execute("UPDATE facts SET body = json_insert(body, '$.weather', 'rain') WHERE kind = 'host'")
        made.execute("UPDATE facts SET body = json_remove(body, '$.boot') WHERE kind = 'host'")
    with closing(Reader(tmp_path / "one")) as reader:
        assert RecordedView(reader).host == host._replace(boot=None) and not reader.damaged
        told = {kind: list(reader.all(kind)) for kind in KINDS}
        assert told == {**kinds, "host": [fact._replace(found=host._replace(boot=None)) for fact in kinds["host"]]}
        assert not reader.damaged


def test_rows_with_other_columns_than_this_version_has_are_lost_and_their_kind_is_named(tmp_path):
    with closing(sqlite3.connect(small(tmp_path / "one"))) as made, made:
        made.execute("UPDATE columns SET how = 'delta' WHERE kind = 'entry' AND name = 'seen_ns'")
    with closing(Reader(tmp_path / "one")) as reader:
        assert reader.complaint and "its columns of kind entry are not those of this version" in reader.complaint
        (keyframe, *_) = reader.all("keyframe")
        assert keyframe.found.entries == 5 and not len(reader.rows("entry", keyframe.number, 5)) and reader.damaged == 6


@pytest.mark.parametrize(
    "more",
    [
        "CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM facts; END",
        "CREATE VIEW v AS SELECT load_extension('x')",
        "CREATE TABLE more (x)",
        "CREATE INDEX i ON facts (abs(at_ns))",
        "ALTER TABLE facts ADD COLUMN x AS (abs(at_ns))",
        "DROP INDEX chunks_by_time",
    ],
)
def test_a_schema_that_is_not_ours_word_for_word_is_not_asked(tmp_path, more):
    with closing(sqlite3.connect(small(tmp_path / "one"))) as made:
        made.execute(more)
    with pytest.raises(Unreadable, match="has other tables than a recording"):
        Reader(tmp_path / "one")


def test_a_recording_can_only_be_read(tmp_path):
    with closing(Reader(small(tmp_path / "one"))) as reader:
        for statement in ("DELETE FROM facts", "ATTACH ':memory:' AS x", "PRAGMA user_version=9", "VACUUM INTO 'copy'"):
            with pytest.raises(sqlite3.Error):
                reader._found.execute(statement)
    assert os.listdir(tmp_path) == ["one"]


def test_the_file_says_what_it_is_to_whoever_has_sqlite(tmp_path):
    with closing(sqlite3.connect(f"file:{small(tmp_path / 'one')}?mode=ro", uri=True)) as found:
        assert found.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert found.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert found.execute("SELECT count(*) FROM columns").fetchone() == (sum(len(columns_of(kind)) for kind in ROWS),)
        assert [sql for (sql,) in found.execute("SELECT sql FROM sqlite_schema")] == list(SCHEMA)
        page = Path(__file__).parents[2].joinpath("docs/recording.md").read_text().partition("## By SQL")[2].partition("\n## ")[0]
        questions = "\n".join(line[4:] for line in page.splitlines() if line.startswith("    ")).split(";")
        for question in filter(str.strip, questions):
            assert found.execute(question).description
        (kinds,) = zip(*found.execute("SELECT DISTINCT kind FROM facts"), strict=True)
        assert set(kinds) <= set(KINDS)
