"""The counters are read again until no loss came meanwhile, for a second at most."""

from __future__ import annotations

from typing import Any

import pytest

from ctobserve.capture.quiet import quiet_reading
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Events, Kind
from tests.scripted import NETNS, ScriptedCapture, events, reading
from tests.unit.tables import entries

LOST = events(Kind.DROP, entries(3), reason=DropReason.TABLE_FULL)
HARMLESS = events(Kind.INSERT, entries(2))
READINGS = [reading(drop=number) for number in range(100)]


def read(*batches: Events, **more: Any) -> tuple[int, list[int]]:
    """The value of a counter in the reading that was taken, and how many events came in each batch."""
    given: list[int] = []
    capture = ScriptedCapture(batches, readings=READINGS, **more)
    found = quiet_reading(capture, None, lambda batch: given.append(len(batch)))
    return found.counts[NETNS, 1, 0]["drop"], given


def test_where_nothing_is_lost_the_first_reading_is_taken():
    assert read() == (0, [0, 0])
    assert read(LOST, HARMLESS) == (0, [3, 2]), "what was lost before the reading is in it"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.DROP, DropReason.INVALID), (Kind.RESOLVED, 0), (Kind.DESTROY, DestroyReason.EARLY_DROP)],
)
def test_where_one_came_meanwhile_they_are_read_again(kind, reason):
    one = events(kind, entries(1), reason=reason)
    assert read(HARMLESS, one, one, HARMLESS) == (2, [2, 1, 1, 2])


def test_an_entry_that_left_otherwise_moves_no_counter():
    assert read(NO_EVENTS, events(Kind.DESTROY, entries(1), reason=DestroyReason.GC_EARLY_DROP)) == (0, [0, 1])


class Flooded(ScriptedCapture):
    """Packets are lost all the time; a reading takes a tenth of a second."""

    def counters(self, only: int | None = None):
        self.wait(0.1)
        return super().counters(only)


def test_a_host_that_never_stops_losing_packets_is_read_for_a_second():
    given: list[int] = []
    capture = Flooded([LOST] * 50, readings=READINGS)
    found = quiet_reading(capture, None, lambda batch: given.append(len(batch)))
    assert found.counts[NETNS, 1, 0]["drop"] == 10
    assert sum(given) == 3 * 12


def test_victims_that_were_held_back_are_given_too():
    victim = events(Kind.DESTROY, entries(1), reason=DestroyReason.EARLY_DROP)
    assert read(HARMLESS, held=victim) == (1, [2, 1, 0])
