"""How old were the entries that left the table?"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from ctobserve.clock import NS_PER_S
from ctobserve.event import DestroyReason, Events, Kind

# Seconds: entries younger than the first are in the first class, those as old as the last or older in the one after it.
BOUNDS_S = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
CLASSES = len(BOUNDS_S) + 1
_BOUNDS_NS = np.array([bound * NS_PER_S for bound in BOUNDS_S], np.int64)


class Ages(NamedTuple):
    """Entries of one protocol that left for one reason: how many of each class, and of `unknown` age."""

    protonum: int
    reason: int
    counts: tuple[int, ...]
    unknown: int


class Lifetimes:
    """`add` events as they come; bounded by protocols and reasons."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, events: Events) -> None:
        """Entries that left; one that never entered the table is none of them."""
        gone = np.flatnonzero((events["kind"] == Kind.DESTROY) & (events["reason"] != DestroyReason.UNCONFIRMED))
        born_ns = events["born_ns"][gone].astype(np.int64)
        ages_ns = events["entry"]["seen_ns"][gone].astype(np.int64) - born_ns
        classes = np.where(born_ns > 0, np.searchsorted(_BOUNDS_NS, ages_ns, "right"), CLASSES)
        protocols = events["entry"]["protonum"][gone].astype(np.int64)
        found, counts = np.unique(protocols << 16 | events["reason"][gone].astype(np.int64) << 8 | classes, return_counts=True)
        self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def rows(self) -> list[Ages]:
        """Those of which most left first."""
        counts: dict[int, list[int]] = {}
        for code, count in self._counts.items():
            counts.setdefault(code >> 8, [0] * (CLASSES + 1))[code & 0xFF] = count
        order = sorted(counts, key=lambda kind: (-sum(counts[kind]), kind))
        return [Ages(kind >> 8, kind & 0xFF, tuple(counts[kind][:-1]), counts[kind][-1]) for kind in order]
