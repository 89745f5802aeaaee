"""One number of several measurements."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import NamedTuple


class Measured(NamedTuple):
    """The median counts; the lowest and the highest say how far to trust it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Measured:
        """At least one."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])

    def over(self, divisor: float) -> Measured:
        """All three, divided."""
        return Measured(*(value / divisor for value in self))
