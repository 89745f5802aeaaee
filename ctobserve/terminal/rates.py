"""Counts in bins as rates per second, one for each column of a screen."""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.timeline import Bins, Counts, Series
from ctobserve.clock import NS_PER_S
from ctobserve.event import FOUND_BAD
from ctobserve.model import NDArray

Rates = NDArray[np.float64]


def losses(counts: Counts) -> Series:
    """Packets lost in each bin: what became of INVALID ones is not known."""
    return sum((lost for reason, lost in counts.lost.items() if reason not in FOUND_BAD), np.zeros(len(counts.new), np.int64))


def departures(counts: Counts) -> Series:
    """Entries that left in each bin, for whatever reason."""
    return sum(counts.gone.values(), np.zeros(len(counts.new), np.int64))


def seconds(bins: Bins, until_ns: int) -> float:
    """How long a time they are of: the last one is not over."""
    return max(until_ns - bins.began_ns, 1) / NS_PER_S


def per_second(bins: Bins, counts: Series, until_ns: int, columns: int) -> Rates:
    """Of so many equal parts of the time, the last one ending now, shape (columns,)."""
    passed = np.full(len(counts), bins.width_ns / NS_PER_S)
    passed[-1] = max(seconds(bins, until_ns) - passed[:-1].sum(), passed[-1] / 2)
    if len(counts) <= columns:
        spread: Rates = (counts / passed)[np.arange(columns) * len(counts) // columns]
        return spread
    starts = np.arange(columns) * len(counts) // columns
    joined: Rates = np.add.reduceat(counts, starts) / np.add.reduceat(passed, starts)
    return joined
