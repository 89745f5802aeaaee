"""The latest events of some sort, bounded: those told longest ago are forgotten, and counted."""

from __future__ import annotations

import numpy as np

from ctobserve.event import NO_EVENTS, Events
from ctobserve.model import NDArray, join, pick

HALF = 10_000  # rows of about 600 bytes


class Recent:
    """Rows in two halves: when the younger one is full it becomes the older, and what that held is forgotten."""

    def __init__(self, half: int = HALF) -> None:
        """So many are remembered at least, twice as many at most."""
        self.forgotten = 0
        self._half = half
        self._young: list[tuple[NDArray[np.int64], Events]] = []
        self._old: list[tuple[NDArray[np.int64], Events]] = []
        self._count = 0

    def add(self, events: Events, places: NDArray[np.int64]) -> None:
        """Copies of these rows; `places` are theirs among all that happened."""
        for start in range(0, len(events), self._half):
            part = np.arange(start, min(start + self._half, len(events)))
            if self._count + len(part) > self._half:
                self.forgotten += sum(len(rows) for _, rows in self._old)
                self._young, self._old, self._count = [], self._young, 0
            self._young.append((places[part], pick(events, part)))
            self._count += len(part)

    def rows(self) -> tuple[NDArray[np.int64], Events]:
        """All that are remembered, in order, and their places."""
        parts = [(np.empty(0, np.int64), NO_EVENTS), *self._old, *self._young]
        return np.concatenate([places for places, _ in parts]), join([rows for _, rows in parts])
