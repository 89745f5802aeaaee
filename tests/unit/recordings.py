"""Recordings of made captures, and captures of made evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import reduce
from operator import or_
from pathlib import Path

import numpy as np

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.watch import STEP_S, Stretch
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.documents.record import Keeping, RecordDocument, collect
from ctobserve.documents.request import Request
from ctobserve.event import EVENT, Events, Kind
from ctobserve.host.counters import Reading
from ctobserve.model import ENTRY, join, pick
from ctobserve.programs.hooks import Purpose
from tests.scripted import CLOCK, FIDELITY, ScriptedCapture

EVERYTHING = reduce(or_, Purpose)
DURATION_S = 5.0


def record(
    capture: ScriptedCapture,
    path: Path,
    seconds: float = DURATION_S,
    say: Callable[[str], object] = lambda _: None,
    **keeping: float,
) -> RecordDocument:
    """What the command says of this recording of it."""
    capture.follow()
    return collect(capture, Request(), Stretch(seconds), Keeping(path, sees=EVERYTHING)._replace(**keeping), say)


def replay(path: Path, since_ns: int | None = None, until_ns: int | None = None) -> RecordedCapture:
    """All of a recording, or a stretch of it."""
    return RecordedCapture(Reader(path), EVERYTHING, since_ns, until_ns)


def at_end(path: Path) -> RecordedCapture:
    """The instant at which it ended."""
    end_ns = replay(path).end_ns
    return replay(path, end_ns, end_ns)


def capture_of(evidence: Evidence) -> ScriptedCapture:
    """A capture in which that is to be seen, as far as one can be made of it."""
    assert evidence.expected is not None
    states, accounts, readings = {}, {}, [{}, {}]
    for inum, one in evidence.namespaces.items():
        names = () if one.init else (one.label,)
        states[inum] = NamespaceState(inum, one.label, names, one.init, sysctls=one.sysctls, addresses=one.addresses)
        accounts[inum] = one.account
        for values, gained in zip(readings, (0, 1), strict=True):
            values[inum, 1, 0] = Counter({name: count * gained for name, count in (one.counters or {}).items()})
    happened = join([evidence.losses.astype(EVENT), evidence.unconfirmed.astype(EVENT)])
    assert not len(evidence.unconfirmed) or (evidence.unconfirmed["kind"] == Kind.DESTROY).all()
    return ScriptedCapture(
        batches=(happened[:0],) * 2 + (happened,),
        entries=evidence.entries.astype(ENTRY),
        readings=[Reading(values) for values in readings],
        states=states,
        accounted=[accounts],
        rulesets={inum: one.ruleset for inum, one in evidence.namespaces.items() if one.ruleset},
        expected=evidence.expected.rows,
        expected_via=evidence.expected.via,
        helpers=evidence.expected.helpers,
        told=FIDELITY._replace(lost={"insert": evidence.events_lost} if evidence.events_lost else {}, unread=evidence.unread),
    )


def in_time(happened: Events, seconds: float = DURATION_S) -> list[Events]:
    """A batch for each step: what happened in it. Before them two that are empty, which a reading of the counters takes."""
    steps = (happened["entry"]["seen_ns"].astype(np.int64) - CLOCK.monotonic_ns) // round(STEP_S * NS_PER_S)
    return [happened[:0], happened[:0], *(pick(happened, steps + 1 == step) for step in range(round(seconds / STEP_S) + 1))]
