"""What answers SQL about a dataset: DuckDB within this process, or Spark with as many as its master has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, Protocol

from ctobserve.documents.fleet import Answer, Cell, Covered, Value
from ctobserve.errors import CtobserveError, ExitStatus
from ctobserve.fleet.questions import COVERED, statement
from ctobserve.model import printable

CELL_CHARACTERS = 4096
TOLD_CHARACTERS = 400


class Refused(CtobserveError):
    """It cannot be asked so: the SQL is wrong, or is more than a query."""

    exit_status = ExitStatus.USAGE


class Failed(CtobserveError):
    """It was asked, and gave no answer: a file that cannot be read, too little memory."""


class Engine(Protocol):
    """The tables of a dataset, and `spans`, as views."""

    @property
    def name(self) -> str:
        """With its version."""
        ...

    def ask(self, sql: str, values: Mapping[str, Value], most: int) -> Answer:
        """The first `most` rows of one query, whose parameters `$name` are bound. Raises Refused, Failed."""
        ...


def covered(engine: Engine) -> Covered:
    """What of a dataset it has. Raises Failed."""
    (row,) = engine.ask(statement(COVERED), {}, 1).rows
    hosts, recordings, began, ended, lost = (value if isinstance(value, int) else None for value in row)
    return Covered(hosts or 0, recordings or 0, began, ended, lost)


def answer(names: Sequence[str], rows: Iterator[Sequence[Any]], most: int) -> Answer:
    """Of what an engine's library gives."""
    columns = tuple(_distinct(printable(name) for name in names))
    first = [tuple(map(_cell, row)) for row in islice(rows, most)]
    return Answer(columns, first, next(rows, None) is not None)


def complaint(error: BaseException) -> str:
    """What a library says is wrong, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return printable(" ".join(line for line in lines if line and not set(line) <= {"^", " ", "-"}), TOLD_CHARACTERS)


def _distinct(names: Iterator[str]) -> Iterator[str]:
    """A query may give two columns one name, which JSON cannot."""
    met: set[str] = set()
    for name in names:
        given, number = name, 1
        while given in met:
            number += 1
            given = f"{name}_{number}"
        met.add(given)
        yield given


def _cell(value: Any) -> Cell:
    """What JSON has a form for; names that others chose as a terminal can show them. No number at all is unknown."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    return printable(value if isinstance(value, bytes) else str(value), CELL_CHARACTERS)
