"""ctobserve record: a stretch of time kept in a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ctobserve.capture.capture import Capture
from ctobserve.capture.recorder import Hooks, Recorder
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
    file: str = doc("name of the file, or of the directory of a flight recorder")
    events: int = doc("events in it; of a flight recorder since it began, as the next two")
    keyframes: int = doc("readings of the table in it")
    compressed_bytes: int = doc("its rows, compressed; the file is a little larger")
    unwritten: int = doc("events that are not in it, as they came while the disk was full")
    held_s: float | None = doc("how much time the directory of a flight recorder holds; null: it is a file")
    incidents: tuple[str, ...] = doc("files in that directory that were kept of incidents, the oldest first")


class Keeping(NamedTuple):
    """Where it goes, and how: the level of zlib, seconds between two readings of the table, what the capture sees."""

    path: Path
    level: int = LEVEL
    keyframe_s: float = KEYFRAME_S
    sees: Purpose = Purpose(0)

    @property
    def facts(self) -> dict[str, str]:
        """What the file says of itself."""
        return {"sees": ",".join((one.name or "").lower() for one in Purpose if one in self.sees)}


def collect(
    capture: Capture, request: Request, stretch: Stretch, keeping: Keeping, say: Callable[[str], object] = lambda _: None
) -> RecordDocument:
    """Raises UsageError where the file cannot be made, NotWritten where the disk is full at the begin or the end.

    `say` is told lines for the operator: the disk is full, and there is room again.
    """
    with closing(Writer(keeping.path, keeping.level, keeping.facts)) as writer:
        recorder = Recorder(capture, writer, keeping.keyframe_s, Hooks(say=say))
        for events in watch(capture, stretch, idle=True):
            recorder.add(events)
        recorder.end()
    return RecordDocument(
        meta=meta_of("record", capture, request),
        file=shown(keeping.path),
        events=writer.events,
        keyframes=writer.keyframes,
        compressed_bytes=writer.bytes,
        unwritten=recorder.unwritten,
        held_s=None,
        incidents=(),
    )
