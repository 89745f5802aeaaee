"""Events as rows of the JSON contract (docs/json.md)."""

from __future__ import annotations

import numpy as np

from ctobserve.clock import Clock
from ctobserve.documents.base import Labels
from ctobserve.event import Events
from ctobserve.render.entry_fields import ENTRY_FIELDS
from ctobserve.render.event_fields import EVENT, OF_KIND, OWNER_TOLD, TS, EventView
from ctobserve.render.fields import Row, rows


def event_rows(events: Events, clock: Clock, owners: Labels | None = None) -> list[Row]:
    """One object each, in order; unknown is None. `owners` of their namespaces, by inode number; None: they are not told."""
    view = EventView(events, clock, owners)
    made = rows((EVENT, TS, *ENTRY_FIELDS, OWNER_TOLD), view)
    for kind, members in OF_KIND.items():
        mask = events["kind"] == kind
        for at, more in zip(np.flatnonzero(mask).tolist(), rows(members, view.only(mask)), strict=True):
            made[at] |= more
    return made
