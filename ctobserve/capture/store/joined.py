"""Recordings that follow each other, read as one: what a flight recorder has in its directory, or a single file."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from ctobserve.capture.store.chunks import Rows
from ctobserve.capture.store.container import Unreadable, shown
from ctobserve.capture.store.parts import part_paths
from ctobserve.capture.store.reader import Chunk, Fact, Reader
from ctobserve.capture.store.valid import MOST_NS

BEGUN_S = 5  # a file that changed no longer ago may have been made just now
MOST_PARTS = 64  # a recorder has about ten
RUN = "run"  # in `meta` of a part: of which recorder it is
T = TypeVar("T")


class Recording(Protocol):
    """What is read of a recording; Reader says what each of these does."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def meta(self) -> Mapping[str, str]:
        """What it says of itself."""
        ...

    @property
    def damaged(self) -> int:
        """Rows and facts that could not be read so far."""
        ...

    @property
    def complaint(self) -> str | None:
        """What was the first of them."""
        ...

    def close(self) -> None:
        """Nothing can be read any more."""
        ...

    def last(self, kind: str, at_ns: int = MOST_NS) -> Fact | None:
        """The latest of its kind at this time."""
        ...

    def first(self, kind: str) -> Fact | None:
        """The earliest of its kind."""
        ...

    def newest_ns(self) -> int:
        """The time of the latest event."""
        ...

    def all(self, kind: str, at_ns: int = MOST_NS) -> Iterator[Fact]:
        """Those of a kind until this time."""
        ...

    def rows(self, kind: str, fact: int, count: int) -> Rows:
        """The rows that belong to this fact."""
        ...

    def parts(self, kind: str, fact: int, count: int) -> Iterator[Rows]:
        """The same, chunk by chunk."""
        ...

    def events(self, after: int) -> Iterator[Chunk]:
        """Chunks of events that follow this number."""
        ...

    def chunk(self, kind: str, chunk: Chunk) -> Rows:
        """Its rows."""
        ...

    def told(self) -> Iterator[Fact | Chunk]:
        """All of it in order."""
        ...

    def last_number(self) -> int:
        """The number of the last chunk."""
        ...


class Joined:
    """The parts of one recorder, the last one that wrote there, as far back as they can be read: a Recording.

    A number means the same in all of them: each goes on where the one before it ended.
    """

    def __init__(self, path: Path) -> None:
        """Raises Unreadable where there is none. A recorder may write there, and remove old parts, meanwhile."""
        self.path = path
        self._parts: list[Reader] = []
        self._failed: Unreadable | None = None  # of a part, later than all of these
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        self._begins = [_first(part) for part in self._parts]

    def _open(self) -> None:
        failed: Unreadable | None = None
        for path in _listed(self.path)[: -MOST_PARTS - 1 : -1]:
            try:
                part = Reader(path, unpacks=False)
            except Unreadable as error:
                if self._parts:
                    break
                # What it held last is missing: but of one that has just been begun.
                self._failed = self._failed or (None if _just_begun(path) else error)
                failed = failed or error
            else:
                if part.first("keyframe") is not None and (not self._parts or part.meta.get(RUN) == self.meta.get(RUN)):
                    self._parts.insert(0, part)
                    continue
                if part.damaged and not self._parts:
                    self._failed = self._failed or Unreadable(f"{shown(path)}: {part.complaint}")
                part.close()
            # The last one may just have been begun; what is older than one that cannot be read leads nowhere.
            if self._parts:
                break
        if not self._parts:
            raise failed or Unreadable(
                f"{shown(self.path)}: is a directory without a recording; give a file, or the directory of record --keep"
            )

    def close(self) -> None:
        """Nothing can be read any more."""
        for part in self._parts:
            part.close()

    @property
    def paths(self) -> list[Path]:
        """Of the parts, in order."""
        return [part.path for part in self._parts]

    @property
    def meta(self) -> Mapping[str, str]:
        """What the last part says of itself."""
        return self._parts[-1].meta

    @property
    def damaged(self) -> int:
        """Rows and facts that could not be read so far; a part that cannot be read at all counts as one."""
        return sum(part.damaged for part in self._parts) + (self._failed is not None)

    @property
    def complaint(self) -> str | None:
        """What was the first of them."""
        failed = str(self._failed) if self._failed else None
        return next((part.complaint for part in self._parts if part.complaint), failed)

    def last(self, kind: str, at_ns: int = MOST_NS) -> Fact | None:
        """The latest of its kind at this time; None where there is none that can be read."""
        return _some(lambda part: part.last(kind, at_ns), reversed(self._parts))

    def first(self, kind: str) -> Fact | None:
        """The earliest of its kind."""
        return _some(lambda part: part.first(kind), iter(self._parts))

    def newest_ns(self) -> int:
        """The time of the latest event; 0 where there is none."""
        return max(part.newest_ns() for part in self._parts)

    def all(self, kind: str, at_ns: int = MOST_NS) -> Iterator[Fact]:
        """Those of a kind until this time, in their order."""
        for part in self._parts:
            yield from part.all(kind, at_ns)

    def rows(self, kind: str, fact: int, count: int) -> Rows:
        """The `count` rows that belong to this fact; none where one of them cannot be read."""
        return self._of(fact).rows(kind, fact, count)

    def parts(self, kind: str, fact: int, count: int) -> Iterator[Rows]:
        """The same, chunk by chunk; whether one of them cannot be read says `damaged` in the end."""
        return self._of(fact).parts(kind, fact, count)

    def events(self, after: int) -> Iterator[Chunk]:
        """Chunks of events in their order, from those on that follow this number."""
        for part in self._parts[max(bisect_right(self._begins, after) - 1, 0) :]:
            yield from part.events(after)

    def chunk(self, kind: str, chunk: Chunk) -> Rows:
        """Its rows; none where they cannot be read."""
        return self._of(chunk.number).chunk(kind, chunk)

    def told(self) -> Iterator[Fact | Chunk]:
        """All of it in the order of its numbers: facts that can be read, and chunks, of which that is still to be seen."""
        for part in self._parts:
            yield from part.told()

    def last_number(self) -> int:
        """The number of the last chunk; 0 where it cannot be told."""
        return self._parts[-1].last_number()

    def _of(self, number: int) -> Reader:
        return self._parts[max(bisect_right(self._begins, number) - 1, 0)]


def opened(path: Path) -> Recording:
    """A recording to be read: a file, or the directory of a flight recorder. Raises Unreadable."""
    return Joined(path) if path.is_dir() else Reader(path)


def _listed(path: Path) -> list[Path]:
    try:
        return part_paths(path)
    except OSError as error:
        raise Unreadable(f"{shown(path)}: {(error.strerror or str(error)).lower()}") from None


def _just_begun(path: Path) -> bool:
    """Whether a recorder may be about to fill this file."""
    try:
        found = path.stat()
    except OSError:
        return True
    return not found.st_size or time.time() - found.st_mtime < BEGUN_S


def _first(part: Reader) -> int:
    """The number of its first fact, or one before it."""
    found = part.first("host")
    return 0 if found is None else found.number


def _some(ask: Callable[[Reader], T | None], parts: Iterator[Reader]) -> T | None:
    return next((found for part in parts if (found := ask(part)) is not None), None)
