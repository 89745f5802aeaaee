"""The tables that a recording becomes: which columns each has, and their values, some thousand rows at a time.

Columns of entries and events are those of their fields (docs/json.md); those before them say of which host and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ctobserve.capture.extensions import EXTENSION, Extensions
from ctobserve.capture.store.columns import COUNTED
from ctobserve.clock import iso
from ctobserve.documents.convert import (
    COUNTERS,
    ENTRIES,
    EVENTS,
    FACTS,
    OfCounters,
    OfEntries,
    OfEvents,
    OfFact,
    Part,
    Recorded,
)
from ctobserve.event import Kind
from ctobserve.model import Mask, pick
from ctobserve.render.entry_fields import COUNT_FIELDS, ENTRY_FIELDS, LISTED_FIELDS, EntryView, PairView, masters_of
from ctobserve.render.event_fields import BYTES, EVENT, OF_KIND, PACKETS, TS, EventView
from ctobserve.render.fields import NUMBER, Field, Member, Object, Rule
from ctobserve.render.flat import Column, Values, columns_of, values_of

NS_MOST = (1 << 63) - 1
Numbers = Sequence[int]


class Batch(NamedTuple):
    """Some rows of a table: values of each of its columns."""

    table: str
    values: list[Values]
    rows: int


def _of_kind(member: Member[EventView], kinds: tuple[Kind, ...]) -> Member[EventView]:
    numbers = list(kinds)
    having = Rule[EventView]("it is of that kind", lambda view: np.isin(view.events["kind"], numbers))
    return member._replace(has=having)


def _of_kinds() -> Iterator[Member[EventView]]:
    """What only some kinds have; a fact that two have in common is one column."""
    members = {member.name: member for of_one in OF_KIND.values() for member in of_one}
    for name, member in members.items():
        yield _of_kind(member, tuple(kind for kind, of_one in OF_KIND.items() if name in {one.name for one in of_one}))


class ExtensionView:
    """What the kernel's own lines say beyond entries."""

    def __init__(self, rows: Extensions) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, which: Mask) -> ExtensionView:
        """Those rows alone."""
        return ExtensionView(pick(self.rows, which))


COUNTED_RULE: Rule[ExtensionView] = Rule("accounting is on", lambda view: view.rows["has_counters"])
EXTENSION_FIELDS: tuple[Member[ExtensionView], ...] = (
    Object(PACKETS.name, PACKETS.says, COUNT_FIELDS, lambda view: PairView(view.rows["packets"]), COUNTED_RULE),
    Object(BYTES.name, BYTES.says, COUNT_FIELDS, lambda view: PairView(view.rows["bytes"]), COUNTED_RULE),
    Field(
        "start_wall_ns", "ns since 1970 at its begin", NUMBER, lambda view: view.rows["start_ns"],
        Rule("its begin is noted", lambda view: view.rows["has_start"]),
    ),
)  # fmt: skip
EVENT_FIELDS: tuple[Member[EventView], ...] = (*ENTRY_FIELDS, *_of_kinds())
COUNTER_NAMES = tuple(name.removeprefix("value.") for name in COUNTED.names or () if name.startswith("value."))
WHOSE = (
    Column("boot_id", str, "random id of the boot of the host that was recorded: what tells hosts apart"),
    Column("kernel", str, "its uname -r"),
)
WHEN = (
    Column(TS.name, str, TS.says),
    Column("wall_ns", int, "the same as ns since 1970"),
    Column("monotonic_ns", int, "the same as ns of CLOCK_MONOTONIC of that host"),
)
NETNS = Column("netns", int, "inode number of the network namespace")
NAMED = Column("netns_name", str, "what that was called then")
CT = Column("ct", int, "identity of the entry while it lives: the same in all rows of it, until another entry gets it")
NUMBER_OF = Column("number", int, "orders facts and readings of the table")
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    EVENTS: (*WHOSE, *columns_of((EVENT,)), *WHEN, CT, NAMED, *columns_of(EVENT_FIELDS)),
    ENTRIES: (*WHOSE, NUMBER_OF, *WHEN, CT, NAMED, *columns_of(LISTED_FIELDS), *columns_of(EXTENSION_FIELDS)),
    COUNTERS: (
        *(*WHOSE, *WHEN, NETNS, NAMED),
        Column("cookie", int, "the namespace's cookie: its inode number alone can be another's later"),
        Column("cpu", int, "number of the CPU"),
        *(Column(name, int, f"the kernel's counter {name}") for name in COUNTER_NAMES),
    ),
    FACTS: (
        *(*WHOSE, NUMBER_OF, *WHEN, NETNS),
        Column("fact", str, "its kind (docs/recording.md)"),
        Column("body", str, "what it says, as JSON"),
    ),
}


def batches(recorded: Recorded) -> Iterator[Batch]:
    """Of all tables, in the order of the recording. A number that no table can hold is unknown."""
    tables = _Tables(recorded)
    for part in recorded.parts:
        yield from tables.of(part)


class _Tables:
    def __init__(self, recorded: Recorded) -> None:
        self._boot, self._kernel, self._clock = recorded.boot, recorded.kernel, recorded.clock

    def of(self, part: Part) -> Iterator[Batch]:
        if isinstance(part, OfEvents):
            yield from self._events(part)
        elif isinstance(part, OfEntries):
            yield from self._entries(part)
        elif isinstance(part, OfCounters):
            yield from self._counters(part)
        else:
            yield from self._fact(part)

    def _events(self, part: OfEvents) -> Iterator[Batch]:
        view = EventView(part.events, self._clock)
        entries = view.entries
        times = self._when(entries["seen_ns"].tolist())
        named = [_identities(entries["ct"].tolist()), _called(part.names, entries["netns"].tolist())]
        yield from self._batch(EVENTS, len(view), [*values_of((EVENT,), view), *times, *named, *values_of(EVENT_FIELDS, view)])

    def _entries(self, part: OfEntries) -> Iterator[Batch]:
        entries, count = part.entries, len(part.entries)
        view = EntryView(entries, self._clock, masters_of(entries, part.masters), part.helpers, part.owners)
        told = values_of(EXTENSION_FIELDS, ExtensionView(part.extensions if len(part.extensions) else np.zeros(count, EXTENSION)))
        named = [_identities(entries["ct"].tolist()), _called(part.names, entries["netns"].tolist())]
        times = self._when([part.at_ns] * count)
        yield from self._batch(ENTRIES, count, [[part.number] * count, *times, *named, *values_of(LISTED_FIELDS, view), *told])

    def _counters(self, part: OfCounters) -> Iterator[Batch]:
        rows, count = part.rows, len(part.rows)
        inums, has = rows["netns"].tolist(), rows["has"]
        told = [
            [
                value if there else None
                for value, there in zip(rows[f"value.{name}"].tolist(), (has >> at & 1).tolist(), strict=True)
            ]
            for at, name in enumerate(COUNTER_NAMES)
        ]
        yield from self._batch(
            COUNTERS,
            count,
            [
                *(*self._when([part.at_ns] * count), inums, _called(part.names, inums)),
                *(rows["cookie"].tolist(), rows["cpu"].tolist(), *told),
            ],
        )

    def _fact(self, part: OfFact) -> Iterator[Batch]:
        yield from self._batch(FACTS, 1, [[part.number], *self._when([part.at_ns]), [part.netns], [part.kind], [part.body]])

    def _batch(self, table: str, count: int, values: list[Values]) -> Iterator[Batch]:
        if count:
            whose: list[Values] = [None if self._boot is None else [self._boot] * count, [self._kernel] * count]
            yield Batch(table, whose + list(map(fitting, values)), count)

    def _when(self, monotonic_ns: list[int]) -> list[Values]:
        since_ns = self._clock.wall_ns - self._clock.monotonic_ns
        wall = [ns + since_ns for ns in monotonic_ns]
        return [list(map(iso, wall)), wall, monotonic_ns]


def _called(names: Mapping[int, str], inums: list[int]) -> Values:
    return [names.get(inum) for inum in inums]


def _identities(numbers: list[int]) -> Values:
    return [number or None for number in numbers]


def fitting(values: Values) -> Values:
    """Columns of numbers have 64 bits with a sign; a recording may hold larger ones, which no kernel counts up to."""
    if values is None or not any(type(value) is int and abs(value) > NS_MOST for value in values):
        return values
    return [None if type(value) is int and abs(value) > NS_MOST else value for value in values]
