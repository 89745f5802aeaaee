"""ctobserve record --keep: the last minutes in a directory, and incidents out of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from ctobserve.capture.capture import Capture
from ctobserve.capture.flight import Flight, FlightRecorder
from ctobserve.capture.recorder import Hooks
from ctobserve.capture.store.container import shown
from ctobserve.capture.store.facts import Trigger
from ctobserve.capture.watch import Stretch, watch
from ctobserve.documents.meta import meta_of
from ctobserve.documents.record import Keeping, RecordDocument
from ctobserve.documents.request import Request
from ctobserve.documents.triggers import Conditions, Triggers
from ctobserve.programs.hooks import Purpose

ASKED = Trigger("asked", "asked by SIGUSR1")


def collect(
    capture: Capture,
    request: Request,
    stretch: Stretch,
    keeping: Keeping,
    flight: Flight,
    conditions: Conditions,
    asked: Callable[[], bool],
    say: Callable[[str], object],
) -> RecordDocument:
    """`asked` says whether somebody asked to keep an incident since it was called last; `say` is told lines for the operator.

    Raises UsageError where the directory cannot be had, NotWritten where the disk is full at the begin or the end.
    """
    triggers = Triggers(capture, conditions, flight.after_s, keeping.keyframe_s, Purpose.INVALID in keeping.sees)
    hooks = Hooks(triggers.add, say)
    with closing(FlightRecorder(capture, flight, keeping.level, keeping.keyframe_s, keeping.facts, hooks)) as recorder:
        for events in watch(capture, stretch, idle=True):
            triggers.add(events)
            recorder.add(events)
            if asked():
                recorder.keep(ASKED)
            for trigger in triggers.due(recorder.take):
                recorder.keep(trigger)
        if asked():
            # And then, before anybody looked, to end.
            recorder.keep(ASKED)
        recorder.end()
        told, keyframes, size = recorder.written
        return RecordDocument(
            meta=meta_of("record", capture, request),
            file=shown(flight.path),
            events=told,
            keyframes=keyframes,
            compressed_bytes=size,
            unwritten=recorder.unwritten,
            held_s=round(recorder.held_s, 3),
            incidents=recorder.incidents,
        )
