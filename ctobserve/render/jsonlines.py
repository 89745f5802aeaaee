"""Tables as lines of JSON (NDJSON): an object for each row, with all columns of its table; unknown is null."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ctobserve.render.tables import COLUMNS, Batch


def json_lines(batch: Batch) -> Iterator[str]:
    """Each row, the name of its table first."""
    names = ["table", *(column.name for column in COLUMNS[batch.table])]
    none: list[Any] = [None] * batch.rows
    columns = [[batch.table] * batch.rows, *(none if values is None else values for values in batch.values)]
    for row in zip(*columns, strict=True):
        yield json.dumps(dict(zip(names, row, strict=True)), separators=(",", ":"))
