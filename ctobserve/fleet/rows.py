"""A recording as rows of a dataset's tables, some at a time: what is converted, what namespaces said, what is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.joined import Recording
from ctobserve.clock import Clock, iso
from ctobserve.documents.convert import collect
from ctobserve.fleet.judging import verdicts
from ctobserve.fleet.schema import CONVERTED, NAMESPACES, RECORDINGS, SETTINGS, VERDICTS
from ctobserve.fleet.states import Reading, states
from ctobserve.model import shown_before
from ctobserve.render.jsonout import line
from ctobserve.render.tables import Batch, batches, fitting

TOGETHER = 1 << 12  # rows that are made at once
Tell = Callable[[float], None]
Row = tuple[Any, ...]


class Source:
    """An open recording, and what each row of it begins with. Raises Unreadable where it says too little to be one."""

    def __init__(self, recording: Recording, identity: str) -> None:
        """`identity` is its id in the dataset."""
        self.recording = recording
        self.view = RecordedView(recording)
        first = recording.first("clock")
        assert first is not None, "else there were no view"
        self._clock: Clock = first.found
        self.begins: Row = (identity, self.view.host.boot, self.view.host.release)
        self.began_wall_ns, self.ended_wall_ns = map(self.wall_ns, (self.view.begin_ns, self.view.end_ns))

    def wall_ns(self, at_ns: int) -> int:
        """Nanoseconds since 1970 at an instant of it."""
        return self._clock.wall_ns - self._clock.monotonic_ns + at_ns


def converted(source: Source, tell: Tell) -> Iterator[Batch]:
    """Events, entries and counters, in the order of the recording."""
    identity = source.begins[0]
    for batch in batches(collect(source.recording, tuple(CONVERTED), tell)):
        yield Batch(CONVERTED[batch.table], [[identity] * batch.rows, *batch.values], batch.rows)


def told(source: Source) -> Iterator[Batch]:
    """What namespaces had, and their settings."""
    made: dict[str, list[Row]] = {NAMESPACES: [], SETTINGS: []}
    for one in states(source.recording):
        wall_ns = source.wall_ns(one.at_ns)
        at = iso(wall_ns), wall_ns, one.at_ns
        said: Row
        if isinstance(one, Reading):
            table, said = NAMESPACES, (one.owner, one.entries, one.limit, one.buckets)
        else:
            table, said = SETTINGS, (one.sysctl, None if one.value is None else str(one.value))
        made[table].append((*source.begins, *at, one.netns, one.name, *said))
        if len(made[table]) == TOGETHER:
            yield from batch_of(table, made[table])
            made[table].clear()
    for table, rows in made.items():
        yield from batch_of(table, rows)


def judged(source: Source, tell: Tell) -> Iterator[Batch]:
    """The verdicts. Raises CtobserveError where it cannot be judged."""
    found = verdicts(source.recording, tell)
    names = found.judged.meta.labels
    when = found.from_wall_ns, found.to_wall_ns
    rows: list[Row] = []
    for row in found.judged.verdicts:
        netns = row.evidence.get("netns")
        what = row.id, row.severity.value, row.sentence, netns, None if netns is None else names.get(netns), row.owner
        rows.append((*source.begins, *when, *what, line(row.evidence)))
    yield from batch_of(VERDICTS, rows)


def about(source: Source, image: str | None, events: int, damaged: int) -> Iterator[Batch]:
    """The row of the recording itself: how many rows of events it became, and how much of it could not be read."""
    version = source.recording.meta.get("ctobserve")
    said = source.view.host.machine, image, events, sum(source.view.records_lost().values()), damaged
    row = (*source.begins, source.began_wall_ns, source.ended_wall_ns, *said, version and shown_before(version))
    yield from batch_of(RECORDINGS, [row])


def batch_of(table: str, rows: Iterable[Row]) -> Iterator[Batch]:
    """Rows as columns; nothing of none."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        yield Batch(table, list(map(fitting, columns)), len(columns[0]))
