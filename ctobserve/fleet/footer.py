"""Whether a Parquet file is what its place in a dataset says: asked of its footer alone, which says so without its rows."""

from __future__ import annotations

from io import BytesIO
from json import JSONDecodeError, loads
from typing import Any

from ctobserve.fleet.layout import Place, day_of
from ctobserve.fleet.schema import COLUMNS, KEY, SCHEMA, time_at
from ctobserve.fleet.storage import why
from ctobserve.model import printable
from ctobserve.render.parquet import ParquetTable, libraries


class NotOurs(ValueError):
    """A file that no question can be asked of; its text says why."""


class Footers:
    """Of files in a file system of pyarrow's. Raises KernelLacks without pyarrow."""

    def __init__(self, system: Any) -> None:
        self._system = system
        _, self._parquet = libraries()
        self._schemas: dict[str, Any] = {}

    def rows(self, place: Place, path: str) -> int:
        """How many rows this file has. Raises NotOurs where it is damaged, or another than its place says."""
        try:
            with self._system.open_input_file(path) as file:
                footer = self._parquet.read_metadata(file)
        except (OSError, ValueError) as error:
            raise NotOurs(f"is damaged, or no Parquet file: {why(error)}") from None
        _require_told(place.table, (footer.metadata or {}).get(KEY.encode()))
        if not footer.schema.equals(self._schema(place.table)):
            raise NotOurs(f"has other columns than the table {place.table}")
        _require_day(place, footer)
        return int(footer.num_rows)

    def _schema(self, table: str) -> Any:
        if table not in self._schemas:
            empty = BytesIO()
            ParquetTable(COLUMNS[table], empty, {}).close()
            self._schemas[table] = self._parquet.read_metadata(empty).schema
        return self._schemas[table]


def _require_told(table: str, said: bytes | None) -> None:
    try:
        found = loads(said or "null")
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotOurs("is no file of ctobserve's: its metadata do not say so")
    if found.get("schema") != SCHEMA:
        raise NotOurs(f"has schema {printable(str(found.get('schema')), 20)}, and this version reads {SCHEMA}")
    if found.get("table") != table:
        raise NotOurs(f"is of the table {printable(str(found.get('table')), 20)}, and lies in {table}")


def _require_day(place: Place, footer: Any) -> None:
    """By the least and the largest time in it, where it says them."""
    time = time_at(place.table)
    for at in range(footer.num_row_groups):
        least = footer.row_group(at).column(time).statistics
        if least is not None and least.has_min_max and {day_of(least.min), day_of(least.max)} != {place.day}:
            raise NotOurs(f"has rows of {day_of(least.min)}, and lies in date={place.day}")
