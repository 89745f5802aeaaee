"""Pieces of HTML and SVG: the only place in which a text becomes markup, and where it is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ctobserve.render.report import shown

Markup = str  # whole elements, in which all that is foreign is escaped


def text(value: object) -> Markup:
    """A value as people read it, as text and nothing else, also within an attribute."""
    return escape(shown(value))


def pairs(of: Iterable[tuple[str, object]]) -> Markup:
    """A table of names with their values."""
    rows = (f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in of)
    return f'<table class="pairs">\n{chr(10).join(rows)}\n</table>'


def table(says: str, heads: Sequence[str], rows: Iterable[Sequence[object]], sortable: bool = True) -> Markup:
    """With a caption and a head; the first cell of each row names it. Numbers are to the right, and sorted as such."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in heads)
    body = "\n".join(f'<tr><th scope="row"{_data(row[0])}>{text(row[0])}</th>{"".join(map(_cell, row[1:]))}</tr>' for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return f"<table{kind}>\n<caption>{text(says)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


class Shaded(int):
    """A number whose cell is darker the larger its part of the row is: 0 to 3."""

    shade: int

    def __new__(cls, number: int, shade: int) -> Shaded:
        """`shade` beside the number."""
        made = super().__new__(cls, number)
        made.shade = shade
        return made


def _data(value: object) -> Markup:
    """What it is sorted by, where its text will not do: unknown is less than all numbers."""
    if value is None:
        return ' class="n" data-n=""'
    return f' class="n" data-n="{value}"' if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _cell(value: object) -> Markup:
    if isinstance(value, Shaded):
        return f'<td class="n t{value.shade}" data-n="{int(value)}">{text(int(value))}</td>'
    return f"<td{_data(value)}>{text(value)}</td>"


def folded_away(says: str, *parts: Markup) -> Markup:
    """What is opened by who wants it: by mouse, finger or keyboard."""
    return f"<details><summary>{text(says)}</summary>\n{chr(10).join(parts)}\n</details>"


def scrolled(says: str, *parts: Markup) -> Markup:
    """What may be larger than the screen: the keyboard reaches it, and scrolls it."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(says)}">\n{chr(10).join(parts)}\n</div>'
