"""What tells recordings apart: their content, whatever their files are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ctobserve.capture.store import packed
from ctobserve.capture.store.container import Unreadable, shown
from ctobserve.capture.store.joined import Joined, Recording
from ctobserve.host import files

AT_ONCE = 1 << 20
WAL = "-wal"  # what a recorder that runs, or was killed, has beside its file


def identity(recording: Recording) -> str:
    """SHA-256 in hex of its file, of a directory of its parts in order; of one that xz has compressed, of what it becomes.

    What lies beside a file and is read with it belongs to it. Raises Unreadable.
    """
    found = hashlib.sha256()
    for path in recording.paths if isinstance(recording, Joined) else [recording.path]:
        try:
            for piece in _pieces(path):
                found.update(piece)
        except OSError as error:
            raise Unreadable(f"{shown(path)}: {(error.strerror or str(error)).lower()}") from None
    return found.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    if files.head(path, len(packed.MAGIC)) == packed.MAGIC:
        yield packed.unpacked(path)
        return
    beside = path.with_name(path.name + WAL)
    for one in (path, beside) if beside.exists() else (path,):
        with one.open("rb") as file:
            while piece := file.read(AT_ONCE):
                yield piece
