"""How roles look: in the terminal's own sixteen colours, which suit its background; without colour, by weight alone."""

from __future__ import annotations

from collections.abc import Mapping

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from ctobserve.terminal.lines import Line, Role

COLOURED: Mapping[Role, Style] = {
    "title": Style(bold=True),
    "muted": Style(dim=True),
    "chosen": Style(reverse=True),
    "key": Style(bold=True),
    "critical": Style(color="bright_white", bgcolor="red", bold=True),
    "warning": Style(color="black", bgcolor="yellow"),
    "notice": Style(color="black", bgcolor="cyan"),
    "healthy": Style(color="black", bgcolor="green"),
    "past": Style(dim=True),
    "full": Style(color="red", bold=True),
    "filling": Style(color="yellow"),
    "calm": Style(color="green"),
    "new": Style(color="green"),
    "gone": Style(color="cyan"),
    "lost": Style(color="red", bold=True),
    "cold": Style(color="blue"),
    "mild": Style(color="green"),
    "warm": Style(color="yellow"),
    "hot": Style(color="red"),
    "worst": Style(color="bright_white", bgcolor="red", bold=True),
}
PLAIN: Mapping[Role, Style] = {
    role: Style(bold=style.bold, dim=style.dim, reverse=style.reverse or role in ("critical", "warning", "worst"))
    for role, style in COLOURED.items()
}
NONE = Style()


def strip(line: Line, styles: Mapping[Role, Style], under: Style = NONE) -> Strip:
    """A line as Textual draws it; `under` is the widget's own style. Text stays text, whatever it says."""
    return Strip([Segment(span.text, under + styles.get(span.role, NONE)) for span in line.spans], line.wide)
