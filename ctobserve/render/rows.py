"""Entries as rows of the JSON contract (docs/json.md)."""

from __future__ import annotations

import numpy as np

from ctobserve.clock import Clock
from ctobserve.documents.base import NO_ENTRIES, Labels
from ctobserve.model import Entries, NDArray
from ctobserve.render.entry_fields import LISTED_FIELDS, EntryView, masters_of
from ctobserve.render.fields import Row, rows


def entry_rows(
    entries: Entries,
    clock: Clock,
    masters: Entries = NO_ENTRIES,
    helpers: NDArray[np.bytes_] | None = None,
    owners: Labels | None = None,
) -> list[Row]:
    """One object each; unknown is None. `masters`: those of these entries' masters that are in the table; `helpers`: of each;
    `owners` of their namespaces, by inode number."""
    return rows(LISTED_FIELDS, EntryView(entries, clock, masters_of(entries, masters), helpers, owners))
