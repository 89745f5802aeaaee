"""How old entries were when they left: each in the class of its age, by protocol and reason."""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.lifetimes import BOUNDS_S, Lifetimes
from ctobserve.clock import NS_PER_S
from ctobserve.event import NO_EVENTS, DestroyReason, Kind
from ctobserve.model import ICMP, TCP, UDP
from tests.scripted import CLOCK, events
from tests.unit.tables import entries

LATER_S = 100_000
NOW = CLOCK.monotonic_ns + LATER_S * NS_PER_S
TIMEOUT, EARLY_DROP = DestroyReason.TIMEOUT, DestroyReason.EARLY_DROP


def left(ages_s: list[float | None], reason: int = TIMEOUT, proto: int = UDP):
    born = [0 if age is None else NOW - round(age * NS_PER_S) for age in ages_s]
    rows = entries(len(ages_s), proto=proto)
    return events(Kind.DESTROY, rows, at_s=LATER_S, reason=reason, born_ns=np.array(born, np.uint64))


def test_each_age_is_in_its_class_and_a_bound_is_in_the_upper_one():
    found = Lifetimes()
    found.add(left([0, 0.05, *BOUNDS_S, *(bound - 1e-6 for bound in BOUNDS_S), None]))
    (row,) = found.rows()
    assert row.counts == (3, 2, 2, 2, 2, 2, 2, 1) and row.unknown == 1 and len(row.counts) == len(BOUNDS_S) + 1


def test_by_protocol_and_reason_the_most_first_however_they_come():
    found = Lifetimes()
    for batch in (left([1], proto=TCP), left([2, 3], EARLY_DROP), left([5], proto=TCP), left([1], proto=TCP), NO_EVENTS):
        found.add(batch)
    found.add(left([7], proto=ICMP))
    assert [(row.protonum, row.reason, sum(row.counts)) for row in found.rows()] == [
        (TCP, TIMEOUT, 3),
        (UDP, EARLY_DROP, 2),
        (ICMP, TIMEOUT, 1),
    ]


def test_what_never_entered_the_table_did_not_leave_it():
    found = Lifetimes()
    found.add(left([1], DestroyReason.UNCONFIRMED))
    found.add(events(Kind.INSERT, entries(3)))
    assert found.rows() == []
