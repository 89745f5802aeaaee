"""Events for people while they happen: rows, under the names that their namespaces have then."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.capture.capture import Capture
from ctobserve.capture.event_filter import ended
from ctobserve.documents.base import Labels
from ctobserve.event import Events
from ctobserve.render.columns import distinct
from ctobserve.render.event_lines import EventLines
from ctobserve.render.names import Names


class StreamLines:
    """`of` is to be called with every batch, in order. `columns`: of the terminal, None: each event is one line."""

    def __init__(self, capture: Capture, columns: int | None = None) -> None:
        """It asks for names at once: who ends before the first line about it still has one."""
        self._names = Names(capture.names, capture.now_ns)
        self._names.of(())
        self._clock = capture.started
        self._lines = EventLines(columns)

    def labels(self, inums: Iterable[int]) -> Labels:
        """What these are called now, by inode number."""
        return self._names.of(inums)

    def of(self, came: Events, shown: Events) -> list[str]:
        """Text of those to be `shown` among those that `came`, which say whether a namespace ends; none where there are none."""
        self._names.ended(ended(came))
        if not len(shown):
            return []
        return [self._lines.of(shown, self._clock, self.labels(distinct(shown["entry"]["netns"])))]
