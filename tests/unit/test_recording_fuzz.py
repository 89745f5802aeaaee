"""Whatever a file holds: what can be read is read, or one line says why not. No crash, no hang, bounded memory.

CTOBSERVE_MUTATIONS says how many files are tried, CTOBSERVE_SEED which.
"""

from __future__ import annotations

import json
import lzma
import os
import signal
import sqlite3
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.anonymous import copying, key
from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.container import MOST_BYTES
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.watch import Stretch
from ctobserve.commands.sought import parse
from ctobserve.documents import buckets, convert, diff, drops, events, expectations, report, size, top, verify, why
from ctobserve.documents import list as table
from ctobserve.documents.instant import take
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError
from ctobserve.event import Kind
from ctobserve.render.copied import copied_line
from ctobserve.render.diff import diff_lines
from ctobserve.render.drops import balance_lines
from ctobserve.render.jsonlines import json_lines
from ctobserve.render.jsonout import document, line, lines
from ctobserve.render.list import csv, listing_lines, table_lines
from ctobserve.render.parquet import ParquetTable
from ctobserve.render.report import report_lines
from ctobserve.render.size import size_lines
from ctobserve.render.spread import bucket_lines
from ctobserve.render.stream import StreamLines
from ctobserve.render.tables import COLUMNS, batches
from ctobserve.render.top import frame_lines
from ctobserve.render.verify import verify_lines
from ctobserve.render.why import why_lines
from tests.unit.recordings import EVERYTHING, record
from tests.unit.test_anonymous import telling
from tests.unit.test_recording import busy

MUTATIONS = int(os.environ.get("CTOBSERVE_MUTATIONS", "1500"))
SEED = int(os.environ.get("CTOBSERVE_SEED", "1"))
SECONDS = 20  # of the processor that one file may take
NUMBERS = (0, 1, -1, 2, 255, 4096, 4097, 1 << 24, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, -(1 << 63))
Lines = Iterator[str]


def _events(capture: RecordedCapture, stretch: Stretch) -> Lines:
    stream = StreamLines(capture, 100)
    for found in events.collect(capture, Request(), stretch, EventFilter(set(Kind) - {Kind.RESOLVED}, Request().filter)):
        yield from stream.of(found.events, found.events)
        yield from lines(found)


def _drops(capture: RecordedCapture, stretch: Stretch) -> Lines:
    found = drops.collect(capture, Request(), stretch)
    yield document(found)
    yield from balance_lines(found)


def _top(capture: RecordedCapture, stretch: Stretch) -> Lines:
    for frame in top.collect(capture, Request(), stretch, top.View(("src", "dport", "netns"), "lost", 1.0)):
        yield line(frame)
        yield from frame_lines(frame, capture.names())


def _report(capture: RecordedCapture, stretch: Stretch) -> Lines:
    found = report.collect(capture, Request(), stretch, invalid=True)
    yield document(found)
    yield from report_lines(found)


def _why(capture: RecordedCapture, stretch: Stretch) -> Lines:
    found = why.collect(capture, Request(limit=300), stretch, parse("10.0.0.1"), True)
    yield document(found)
    yield from why_lines(found, 100)


def _verify(capture: RecordedCapture, stretch: Stretch) -> Lines:
    found = verify.collect(capture, Request(limit=9), stretch)
    yield document(found)
    yield from verify_lines(found, 100)


def _list(capture: RecordedCapture, stretch: Stretch) -> Lines:
    found = table.collect(capture, Request(), stretch)
    yield document(found)
    yield from csv(found)
    yield from table_lines(found, 100)


def _kernel_lines(capture: RecordedCapture, stretch: Stretch) -> Lines:
    return listing_lines(table.collect_listing(capture, Request(), stretch))


def _buckets(capture: RecordedCapture, stretch: Stretch) -> Lines:
    return bucket_lines(buckets.collect(capture, Request(), stretch), 100)


def _size(capture: RecordedCapture, _: Stretch) -> Lines:
    asked = size.SizeRequest(timeouts=(("nf_conntrack_udp_timeout", 5),), via=tuple(size.ReadVia), headroom=2.0)
    return size_lines(size.collect(capture, lambda _: closing(_Open(capture)), asked))


class _Open:
    """A capture as `with` gives it."""

    def __init__(self, capture: RecordedCapture) -> None:
        self._capture = capture

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)

    def close(self) -> None:
        pass


def _expected(capture: RecordedCapture, _: Stretch) -> Lines:
    yield document(expectations.collect(capture, None, None))


def _diff(capture: RecordedCapture, _: Stretch) -> Lines:
    begin = RecordedCapture(capture._reader, EVERYTHING, capture.begin_ns, capture.begin_ns)
    for by in (("subnet", "netns"), ("dst", "state", "proto")):
        found = diff.collect(take(begin, Request().filter), take(capture, Request().filter), by, None, one_recording=True)
        yield document(found)
        yield from diff_lines(found)


def _anonymised(capture: RecordedCapture, _: Stretch) -> Lines:
    made = capture._reader.path.with_name("anonymous")
    made.unlink(missing_ok=True)
    yield copied_line(made.name, copying.copy(capture._reader, made, key.random(), lambda _: None))
    with closing(Reader(made)) as reader:
        yield from _report(RecordedCapture(reader, EVERYTHING), Stretch())


def _converted(capture: RecordedCapture, _: Stretch) -> Lines:
    files = {table: BytesIO() for table in convert.TABLES}
    sinks = {table: ParquetTable(COLUMNS[table], file) for table, file in files.items()}
    for batch in batches(convert.collect(capture._reader, convert.TABLES, lambda _: None)):
        yield from json_lines(batch)
        sinks[batch.table].write(batch)
    for sink in sinks.values():
        sink.close()
    assert all(file.getvalue().endswith(b"PAR1") for file in files.values())


STRETCHES = (_events, _drops, _top, _report, _why, _verify)
INSTANTS = (_list, _kernel_lines, _buckets, _size, _expected, _diff, _anonymised, _converted)


def read(path: Path, some: Random) -> str | None:
    """What one command makes of it, all of it; the complaint where it refuses."""
    ask = some.choice(STRETCHES + INSTANTS)
    try:
        with closing(Reader(path)) as reader:
            view = RecordedView(reader)
            begin_ns, end_ns = view.begin_ns, view.end_ns
            at_ns = some.choice((end_ns, some.randint(begin_ns, end_ns)))
            # A hostile clock makes a stretch as long as it likes; people then choose a part of it.
            since_ns = at_ns if ask in INSTANTS else some.choice((None, begin_ns))
            capture = RecordedCapture(reader, EVERYTHING, since_ns, at_ns)
            for text in ask(capture, Stretch()):
                assert text.replace("\n", "").isprintable(), ascii(text)
            return reader.complaint
    except CtobserveError as error:
        return str(error)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "one"
    record(busy(), path, keyframe_s=2)
    return path.read_bytes()


@pytest.fixture(scope="module")
def talkative(tmp_path_factory) -> bytes:
    """One with rules, devices, bridges, queues."""
    path = tmp_path_factory.mktemp("talkative") / "one"
    record(telling(), path, keyframe_s=2)
    return path.read_bytes()


def of_bytes(content: bytes, some: Random) -> bytes:
    """Bits, bytes, pages, the end."""
    made = bytearray(content)
    way = some.randrange(6)
    if way == 0:
        for _ in range(some.choice((1, 1, 2, 9, 200))):
            made[some.randrange(len(made))] ^= 1 << some.randrange(8)
    elif way == 1:
        at = some.randrange(len(made))
        made[at : at + some.choice((1, 2, 4, 8, 64))] = some.randbytes(8)
    elif way == 2:
        del made[some.randrange(len(made)) :]
    elif way == 3:
        one, other = (2048 * some.randrange(len(made) // 2048) for _ in range(2))
        made[one : one + 2048] = made[other : other + 2048]
    elif way == 4:
        at = 2048 * some.randrange(len(made) // 2048)
        made[at : at + 2048] = bytes(2048)
    else:
        # The heads of pages and the first cells: what leads SQLite through the file.
        at = 2048 * some.randrange(len(made) // 2048) + some.randrange(24)
        made[at] = some.randrange(256)
    return bytes(made)


def of_values(content: bytes, some: Random) -> bytes:
    """A file that SQLite finds whole, in which a fact, a row or a number is another."""
    found = sqlite3.connect(":memory:", isolation_level=None)
    with closing(found):
        found.deserialize(content)
        for _ in range(some.choice((1, 1, 3))):
            some.choice((_fact, _chunk, _numbers, _text))(found, some)
        return found.serialize()


def of_packed(content: bytes, some: Random) -> bytes:
    """Compressed by xz: the file that it becomes is another, or what it is compressed to, which has no checksum then."""
    if some.random() < 0.7:
        return lzma.compress(some.choice((of_bytes, of_values))(content, some), preset=0)
    made = bytearray(lzma.compress(content, check=lzma.CHECK_NONE, preset=0))
    for _ in range(some.choice((1, 1, 5))):
        made[some.randrange(len(made))] = some.randrange(256)
    return bytes(made)


def _fact(found: sqlite3.Connection, some: Random) -> None:
    number, body = some.choice(found.execute("SELECT id, body FROM facts").fetchall())
    with suppress(ValueError, RecursionError):  # it may have been changed before
        found.execute("UPDATE facts SET body = ? WHERE id = ?", (json.dumps(_other(json.loads(body), some)), number))


def _other(value: Any, some: Random) -> Any:
    """The same but for one value somewhere in it."""
    if isinstance(value, dict) and value and some.random() < 0.9:
        key = some.choice(list(value))
        return {name: _other(part, some) if name == key else part for name, part in value.items()}
    if isinstance(value, list) and value and some.random() < 0.9:
        at = some.randrange(len(value))
        return [_other(part, some) if place == at else part for place, part in enumerate(value)]
    return some.choice((*NUMBERS, None, True, 0.5, 1e308, "", "\x1b[2J\u202e", "x" * 5000, [], {}, [[]], 10**60, "10.0.0.1/8"))


def _text(found: sqlite3.Connection, some: Random) -> None:
    (body,) = some.choice(found.execute("SELECT body FROM facts").fetchall())
    body = str(body) or "?"
    at = some.randrange(len(body))
    made = body[:at] + some.choice(("{", "]", '"', "\\", "9" * 400, "[" * 9000, "\0", "NaN", "-")) + body[at + 1 :]
    found.execute("UPDATE facts SET body = ? WHERE body = ?", (made, body))


def _chunk(found: sqlite3.Connection, some: Random) -> None:
    """Rows with other bytes, compressed as they should be."""
    number, body = some.choice(found.execute("SELECT id, body FROM chunks").fetchall())
    made = bytearray(b"?")
    with suppress(zlib.error, TypeError):  # it may have been changed before
        made = bytearray(zlib.decompress(body))
    for _ in range(some.choice((1, 1, 5, 100))):
        made[some.randrange(len(made))] = some.choice((0, 1, 2, 5, 255, some.randrange(256)))
    found.execute("UPDATE chunks SET body = ? WHERE id = ?", (zlib.compress(bytes(made)), number))


def _numbers(found: sqlite3.Connection, some: Random) -> None:
    what, column = some.choice(
        [("facts", "at_ns"), ("facts", "kind"), ("chunks", "kind"), ("facts", "body"), ("chunks", "body"), ("columns", "form")]
        + [("chunks", name) for name in ("first_ns", "last_ns", "rows", "fact")]
        + [("facts", "id"), ("chunks", "id"), ("meta", "value"), ("columns", "kind")]
    )
    (row,) = some.choice(found.execute(f"SELECT rowid FROM {what}").fetchall())
    value = some.choice((*NUMBERS, 0.5, "event", "entry", "keyframe", b"\xff\xfe", "\x1b[31m", zlib.compress(bytes(9000))))
    try:
        found.execute(f"UPDATE {what} SET {column} = ? WHERE rowid = ?", (value, row))
    except sqlite3.Error:
        return


@pytest.mark.parametrize("how", [of_bytes, of_values, of_packed], ids=lambda how: how.__name__)
def test_any_change_is_read_or_refused_in_a_line(whole, talkative, tmp_path, how: Callable[[bytes, Random], bytes]):
    def late(*_: object) -> None:
        raise AssertionError(f"a file takes longer than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, late)
    refused = 0
    path = tmp_path / "one"
    for number in range(MUTATIONS // 3):
        some = Random(f"{SEED} {how.__name__} {number}")
        path.write_bytes(how(some.choice((whole, talkative)), some))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            said = read(path, some)
        except BaseException as error:
            error.add_note(f"mutation {number} of {how.__name__}, CTOBSERVE_SEED={SEED}")
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if said is not None:
            refused += 1
            assert said.isprintable() and len(said) < 600, said
    signal.signal(signal.SIGPROF, before)
    assert 0 < refused < MUTATIONS // 3


def test_what_is_compressed_is_not_expanded_beyond_its_rows(whole, tmp_path):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as found:
        found.deserialize(whole)
        found.execute("UPDATE chunks SET body = ?", (zlib.compress(bytes(1 << 28), 9),))
        (tmp_path / "bomb").write_bytes(found.serialize())
    assert (tmp_path / "bomb").stat().st_size < 16 << 20
    tracemalloc.start()
    with closing(Reader(tmp_path / "bomb")) as reader:
        found_rows = RecordedCapture(reader, EVERYTHING).table.entries()
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not len(found_rows) and reader.damaged and peak < 64 << 20


def test_a_value_may_not_be_larger_than_any_is(whole, tmp_path):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as found:
        found.deserialize(whole)
        found.execute("UPDATE facts SET body = ? WHERE kind = 'host'", ("x" * (MOST_BYTES + 1),))
        (tmp_path / "large").write_bytes(found.serialize())
    with (
        pytest.raises(CtobserveError, match="ended before it began, or is damaged"),
        closing(Reader(tmp_path / "large")) as reader,
    ):
        RecordedView(reader)


def test_entries_beyond_any_table_are_refused(monkeypatch, whole, tmp_path):
    monkeypatch.setattr("ctobserve.capture.replay.MOST_ENTRIES", 120)
    (tmp_path / "one").write_bytes(whole)
    assert "more entries than a table has" in str(read_all(tmp_path / "one"))


def read_all(path: Path) -> str | None:
    try:
        with closing(Reader(path)) as reader:
            assert all(map(np.size, list(_events(RecordedCapture(reader, EVERYTHING), Stretch()))))
    except CtobserveError as error:
        return str(error)
    return None
