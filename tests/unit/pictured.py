"""Figures for reports that a test makes without a capture."""

from __future__ import annotations

from ctobserve.capture.filters import Filter
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.collect import Level, by_namespace
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.documents.figures import Figures, Watched
from ctobserve.event import Events
from tests.scripted import CLOCK
from tests.unit.tables import evidence


def figures(of: Evidence | None = None, *happened: Events, seconds: float = 5.0) -> Figures:
    """Of this evidence, which has at its end what it had at the begin but for these events."""
    of = evidence() if of is None else of
    watched = Watched(Filter(), Level(CLOCK.monotonic_ns, by_namespace(of.before)))
    for events in happened:
        watched.add(events)
    ended = Level(CLOCK.monotonic_ns + round(seconds * NS_PER_S), by_namespace(of.entries))
    return watched.figures(of, ended, CLOCK, limits_chains=True)
