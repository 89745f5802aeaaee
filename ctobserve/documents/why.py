"""ctobserve why: the life of each connection that somebody asks about, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.chains import with_chains
from ctobserve.analysis.connections import Connection, Connections
from ctobserve.analysis.held import held_by, idle_s, left_s
from ctobserve.analysis.helped import may_have_one, names_of
from ctobserve.analysis.sought import Sought
from ctobserve.capture.capture import Capture, Snapshot
from ctobserve.capture.table import Lengths, lengths_of
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import Clock
from ctobserve.diagnosis.fates import Around, answer, fate, looked_through, translated
from ctobserve.documents.base import EntryRows, EventRows, doc
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError
from ctobserve.event import Events, Kind
from ctobserve.model import Entries, pick

LIMIT = 20  # connections that are told, where no other limit is asked for
FIRST_EVENTS, LAST_EVENTS = 10, 30  # of each
CHANGEABLE = ("status", "timeout", "mark", "tcp_state")


@dataclass(frozen=True)
class LifeRow:
    """One connection. Behind `ended` there may be packets that came too late."""

    sentence: str = doc("why its entry left, why its packet was refused, or that it lives on")
    end: str = doc(
        "why it left, as a reason of destroys; why the last packet was refused of one that has no entry, as a reason of drops; "
        "`lives`; `unseen`: it is in the table no more, and its end was not seen"
    )
    before: bool | None = doc("it was there before the observation; null: not known")
    allocated: str | None = doc("ISO 8601, UTC, ns; null unless it was seen and looked for (`--confirms`)")
    inserted: str | None = doc("when it entered the table; null: it did not, or that was not seen")
    ended: str | None = doc("when it left the table; null: it did not, or that was not seen")
    translated: tuple[str, ...] = doc("what NAT made of its destination and source; empty without NAT")
    timeout: str | None = doc("sysctl that held it last; null: none did, or it is not known which")
    timeout_s: int | None = doc("its value, s")
    idle_s: int | None = doc("how long no packet had come when it timed out, s; null: it did not, or that is not known")
    entry: EntryRows = doc("one: as it is now, as it was when it left, or what its last packet says where it never had one")
    events: EventRows = doc("what happened to it, in order: the first 10 and the last 30")
    events_left_out: int = doc("those between them")


@dataclass(frozen=True)
class WhyDocument:
    """The connections that matched, and what was looked through for them."""

    meta: Meta = doc("who says it, of what stretch of time, and what makes it doubtful")
    asked: str = doc("the TUPLE")
    answer: str = doc("how all of them ended, in one sentence, and what was looked through")
    connections: int = doc("that matched")
    ends: Mapping[str, int] = doc("how many of them by `end`")
    packets: Mapping[str, int] = doc("packets of them that were refused or INVALID, by reason")
    events_looked_through: int = doc("of all connections, since the observation began")
    entries_looked_through: int = doc("in the table at its end; with `--netns` and `--zone` those of these")
    events_forgotten: int = doc("events of these connections that are not known any more, as memory is bounded")
    lives: tuple[LifeRow, ...] = doc(
        "those that ended or were refused, then those with lost packets, then the others, each the latest first; 20, or --limit"
    )


def collect(capture: Capture, request: Request, stretch: Stretch, sought: Sought, invalid: bool) -> WhyDocument:
    """Watch for a stretch of time, then look into the table. `invalid`: the capture looks for INVALID packets."""
    found = Connections(sought, request.filter, capture.table.entries(), capture.now_ns())
    for events in watch(capture, stretch):
        found.add(events)
    return told(capture, request, found, sought, invalid)


def told(
    capture: Capture,
    request: Request,
    found: Connections,
    sought: Sought,
    invalid: bool,
    took: Callable[[Events], object] = lambda _: None,
) -> WhyDocument:
    """What became of them until now. `took` is given the events that this takes from the capture, for who wants them too."""
    only, limit = request.filter, LIMIT if request.limit is None else request.limit
    read = _reading(capture)
    events = capture.drain()
    found.add(events)
    took(events)
    meta, table = meta_of("why", capture, request), capture.table.entries()
    all_told = found.told(table, meta.events_lost, limit)
    shown = all_told.connections[:limit]
    entries = int(np.count_nonzero(only.mask(table)))
    lost = meta.events_lost
    through = looked_through(found.came, entries, f"{meta.started[:19]}Z", lost, all_told.forgotten)
    teller = _Teller(capture, read, lengths_of(table, capture.buckets), shown, lost + all_told.forgotten, invalid)
    return WhyDocument(
        meta=meta,
        asked=sought.typed,
        answer=answer(sought.typed, all_told, through),
        connections=all_told.ends.total(),
        ends=dict(all_told.ends.most_common()),
        packets=dict(all_told.packets.most_common()),
        events_looked_through=found.came,
        entries_looked_through=entries,
        events_forgotten=all_told.forgotten,
        lives=tuple(teller.lives()),
    )


def _reading(capture: Capture) -> Snapshot | None:
    """Packets put an entry's end off, and no event tells it: only a reading does, which a recording has now and then."""
    try:
        return capture.snapshot()
    except CtobserveError:
        return None


class _Teller:
    """Makes a LifeRow of each connection that is shown."""

    def __init__(
        self, capture: Capture, read: Snapshot | None, lengths: Lengths, shown: list[Connection], lost: int, invalid: bool
    ) -> None:
        self._capture, self._read, self._lengths = capture, read, lengths
        self._lost, self._invalid = lost, invalid
        self._clock: Clock = capture.clock()
        self._shown = [one._replace(now=self._as_read(one.now)) for one in shown]
        inums = {int(one.last["netns"]) for one in self._shown}
        names = {name for one in self._shown if (name := held_by(one.last))}
        self._states = capture.namespaces(names, inums) if names else {}
        having = {int(one.last["netns"]) for one in self._shown if may_have_one(one.now)}
        self._helped = capture.helped(having) if having else None

    def lives(self) -> Iterator[LifeRow]:
        """In their order."""
        return map(self._life, self._shown)

    def _life(self, one: Connection) -> LifeRow:
        last = one.last
        timeout = held_by(last)
        state = self._states.get(int(last["netns"]))
        timeout_s = state.sysctls.get(timeout) if state and timeout else None
        idle = idle_s(one, self._clock, timeout_s)
        left = left_s(last, self._clock, self._clock.monotonic_ns) if len(one.now) else None
        by_sysctl = timeout if idle == timeout_s else None
        around = Around(left, self._read is not None, idle, by_sysctl, self._lost, self._invalid)
        events, left_out = _bounded(one.events)
        started = self._capture.started
        return LifeRow(
            sentence=fate(one, around),
            end=one.end,
            before=one.before,
            allocated=_iso(started, _allocated_ns(one.events)),
            inserted=_iso(started, _inserted_ns(one)),
            ended=_iso(started, None if one.ended is None else int(one.events["entry"]["seen_ns"][one.ended])),
            translated=translated(last),
            timeout=timeout,
            timeout_s=timeout_s,
            idle_s=idle,
            entry=self._rows(one),
            events=EventRows(events, started),
            events_left_out=left_out,
        )

    def _as_read(self, now: Entries) -> Entries:
        """As the kernel has it; where events came meanwhile they know it better."""
        made = now.copy()
        for row in made:
            row["seen_ns"] = self._clock.monotonic_ns
            if self._read is None or (self._read.touched == row["ct"]).any():
                continue
            for found in self._read.entries[self._read.entries["ct"] == row["ct"]][:1]:
                for name in CHANGEABLE:
                    row[name] = found[name]
        return made

    def _rows(self, one: Connection) -> EntryRows:
        last = np.atleast_1d(one.last)
        if not len(one.now):
            return EntryRows(last, self._capture.started)
        masters = self._capture.table.find(last["master"][last["master"] != 0])
        helpers = None if self._helped is None or not may_have_one(last) else names_of(last, self._helped)
        return EntryRows(with_chains(last, self._lengths), self._clock, masters, helpers)


def _bounded(events: Events) -> tuple[Events, int]:
    """The first and the last of them, and how many there are between; a clash resolved tells the destroy of its loser."""
    events = pick(events, events["kind"] != Kind.RESOLVED)
    left_out = max(len(events) - FIRST_EVENTS - LAST_EVENTS, 0)
    if not left_out:
        return events, 0
    return pick(events, np.r_[:FIRST_EVENTS, len(events) - LAST_EVENTS : len(events)]), left_out


def _allocated_ns(events: Events) -> int | None:
    """CLOCK_MONOTONIC of __nf_conntrack_alloc, as its confirm tells it."""
    known = np.flatnonzero(events["since_alloc_ns"])
    if not len(known):
        return None
    return int(events["entry"]["seen_ns"][known[-1]]) - int(events["since_alloc_ns"][known[-1]])


def _inserted_ns(one: Connection) -> int | None:
    inserted = np.flatnonzero(one.events["kind"] == Kind.INSERT)
    if len(inserted):
        return int(one.events["entry"]["seen_ns"][inserted[0]])
    born_ns = 0 if one.ended is None else int(one.events["born_ns"][one.ended])
    return born_ns or None


def _iso(clock: Clock, at_ns: int | None) -> str | None:
    return None if at_ns is None else clock.iso(at_ns)
