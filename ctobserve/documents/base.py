"""What documents are made of: described fields, and rows of entries and events that stay arrays until somebody writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctobserve.clock import Clock
from ctobserve.event import Events
from ctobserve.model import ENTRY, Entries, Expectations, NDArray

Labels = Mapping[int, str]
NO_ENTRIES: Entries = np.empty(0, ENTRY)


def doc(text: str) -> Any:
    """A field of a document: what it says, with its unit."""
    return field(metadata={"doc": text})


@dataclass(frozen=True)
class EntryRows:
    """Entries to be shown: in JSON a list of `entry` objects. `masters`: those of their masters that are in the table.

    `helpers` has the name of each one's helper, empty where it has none; None where nobody asked. `owners`: what text calls the
    owner of each network namespace that has one, by inode number, for who shows them.
    """

    entries: Entries
    clock: Clock
    masters: Entries = field(default_factory=lambda: NO_ENTRIES)
    helpers: NDArray[np.bytes_] | None = None
    owners: Labels = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class ExpectationRows:
    """Expectations to be shown: in JSON a list of `expectation` objects."""

    rows: Expectations

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class EventRows:
    """Events to be shown: in JSON a list of `event` objects. `owners` as in EntryRows; None: they are not shown."""

    events: Events
    clock: Clock
    owners: Labels | None = None

    def __len__(self) -> int:
        return len(self.events)
