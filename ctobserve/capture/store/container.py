"""The SQLite file around a recording: made for us alone; opened read-only, and believed nothing before its schema is ours.

Who opens a file that others made runs nothing of it: no extension is loaded, no trigger or view can exist beside a schema that is
ours word for word, and every value has a size that it may have.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ctobserve.capture.store import packed
from ctobserve.capture.store.columns import ROWS, columns_of
from ctobserve.errors import CtobserveError, UsageError
from ctobserve.host import files
from ctobserve.model import printable

APPLICATION, FORMAT = 0x63746F62, 2  # PRAGMA application_id ("ctob") and user_version
SCHEMA = (
    "CREATE TABLE meta (name TEXT NOT NULL, value NOT NULL)",
    "CREATE TABLE columns (kind TEXT NOT NULL, name TEXT NOT NULL, form TEXT NOT NULL, shape TEXT NOT NULL, how TEXT NOT NULL, "
    "unit TEXT NOT NULL, says TEXT NOT NULL)",
    "CREATE TABLE facts (id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, netns INTEGER, body TEXT NOT NULL)",
    "CREATE TABLE chunks (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, fact INTEGER, first_ns INTEGER NOT NULL, "
    "last_ns INTEGER NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX facts_by_time ON facts (kind, at_ns)",
    "CREATE INDEX chunks_by_time ON chunks (kind, first_ns, last_ns, rows)",
)
PAGE_BYTES = 2048
MOST_BYTES = 16 << 20  # of one value
# Steps of SQLite's machine: a file that leads it in circles ends here.
STEPS, MOST_STEPS = 1_000_000, 10_000
SIDES = ("-journal", "-wal", "-shm")
HEADER_BYTES, VERSION_AT, APPLICATION_AT = 100, 60, 68
MAGIC = b"SQLite format 3\0"
SHOWN_CHARACTERS = 200
PIPE = Path("-")  # what other programs take for stdout
# What a question to a damaged file raises; the second where SQLite's words about it hold bytes of it.
FAILS = (sqlite3.Error, UnicodeDecodeError)


class Unreadable(CtobserveError):
    """A file that is no recording, or of which nothing can be read."""


def shown(path: Path) -> str:
    """A path for people."""
    return printable(str(path), SHOWN_CHARACTERS)


def create(path: Path, facts: dict[str, str]) -> sqlite3.Connection:
    """A new recording with this `meta`, readable by our user alone; nothing is overwritten. Raises UsageError, and sqlite3.Error
    where the disk is full: then it leaves nothing.

    Write-ahead logging: a process that is killed leaves what it committed, some of it beside the file until it is opened again.
    """
    if path == PIPE:
        raise UsageError("- is no name for a recording, which no pipe can take; give the name of a file")
    try:
        left = [side for side in SIDES if os.path.lexists(path.with_name(path.name + side))]
        if left:
            raise UsageError(f"{shown(path)}{left[0]} is left of another recording; remove it, or give another name")
        with files.directory(path.parent) as directory:
            files.create(path.name, directory)
    except FileExistsError:
        raise UsageError(f"{shown(path)} exists, and no recording is overwritten; give a name that is free") from None
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"{shown(path)}: {why}; give a path where a file can be created") from None
    # Who writes may do so in several threads, one after the other.
    made = sqlite3.connect(_uri(path, "mode=rw"), uri=True, isolation_level=None, check_same_thread=False)
    try:
        _fill(made, facts)
    except BaseException:
        made.close()
        with files.directory(path.parent) as directory:
            for side in ("", *SIDES):
                files.remove(path.name + side, directory)
        raise
    return made


def _fill(made: sqlite3.Connection, facts: dict[str, str]) -> None:
    for pragma in (f"page_size={PAGE_BYTES}", f"application_id={APPLICATION}", f"user_version={FORMAT}"):
        made.execute(f"PRAGMA {pragma}")
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY"):
        made.execute(f"PRAGMA {pragma}").fetchall()
    made.execute("BEGIN")
    for statement in SCHEMA:
        made.execute(statement)
    made.executemany("INSERT INTO meta VALUES (?, ?)", list(facts.items()))
    made.executemany("INSERT INTO columns VALUES (?, ?, ?, ?, ?, ?, ?)", [one for kind in ROWS for one in columns_of(kind)])
    made.execute("COMMIT")
    settle(made)


def copy(parts: Sequence[Path], path: Path) -> None:
    """A recording of what these hold, which follow each other; it is no whole one before this returns. Raises UsageError as
    `create` does, sqlite3.Error.

    Nobody may write to the parts meanwhile.
    """
    (facts,) = (dict(_meta(part)) for part in parts[:1])
    with closing(create(path, facts)) as made:
        # Who is killed meanwhile leaves nothing that anybody reads: there is no use for a journal, which takes as much room.
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            made.execute(f"PRAGMA {pragma}").fetchall()
        for part in parts:
            made.execute("ATTACH ? AS part", (_uri(part, "mode=ro"),))
            made.execute("BEGIN")
            for table in ("facts", "chunks"):
                made.execute(f"INSERT INTO {table} SELECT * FROM part.{table}")
            made.execute("COMMIT")
            made.execute("DETACH part")


def _meta(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(_uri(path, "mode=ro"), uri=True)) as found:
        return found.execute("SELECT name, value FROM meta").fetchall()


def settle(made: sqlite3.Connection) -> None:
    """What was committed is in the file itself, unless somebody reads it just then or the disk is full: it stays beside it."""
    with suppress(sqlite3.Error):
        made.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def finish(made: sqlite3.Connection) -> None:
    """Everything into the one file, which needs no other from now on; what a full disk does not take stays beside it."""
    with closing(made), suppress(sqlite3.Error):
        made.execute("PRAGMA journal_mode=DELETE").fetchall()


def open_for_reading(path: Path, unpacks: bool = True) -> sqlite3.Connection:
    """A connection that can only read, with a schema that is ours. Raises Unreadable, with one line that says why.

    `unpacks`: what is compressed as a whole is read, too, in memory: of many at once that would be too much.
    """
    content = _content(path, unpacks)
    for way in _ways(path, content):
        found = way()
        try:
            _restrict(found)
            _compare_schema(found, path)
            return found
        except FAILS as error:
            found.close()
            failed = error
        except BaseException:
            found.close()
            raise
    raise Unreadable(f"{shown(path)} cannot be read: {printable(str(failed))}")


def _ways(path: Path, content: bytes | None) -> Iterator[Callable[[], sqlite3.Connection]]:
    """With what a recorder has beside the file, if one runs or was killed; else, or where that cannot be, the file alone."""
    if content is not None:
        yield lambda: _in_memory(content)
        return
    if path.with_name(path.name + "-wal").exists():
        yield lambda: _connected(path, "mode=ro")
    yield lambda: _connected(path, "mode=ro&immutable=1")


def _connected(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(_uri(path, options), uri=True, isolation_level=None)


def _in_memory(content: bytes) -> sqlite3.Connection:
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.deserialize(content)
    return found


def _content(path: Path, unpacks: bool) -> bytes | None:
    """Of a recording that is compressed as a whole what it becomes, None of others: SQLite reads those as they lie.

    Raises Unreadable for what no SQLite need look at.
    """
    try:
        head, content = files.head(path, HEADER_BYTES), None
        if head.startswith(packed.MAGIC) and not unpacks:
            raise Unreadable(f"{shown(path)} is compressed by xz, which no part of a flight recorder is; unpack it by xz -dc")
        if head.startswith(packed.MAGIC):
            content = packed.unpacked(path)
            head = content[:HEADER_BYTES]
    except OSError as error:
        raise Unreadable(f"{shown(path)}: {(error.strerror or str(error)).lower()}") from None
    except packed.NotUnpacked as error:
        raise Unreadable(f"{shown(path)} is compressed by xz and cannot be unpacked: {error}") from None
    number = {at: int.from_bytes(head[at : at + 4], "big") for at in (VERSION_AT, APPLICATION_AT)}
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC) or number[APPLICATION_AT] != APPLICATION:
        raise Unreadable(f"{shown(path)} is no recording of ctobserve; give a file that `ctobserve record` made")
    if number[VERSION_AT] != FORMAT:
        theirs = number[VERSION_AT]
        raise Unreadable(f"{shown(path)} has format {theirs}, and this version reads {FORMAT}; use the ctobserve that made it")
    return content


def _restrict(found: sqlite3.Connection) -> None:
    found.text_factory = lambda text: text.decode("utf-8", "replace")
    found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    found.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    steps = iter(range(MOST_STEPS))
    found.set_progress_handler(lambda: next(steps, None) is None, STEPS)
    # The schema is compared as text below; `writable_schema` is how SQLite is told to read a file that is cut off, before any
    # other looks at the file.
    found.execute("PRAGMA writable_schema=ON")
    for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0", "cache_size=-8192"):
        found.execute(f"PRAGMA {pragma}")


def _compare_schema(found: sqlite3.Connection, path: Path) -> None:
    there = found.execute("SELECT sql FROM sqlite_schema LIMIT ?", (len(SCHEMA) + 1,)).fetchall()
    if [sql for (sql,) in there] != list(SCHEMA):
        raise Unreadable(f"{shown(path)} has other tables than a recording; it was changed, or is damaged at its begin")


@contextmanager
def asked(found: sqlite3.Connection, *question: Any) -> Iterator[sqlite3.Cursor]:
    """A cursor over an answer, closed at the end."""
    with closing(found.execute(*question)) as cursor:
        yield cursor


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?{options}"
