"""The good files of a dataset as tables of rows, with the day and the host from their paths as columns; by pyarrow's datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctobserve.fleet.layout import Place
from ctobserve.fleet.schema import COLUMNS, TABLES
from ctobserve.model import printable
from ctobserve.render.flat import Column
from ctobserve.render.parquet import schema_of

WHERE = (Column("date", str, "UTC day of the row"), Column("host", str, "which host it is of"))
BATCH_ROWS = 1 << 15
MOST_CHARACTERS = 200


class Rows(NamedTuple):
    """`system` is a file system of pyarrow's, `root` the dataset's path in it."""

    system: Any
    root: str
    places: Sequence[Place]

    def tables(self) -> Mapping[str, Any]:
        """Each table as a dataset of pyarrow's; one of no files has no rows."""
        from pyarrow import dataset

        form, field = dataset.ParquetFileFormat(), dataset.field
        made = {}
        for table in TABLES:
            schema = schema_of((*COLUMNS[table], *WHERE))
            fragments = [
                form.make_fragment(
                    self.path(place), self.system, (field("date") == place.day) & (field("host") == place.host)
                )
                for place in self.places
                if place.table == table
            ]
            made[table] = dataset.FileSystemDataset(fragments, schema, form, self.system)
        return made

    def path(self, place: Place) -> str:
        """Of a file, in the file system."""
        return "/".join((self.root.rstrip("/"), *place.folders, place.name))

    def without(self, bad: Sequence[Place]) -> Rows:
        """Less those files."""
        gone = set(bad)
        return self._replace(places=[place for place in self.places if place not in gone])

    def broken(self) -> dict[Place, str]:
        """Files whose rows cannot be read to the end, and why. It reads all of all, which takes long."""
        from pyarrow import dataset

        found, form = {}, dataset.ParquetFileFormat()
        for place in self.places:
            fragment = form.make_fragment(self.path(place), self.system)
            try:
                for _ in fragment.to_batches(batch_size=BATCH_ROWS, batch_readahead=1, use_threads=False):
                    pass
            except (OSError, ValueError) as error:
                found[place] = printable(" ".join(str(error).split()), MOST_CHARACTERS)
        return found


def below(place: Place) -> str:
    """Its path below the dataset."""
    return "/".join((*place.folders, place.name))
