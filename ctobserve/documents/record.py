"""ctobserve record: a stretch of time kept in a file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ctobserve.capture.capture import Capture
from ctobserve.capture.recorder import Recorder
from ctobserve.capture.store.container import shown
from ctobserve.capture.store.writer import Writer
from ctobserve.capture.watch import Stretch, watch
from ctobserve.documents.base import doc
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose

LEVEL = 1
KEYFRAME_S = 60.0


@dataclass(frozen=True)
class RecordDocument:
    """What a recording holds."""

    meta: Meta = doc("who says it, of what stretch of time, and what makes it doubtful")
    file: str = doc("name of the file")
    events: int = doc("events in it")
    keyframes: int = doc("readings of the table in it")
    compressed_bytes: int = doc("its rows, compressed; the file is a little larger")


class Keeping(NamedTuple):
    """Where it goes, and how: the level of zlib, seconds between two readings of the table, what the capture sees."""

    path: Path
    level: int = LEVEL
    keyframe_s: float = KEYFRAME_S
    sees: Purpose = Purpose(0)


def collect(capture: Capture, request: Request, stretch: Stretch, keeping: Keeping) -> RecordDocument:
    """Raises UsageError where the file cannot be made, NotWritten where the disk is full: what came before is kept."""
    sees = ",".join((one.name or "").lower() for one in Purpose if one in keeping.sees)
    with closing(Writer(keeping.path, keeping.level, {"sees": sees})) as writer:
        recorder = Recorder(capture, writer, keeping.keyframe_s)
        for events in watch(capture, stretch, idle=True):
            recorder.add(events)
        recorder.end()
    return RecordDocument(
        meta=meta_of("record", capture, request),
        file=shown(keeping.path),
        events=writer.events,
        keyframes=writer.keyframes,
        compressed_bytes=writer.bytes,
    )
