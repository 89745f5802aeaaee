"""ctobserve convert: what a recording holds, part by part in the order in which it was told, for tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from ctobserve.analysis.chains import with_chains
from ctobserve.analysis.helped import Names, names_of
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.extensions import EXTENSION, Extensions
from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.chunks import Rows
from ctobserve.capture.store.facts import MOST_CHARACTERS, Keyframe, encoded
from ctobserve.capture.store.joined import Recording
from ctobserve.capture.store.reader import Fact
from ctobserve.capture.table import Lengths, lengths_of
from ctobserve.clock import Clock
from ctobserve.documents.base import Labels
from ctobserve.event import Events
from ctobserve.model import ENTRY, Entries, join, pick, shown_before

BUCKETS = np.dtype([("bucket", "<u4", (2,))])  # all of a row that chains are counted from
EVENTS, ENTRIES, COUNTERS, FACTS = TABLES = ("events", "entries", "counters", "facts")


class OfEvents(NamedTuple):
    """Some of them, in order; `names` are those of namespaces then."""

    events: Events
    names: Labels


class OfEntries(NamedTuple):
    """Some entries of a reading of the table; `number` is that of its fact. `extensions` has a row for each entry, or none.

    `masters` are those of the whole reading.
    """

    number: int
    at_ns: int
    entries: Entries
    extensions: Extensions
    masters: Entries
    helpers: Names
    names: Labels
    owners: Labels


class OfCounters(NamedTuple):
    """A reading of the kernel's counters: rows as capture/store/columns.py has them."""

    at_ns: int
    rows: Rows
    names: Labels


class OfFact(NamedTuple):
    """A fact; `body` is JSON that a terminal can show."""

    number: int
    at_ns: int
    kind: str
    netns: int | None
    body: str


Part = OfEvents | OfEntries | OfCounters | OfFact


class Recorded(NamedTuple):
    """`clock` is what times are told by; `boot` is the random id of the recorded host's boot, which is another of each host."""

    boot: str | None
    kernel: str
    clock: Clock
    parts: Iterator[Part]


def collect(reader: Recording, wanted: Collection[str], tell: Callable[[float], None]) -> Recorded:
    """What these of TABLES are made of; `tell` hears how much is done, 0 to 1. Raises Unreadable."""
    view, clock = RecordedView(reader), reader.first("clock")
    assert clock is not None, "else there were no view"
    return Recorded(view.host.boot, view.host.release, clock.found, _parts(reader, wanted, tell))


def _parts(reader: Recording, wanted: Collection[str], tell: Callable[[float], None]) -> Iterator[Part]:
    last, names, owners = max(reader.last_number(), 1), dict[int, str](), dict[int, str]()
    helped = list(reader.all("helped"))
    for one in reader.told():
        tell(one.number / last)
        if not isinstance(one, Fact):
            if one.kind == "event" and EVENTS in wanted:
                yield OfEvents(reader.chunk(one.kind, one), names)
            continue
        if one.kind == "names":
            names = one.found
        if one.kind == "owners":
            owners = {inum: owner.label for inum, owner in one.found.items()}
        if one.kind == "keyframe" and ENTRIES in wanted:
            yield from _of_entries(reader, one, next((fact for fact in helped if fact.number > one.number), None), names, owners)
        elif one.kind == "counters" and COUNTERS in wanted:
            yield OfCounters(one.at_ns, reader.rows("counters", one.number, one.found.rows), names)
        if FACTS in wanted:
            inum = one.found.inum if isinstance(one.found, NamespaceState) else None
            yield OfFact(one.number, one.at_ns, one.kind, inum, json.dumps(_shown(json.loads(encoded(one.found)))))


def _of_entries(reader: Recording, keyframe: Fact, helped: Fact | None, names: Labels, owners: Labels) -> Iterator[OfEntries]:
    """Chunk by chunk, as a reading may be larger than memory: first what is of all of it, then its rows.

    `helped`: which entries had a helper, asked after the table was read.
    """
    number, found = keyframe.number, keyframe.found
    common = _common(reader, number, found)
    if common is None:
        return
    lengths, masters = common
    more = _Taken(_whole(reader, "extension", number, found.extensions if found.extensions == found.entries else 0))
    rows = reader.rows("helped", helped.number, helped.found.rows) if helped else reader.rows("helped", 0, 0)
    of = {inum: np.ascontiguousarray(rows["row"][rows["netns"] == inum]) for inum in np.unique(rows["netns"]).tolist()}
    for entries in reader.parts("entry", number, found.entries):
        whole = with_chains(entries, lengths)
        yield OfEntries(number, keyframe.at_ns, whole, more.take(len(entries)), masters, names_of(entries, of), names, owners)


def _common(reader: Recording, number: int, found: Keyframe) -> tuple[Lengths, Entries] | None:
    """How long each chain was, and the entries that are masters of others; None where one of the rows cannot be read."""
    damaged = reader.damaged
    buckets, wanted = [np.empty(0, BUCKETS)], [np.zeros(1, np.uint64)]
    for part in reader.parts("entry", number, found.entries):
        some = np.empty(len(part), BUCKETS)
        some["bucket"] = part["bucket"]
        buckets.append(some)
        wanted.append(np.unique(part["master"]))
    if reader.damaged > damaged:
        return None
    those = np.unique(np.concatenate(wanted))[1:]  # 0: it has none
    again = reader.parts("entry", number, found.entries) if len(those) else ()
    masters = [pick(part, np.isin(part["ct"], those)) for part in again]
    return lengths_of(join(buckets), found.buckets), join([np.empty(0, ENTRY), *masters])


def _whole(reader: Recording, kind: str, number: int, count: int) -> Iterator[Rows]:
    """These rows, if each of them can be read."""
    damaged = reader.damaged
    for _ in reader.parts(kind, number, count):
        pass
    return reader.parts(kind, number, count if reader.damaged == damaged else 0)


class _Taken:
    """Rows that come in parts, taken in others."""

    def __init__(self, parts: Iterator[Rows]) -> None:
        self._parts = parts
        self._held: Rows = np.empty(0, EXTENSION)

    def take(self, count: int) -> Rows:
        """The next so many, or what is left."""
        while len(self._held) < count and (part := next(self._parts, None)) is not None:
            self._held = join([self._held, part])
        taken, self._held = self._held[:count], self._held[count:]
        return taken


def _shown(value: Any) -> Any:
    """The same with every text as a terminal can show it."""
    if isinstance(value, dict):
        return {_shown(key): _shown(part) for key, part in value.items()}
    if isinstance(value, list):
        return list(map(_shown, value))
    return shown_before(value, MOST_CHARACTERS) if isinstance(value, str) else value
