"""A recording added to a dataset: its file in `recordings` comes last, and says that all the others are there.

With that mark nothing is written any more. Without it all is written again, the same bytes for the same recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from ctobserve.capture.store.container import shown
from ctobserve.capture.store.identity import identity
from ctobserve.capture.store.joined import Recording, opened
from ctobserve.errors import CtobserveError, UsageError
from ctobserve.fleet.layout import ID_DIGITS, Place, day_of
from ctobserve.fleet.rows import Source, Tell, about, converted, judged, told
from ctobserve.fleet.schema import EVENTS, RECORDINGS
from ctobserve.fleet.storage import Storage
from ctobserve.fleet.writing import writing
from ctobserve.render.tables import Batch


class Added(NamedTuple):
    """What came of it: rows by table, none where it was there before. `not_judged` is why there are no verdicts."""

    recording: str
    rows: Mapping[str, int]
    not_judged: str | None = None


def add(recording: Recording, storage: Storage, host: str, image: str | None, tell: Tell) -> Added:
    """`tell` hears how much is done, 0 to 1. Raises Unreadable, UsageError where it is there as another host's, and OSError."""
    number = identity(recording)[:ID_DIGITS]
    source = Source(recording, number)
    mark = Place(RECORDINGS, day_of(source.began_wall_ns), host, number)
    there = storage.hosts_with(mark)
    if there and there != [host]:
        raise UsageError(f"{shown(recording.path)} is there as a recording of the host {there[0]}; give --host {there[0]}")
    if there:
        return Added(number, {})
    rows: Counter[str] = Counter()
    not_judged = None
    with writing(storage, host, number) as files:

        def write(batch: Batch) -> None:
            files.write(batch)
            rows[batch.table] += batch.rows

        for batch in converted(source, lambda share: tell(share / 2)):
            write(batch)
        for batch in told(source):
            write(batch)
        damaged = recording.damaged
        # Read again, so that what cannot be read counts once.
        with closing(opened(recording.path)) as again:
            try:
                for batch in judged(Source(again, number), lambda share: tell((1 + share) / 2)):
                    write(batch)
            except CtobserveError as error:
                not_judged = str(error)
    with writing(storage, host, number) as files:
        for batch in about(source, image, rows[EVENTS], damaged):
            files.write(batch)
    return Added(number, rows, not_judged)
