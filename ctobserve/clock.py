"""The kernel's clocks beside ours: monotonic nanoseconds, jiffies, wall time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from ctobserve.model import NDArray

CLOCK_MONOTONIC_COARSE = 6
NS_PER_S = 1_000_000_000


def iso(wall_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601, UTC, nanoseconds."""
    seconds, ns = divmod(wall_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


class Clock(NamedTuple):
    """One instant read on all clocks; others follow from it. `jiffies` are the low 32 bits, `hz` their number per second."""

    monotonic_ns: int
    wall_ns: int
    jiffies: int
    hz: int

    @classmethod
    def at(cls, jiffies: int) -> Clock:
        """Now. HZ is the resolution of CLOCK_MONOTONIC_COARSE, which counts ticks."""
        hz = round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))
        return cls(time.monotonic_ns(), time.time_ns(), jiffies, hz)

    def iso(self, monotonic_ns: int) -> str:
        """Wall time of a kernel timestamp."""
        return iso(self.wall_ns - self.monotonic_ns + monotonic_ns)

    def remaining_s(self, timeouts: NDArray[np.uint32], at_ns: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Whole seconds until entries expire, seen at these times; 0 for expired ones that nobody has reaped yet."""
        return np.maximum(self.remaining_ticks(timeouts, at_ns), 0) // self.hz

    def remaining_ticks(self, timeouts: NDArray[np.uint32], at_ns: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Jiffies until entries expire, seen at these times; 0 or less: expired (nf_ct_is_expired)."""
        now = (at_ns.astype(np.int64) - self.monotonic_ns) * self.hz // NS_PER_S + self.jiffies
        # Jiffies wrap around, as numbers of 32 bits do.
        return (timeouts - now.astype(np.uint32)).view(np.int32).astype(np.int64)
