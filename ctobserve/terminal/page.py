"""The whole screen: which part has how many lines, on any size of terminal from some 40 x 10 on."""

from __future__ import annotations

from typing import NamedTuple

from ctobserve.terminal import panels
from ctobserve.terminal.lines import Line, Span, beside, fitted, line
from ctobserve.terminal.panels import COLUMNS
from ctobserve.terminal.seen import Seen

SIDE = 15  # of the picture's legend, beside it
WIDE = 144  # columns from which the hash has a column of its own
FREEZE = "freeze"
KEYS = (
    *(("g", "group"), ("s", "sort"), ("f", "filter"), ("n", "netns"), ("space", FREEZE), ("⏎", "drill"), ("v", "verdicts")),
    *(("?", "help"), ("q", "quit"), ("b", "bucket"), ("p", "prove"), ("t", "theme")),
)


class Looks(NamedTuple):
    """What a person made of the screen: the chosen group, words of the filter, since when it is frozen, a complaint."""

    chosen: int = 0
    words: str = ""
    frozen: bool = False
    message: str = ""


def page(seen: Seen, now: Seen, looks: Looks, width: int, height: int) -> list[Line]:
    """`height` lines, each `width` cells. `now` is what goes on while `seen` is frozen: records lost and proof are its."""
    inum = seen.wish.only.netns
    words = looks.words if inum is None else f"netns {seen.moment.labels.get(inum, inum)} {looks.words}".strip()
    head = [panels.header(seen, words, _state(seen, looks), width)]
    foot = [panels.status(now), _keys(looks, seen.place is not None, width)]
    if seen.place is not None:
        foot = [*panels.time_line(seen, seen.place, width)[: 2 if height >= 24 else 1], *foot]
    rows = height - len(head) - len(foot)
    body = _wide(seen, looks, width, rows) if width >= WIDE and rows >= 16 else _narrow(seen, looks, width, rows)
    made = [*head, *body[:rows], *[Line()] * (rows - len(body)), *foot]
    return [fitted(one, width) for one in made[:height]]


def _state(seen: Seen, looks: Looks) -> list[Span]:
    if looks.frozen:
        return [Span(" FROZEN ", "warning")]
    if seen.place is None:
        return [Span(" LIVE ", "healthy")]
    if seen.place.speed:
        return [Span(f" PLAYING x{seen.place.speed} ", "healthy")]
    at = "END" if seen.place.at_end else "PAUSED"
    return [Span(f" RECORDED, {at} ", "notice")]


def _keys(looks: Looks, recorded: bool, width: int) -> Line:
    if looks.message:
        return line(Span(f" {looks.message}", "warning"))
    spans: list[Span] = []
    for key, what in KEYS:
        if recorded and what == FREEZE:  # it plays
            continue
        spans += [Span(f" {key}", "key"), Span(f" {what}" if width < 110 else f" {what} ", "muted")]
        if sum(len(span.text) for span in spans) > width:
            spans = spans[:-2]
            break
    return line(*spans)


def _narrow(seen: Seen, looks: Looks, width: int, rows: int) -> list[Line]:
    """One part below the other. Verdicts and groups get what the others leave; on small terminals the picture goes first."""
    namespaces = max(len(seen.moment.frame.entries_by_netns), 1)
    fill = min(namespaces, 3 if rows < 30 else 8)
    cells = 0 if rows < 17 else 2 if rows < 30 else min(rows // 5, 16)
    high = 1 if rows < 36 else 2
    fixed = fill + 3 * high + 1 + cells
    left = max(rows - fixed, 3)
    # Few groups leave their room to the verdicts.
    wanted = min(len(seen.moment.frame.groups) + 1, left // 2 if rows < 30 else 2 * left // 3)
    room = max(left - wanted, 1)
    said = _high(panels.verdicts(seen, width, room), min(left // 2, room))
    grouped = max(left - len(said), 2)
    made = [
        *said,
        *panels.fills(seen, width, fill),
        *panels.rates(seen, width, high),
        panels.reasons(seen, width),
        *panels.groups(seen, looks.chosen, width, grouped),
    ]
    made += [Line()] * (rows - cells - len(made))
    if cells:
        made += beside(panels.picture(seen, cells), [_with_gap(one) for one in panels.legend(seen)[:cells]], COLUMNS)
    return made


def _wide(seen: Seen, looks: Looks, width: int, rows: int) -> list[Line]:
    """Verdicts above; then rates and groups, and beside them the hash."""
    said = [*_high(panels.verdicts(seen, width, max(rows // 3, 3)), max(rows // 7, 3)), Line()]
    left, rest = width - COLUMNS - SIDE - 4, rows - len(said)
    namespaces = max(len(seen.moment.frame.entries_by_netns), 1)
    fill = min(namespaces, 8)
    chart = 3 if rest >= 26 else 2 if rest >= 20 else 1
    mine = [
        *panels.fills(seen, left, fill),
        Line(),
        *panels.rates(seen, left, chart),
        panels.reasons(seen, left),
        Line(),
    ]
    mine += panels.groups(seen, looks.chosen, left, max(rest - len(mine), 2))
    cells = max(min(rest - 1, 32), 1)
    hashed = beside(panels.picture(seen, cells), [_with_gap(one) for one in panels.legend(seen)], COLUMNS)
    return [*said, *beside(mine, hashed, left + 2)]


def _high(lines: list[Line], rows: int) -> list[Line]:
    """So many at least: what lies below keeps its place while verdicts come and go."""
    return [*lines, *[Line()] * (rows - len(lines))]


def _with_gap(one: Line) -> Line:
    return Line((Span(" "), *one.spans), one.targets)


def picture_rows(lines: list[Line]) -> int:
    """How many lines of a page have cells of the hash."""
    return sum(any(target[0] == "cells" for _, target in one.targets) for one in lines)
