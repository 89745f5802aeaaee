"""A recording that xz has compressed as a whole is read as it is, and never becomes more than it may."""

from __future__ import annotations

import lzma
import os
import sqlite3
import tracemalloc
from contextlib import closing

import numpy as np
import pytest

from ctobserve.capture.store import packed
from ctobserve.capture.store.container import FORMAT, Unreadable
from ctobserve.capture.store.joined import opened
from ctobserve.capture.store.reader import Chunk, Fact, Reader
from ctobserve.capture.watch import Stretch
from ctobserve.event import Kind
from tests import scripted
from tests.scripted import ScriptedCapture
from tests.smallest import smallest
from tests.unit.recordings import at_end, in_time, record, replay
from tests.unit.tables import entries
from tests.unit.test_recording import CAPTURES, OF_A_STRETCH, OF_AN_INSTANT, busy


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("packed") / "one"
    record(busy(), path, keyframe_s=2, level=0)
    return path.read_bytes()


def told(path) -> list[object]:
    with closing(Reader(path)) as reader:
        found = list(reader.told())
        rows = [reader.chunk(one.kind, one).tobytes() for one in found if isinstance(one, Chunk)]
        assert rows and any(isinstance(one, Fact) for one in found) and not reader.damaged
        return [reader.meta, *found, *rows]


@pytest.mark.parametrize("check", [lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256])
def test_it_tells_what_the_file_itself_does(content, tmp_path, check):
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed").write_bytes(lzma.compress(content, check=check))
    assert told(tmp_path / "packed") == told(tmp_path / "plain")
    assert (tmp_path / "packed").stat().st_size < len(content) / 4


def test_it_is_read_alone_and_can_only_be_read(content, tmp_path):
    (tmp_path / "one").write_bytes(lzma.compress(content))
    (tmp_path / "one-wal").write_bytes(b"of another")
    with closing(Reader(tmp_path / "one")) as reader:
        for statement in ("DELETE FROM facts", "ATTACH ':memory:' AS x", "PRAGMA user_version=9", "VACUUM INTO 'copy'"):
            with pytest.raises(sqlite3.Error):
                reader._found.execute(statement)
    assert sorted(os.listdir(tmp_path)) == ["one", "one-wal"]


def changed(content: bytes, statement: str) -> bytes:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.deserialize(content)
        made.execute(statement)
        return made.serialize()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda content: lzma.compress(content)[:-1], "its end is missing; xz -dc makes a file of what is there"),
        (lambda content: lzma.compress(content)[:40], "its end is missing"),
        (lambda content: lzma.compress(content)[:900] + bytes(9) + lzma.compress(content)[909:], "corrupt input data"),
        (lambda _: lzma.compress(b""), "is no recording"),
        (lambda content: lzma.compress(content[:50]), "is no recording"),
        (lambda content: lzma.compress(lzma.compress(content)), "is no recording"),
        (lambda content: lzma.compress(content[:5000]), "cannot be read|damaged at its begin"),
        (lambda content: lzma.compress(changed(content, f"PRAGMA user_version={FORMAT + 1}")), f"has format {FORMAT + 1}"),
        (lambda content: lzma.compress(changed(content, "CREATE VIEW v AS SELECT 1")), "has other tables"),
        # In the header: its journal is one that a file in memory cannot have.
        (lambda content: lzma.compress(content[:18] + b"\2\2" + content[20:]), "cannot be read"),
        (
            lambda content: lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}]),
            "memory usage limit exceeded",
        ),
    ],
)
def test_what_is_no_whole_recording_is_one_line(content, tmp_path, made, says):
    (tmp_path / "one").write_bytes(made(content))
    with pytest.raises(Unreadable, match=says) as refused:
        Reader(tmp_path / "one")
    assert str(refused.value).isprintable()


def test_what_becomes_more_than_it_may_is_not_made(content, monkeypatch, tmp_path):
    monkeypatch.setattr(packed, "MOST_BYTES", 8 << 20)
    bomb = lzma.compress(content + bytes(64 << 20))
    (tmp_path / "one").write_bytes(bomb)
    assert len(bomb) < 100_000
    tracemalloc.start()
    with pytest.raises(Unreadable, match="it becomes more than 8 MiB; unpack it by xz -dc, then give it"):
        Reader(tmp_path / "one")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


def test_no_part_of_a_directory_is_unpacked_for_there_can_be_many(content, tmp_path):
    for number in range(1, 4):
        (tmp_path / f"part-{number:08}").write_bytes(lzma.compress(content))
    with pytest.raises(
        Unreadable, match="part-00000003 is compressed by xz, which no part of a flight recorder is; unpack it by xz -dc"
    ):
        opened(tmp_path)
    (tmp_path / "part-00000003").write_bytes(content)
    with closing(opened(tmp_path)) as found:
        assert found.first("host") is not None
    with closing(opened(tmp_path / "part-00000001")) as found:
        assert found.first("host") is not None


@pytest.mark.parametrize("name", CAPTURES)
def test_what_is_made_the_smallest_says_the_same(tmp_path, name):
    record(CAPTURES[name](), tmp_path / "one", keyframe_s=1)
    (tmp_path / "least").write_bytes(smallest(tmp_path / "one"))
    for asked in OF_A_STRETCH.values():
        assert asked(replay(tmp_path / "least"), Stretch()) == asked(replay(tmp_path / "one"), Stretch())
    for asked in OF_AN_INSTANT.values():
        assert asked(at_end(tmp_path / "least"), Stretch()) == asked(at_end(tmp_path / "one"), Stretch())


def test_a_reading_that_says_what_events_said_costs_little_in_the_smallest(tmp_path):
    some = np.random.default_rng(2)
    born = entries(6000, ct=(some.permutation(6000) + 16) * 256, sport=some.integers(1, 65536, 6000))
    born["bucket"] = some.integers(0, 1024, (6000, 2))
    happened = in_time(scripted.events(Kind.INSERT, born, at_s=np.sort(some.uniform(0, 4, 6000))))
    record(ScriptedCapture(batches=happened), tmp_path / "one", level=9)
    least = len(smallest(tmp_path / "one"))
    with closing(Reader(tmp_path / "one")) as reader:
        of_events = sum(len(body) for (body,) in reader._found.execute("SELECT body FROM chunks WHERE kind = 'event'"))
    assert least < of_events + 20_000 < (tmp_path / "one").stat().st_size / 1.5
