"""A table as a Parquet file, by pyarrow: the only module that knows it."""

from __future__ import annotations

from typing import Any, BinaryIO

from ctobserve.errors import KernelLacks
from ctobserve.render.tables import COLUMNS, Batch

TOGETHER = 1 << 16  # rows of a row group: readers leave out those that a question is not about


class ParquetTable:
    """One of COLUMNS, written to an open file. Raises KernelLacks where there is no pyarrow."""

    def __init__(self, table: str, file: BinaryIO) -> None:
        self._arrow, parquet = libraries()
        arrow = self._arrow
        forms = {int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
        self._schema = arrow.schema(
            [arrow.field(one.name, forms[one.form], metadata={"says": one.says}) for one in COLUMNS[table]]
        )
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._held: list[Batch] = []
        self._waiting = 0

    def write(self, batch: Batch) -> None:
        """Rows, in order."""
        self._held.append(batch)
        self._waiting += batch.rows
        if self._waiting >= TOGETHER:
            self._flush()

    def close(self) -> None:
        """What is held and the file's own index; the file itself stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            columns = [self._column(at, field.type) for at, field in enumerate(self._schema)]
            self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema), TOGETHER)
        self._held, self._waiting = [], 0

    def _column(self, at: int, form: Any) -> Any:
        """Of the rows that are held; most columns are unknown in all of them."""
        parts = [(batch.values[at], batch.rows) for batch in self._held]
        if all(values is None for values, _ in parts):
            return self._arrow.nulls(self._waiting, form)
        return self._arrow.array([one for values, rows in parts for one in values or [None] * rows], form)


def libraries() -> tuple[Any, Any]:
    """The library, and its part for Parquet. Raises KernelLacks where there is none, or one that cannot be loaded."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise KernelLacks(
            f"Parquet is written by pyarrow, which cannot be had here ({error}); install it with: "
            "pip install 'ctobserve[parquet]', or give --format jsonl"
        ) from None
    return pyarrow, parquet
