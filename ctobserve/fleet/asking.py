"""One question to a dataset: of its good files, and of those that could be read to their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from ctobserve.documents.fleet import Answer, Covered, Question, Value
from ctobserve.fleet.arrow import Rows, below
from ctobserve.fleet.engine import Engine, Failed, covered

Open = Callable[[Rows], AbstractContextManager[Engine]]


class Asked(NamedTuple):
    """An engine's answer; `skipped`: files that it had to do without, and why."""

    answer: Answer
    covered: Covered
    engine: str
    skipped: tuple[tuple[str, str], ...]


def ask(rows: Rows, opened: Open, question: Question, values: Mapping[str, Value], most: int) -> Asked:
    """Where a file turns out to be damaged while it is read, once more without it.

    Raises Refused where the SQL is wrong, Failed where all files are well and still no answer comes.
    """
    skipped: list[tuple[str, str]] = []
    while True:
        try:
            with opened(rows) as engine:
                found = engine.ask(question.sql, values, most)
                return Asked(found, covered(engine), engine.name, tuple(skipped))
        except Failed:
            broken = rows.broken()
            if not broken:
                raise
            skipped += [(below(place), why) for place, why in broken.items()]
            rows = rows.without(tuple(broken))
