"""When a namespace will be full, from the levels of a time line."""

from __future__ import annotations

import pytest

from ctobserve.analysis.growth import full_in_s
from ctobserve.analysis.timeline import Timeline
from ctobserve.clock import NS_PER_S


def left(levels: list[int], limit: int | None, every_s: float = 1.0) -> float | None:
    """Of a namespace that has these levels one after the other."""
    made = Timeline(0)
    for at, count in enumerate(levels):
        made.level(round(at * every_s * NS_PER_S), {7: count})
    now_ns = round((len(levels) - 1) * every_s * NS_PER_S)
    return full_in_s(made.bins(now_ns), now_ns, {7: limit})[7]


def test_at_the_pace_of_late_it_is_full_so_soon():
    assert left([100 * at for at in range(11)], 2000) == pytest.approx(10, rel=0.03)
    assert left([10 * at for at in range(1001)], 20_000) == pytest.approx(1000, rel=0.06), "bins of more than a second"


def test_only_the_last_half_minute_counts():
    assert left([1000] * 60 + [1000 + 10 * at for at in range(1, 31)], 1600) == pytest.approx(30, rel=0.05)


def test_what_is_full_has_no_time_left():
    assert left([10, 20, 30], 30) == left([10, 20, 31], 30) == 0


def test_what_does_not_grow_or_has_no_limit_is_never_full():
    assert left([10, 10, 10], 30) is None
    assert left([30, 20, 10], 50) is None
    assert left([10, 20, 30], None) is None
    assert full_in_s(Timeline(0).bins(0), 0, {7: 10}) == {7: None}
    assert left([10], 30) is None
