"""Documents and streams for programs, the only place in which dataclasses become JSON; the shape is a contract (docs/json.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from ctobserve.documents.base import EntryRows
from ctobserve.render.known import masters_of
from ctobserve.render.rows import Row, entry_rows


def document(report: object) -> str:
    """One document, indented."""
    return json.dumps(plain(report), indent=2)


def line(row: object) -> str:
    """One document as a line of a stream (NDJSON)."""
    return json.dumps(plain(row), separators=(",", ":"))


def plain(value: object) -> Any:
    """As objects, arrays and scalars of JSON: fields in their order, an Enum as its value, rows written out.

    Raises TypeError for whatever else: a number of NumPy's has no place in a document.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, EntryRows):
        return _entries(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _entries(shown: EntryRows) -> list[Row]:
    """An expected (RELATED) entry shows the original tuple of the entry that its helper expected it for."""
    rows = entry_rows(shown.entries, shown.clock)
    if len(shown.masters):
        tuples = [row["original"] for row in entry_rows(shown.masters, shown.clock)]
        at, there = masters_of(shown.entries, shown.masters)
        for place in there.nonzero()[0].tolist():
            rows[place]["master"] = tuples[at[place]]
    return rows
