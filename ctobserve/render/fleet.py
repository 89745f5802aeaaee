"""The answer of a fleet, for people and as CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ctobserve.diagnosis.rules.words import plural
from ctobserve.documents.fleet import Cell, FleetDocument
from ctobserve.model import shown_before
from ctobserve.render.csvout import quoted
from ctobserve.render.folding import folded

CELL_CHARACTERS = 60
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
SECOND = 19  # characters of an instant, to the second
SKIPPED = 10  # files that are named
NOTHING = "no rows: nothing of the kind is in these recordings"


def fleet_lines(found: FleetDocument) -> Iterator[str]:
    """What was asked of what, the rows in columns, what is missing in them."""
    asked = found.says if found.says.endswith("?") else f"{found.says}:"
    yield from folded(f"{asked} {covered_words(found)}")
    if found.rows:
        yield ""
        yield from _columns(found)
        yield ""
    else:
        yield NOTHING
    yield from notes(found)


def covered_words(found: FleetDocument) -> str:
    """Of how many hosts, from when to when, in one line."""
    when = f", {found.began[:19]}Z to {found.ended[:19]}Z" if found.began and found.ended else ""
    return f"{plural(len(found.rows), 'row')} of {plural(found.hosts, 'host')}, {plural(found.recordings, 'recording')}{when}"


def to_second(value: Cell) -> Cell:
    """An instant without its fraction, which nobody compares among hosts; anything else as it is."""
    return f"{value[:SECOND]}Z" if isinstance(value, str) and INSTANT.fullmatch(value) else value


def notes(found: FleetDocument) -> Iterator[str]:
    """What makes the answer less than whole."""
    if found.more_rows:
        yield f"There are more rows than these {len(found.rows)}; give a larger --limit."
    if found.records_lost:
        yield f"{found.records_lost} records were lost while these were recorded: what they told is in no answer."
    for one in found.skipped[:SKIPPED]:
        yield from folded(f"skipped   {one.path}: {one.why}", " " * 10)
    if len(found.skipped) > SKIPPED:
        yield f"skipped   {len(found.skipped) - SKIPPED} files more; --json names all"


def fleet_csv(found: FleetDocument) -> Iterator[str]:
    """The heading, then a line for each row; an empty cell is unknown."""
    names = [column.name for column in found.columns]
    yield ",".join(map(quoted, names))
    for row in found.rows:
        yield ",".join("" if (value := row[name]) is None else quoted(_word(value)) for name in names)


def _columns(found: FleetDocument) -> Iterator[str]:
    """Numbers to the right; what has no room is cut."""
    heads = [column.name.upper() for column in found.columns]
    values = [[row[column.name] for row in found.rows] for column in found.columns]
    made = [_column(head, cells) for head, cells in zip(heads, values, strict=True)]
    for line in zip(*made, strict=True):
        yield "  ".join(line).rstrip()


def _column(head: str, values: Sequence[Cell]) -> list[str]:
    words = [head, *("-" if value is None else shown_before(_word(value), CELL_CHARACTERS) for value in map(to_second, values))]
    width = max(map(len, words))
    right = all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
    return [word.rjust(width) if right else word.ljust(width) for word in words]


def _word(value: int | float | bool | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
