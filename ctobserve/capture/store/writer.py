"""Writes a recording: events as they come, readings of the table, and what else a host said; each second it is on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctobserve import __version__
from ctobserve.capture.address_index import Addresses, AddressIndex
from ctobserve.capture.capture import Expected, NamespaceState, Snapshot
from ctobserve.capture.store import container
from ctobserve.capture.store.chunks import MOST_ROWS, Rows, pack
from ctobserve.capture.store.columns import COUNTED, HELPED_OF, TOUCHED
from ctobserve.capture.store.facts import CountersRead, ExpectedRead, HelpedRead, Keyframe, encoded
from ctobserve.errors import CtobserveError
from ctobserve.event import EVENT, Events
from ctobserve.host.counters import NAMES, Reading
from ctobserve.host.dump import Dumped
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import Entries, as_bytes, join, pick

PAGE_BITS, IN_PAGE = np.uint64(12), np.uint64(4095)
MOST_FACT = 4 << 20  # characters of one fact
TOO_LONG = "its rules are longer than a recording takes"


class NotWritten(CtobserveError):
    """The disk takes no more, or as much as was asked for is written; what was committed until then is a whole recording."""


class Part(NamedTuple):
    """A recording that goes on where another ended: what it shares with the others of its kind.

    `after` is the last number that the one before it has. `room_bytes`: no more than that is taken, facts included. `anew`:
    numbers of entries do not mean what they meant there.
    """

    identities: Identities
    after: int = 0
    room_bytes: int | None = None
    anew: bool = False


class Writer:
    """A new recording. Raises UsageError where it cannot be made, and NotWritten from any method when the disk takes no more.

    Rows come in the order in which they are to be told again. Addresses of the kernel become small numbers, the same for the same
    address: nothing else of them is kept.
    """

    def __init__(self, path: Path, level: int, facts: Mapping[str, str], part: Part | None = None) -> None:
        """`level`: of zlib, 0 to 9. `facts`: what `meta` says beside the version. `part`: what it shares with others."""
        self.path = path
        self.events = self.keyframes = self.bytes = self.taken = 0
        self._level = level
        self.part = part or Part(Identities())
        self._identities = self.part.identities
        self.last = self.part.after
        # Events that wait to be a chunk: each is copied once on its way to the disk.
        self._waiting = np.empty(MOST_ROWS, EVENT)
        self._wait = 0
        try:
            self._made = container.create(path, {"ctobserve": __version__, **facts})
        except sqlite3.Error as error:
            raise self._complaint(error) from None
        self._made.execute("BEGIN")
        self._committed = (0, 0, 0)

    def fact(self, kind: str, value: object, at_ns: int, netns: int | None = None) -> int:
        """Something that was so at this time (CLOCK_MONOTONIC); its number, by which rows can belong to it."""
        self._flush()
        text = encoded(value)
        if len(text) > MOST_FACT and isinstance(value, NamespaceState):
            text = encoded(value._replace(ruleset=Ruleset(unread=TOO_LONG)))
        self._insert(len(text), "INSERT INTO facts VALUES (?, ?, ?, ?, ?)", at_ns, kind, netns, text)
        return self.last

    def add(self, events: Events) -> None:
        """Events in the kernel's order."""
        self.events += len(events)
        at = 0
        while at < len(events):
            some = events[at : at + MOST_ROWS - self._wait]
            as_bytes(self._waiting)[self._wait : self._wait + len(some)] = as_bytes(some)
            at += len(some)
            self._wait += len(some)
            if self._wait == MOST_ROWS:
                self._flush()

    def keyframe(self, read: Snapshot, began_ns: int, repairs: bool = False) -> None:
        """The table read once; events until `began_ns` were added before."""
        counts = (len(read.entries), len(read.extensions), len(read.touched))
        number = self.fact("keyframe", Keyframe(read.buckets, began_ns, read.unread, *counts, repairs), read.at_ns)
        entries = read.entries.copy()
        entries["padding"] = 0
        for name in ("ct", "master"):
            entries[name] = self._identities.of(np.ascontiguousarray(entries[name]))
        touched = np.empty(len(read.touched), TOUCHED)
        touched["ct"] = self._identities.of(np.ascontiguousarray(read.touched))
        # By identity, the oldest first: neighbours have like ports and timeouts, and take less than by bucket.
        order = np.argsort(entries["ct"], kind="stable")
        extensions = pick(read.extensions, order) if len(read.extensions) else read.extensions
        for kind, rows in (("entry", pick(entries, order)), ("extension", extensions), ("touched", touched)):
            self._rows(kind, rows, read.at_ns, number)
        self.keyframes += 1

    def counters(self, reading: Reading, at_ns: int) -> None:
        """The kernel's own counters."""
        number = self.fact("counters", CountersRead(len(reading.counts), reading.unread), at_ns)
        rows = np.zeros(len(reading.counts), COUNTED)
        for row, ((netns, cookie, cpu), values) in zip(rows, reading.counts.items(), strict=True):
            row["netns"], row["cookie"], row["cpu"] = netns, cookie, cpu
            for at, name in enumerate(NAMES):
                if name in values:
                    row["has"] |= 1 << at
                    row[f"value.{name}"] = values[name]
        self._rows("counters", rows, at_ns, number)

    def helped(self, found: Mapping[int, Dumped] | None, at_ns: int) -> None:
        """Entries that have a helper, by namespace."""
        parts = [np.empty(0, HELPED_OF)]
        for inum, rows in (found or {}).items():
            part = np.zeros(len(rows), HELPED_OF)
            part["netns"], part["row"] = inum, rows
            parts.append(part)
        whole = join(parts)
        number = self.fact("helped", HelpedRead(len(whole), None if found is None else tuple(found)), at_ns)
        self._rows("helped", whole, at_ns, number)

    def expected(self, found: Expected, at_ns: int) -> None:
        """Expectations."""
        number = self.fact("expected", ExpectedRead(len(found.rows), found.via, found.helpers), at_ns)
        self._rows("expectation", found.rows, at_ns, number)

    def go_on_at(self, number: int) -> None:
        """The next fact or chunk gets this number, larger than all before: who copies a recording keeps them."""
        self.last = number - 1

    def chunk(self, kind: str, rows: Rows, fact: int | None, first_ns: int, last_ns: int) -> None:
        """One to MOST_ROWS rows of this kind as they are, of this fact, from these times."""
        body = pack(kind, rows, self._level)
        self.bytes += len(body)
        statement = "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._insert(len(body), statement, kind, fact, first_ns, last_ns, len(rows), body)

    def commit(self, settle: bool = False) -> None:
        """What came until now is on disk, or with the kernel on its way there: a process that is killed leaves it.

        `settle`: and all of it in the one file, for which the disk is waited for.
        """
        self._flush()
        try:
            self._made.execute("COMMIT")
            if settle:
                container.settle(self._made)
            self._made.execute("BEGIN")
        except sqlite3.Error as error:
            raise self._complaint(error) from None
        self._committed = (self.events, self.keyframes, self.bytes)

    def recover(self) -> int:
        """After NotWritten: go on behind what was committed last; how many events are not in it therefore."""
        events = self.events
        self._wait = 0
        self.events, self.keyframes, self.bytes = self._committed
        with suppress(sqlite3.Error):
            if self._made.in_transaction:
                self._made.execute("ROLLBACK")
            self._made.execute("BEGIN")
        return events - self.events

    def close(self) -> None:
        """End with what is committed."""
        if self._made.in_transaction:
            self._made.execute("ROLLBACK")
        container.finish(self._made)

    def _flush(self) -> None:
        events, self._wait = self._waiting[: self._wait], 0
        if not len(events):
            return
        entries = events["entry"]
        for name in ("ct", "master"):
            entries[name] = self._identities.of(np.ascontiguousarray(entries[name]))
        entries["padding"] = events["padding"] = 0
        times = np.ascontiguousarray(entries["seen_ns"])
        self.chunk("event", events, None, int(times.min()), int(times.max()))

    def _rows(self, kind: str, rows: Rows, at_ns: int, fact: int) -> None:
        for part in _parts(rows):
            self.chunk(kind, part, fact, at_ns, at_ns)

    def _insert(self, size: int, statement: str, *values: object) -> None:
        self.last += 1
        self.taken += size
        if self.part.room_bytes is not None and self.taken > self.part.room_bytes:
            raise NotWritten(f"{container.shown(self.path)}: it would become larger than there is room for")
        try:
            self._made.execute(statement, (self.last, *values))
        except sqlite3.Error as error:
            raise self._complaint(error) from None

    def _complaint(self, error: sqlite3.Error) -> NotWritten:
        return NotWritten(f"{container.shown(self.path)}: {error}")


class Identities:
    """A number for each address, the same for the same: pages are numbered, from 1 in the order in which they come, and where in
    its page an address lies is kept, so that neighbours in a slab stay neighbours. 0 stays 0.
    """

    def __init__(self) -> None:
        self._index = AddressIndex()
        self._used = self._forgotten = 0

    @property
    def known(self) -> int:
        """Pages that have a number."""
        return self._used

    def forget(self) -> None:
        """Every address is a new one from now on; no number is given twice."""
        self._forgotten += self._used
        self._index, self._used = AddressIndex(), 0

    def of(self, addresses: Addresses) -> Addresses:
        """The number of each."""
        there = addresses.nonzero()[0]
        numbers = np.zeros(len(addresses), np.uint64)
        if not len(there):
            return numbers
        pages = addresses[there] >> PAGE_BITS
        # Entries that come one after the other mostly lie in one page.
        begins = np.append(True, pages[1:] != pages[:-1])
        rows, self._used = self._index.find_or_add(pages[begins], self._used)
        page_numbers = (rows + (self._forgotten + 1)).view(np.uint64)
        numbers[there] = page_numbers[np.cumsum(begins) - 1] << PAGE_BITS | addresses[there] & IN_PAGE
        return numbers


def _parts(rows: Entries) -> Iterator[Rows]:
    return (rows[first : first + MOST_ROWS] for first in range(0, len(rows), MOST_ROWS))
