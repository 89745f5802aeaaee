"""A manual page in the macros of man(7), of plain text and of the little Markdown that our pages have."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

WIDTH = 78  # of a line of the source
# What roff would take for something else: its escape, hyphens and quotes that a terminal would show as other characters.
SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
CODE = re.compile(r"`([^`]+)`")
BARE = re.compile(r"\*\*(.+?)\*\*|\[([^\]]+)\]\([^)]+\)")


def escaped(text: str) -> str:
    """Any text, to be shown as it is."""
    return "".join(SPECIAL.get(one, one) for one in text)


def bold(text: str) -> str:
    """In a face that says: typed like this."""
    return f"\\fB{escaped(text)}\\fR"


def italic(text: str) -> str:
    """In a face that says: something in place of this."""
    return f"\\fI{escaped(text)}\\fR"


def marked(text: str) -> str:
    """Markdown in a line: `code` bold; **this** and [links](there) as their words."""
    parts = CODE.split(BARE.sub(lambda found: found[1] or found[2], text))
    return "".join(bold(part) if at % 2 else escaped(part) for at, part in enumerate(parts))


class Page:
    """Sections, one after the other."""

    def __init__(self, name: str, date: str, source: str) -> None:
        self._lines = [f'.TH {escaped(name.upper())} 8 "{date}" "{source}" "System Administration"']

    def section(self, title: str) -> None:
        """Everything from here to the next one."""
        self._lines.append(f".SH {title.upper()}")

    def part(self, title: str) -> None:
        """A section in a section."""
        self._lines.append(f".SS {escaped(title)}")

    def paragraph(self, text: str) -> None:
        """`text` is roff already, on one line or more."""
        if not self._lines[-1].startswith((".SH", ".SS")):
            self._lines.append(".PP")
        self._fill(text)

    def line(self, text: str) -> None:
        """Of roff, as it is."""
        self._fill(text)

    def item(self, head: str, text: str) -> None:
        """What it is, then what is said of it; both are roff."""
        self._lines += [".TP", head]
        self._fill(text)

    def copied(self, text: Iterable[str]) -> None:
        """What a terminal shows, line by line."""
        self._lines += [".PP", ".nf", ".RS 4", *(_protected(escaped(one)) or "\\&" for one in text), ".RE", ".fi"]

    def text(self) -> str:
        """The file."""
        return "\n".join([*self._lines, ""])

    def _fill(self, text: str) -> None:
        lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
        self._lines += map(_protected, lines)


def _protected(line: str) -> str:
    """A line that begins as one of roff's own commands would is none."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
