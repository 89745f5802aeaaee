"""How wide running text may be, and folding it to that; lines to paste stay whole."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable

WIDTH = 98
NARROWEST = 40


def width() -> int:
    """Columns: 98, or what the terminal on stdout has where that is less."""
    try:
        return max(min(WIDTH, os.get_terminal_size(1).columns - 1), NARROWEST)
    except OSError:
        return WIDTH


def folded(text: str, indent: str = "  ") -> Iterable[str]:
    """Lines of at most that many columns; all but the first are indented. Words and what hyphens join stay together."""
    yield from textwrap.wrap(text, width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False) or [text]


def filled(words: list[str], indent: str) -> Iterable[str]:
    """Words side by side, two blanks between them."""
    line = indent
    for word in words:
        if len(line) + len(word) > width() and line != indent:
            yield line.rstrip()
            line = indent
        line += word + "  "
    if line != indent:
        yield line.rstrip()
