"""What is asked of a fleet, and the answer: rows, with the columns that they have, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ctobserve import __version__
from ctobserve.clock import iso
from ctobserve.documents.base import doc
from ctobserve.documents.meta import SCHEMA

Value = int | float | str
Cell = int | float | bool | str | None
OWN = "sql"  # what a question is called that comes with --sql


class Parameter(NamedTuple):
    """Of a question: its default has its type."""

    name: str
    default: Value
    says: str


class Chart(NamedTuple):
    """Which columns a chart is drawn of. `kind`: bars, one for each value of `x`; time: where `x` is an instant."""

    kind: str
    x: str
    y: str
    by: str


class Question(NamedTuple):
    """`says` is what it asks, in a sentence, `more` how it is answered; `columns` says of each what it holds."""

    name: str
    says: str
    more: str
    parameters: tuple[Parameter, ...]
    columns: Mapping[str, str]
    chart: Chart | None
    sql: str


class Answer(NamedTuple):
    """Rows as an engine gives them; `more`: there are more than were asked for."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    more: bool


class Covered(NamedTuple):
    """What of a dataset was asked."""

    hosts: int
    recordings: int
    began_wall_ns: int | None
    ended_wall_ns: int | None
    records_lost: int | None


@dataclass(frozen=True)
class FleetMeta:
    """Who says it, and by which engine."""

    command: str = doc("the command that made this")
    version: str = doc("of ctobserve")
    schema: int = doc("version of this contract; grows when a key goes or changes its meaning, not when one is added")
    engine: str = doc("what answered, with its version")


@dataclass(frozen=True)
class FleetColumn:
    """A column of the answer."""

    name: str = doc("its key in the rows")
    says: str | None = doc("what it holds; null: of your own SQL")


@dataclass(frozen=True)
class FleetSkipped:
    """A file of the dataset that nothing was read from."""

    path: str = doc("where it lies, below the dataset")
    why: str = doc("what is wrong with it")


@dataclass(frozen=True)
class FleetDocument:
    """The answer to one question about all hosts of a dataset."""

    meta: FleetMeta = doc("who says it")
    dataset: str = doc("folder or URL of the dataset")
    question: str = doc("its name; `sql`: your own")
    says: str = doc("what was asked")
    parameters: Mapping[str, int | float | str] = doc("parameter -> value it was asked with")
    hosts: int = doc("hosts with recordings among those that were asked")
    recordings: int = doc("recordings that were asked")
    began: str | None = doc("ISO 8601, UTC, ns: begin of the first of them; null: there is none")
    ended: str | None = doc("ISO 8601, UTC, ns: end of the last of them; null: there is none")
    records_lost: int | None = doc("records that their recorders lost: what these told is in no answer; null: not known")
    skipped: tuple[FleetSkipped, ...] = doc("files that nothing was read from: damaged ones, and such as are of no dataset")
    columns: tuple[FleetColumn, ...] = doc("columns of the answer, in order")
    rows: tuple[Mapping[str, int | float | bool | str | None], ...] = doc("the answer; no more than `--limit`")
    more_rows: bool = doc("there are rows beyond `--limit`")


def collect(
    question: Question,
    values: Mapping[str, Value],
    answer: Answer,
    covered: Covered,
    *,
    engine: str,
    dataset: str,
    skipped: Sequence[tuple[str, str]],
) -> FleetDocument:
    """`skipped`: paths, and why each was."""
    return FleetDocument(
        meta=FleetMeta("fleet", __version__, SCHEMA, engine),
        dataset=dataset,
        question=question.name,
        says=question.says,
        parameters=dict(values),
        hosts=covered.hosts,
        recordings=covered.recordings,
        began=_time(covered.began_wall_ns),
        ended=_time(covered.ended_wall_ns),
        records_lost=covered.records_lost,
        skipped=tuple(FleetSkipped(path, why) for path, why in skipped),
        columns=tuple(FleetColumn(name, question.columns.get(name)) for name in answer.columns),
        rows=tuple(dict(zip(answer.columns, row, strict=True)) for row in answer.rows),
        more_rows=answer.more,
    )


def _time(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else iso(wall_ns)
