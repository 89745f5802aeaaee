"""Events for people while they happen: rows, under the names that their namespaces have then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from ctobserve.capture.capture import Capture
from ctobserve.capture.event_filter import ended
from ctobserve.documents.base import Labels
from ctobserve.event import Events
from ctobserve.host.whose import Whose
from ctobserve.render.columns import distinct
from ctobserve.render.event_lines import EventLines
from ctobserve.render.names import Names


class StreamLines:
    """`of` is to be called with every batch, in order. `columns`: of the terminal, None: each event is one line."""

    def __init__(self, capture: Capture, columns: int | None = None, owned: bool = False) -> None:
        """It asks for names at once: who ends before the first line about it still has one. `owned`: say who owns them."""
        look = capture.whose if owned else partial(_called, capture)
        self._names = Names(look, capture.now_ns, lambda inum: Whose(str(inum)))
        self._names.of(())
        self._clock = capture.started
        self._lines = EventLines(columns)

    def labels(self, inums: Iterable[int]) -> Labels:
        """What these are called now, by inode number."""
        return {inum: one.label for inum, one in self._names.of(inums).items()}

    def of(self, came: Events, shown: Events) -> list[str]:
        """Text of those to be `shown` among those that `came`, which say whether a namespace ends; none where there are none."""
        self._names.ended(ended(came))
        if not len(shown):
            return []
        inums = distinct(shown["entry"]["netns"])
        known = self._names.of(inums)
        owners = {inum: owner.label for inum in inums if (owner := known[inum].owner)}
        return [self._lines.of(shown, self._clock, {inum: known[inum].label for inum in inums}, owners)]


def _called(capture: Capture) -> Mapping[int, Whose]:
    return {inum: Whose(label) for inum, label in capture.names().items()}
