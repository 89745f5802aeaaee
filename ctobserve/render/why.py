"""The lives of connections for people: each with one sentence, what NAT made of it, and what happened to it in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctobserve.documents.base import EventRows, Labels
from ctobserve.documents.why import FIRST_EVENTS, LifeRow, WhyDocument
from ctobserve.render.event_lines import EventLines
from ctobserve.render.folding import fitted, folded
from ctobserve.render.lines import named, stated

INDENT = "  "


def why_lines(found: WhyDocument, columns: int | None = None) -> Iterator[str]:
    """The answer, then each connection that is told. `columns`: of the terminal, None: each event is one line."""
    yield from folded(found.answer)
    within = None if columns is None else columns - len(INDENT)
    for life in found.lives:
        yield ""
        (name,) = named(life.entry.entries, found.meta.labels)
        yield fitted(name, columns)
        yield from _indented(_life(life, found.meta.labels, within))
    more = found.connections - len(found.lives)
    if more > 0:
        yield ""
        yield f"... and {more} more (--limit)"


def _life(life: LifeRow, labels: Labels, columns: int | None) -> Iterator[str]:
    yield from folded(life.sentence)
    if life.before is not False:
        yield "there before the observation" if life.before else "whether it was there before the observation is not known"
    for says in life.translated:
        yield f"NAT: {says}"
    if life.allocated:
        yield f"allocated {life.allocated}"
    if life.inserted and life.before:
        yield f"inserted {life.inserted}"
    if life.events_left_out:
        yield from _rows(life.events, slice(FIRST_EVENTS), labels, columns)
        yield f"... {life.events_left_out} more events ..."
        yield from _rows(life.events, slice(FIRST_EVENTS, None), labels, columns)
    else:
        yield from _rows(life.events, slice(None), labels, columns)
    if life.end == "lives":
        (state,) = stated(life.entry)
        yield fitted(f"now{state}", columns)


def _rows(shown: EventRows, which: slice, labels: Labels, columns: int | None) -> Iterator[str]:
    events = shown.events[which]
    if len(events):
        yield EventLines(columns, of_one=True).of(events, shown.clock, labels)


def _indented(blocks: Iterable[str]) -> Iterator[str]:
    for block in blocks:
        yield from (f"{INDENT}{line}" for line in block.split("\n"))
