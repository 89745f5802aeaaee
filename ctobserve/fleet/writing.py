"""The files of one recording in a dataset: one for each table and day (UTC) that it has rows of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from ctobserve.errors import CtobserveError
from ctobserve.fleet.layout import NS_PER_DAY, Place, day_of
from ctobserve.fleet.schema import COLUMNS, time_at, told
from ctobserve.fleet.storage import Storage
from ctobserve.render.flat import Values
from ctobserve.render.parquet import ParquetTable
from ctobserve.render.tables import Batch

MOST_DAYS = 100  # of one recording: each has files of its own, which are open together


class Writing:
    """The files of one recording of one host. Raises OSError, and KernelLacks without pyarrow."""

    def __init__(self, storage: Storage, host: str, recording: str, opened: ExitStack) -> None:
        """They are `opened` there, and others see them when that is closed in order."""
        self._storage, self._opened = storage, opened
        self._host, self._recording = host, recording
        self._files: dict[tuple[str, str], ParquetTable] = {}
        self._newest: dict[str, str] = {}  # the day to which rows of a table were added last

    def write(self, batch: Batch) -> None:
        """Rows of one table, in the order of time or nearly. Raises CtobserveError for more than MOST_DAYS."""
        for day, part in by_day(batch):
            self.file(batch.table, day).write(part)

    def file(self, table: str, day: str) -> ParquetTable:
        """The one of this table and day."""
        before = self._newest.get(table, day)
        if before != day:
            self._files[table, before].flush()  # however many days there are, the rows of one are held
        self._newest[table] = day
        if (table, day) not in self._files:
            if len({one for _, one in self._files} | {day}) > MOST_DAYS:
                raise CtobserveError(f"its rows are of more than {MOST_DAYS} days; record shorter ones")
            file = self._opened.enter_context(self._storage.create(Place(table, day, self._host, self._recording)))
            self._files[table, day] = self._opened.enter_context(closing(ParquetTable(COLUMNS[table], file, told(table))))
        return self._files[table, day]


@contextmanager
def writing(storage: Storage, host: str, recording: str) -> Iterator[Writing]:
    """Others see its files once the block ends in order."""
    with ExitStack() as opened:
        yield Writing(storage, host, recording, opened)


def by_day(batch: Batch) -> Iterator[tuple[str, Batch]]:
    """The same rows by their days (UTC), those of one together."""
    days = [ns // NS_PER_DAY for ns in batch.values[time_at(batch.table)] or ()]
    if len(set(days)) == 1:
        yield day_of(days[0] * NS_PER_DAY), batch
        return
    for day in sorted(set(days)):
        rows = [at for at, one in enumerate(days) if one == day]
        yield day_of(day * NS_PER_DAY), Batch(batch.table, [_picked(values, rows) for values in batch.values], len(rows))


def _picked(values: Values, rows: list[int]) -> Values:
    return None if values is None else [values[at] for at in rows]
