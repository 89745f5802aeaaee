"""Reads a recording that may be anybody's: what can be read is given, what cannot is counted and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ctobserve.capture.store import container
from ctobserve.capture.store.chunks import Damaged, Rows, unpack
from ctobserve.capture.store.columns import ROWS, columns_of
from ctobserve.capture.store.container import FAILS, Unreadable, asked
from ctobserve.capture.store.facts import NoFact, decoded
from ctobserve.capture.store.valid import MOST_NS, check_fact, check_rows
from ctobserve.model import join, printable

MOST_META = 100
MOST_COLUMNS = 1000
TRIES = 1000  # facts of a kind that are looked at, from the last on, until one can be read: the end of a file may be missing
WIDEST = 24  # a leap over damage doubles as often
STATE_CHARACTERS = 64 << 20  # of all facts of one kind that are taken together


class Fact(NamedTuple):
    """Something that was so at this time (CLOCK_MONOTONIC); `number` orders it among chunks and other facts."""

    number: int
    at_ns: int
    found: Any
    kind: str


class Chunk(NamedTuple):
    """Rows in the file, not read yet. `fact` is the number of the fact that they belong to, None of events."""

    number: int
    first_ns: int
    last_ns: int
    length: int
    kind: str
    fact: int | None


T = TypeVar("T")


class Reader:
    """An open recording. Raises Unreadable where nothing of it can be read.

    `damaged` counts rows and facts that could not be read, `complaint` says what was the first.
    """

    def __init__(self, path: Path, unpacks: bool = True) -> None:
        """`unpacks` as container.open_for_reading has it."""
        self.path = path
        self.damaged = 0
        self.complaint: str | None = None
        self._unread: set[object] = set()  # numbers of facts: each counts once, however often it is asked for
        self._found = container.open_for_reading(path, unpacks)
        try:
            self.meta = self._meta()
            self._kinds = self._known_kinds()
        except FAILS as error:
            self.close()
            raise Unreadable(f"{container.shown(path)} is damaged at its begin: {error}") from None

    def close(self) -> None:
        """Nothing can be read any more."""
        self._found.close()

    def _meta(self) -> dict[str, str]:
        with asked(self._found, "SELECT name, value FROM meta LIMIT ?", (MOST_META,)) as rows:
            return {str(name): str(value) for name, value in rows}

    def _known_kinds(self) -> frozenset[str]:
        """Kinds of rows whose columns are those of this version."""
        there: dict[str, list[tuple[object, ...]]] = {}
        with asked(self._found, "SELECT * FROM columns LIMIT ?", (MOST_COLUMNS,)) as rows:
            for row in rows:
                there.setdefault(str(row[0]), []).append(row[:5])
        known = frozenset(kind for kind in ROWS if there.get(kind) == [column[:5] for column in columns_of(kind)])
        for kind in ROWS.keys() - known:
            self._complain(f"its columns of kind {kind} are not those of this version")
        return known

    def last(self, kind: str, at_ns: int = MOST_NS) -> Fact | None:
        """The latest of its kind at this time; None where there is none that can be read."""
        question = "WHERE kind = ? AND at_ns <= ? ORDER BY at_ns DESC, id DESC LIMIT ?"
        return next(self._facts(kind, question, (kind, at_ns, TRIES)), None)

    def first(self, kind: str) -> Fact | None:
        """The earliest of its kind."""
        question = "WHERE kind = ? ORDER BY at_ns, id LIMIT ?"
        return next(self._facts(kind, question, (kind, TRIES)), None)

    def newest_ns(self) -> int:
        """The time of the latest event; 0 where there is none."""
        with suppress(*FAILS), asked(self._found, "SELECT max(last_ns) FROM chunks WHERE kind = 'event'") as rows:
            found = rows.fetchone()
            newest = found[0] if found else None
            return newest if type(newest) is int and 0 <= newest <= MOST_NS else 0
        return 0

    def all(self, kind: str, at_ns: int = MOST_NS) -> Iterator[Fact]:
        """Those of a kind until this time, in their order, as far as they are not too much."""
        question = "WHERE kind = ? AND at_ns <= ? ORDER BY at_ns, id"
        yield from self._facts(kind, question, (kind, at_ns))

    def _facts(self, kind: str, question: str, values: tuple[object, ...]) -> Iterator[Fact]:
        characters = 0
        try:
            for number, at_ns, body in self._bodies(question, values):
                characters += len(str(body))
                if characters > STATE_CHARACTERS:
                    self._complain(f"more is said of {kind} than a recording has")
                    return
                fact = self._fact(kind, number, at_ns, body)
                if fact is not None:
                    yield fact
        except FAILS as error:
            self._complain(f"facts of kind {kind}: {error}")

    def _bodies(self, question: str, values: tuple[object, ...]) -> Iterator[tuple[object, object, object]]:
        """Number, time and body. From one on that cannot be read the index says which there are, and each is read alone: so a
        damaged page costs only those that it has."""
        done = 0
        with suppress(*FAILS), asked(self._found, f"SELECT id, at_ns, body FROM facts {question}", values) as rows:
            for row in rows:
                yield row
                done += 1
            return
        with asked(self._found, f"SELECT id, at_ns FROM facts {question}", values) as rows:
            for number, at_ns in islice(rows, done, None):
                yield number, at_ns, self._body(number)

    def _body(self, number: object) -> object:
        """What the fact of this number says; None where it cannot be read."""
        with suppress(*FAILS), asked(self._found, "SELECT body FROM facts WHERE id = ?", (number,)) as rows:
            found = rows.fetchone()
            return found[0] if found else None
        return None

    def _fact(self, kind: str, number: object, at_ns: object, body: object) -> Fact | None:
        try:
            if type(number) is not int or type(at_ns) is not int or not 0 <= at_ns <= MOST_NS or type(body) is not str:
                raise NoFact("other values than a fact has")
            found = decoded(kind, body)
            check_fact(found)
        except (NoFact, Damaged) as error:
            if number not in self._unread:
                self._unread.add(number)
                self._complain(f"a fact of kind {kind}: {error}")
            return None
        return Fact(number, at_ns, found, kind)

    def told(self) -> Iterator[Fact | Chunk]:
        """All of the file in the order of its numbers: facts that can be read, and chunks, of which that is still to be seen."""
        question = "SELECT id, kind, at_ns, body FROM facts WHERE id > ? ORDER BY id"
        facts = self._numbered("facts", question, (), 0, self._next_fact)
        return merge((fact for fact in facts if fact is not None), self._chunks("id > ?", (), 0), key=lambda one: one.number)

    def last_number(self) -> int:
        """The number of the last chunk: of a long recording most of the file comes before; 0 where it cannot be told."""
        with suppress(*FAILS), asked(self._found, "SELECT max(id) FROM chunks") as rows:
            found = rows.fetchone()
            return found[0] if found and type(found[0]) is int else 0
        return 0

    def _next_fact(self, row: tuple[object, ...], after: int) -> tuple[int, Fact | None]:
        number, kind, at_ns, body = row
        if type(number) is not int or number <= after:
            raise sqlite3.DatabaseError("a number that comes again")
        return number, self._fact(str(kind), number, at_ns, body)

    def rows(self, kind: str, fact: int, count: int) -> Rows:
        """The `count` rows that belong to this fact; none where one of them cannot be read."""
        before = self.damaged
        parts = [np.empty(0, ROWS[kind]), *self.parts(kind, fact, count)]
        return join(parts) if self.damaged == before else parts[0]

    def parts(self, kind: str, fact: int, count: int) -> Iterator[Rows]:
        """The same, chunk by chunk; whether one of them cannot be read says `damaged` in the end."""
        left = count
        before = self.damaged
        for chunk in self._chunks("+kind = ? AND fact = ? AND id > ?", (kind, fact), fact):
            if left <= 0:
                break
            yield self.chunk(kind, chunk)
            left -= chunk.length
        if self.damaged == before and left != 0:
            self._complain(f"rows of kind {kind}: {count - left} of {count}")

    def events(self, after: int) -> Iterator[Chunk]:
        """Chunks of events in their order, from those on that follow this number."""
        return self._chunks("+kind = ? AND id > ?", ("event",), after)

    def chunk(self, kind: str, chunk: Chunk) -> Rows:
        """Its rows; none where they cannot be read."""
        try:
            if kind not in self._kinds:
                raise Damaged("other columns")
            with asked(self._found, "SELECT body FROM chunks WHERE id = ?", (chunk.number,)) as rows:
                found = rows.fetchone()
            if found is None or type(found[0]) is not bytes:
                raise Damaged("no bytes")
            made = unpack(kind, found[0], chunk.length)
            check_rows(kind, made)
        except (*FAILS, Damaged) as error:
            self._complain(f"{chunk.length} rows of kind {kind}: {error}", chunk.length)
            return np.empty(0, ROWS[kind])
        return made

    def _chunks(self, which: str, values: tuple[object, ...], after: int) -> Iterator[Chunk]:
        question = f"SELECT id, first_ns, last_ns, rows, kind, fact FROM chunks WHERE {which} ORDER BY id"
        return self._numbered("chunks", question, values, after, _next_chunk)

    def _numbered(
        self, what: str, question: str, values: tuple[object, ...], after: int, read: Callable[..., tuple[int, T]]
    ) -> Iterator[T]:
        """In the order of their numbers, each once; where a page is damaged, those behind it."""
        leap = 0
        while leap < WIDEST:
            try:
                with asked(self._found, question, (*values, after)) as rows:
                    for row in rows:
                        number, made = read(row, after)
                        after, leap = number, 0
                        yield made
                return
            except FAILS as error:
                if not leap:
                    self._complain(f"{what} after number {after}: {error}")
                after += 1 << leap
                leap += 1

    def _complain(self, what: str, count: int = 1) -> None:
        self.damaged += max(count, 1)
        self.complaint = self.complaint or f"{container.shown(self.path)}: not all could be read: {printable(what)}"


def _next_chunk(row: tuple[object, ...], after: int) -> tuple[int, Chunk]:
    """Raises sqlite3.DatabaseError for what comes again, or cannot be."""
    *numbers, kind, fact = row
    number, first_ns, last_ns, length = (value if type(value) is int else -1 for value in numbers)
    if not (after < number and 0 <= first_ns <= last_ns <= MOST_NS):
        raise sqlite3.DatabaseError("other values than a chunk has")
    return number, Chunk(number, first_ns, last_ns, length, str(kind), fact if type(fact) is int else None)
