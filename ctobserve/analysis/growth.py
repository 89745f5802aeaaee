"""When is a table full, if it goes on growing as it does?"""

from __future__ import annotations

from collections.abc import Mapping

from ctobserve.analysis.timeline import Bins
from ctobserve.clock import NS_PER_S

LATELY_NS = 30 * NS_PER_S


def full_in_s(bins: Bins, now_ns: int, limits: Mapping[int, int | None]) -> dict[int, float | None]:
    """Of each of these namespaces the seconds left until it has as many entries as its limit, at the pace of the last 30 s.

    0: it has. None: it does not grow, has no limit that is known, or is not told apart in these bins.
    """
    return {inum: _left_s(bins, now_ns, inum, limit) for inum, limit in limits.items()}


def _left_s(bins: Bins, now_ns: int, inum: int, limit: int | None) -> float | None:
    if limit is None or inum not in bins.entries:
        return None
    levels = bins.entries[inum]
    now = int(levels[-1])
    if now >= limit:
        return 0.0
    # A bin's level is that at its end.
    back = min(max(LATELY_NS // bins.width_ns, 1), len(levels) - 1)
    passed_ns = now_ns - (bins.began_ns + (len(levels) - back) * bins.width_ns)
    grown = now - int(levels[len(levels) - 1 - back])
    if grown <= 0 or passed_ns <= 0:
        return None
    return round((limit - now) * passed_ns / grown / NS_PER_S, 1)
