"""Lines of a screen as data: pieces of text, each with the role it plays; nothing in a text is ever markup."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Literal, NamedTuple

Meaning = Literal["critical", "warning", "notice", "healthy", "past", "full", "filling", "calm", "new", "gone", "lost"]
Shade = Literal["cold", "mild", "warm", "hot", "worst"]
Role = Meaning | Shade | Literal["", "title", "muted", "chosen", "key"]
# What a click on a line, or Enter, leads to: what it is, and which of them.
Target = tuple[str, int]


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    role: Role = ""


class Line(NamedTuple):
    """Spans from left to right; `targets` are what it leads to, from which cell on each, from left to right."""

    spans: tuple[Span, ...] = ()
    targets: tuple[tuple[int, Target], ...] = ()

    @property
    def target(self) -> Target | None:
        """What Enter leads to: the first of them."""
        return self.targets[0][1] if self.targets else None

    def at(self, cell: int) -> tuple[int, Target] | None:
        """What a click on this cell leads to, and how far it is to the right of where that begins."""
        found = [(cell - begin, target) for begin, target in self.targets if begin <= cell]
        return found[-1] if found else None

    @property
    def text(self) -> str:
        """Without its roles."""
        return "".join(span.text for span in self.spans)

    @property
    def wide(self) -> int:
        """Cells of the terminal."""
        return sum(wide(span.text) for span in self.spans)


def line(*spans: Span | str, target: Target | None = None) -> Line:
    """Of spans, and of texts without a role."""
    return Line(tuple(Span(one) if isinstance(one, str) else one for one in spans), () if target is None else ((0, target),))


def wide(text: str) -> int:
    """Cells of the terminal that a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def cut(text: str, cells: int) -> str:
    """As much of it as fits; `…` stands for the rest."""
    if wide(text) <= cells:
        return text
    kept = 0
    room = cells - 1
    for one in text:
        room -= wide(one)
        if room < 0:
            break
        kept += 1
    return text[:kept] + "…" * (cells > 0)


def fitted(one: Line, cells: int) -> Line:
    """Exactly so wide: the rest of it is cut off, or blanks follow."""
    made: list[Span] = []
    left = cells
    for span in one.spans:
        text = cut(span.text, left)
        made.append(Span(text, span.role))
        left -= wide(text)
        if text != span.text or left <= 0:
            break
    return Line((*made, Span(" " * left)), one.targets) if left > 0 else Line(tuple(made), one.targets)


def beside(left: list[Line], right: list[Line], cells: int) -> list[Line]:
    """Two columns, the left one so wide."""
    count = max(len(left), len(right))
    padded = [*left, *[Line()] * (count - len(left))]
    other = [*right, *[Line()] * (count - len(right))]
    return [_behind(fitted(one, cells), two, cells) for one, two in zip(padded, other, strict=True)]


def _behind(one: Line, two: Line, cells: int) -> Line:
    later = tuple((begin + cells, target) for begin, target in two.targets)
    return Line((*one.spans, *two.spans), (*one.targets, *later))


def wrapped(text: str, cells: int) -> list[str]:
    """Running text in lines of at most so many cells."""
    return textwrap.wrap(text, max(cells, 10), break_on_hyphens=False) or [""]


def joined(spans: Iterable[Span], between: str) -> list[Span]:
    """With a text between them."""
    made: list[Span] = []
    for span in spans:
        made += [Span(between), span] if made else [span]
    return made
