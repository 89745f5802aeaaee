"""A recording written again so that xz makes the least of it, with all that it says.

Entries are numbered as they come, and readings of the table are in that order: then a reading has the same bytes as the events
before it. The recorder numbers pages instead, which costs it less.
"""

from __future__ import annotations

import lzma
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.store.chunks import MOST_ROWS, Rows
from ctobserve.capture.store.reader import Fact, Reader
from ctobserve.capture.store.writer import Writer
from ctobserve.model import pick

FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "pb": 0},)
OF_READING = ("entry", "extension", "touched")


def smallest(path: Path) -> bytes:
    """The content of a file that says what this one does."""
    with TemporaryDirectory() as directory, closing(Reader(path)) as reader:
        made = Path(directory, "made")
        meta = {name: value for name, value in reader.meta.items() if name != "ctobserve"}
        with closing(Writer(made, 0, meta)) as writer:
            numbers = _Numbers()
            for one in reader.told():
                writer.go_on_at(one.number)
                if isinstance(one, Fact):
                    _fact(reader, writer, one, numbers)
                elif one.kind not in OF_READING:
                    rows = reader.chunk(one.kind, one)
                    writer.chunk(one.kind, numbers.of(one.kind, rows), one.fact, one.first_ns, one.last_ns)
            writer.commit()
        assert not reader.damaged
        return lzma.compress(made.read_bytes(), filters=FILTERS)


def _fact(reader: Reader, writer: Writer, fact: Fact, numbers: _Numbers) -> None:
    found: Any = fact.found
    writer.fact(fact.kind, found, fact.at_ns, found.inum if isinstance(found, NamespaceState) else None)
    if fact.kind != "keyframe":
        return
    counts = dict(zip(OF_READING, (found.entries, found.extensions, found.touched), strict=True))
    of = {kind: numbers.of(kind, reader.rows(kind, fact.number, count)) for kind, count in counts.items()}
    order = np.argsort(of["entry"]["ct"], kind="stable")
    for kind, rows in of.items():
        ordered = pick(rows, order) if len(rows) and kind != "touched" else rows
        for first in range(0, len(rows), MOST_ROWS):
            writer.chunk(kind, ordered[first : first + MOST_ROWS], fact.number, fact.at_ns, fact.at_ns)


class _Numbers:
    """A number for each identity, from 1 in the order in which they come; 0 stays 0."""

    def __init__(self) -> None:
        self._known = {0: 0}

    def of(self, kind: str, rows: Rows) -> Rows:
        """The same rows with these."""
        made = rows.copy()
        whole = made["entry"] if kind == "event" else made
        for name in ("ct", "master"):
            if name in (whole.dtype.names or ()):
                whole[name] = [self._known.setdefault(one, len(self._known)) for one in whole[name].tolist()]
        return made
