"""A table as a Parquet file, by pyarrow: the only module that knows it."""

from __future__ import annotations

from typing import Any, BinaryIO

from ctobserve.errors import KernelLacks
from ctobserve.render.tables import COLUMNS, Batch

TOGETHER = 1 << 16  # rows of a row group: readers leave out those that a question is not about
MOST_BYTES = 64 << 20  # of those that are held until then: a fact can have millions of characters


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
        self._held: list[Any] = []
        self._rows = self._bytes = 0

    def write(self, batch: Batch) -> None:
        """Rows, in order."""
        arrow = self._arrow
        columns = [
            arrow.nulls(batch.rows, one.type) if values is None else arrow.array(values, one.type)
            for one, values in zip(self._schema, batch.values, strict=True)
        ]
        held = arrow.Table.from_arrays(columns, schema=self._schema)
        self._held.append(held)
        self._rows += batch.rows
        self._bytes += held.nbytes
        if self._rows >= TOGETHER or self._bytes >= MOST_BYTES:
            self._flush()

    def close(self) -> None:
        """What is held and the file's own index; the file itself stays open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(self._arrow.concat_tables(self._held), TOGETHER)
        self._held, self._rows, self._bytes = [], 0, 0


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
