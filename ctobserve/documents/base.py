"""What documents are made of: described fields, and rows of entries and events that stay arrays until somebody writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

import numpy as np

from ctobserve.clock import Clock
from ctobserve.event import Events
from ctobserve.model import ENTRY, Entries

Labels = Mapping[int, str]
NO_ENTRIES: Entries = np.empty(0, ENTRY)


def doc(text: str, *, default: Any = MISSING, name: str | None = None) -> Any:
    """A field of a document: what it says, with its unit; `name`: its key in JSON where that is no good name in Python."""
    metadata = {"doc": text} | ({"name": name} if name else {})
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class EntryRows:
    """Entries to be shown: in JSON a list of `entry` objects. `masters`: those of their masters that are in the table."""

    entries: Entries
    clock: Clock
    masters: Entries = field(default_factory=lambda: NO_ENTRIES)

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class EventRows:
    """Events to be shown: in JSON a list of `event` objects."""

    events: Events
    clock: Clock

    def __len__(self) -> int:
        return len(self.events)
