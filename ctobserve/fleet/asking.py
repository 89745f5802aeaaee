"""One question to a dataset: which files it needs, and an answer without those that cannot be read to their end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from ctobserve.documents.fleet import Answer, Covered, Question, Value
from ctobserve.fleet.arrow import broken
from ctobserve.fleet.engine import Engine, Failed, covered
from ctobserve.fleet.layout import Place
from ctobserve.fleet.listing import Listing, Skipped, listing
from ctobserve.fleet.schema import RECORDINGS, TABLES
from ctobserve.model import printable

WHY_CHARACTERS = 300
Open = Callable[[Listing], AbstractContextManager[Engine]]


class Days(NamedTuple):
    """UTC days, YYYY-MM-DD, on which recordings began, the first and the last of them; None: all."""

    since: str | None = None
    until: str | None = None

    def has(self, day: str) -> bool:
        """Whether it is one of them."""
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


class Asked(NamedTuple):
    """An engine's answer, and what it had to do without."""

    answer: Answer
    covered: Covered
    engine: str
    skipped: tuple[Skipped, ...]


def wanted(dataset: str, sql: str, days: Days) -> Listing:
    """Files of those tables that the SQL names, of recordings that began on these days. Raises as `listing` does."""
    named = {RECORDINGS, *(table for table in TABLES if re.search(rf"\b{table}\b", sql, re.IGNORECASE))}
    if days == Days():
        return listing(dataset, named)
    begun = listing(dataset, {RECORDINGS}, lambda place: days.has(place.day))
    those = {(file.place.host, file.place.recording) for file in begun.files[RECORDINGS]}

    def of_those(place: Place) -> bool:
        return (place.host, place.recording) in those

    return listing(dataset, named, of_those)


def ask(found: Listing, opened: Open, question: Question, values: Mapping[str, Value], most: int) -> Asked:
    """Where a file turns out to be damaged while it is read, once more without it.

    Raises Refused where the SQL is wrong, Failed where all files are well and still no answer comes.
    """
    while True:
        try:
            with opened(found) as engine:
                given = engine.ask(question.sql, values, most)
                return Asked(given, covered(engine), engine.name, found.skipped)
        except Failed:
            bad = broken(found)
            if not bad:
                raise
            files = {table: tuple(file for file in those if file not in bad) for table, those in found.files.items()}
            more = tuple(
                Skipped("/".join((*file.place.folders, file.place.name)), printable(why, WHY_CHARACTERS))
                for file, why in bad.items()
            )
            found = found._replace(files=files, skipped=(*found.skipped, *more))
