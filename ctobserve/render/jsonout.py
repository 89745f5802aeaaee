"""Documents and streams for programs, the only place in which dataclasses become JSON; the shape is a contract (docs/json.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from ctobserve.documents.base import EntryRows, EventRows, ExpectationRows
from ctobserve.render.event_rows import event_rows
from ctobserve.render.expectation_fields import EXPECTATION_FIELDS, ExpectationView
from ctobserve.render.fields import Row, rows
from ctobserve.render.rows import entry_rows


def document(report: object) -> str:
    """One document, indented."""
    return json.dumps(plain(report), indent=2)


def line(row: object) -> str:
    """One document as a line of a stream (NDJSON)."""
    return next(lines((row,)))


def lines(shown: EventRows | Sequence[object]) -> Iterator[str]:
    """Each as such a line."""
    return (json.dumps(row, separators=(",", ":")) for row in plain(shown))


def plain(value: object) -> Any:
    """As objects, arrays and scalars of JSON: fields in their order, an Enum as its value, rows written out.

    Raises TypeError for whatever else: a number of NumPy's has no place in a document.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, EntryRows | EventRows | ExpectationRows):
        return _written_out(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _written_out(shown: EntryRows | EventRows | ExpectationRows) -> list[Row]:
    if isinstance(shown, ExpectationRows):
        return rows(EXPECTATION_FIELDS, ExpectationView(shown.rows))
    if isinstance(shown, EventRows):
        return event_rows(shown.events, shown.clock, shown.owners)
    return entry_rows(shown.entries, shown.clock, shown.masters, shown.helpers, shown.owners)
