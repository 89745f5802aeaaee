"""The kernel's counters read at an instant when no loss is under way, so that they count the same packets as the events do."""

from __future__ import annotations

from collections.abc import Callable

from ctobserve.capture.capture import Capture
from ctobserve.clock import NS_PER_S
from ctobserve.event import DestroyReason, Events, Kind
from ctobserve.host.counters import Reading
from ctobserve.model import Mask

QUIET_NS = NS_PER_S  # on a host that never stops losing packets the reading is taken as it is


def in_counters(events: Events) -> Mask:
    """Those that move a counter of a loss: packets lost or invalid, clashes resolved, victims of early_drop."""
    kinds = events["kind"]
    evicted = (kinds == Kind.DESTROY) & (events["reason"] == DestroyReason.EARLY_DROP)
    found: Mask = (kinds == Kind.DROP) | (kinds == Kind.RESOLVED) | evicted
    return found


def quiet_reading(capture: Capture, only: int | None, add: Callable[[Events], object]) -> Reading:
    """Counters of all namespaces, or `only` of one. Every event until then is given to `add`, none is held back."""
    add(capture.drain())
    end_ns = capture.now_ns() + QUIET_NS
    while True:
        reading = capture.counters(only)
        events = capture.drain()
        add(events)
        if not in_counters(events).any() or capture.now_ns() > end_ns:
            return reading
