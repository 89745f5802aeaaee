"""A table as a Parquet file, by pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from ctobserve.errors import KernelLacks, by_pip
from ctobserve.render.flat import Column
from ctobserve.render.tables import Batch

TOGETHER = 1 << 16  # rows of a row group: readers leave out those that a question is not about
MOST_BYTES = 64 << 20  # of those that are held until then: a fact can have millions of characters


class ParquetTable:
    """A table of these columns, written to an open file. Raises KernelLacks where there is no pyarrow."""

    def __init__(self, columns: Sequence[Column], file: BinaryIO, told: Mapping[str, str] | None = None) -> None:
        """`told`: what the file says of itself, as metadata, in place of what each column says: of small files that is most."""
        self._arrow, parquet = libraries()
        self._schema = schema_of(columns, says=told is None)
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd", store_schema=told is None)
        if told:
            self._writer.add_key_value_metadata(dict(told))
        self._held: list[Any] = []
        self._rows = self._bytes = 0

    def write(self, batch: Batch) -> None:
        """Rows, in order."""
        arrow = self._arrow
        columns = [
            arrow.nulls(batch.rows, one.type) if values is None else arrow.array(values, one.type)
            for one, values in zip(self._schema, batch.values, strict=True)
        ]
        self.add(arrow.Table.from_arrays(columns, schema=self._schema))

    def add(self, rows: Any) -> None:
        """The same as an Arrow table of these columns."""
        self._held.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= TOGETHER or self._bytes >= MOST_BYTES:
            self.flush()

    def close(self) -> None:
        """What is held and the file's own index; the file itself stays open."""
        self.flush()
        self._writer.close()

    def flush(self) -> None:
        """What is held becomes a row group."""
        if self._held:
            self._writer.write_table(self._arrow.concat_tables(self._held), TOGETHER)
        self._held, self._rows, self._bytes = [], 0, 0


def schema_of(columns: Sequence[Column], says: bool = False) -> Any:
    """Their types in Arrow, each with what it says where that is wanted. Raises KernelLacks."""
    arrow, _ = libraries()
    forms = {int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
    return arrow.schema(
        [arrow.field(one.name, forms[one.form], metadata={"says": one.says} if says else None) for one in columns]
    )


def libraries(otherwise: str = "") -> tuple[Any, Any]:
    """The library, and its part for Parquet. Raises KernelLacks where there is none, or one that cannot be loaded.

    `otherwise` is what can be done without it.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise KernelLacks(
            f"Parquet is written by pyarrow, which cannot be had here ({error}); install it with: {by_pip('parquet')}{otherwise}"
        ) from None
    return pyarrow, parquet
