"""Who has most of the table, who makes most new entries, who loses most packets: one frame of `ctobserve top`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.groups import Key, divide, key
from ctobserve.model import Entries

ORDERS = ("entries", "new", "lost")


@dataclass(frozen=True)
class Line:
    """One group: its values in the columns asked for, entries now, new ones and lost packets in the interval."""

    values: tuple[Key, ...]
    entries: int
    new: int
    lost: int


def heaviest(now: Entries, new: Entries, lost: Entries, by: Sequence[str], order: str, limit: int) -> list[Line]:
    """Groups by these columns (see groups.divide), those with the most of `order` first; `new` and `lost` are of the interval.

    One that comes and goes within the interval is in `new` only.
    """
    everybody = np.concatenate([now, new, lost])
    which = np.repeat(np.arange(3), [len(now), len(new), len(lost)])
    groups = divide(everybody, by)
    sums = [groups.sums(which == part) for part in range(3)]
    best = np.argsort(-sums[ORDERS.index(order)], kind="stable")[:limit]
    return [
        Line(tuple(key(everybody[groups.first[at]], name) for name in by), *(int(part[at]) for part in sums))
        for at in best.tolist()
    ]
