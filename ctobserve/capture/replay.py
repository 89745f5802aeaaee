"""The table of a recording at any instant, and the events from there on: a reading of the table, and what happened since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from ctobserve.capture.capture import Snapshot
from ctobserve.capture.store.container import Unreadable, shown
from ctobserve.capture.store.facts import Keyframe
from ctobserve.capture.store.joined import Recording
from ctobserve.capture.store.reader import Chunk, Fact
from ctobserve.capture.store.valid import MOST_ENTRIES, MOST_NS
from ctobserve.capture.table import Table
from ctobserve.clock import NS_PER_S
from ctobserve.event import NO_EVENTS, Events
from ctobserve.model import NDArray, join, pick

AT_ONCE = 1 << 16  # events that are taken together, of 600 bytes, and what is left of one chunk
LATE_NS = 2 * NS_PER_S  # an event is told so late at most, at HOLD_NS of the correlator and a second's batch


class Replay:
    """`table` and `buckets` are of the instant `at_ns` at first, or None: of the first reading; `take` goes on from there.

    A reading of the table on the way is taken over where records were lost before it, the hash was resized, or a part of the file
    is damaged: else what events made of the table stays, to be compared with it.
    """

    def __init__(
        self, reader: Recording, keyframes: list[Fact], at_ns: int | None, tell: Callable[[float], None] = lambda _: None
    ) -> None:
        """`keyframes`: all of the recording, of which the first is not later than `at_ns`.

        `tell` is called with the share of the way to `at_ns` that lies behind.
        """
        self._reader = reader
        known = keyframes[:1] if at_ns is None else [fact for fact in keyframes if fact.at_ns <= at_ns]
        self.base = known[-1]
        self._later = deque(keyframes[len(known) :])
        self.table = Table()
        self.buckets: int = self.base.found.buckets
        self.table.put(self.read(self.base).entries)
        self._after_ns = 0 if at_ns is None else at_ns
        if at_ns is not None:
            self._go_to(at_ns, tell)
        tell(1.0)
        self._chunks = reader.events(self.base.number)
        self._next: Chunk | None = next(self._chunks, None)
        self._held = NO_EVENTS
        self._until: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._newest = 0
        self._torn = False

    def read(self, keyframe: Fact, extensions: bool = False) -> Snapshot:
        """What was read then."""
        found: Keyframe = keyframe.found
        number = keyframe.number
        entries = self._reader.rows("entry", number, found.entries)
        more = self._reader.rows("extension", number, found.extensions if extensions else 0)
        touched = self._reader.rows("touched", number, found.touched)["ct"]
        return Snapshot(entries, more, found.buckets, keyframe.at_ns, found.unread, np.ascontiguousarray(touched))

    def merge(self, keyframe: Fact) -> None:
        """Make the table what was read then, as far as events say nothing else."""
        found = self.read(keyframe)
        self.buckets = found.buckets
        self.table.merge(found.entries, found.touched)

    def take(self, until_ns: int, before: int = MOST_NS) -> Events:
        """Events in their order until this time, of chunks that come before this number; the table has them now.

        Of very many some, and the others next time: see `due`.
        """
        parts, count = [NO_EVENTS], 0
        for part in self._parts(until_ns, before):
            parts.append(part)
            count += len(part)
            if count >= AT_ONCE:
                break
        return join(parts)

    def due(self, until_ns: int, before: int = MOST_NS) -> bool:
        """Whether a whole chunk that comes before this number, and is of this time, was not taken yet."""
        chunk = self._next
        return chunk is not None and self._after_ns < chunk.last_ns <= until_ns and chunk.number <= before

    def _go_to(self, at_ns: int, tell: Callable[[float], None]) -> None:
        """The table of that instant: what happened until then, also what was told only later, when more was known of it."""
        for chunk in self._reader.events(self.base.number):
            if chunk.first_ns > at_ns + LATE_NS:
                break
            if chunk.first_ns <= at_ns:
                happened = self._reader.chunk("event", chunk)
                if chunk.last_ns > at_ns:
                    happened = pick(happened, happened["entry"]["seen_ns"] <= at_ns)
                self._apply(happened)
                tell((chunk.first_ns - self.base.at_ns) / max(at_ns - self.base.at_ns, 1))

    def _apply(self, happened: Events) -> None:
        self.table.apply(happened)
        if len(self.table) > MOST_ENTRIES:
            raise Unreadable(f"{shown(self._reader.path)}: more entries than a table has")

    def _parts(self, until_ns: int, before: int) -> Iterator[Events]:
        """The same, chunk by chunk: a table at a late instant needs none of them."""
        while len(self._held) or self._load(until_ns, before):
            count = int(np.searchsorted(self._until, until_ns, "right"))
            if not count and len(self._held):
                break
            part = self._held if count == len(self._held) else pick(self._held, np.arange(count))
            self._held, self._until = self._held[count:], self._until[count:]
            self._apply(part)
            yield part

    def _load(self, until_ns: int, before: int) -> bool:
        """The next chunk, if any of it can be of that time."""
        chunk = self._next
        if chunk is None or chunk.first_ns > until_ns or chunk.number > before:
            self._pass_readings(before if chunk is None else min(chunk.number, before), until_ns)
            return False
        self._next = next(self._chunks, None)
        damaged = self._reader.damaged
        self._pass_readings(chunk.number)
        if chunk.last_ns <= self._after_ns:
            return True
        self._held = self._reader.chunk("event", chunk)
        if chunk.first_ns <= self._after_ns:
            self._held = pick(self._held, self._held["entry"]["seen_ns"] > self._after_ns)
        self._torn = self._torn or self._reader.damaged > damaged
        # What another CPU said earlier may come later: it belongs to the time of what it comes after.
        self._until = np.maximum(np.maximum.accumulate(self._held["entry"]["seen_ns"]), np.uint64(self._newest))
        self._newest = int(self._until[-1]) if len(self._until) else self._newest
        return True

    def _pass_readings(self, number: int, until_ns: int = MOST_NS) -> None:
        while self._later and self._later[0].number < number and self._later[0].at_ns <= until_ns:
            keyframe = self._later.popleft()
            if keyframe.found.repairs or self._torn:
                self.merge(keyframe)
                self._torn = False
