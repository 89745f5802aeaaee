"""The flight recorder: the last minutes in a directory, and what came before and after something that happened as an incident."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from ctobserve.capture.capture import Capture
from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.recorder import Hooks, Recorder
from ctobserve.capture.store.container import Unreadable, shown
from ctobserve.capture.store.facts import Trigger
from ctobserve.capture.store.joined import RUN, Joined
from ctobserve.capture.store.parts import Parts
from ctobserve.capture.store.writer import Identities, NotWritten, Part, Writer
from ctobserve.clock import NS_PER_S, iso
from ctobserve.errors import CtobserveError
from ctobserve.event import Events

KILLED = "killed"
PARTS = 8  # that the time to be kept is cut into
MOST_TRIGGERS = 100  # noted in one incident
ENTRY_BYTES = 24  # of a reading of the table, compressed, at most
# Addresses whose numbers are remembered, at least: of more, those of entries that are long gone are forgotten.
MANY = 1 << 18  # pages of a slab: some four million entries that came and went


class Flight(NamedTuple):
    """What is kept: so many seconds, in a directory of so many bytes with so many incidents; of an incident also what comes
    so long after it."""

    path: Path
    keep_s: float
    most_bytes: int
    most_incidents: int
    after_s: float


class _Window(NamedTuple):
    """An incident that is being kept until `until_ns`."""

    name: str
    since_ns: int
    until_ns: int
    triggers: list[Trigger]


class FlightRecorder:
    """Made when the table is followed; `add` every batch of events, empty ones too, `keep` when something happened, then `end`.

    Raises UsageError where the directory cannot be had, NotWritten at the begin. `events`, `keyframes` and `bytes` count what was
    written in all.
    """

    def __init__(
        self, capture: Capture, flight: Flight, level: int, keyframe_s: float, meta: Mapping[str, str], hooks: Hooks
    ) -> None:
        """`level`, `keyframe_s` and `meta` as Writer and Recorder have them."""
        self._capture = capture
        self._flight = flight
        self._level = level
        self._meta = {**meta, RUN: token_hex(8)}
        self._say = hooks.say
        self._keep_ns = round(flight.keep_s * NS_PER_S)
        self._window: _Window | None = None
        self._identities = Identities()
        self._last = self._first_bytes = 0
        self._begun_ns = 0
        self._short = False
        self._before = (0, 0, 0)
        self._parts = Parts(flight.path, flight.most_bytes, flight.most_incidents)
        self._writer: Writer | None = None
        try:
            self._keep_left()
            self._recorder = Recorder(capture, self._fresh(), keyframe_s, hooks._replace(fresh=self._fresh))
            self._begun()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End with what is committed."""
        if self._writer is not None:
            self._writer.close()
        self._parts.close()

    @property
    def written(self) -> tuple[int, int, int]:
        """Events, readings of the table and compressed bytes, since the begin."""
        mine = (0, 0, 0) if self._writer is None else (self._writer.events, self._writer.keyframes, self._writer.bytes)
        events, keyframes, size = (before + now for before, now in zip(self._before, mine, strict=True))
        return events, keyframes, size

    @property
    def unwritten(self) -> int:
        """Events that came while nothing could be written."""
        return self._recorder.unwritten

    @property
    def held_s(self) -> float:
        """Seconds that are in the directory."""
        return self._parts.held_ns(self._capture.now_ns()) / NS_PER_S

    @property
    def incidents(self) -> tuple[str, ...]:
        """Names of those that are there."""
        return self._parts.incidents()

    def take(self, events: Events) -> None:
        """Events that somebody else has from the capture."""
        self._recorder.take(events)

    def add(self, events: Events) -> None:
        """Events, in order."""
        recorder, writer = self._recorder, self._writer
        recorder.add(events)
        if recorder.failed:
            return
        if self._writer is not writer:
            self._begun()
        now_ns, window = self._capture.now_ns(), self._window
        self._parts.forget(window.since_ns if window else now_ns - self._keep_ns)
        full = recorder.writer.taken - self._first_bytes >= self._parts.part_bytes
        if window and now_ns >= window.until_ns:
            self._turn(whole=True)
            if not recorder.failed:
                self._end_window(window)
        elif full or now_ns - self._begun_ns >= self._keep_ns // PARTS:
            self._turn()

    def keep(self, trigger: Trigger) -> None:
        """Keep what is there and what comes next; what happens until then is of the same incident."""
        now_ns = self._capture.now_ns()
        if self._window is None:
            name = _named(iso(self._capture.wall_ns()), trigger.why)
            until_ns = now_ns + round(self._flight.after_s * NS_PER_S)
            self._window = _Window(name, now_ns - self._keep_ns, until_ns, [])
            self._say(f"{trigger.says}: kept as {name} in {self._flight.after_s:g} s")
        else:
            self._say(f"{trigger.says}: of {self._window.name}, too")
        if len(self._window.triggers) < MOST_TRIGGERS:
            self._window.triggers.append(trigger)
            self._recorder.note("trigger", trigger)

    def end(self) -> None:
        """End in order, an incident too. Raises NotWritten where that finds no room."""
        try:
            self._recorder.end()
        finally:
            if self._window:
                self._retire()
                self._end_window(self._window)

    def _turn(self, whole: bool = False) -> None:
        self._recorder.turn(self._fresh, whole)
        if not self._recorder.failed:
            self._begun()

    def _fresh(self) -> Writer:
        """The next part, to be written; the one before is closed. Raises NotWritten."""
        self._retire()
        entries = len(self._capture.table)
        # Where entries come and go in a large memory, their addresses are without end.
        anew = self._identities.known > max(MANY, entries)
        if anew:
            self._identities.forget()
        try:
            path, room = self._parts.fresh(self._capture.now_ns(), max(self._first_bytes, entries * ENTRY_BYTES))
        except OSError as error:
            raise NotWritten(f"{shown(self._flight.path)}: {(error.strerror or str(error)).lower()}") from None
        try:
            self._writer = Writer(path, self._level, self._meta, Part(self._identities, self._last, room, anew))
        except CtobserveError:
            self._parts.withdraw()
            raise
        return self._writer

    def _retire(self) -> None:
        """Nothing more is written to the part that is open."""
        if self._writer is not None:
            writer, self._before = self._writer, self.written
            self._last, self._writer = writer.last, None
            self._capture.aside(writer.close)
            if not writer.keyframes:
                # It found no room for its begin.
                self._first_bytes = max(self._first_bytes, writer.taken)
                self._parts.withdraw()

    def _begun(self) -> None:
        """A part has its begin."""
        now_ns = self._capture.now_ns()
        self._begun_ns, self._first_bytes = now_ns, self._recorder.writer.taken
        held_ns = self._parts.held_ns(now_ns)
        if held_ns >= self._keep_ns:
            self._short = False
        elif self._parts.shortened and not self._short:
            self._short = True
            much = f"the last {held_ns // NS_PER_S} s are kept, not {self._flight.keep_s:g}"
            self._say(f"{shown(self._flight.path)}: {much}: there is no room for more in --max-size")

    def _end_window(self, window: _Window) -> None:
        self._window = None
        parts = self._parts.since(window.since_ns, self._writer is not None)
        self._copy(parts, window.name, ", ".join(dict.fromkeys(trigger.why for trigger in window.triggers)))

    def _keep_left(self) -> None:
        """What a recorder held that did not end in order: the host may have gone down with it."""
        if not self._parts.held:
            return
        try:
            with closing(Joined(self._flight.path)) as left:
                view, parts = RecordedView(left), left.paths
        except Unreadable:
            return
        name = _named(view.iso(view.end_ns), KILLED)
        # One that is killed again and again, soon after its begin, would drive out all others.
        short = view.end_ns - view.begin_ns < self._keep_ns // PARTS
        if not view.finished and not short and name not in self.incidents:
            self._copy(parts, name, "the recorder before did not end in order")

    def _copy(self, parts: Sequence[Path], name: str, what: str) -> None:
        try:
            path = self._capture.aside(lambda: self._parts.keep(parts, name))
        except (CtobserveError, OSError, sqlite3.Error) as error:
            self._say(f"{name} could not be kept: {error}")
        else:
            self._say(f"kept {shown(path)}: {what}")


def _named(time: str, why: str) -> str:
    """A file's name, of an ISO time, that no shell takes for anything else."""
    return f"incident-{time[:19].replace('-', '').replace(':', '')}Z-{why}"
