"""How wide text may be, and folding it to that: running text always, rows of data on a terminal alone, lines to paste never."""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

from ctobserve.render.columns import Part, joined

WIDTH = 98
NARROWEST = 40
CLAUSE = "\x1e"  # in a row, until `fitted`: a blank before which the row had better be folded; foreign text has no such byte
INDENT = " " * 8


def _terminal() -> int | None:
    """Columns of the terminal on stdout, 0 where it does not know them; None where stdout is no terminal."""
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return None


def width() -> int:
    """Columns for running text: 98, or what the terminal on stdout has where that is less."""
    columns = _terminal()
    return max(min(WIDTH, columns - 1), NARROWEST) if columns else WIDTH


def room() -> int | None:
    """Columns for rows of data: the same on a terminal, else None: a row stays one line, to be searched line by line."""
    return None if _terminal() is None else width()


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


def fitted(rows: str, columns: int | None) -> str:
    """Rows, line by line, with a blank for each CLAUSE; those longer than so many columns (None: no row is) are folded there.

    A clause that is longer than a line is folded between its words, and within one that is longer still.
    """
    lines = [] if columns is None else rows.split("\n")
    if columns is not None and (not rows.isascii() or max(map(len, lines)) > columns):
        rows = "\n".join(line if _wide(line) <= columns else "\n".join(_folded(line, columns)) for line in lines)
    return rows.replace(CLAUSE, " ")


def rows_fitted(parts: Sequence[Part], count: int, columns: int | None) -> str:
    """The rows that these parts make, `fitted`. In a text that all rows have, no mark is written where none is wanted."""
    if columns is None:
        parts = [part.replace(CLAUSE, " ") if isinstance(part, str) else part for part in parts]
    return fitted(joined(parts, count=count), columns)


def _folded(row: str, columns: int) -> list[str]:
    first, *clauses = row.split(CLAUSE)
    lines = _wrapped(first, columns, "")
    for clause in clauses:
        longer = f"{lines[-1]} {clause}"
        lines[-1:] = [longer] if _wide(longer) <= columns else [lines[-1].rstrip(), *_wrapped(clause.strip(), columns, INDENT)]
    return lines


def _wrapped(clause: str, columns: int, indent: str) -> list[str]:
    if _wide(indent + clause) <= columns:
        return [indent + clause]
    return textwrap.wrap(clause, columns, initial_indent=indent, subsequent_indent=INDENT, break_on_hyphens=False)


def _wide(text: str) -> int:
    """Columns that a terminal shows it in."""
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(one) in "FW") for one in text)
