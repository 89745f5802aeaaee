"""The files of a listing as tables of rows, with the day and the host from their paths as columns; by pyarrow's datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctobserve.fleet.listing import File, Listing
from ctobserve.fleet.schema import COLUMNS, TABLES
from ctobserve.fleet.storage import why
from ctobserve.render.flat import Column
from ctobserve.render.parquet import schema_of

WHERE = (Column("date", str, "UTC day of the row"), Column("host", str, "which host it is of"))
BATCH_ROWS = 1 << 15


def tables(found: Listing) -> Mapping[str, Any]:
    """Each table as a dataset of pyarrow's; one of no files has no rows."""
    from pyarrow import dataset

    form, field = dataset.ParquetFileFormat(), dataset.field
    made = {}
    for table in TABLES:
        schema = schema_of((*COLUMNS[table], *WHERE))
        fragments = [
            form.make_fragment(file.path, found.system, (field("date") == file.place.day) & (field("host") == file.place.host))
            for file in found.files.get(table, ())
        ]
        made[table] = dataset.FileSystemDataset(fragments, schema, form, found.system)
    return made


def broken(found: Listing) -> dict[File, str]:
    """Files whose rows cannot be read to the end, and why. It reads all of all, which takes long."""
    from pyarrow import dataset

    bad, form = {}, dataset.ParquetFileFormat()
    for file in (file for files in found.files.values() for file in files):
        try:
            batches = form.make_fragment(file.path, found.system).to_batches(batch_size=BATCH_ROWS, use_threads=False)
            if sum(batch.num_rows for batch in batches) != file.rows:
                raise ValueError("has other rows than its footer says")
        except (OSError, ValueError) as error:
            bad[file] = f"is damaged: {why(error)}"
    return bad
