"""Entries as CSV: the JSON contract's fields, flattened with dots; an empty cell is unknown or not of this protocol."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.clock import Clock
from ctobserve.documents.base import Labels
from ctobserve.model import Entries, NDArray
from ctobserve.render.columns import joined
from ctobserve.render.entry_fields import LISTED_FIELDS, EntryView, masters_of
from ctobserve.render.fields import cells, flat_names

BATCH = 1 << 16
HEADER = tuple(flat_names(LISTED_FIELDS))


def csv_lines(
    entries: Entries, masters: Entries, clock: Clock, helpers: NDArray[np.bytes_] | None = None, owners: Labels | None = None
) -> Iterator[str]:
    """The heading, then lines, many at a time. `masters`: those of these entries' masters that are in the table; `helpers`: of
    each; `owners` of their namespaces, by inode number."""
    cell_of = {inum: quoted(owner) for inum, owner in (owners or {}).items()}
    yield ",".join(HEADER)
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        named = None if helpers is None else helpers[start : start + BATCH]
        yield joined(
            list(cells(LISTED_FIELDS, EntryView(part, clock, masters_of(part, masters), named, cell_of))), ",", len(part)
        )


def quoted(word: str) -> str:
    """A word that others chose, which has no line ends, as one cell (RFC 4180)."""
    return '"' + word.replace('"', '""') + '"' if "," in word or '"' in word else word
