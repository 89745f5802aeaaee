"""The directory of a flight recorder: recordings that follow each other, the oldest removed, and incidents copied out of them.

It never takes more than it may: half for the parts, half for the incidents. Sizes are those on disk, with what SQLite has beside
a file (container.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ctobserve.capture.store import container
from ctobserve.capture.store.container import SIDES, shown
from ctobserve.capture.store.writer import NotWritten
from ctobserve.errors import UsageError
from ctobserve.host import files

PART = re.compile(r"part-([0-9]{8,12})")
INCIDENT = re.compile(r"incident-[0-9]{8}T[0-9]{6}Z-[0-9a-z_-]+")
PARTIAL = ".partial"
UNFINISHED = re.compile(rf"{INCIDENT.pattern}{re.escape(PARTIAL)}({'|'.join(SIDES)})?")
WAL = 2.2  # what is written at once is on disk twice: in the log, then in the file
OF_PARTS = 0.5  # of all


class Held(NamedTuple):
    """A part and when it begins (CLOCK_MONOTONIC); None: an earlier recorder left it."""

    name: str
    began_ns: int | None


class Parts:
    """A directory that is ours while this is open. Raises UsageError where it cannot be, and OSError from other methods.

    `held` are the parts, the oldest first; the last one is being written. `shortened`: the last one needed room that others had.
    """

    def __init__(self, path: Path, most_bytes: int, most_incidents: int) -> None:
        self.path = path
        self._most_bytes = int(most_bytes * OF_PARTS)
        self._of_incidents = most_bytes - self._most_bytes
        self._most_incidents = most_incidents
        self.shortened = False
        with ExitStack() as opened:
            try:
                self._directory = opened.enter_context(files.own_directory(path))
                files.lock(self._directory)
            except BlockingIOError:
                raise UsageError(f"{shown(path)} is in use by another recorder; give another directory") from None
            except (OSError, ValueError) as error:
                why = (getattr(error, "strerror", None) or str(error)).lower()
                raise UsageError(f"{shown(path)}: {why}; give a directory that only you can write to, or a free name") from None
            there = files.sizes(self._directory)
            for name in filter(UNFINISHED.fullmatch, there):
                files.remove(name, self._directory)
            self.held = [Held(name, None) for name in sorted(filter(PART.fullmatch, there), key=_number)]
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Others may have it."""
        self._opened.close()

    @property
    def newest(self) -> Path:
        """The part that is being written."""
        return self.path / self.held[-1].name

    def held_ns(self, now_ns: int) -> int:
        """How long before now the first part of this recorder begins."""
        return now_ns - next((part.began_ns for part in self.held if part.began_ns is not None), now_ns)

    def fresh(self, now_ns: int, first_bytes: int) -> tuple[Path, int]:
        """The path of another part, and how many bytes it may take; old parts go where it needs their room.

        `first_bytes` is what it begins with. Raises NotWritten where that needs more than there is for all parts.
        """
        need = int(WAL * first_bytes) + 3 * self._most_bytes // 8
        if need > self._most_bytes:
            raise NotWritten(f"{shown(self.path)}: a reading of the table takes too much of --max-size ({first_bytes} bytes)")
        self._make_room(need)
        number = _number(self.held[-1].name) + 1 if self.held else 1
        room = int((self._most_bytes - self._taken()) / WAL)
        self.held.append(Held(f"part-{number:08}", now_ns))
        return self.newest, room

    def withdraw(self) -> None:
        """The part that was to be written could not be made."""
        self._remove(self.held.pop().name)

    @property
    def part_bytes(self) -> int:
        """So much comes into a part beside its begin before another one is due."""
        return self._most_bytes // 10

    def forget(self, before_ns: int) -> None:
        """Remove the parts that ended before this time; those of earlier recorders once ours reach so far back."""
        ours = next((part.began_ns for part in self.held if part.began_ns is not None), None)
        while len(self.held) > 1:
            ended_ns = ours if self.held[0].began_ns is None else self.held[1].began_ns
            if ended_ns is None or ended_ns > before_ns:
                return
            self._remove(self.held.pop(0).name)

    def _make_room(self, more_bytes: int) -> None:
        """Remove the oldest parts until so much more finds room."""
        self.shortened = False
        while self.held and self._taken() + more_bytes > self._most_bytes:
            part = self.held.pop(0)
            self.shortened = self.shortened or part.began_ns is not None
            self._remove(part.name)

    def since(self, at_ns: int, writing: bool) -> list[Path]:
        """The parts of this recorder that hold something from then on; `writing`: but for the last."""
        ours = [part for part in self.held if part.began_ns is not None]
        late = [part for part, later in pairwise(ours) if later.began_ns is not None and later.began_ns > at_ns]
        return [self.path / part.name for part in (late if writing else [*late, *ours[-1:]])]

    def keep(self, parts: Sequence[Path], name: str) -> Path:
        """An incident of these parts, under this name or one like it; the oldest incidents go where it needs their room.

        Raises UsageError, sqlite3.Error.
        """
        there = files.sizes(self._directory)
        need = sum(there.get(part.name + side, 0) for part in parts for side in ("", *SIDES))
        incidents = sorted(filter(INCIDENT.fullmatch, there))
        while incidents and (
            len(incidents) >= self._most_incidents or sum(there[one] for one in incidents) + need > self._of_incidents
        ):
            files.remove(incidents.pop(0), self._directory)
        free = next(one for one in (name, *(f"{name}-{number}" for number in range(2, len(there) + 3))) if one not in there)
        partial = f"{free}{PARTIAL}"
        try:
            container.copy(parts, self.path / partial)
            files.sync(partial, self._directory)
        except BaseException:
            self._remove(partial)
            raise
        files.move(partial, free, self._directory)
        return self.path / free

    def incidents(self) -> tuple[str, ...]:
        """Their names, the oldest first."""
        return tuple(sorted(filter(INCIDENT.fullmatch, files.sizes(self._directory))))

    def _taken(self) -> int:
        there = files.sizes(self._directory)
        return sum(there.get(part.name + side, 0) for part in self.held for side in ("", *SIDES))

    def _remove(self, name: str) -> None:
        for side in ("", *SIDES):
            files.remove(name + side, self._directory)


def part_paths(path: Path) -> list[Path]:
    """The parts in this directory, whoever made it, the oldest first; raises OSError."""
    with files.directory(path) as directory:
        return [path / name for name in sorted(filter(PART.fullmatch, files.sizes(directory)), key=_number)]


def _number(name: str) -> int:
    found = PART.match(name)
    return int(found[1]) if found else 0
