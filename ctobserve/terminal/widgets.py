"""What Textual draws: lines that do not scroll, and a list that does, with one of its lines chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from ctobserve.terminal.lines import Line, Span, Target
from ctobserve.terminal.styles import COLOURED, PLAIN, strip


class Lines(Widget, can_focus=True):
    """Lines that fill it. Only those that changed are drawn again."""

    DEFAULT_CSS = "Lines { width: 1fr; height: 1fr; }"

    class Clicked(Message):
        """Somebody clicked on what leads somewhere, so many cells behind where that begins."""

        def __init__(self, target: Target, behind: int) -> None:
            super().__init__()
            self.target, self.behind = target, behind

    class Resized(Message):
        """It has another size, and wants other lines."""

    def __init__(self, classes: str = "") -> None:
        super().__init__(classes=classes)
        self.lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        """These, from now on."""
        before, self.lines = self.lines, lines
        if len(before) != len(lines):
            self.refresh()
            return
        changed = [row for row, (one, other) in enumerate(zip(before, lines, strict=True)) if one != other]
        if changed:
            self.refresh(*(Region(0, row, self.size.width, 1) for row in changed))

    def render_line(self, y: int) -> Strip:
        """As Textual asks for it."""
        line = self.lines[y] if y < len(self.lines) else Line()
        return drawn(self, line).adjust_cell_length(self.size.width, self.rich_style)

    def on_resize(self) -> None:
        """Tell who fills it."""
        self.post_message(self.Resized())

    def on_click(self, event: events.Click) -> None:
        """The mouse leads where Enter does."""
        found = self.lines[event.y].at(event.x) if event.y < len(self.lines) else None
        if found is not None:
            behind, target = found
            self.post_message(self.Clicked(target, behind))


def drawn(widget: Widget, line: Line) -> Strip:
    """A line in the colours of its app."""
    return strip(line, PLAIN if widget.app.no_color else COLOURED, widget.rich_style)


class Rows(ScrollView, can_focus=True):
    """Lines that scroll; where they lead somewhere one of them is chosen."""

    DEFAULT_CSS = "Rows { width: 1fr; height: 1fr; scrollbar-size: 1 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "end(-1)", "first", show=False),
        Binding("end", "end(1)", "last", show=False),
        Binding("enter", "choose", "choose", show=False),
    ]

    class Chosen(Message):
        """Somebody wants to know more of this one."""

        def __init__(self, line: Line) -> None:
            super().__init__()
            self.line = line

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self.lines = list(lines)
        self.chosen: int | None = next((at for at, line in enumerate(lines) if line.target is not None), None)
        self._measure()

    def show(self, lines: Sequence[Line]) -> None:
        """Others, in their place."""
        self.lines = list(lines)
        if self.chosen is not None:
            self.chosen = min(self.chosen, max(len(self.lines) - 1, 0))
        self._measure()
        self.refresh()

    def _measure(self) -> None:
        self.virtual_size = Size(max((line.wide for line in self.lines), default=0), len(self.lines))

    def render_line(self, y: int) -> Strip:
        """As Textual asks for it."""
        x, top = self.scroll_offset
        at = y + top
        line = self.lines[at] if at < len(self.lines) else Line()
        if at == self.chosen:
            line = Line((*line.spans, Span(" " * max(self.size.width - line.wide, 0))), line.targets)
            made = drawn(self, line).apply_style(Style(reverse=True))
        else:
            made = drawn(self, line)
        return made.crop_extend(x, x + self.size.width, self.rich_style)

    def action_move(self, by: int) -> None:
        """The next line that leads somewhere, or scroll."""
        if self.chosen is None:
            self.scroll_relative(y=by, animate=False)
            return
        at = self.chosen + by
        while 0 <= at < len(self.lines) and self.lines[at].target is None:
            at += by
        if 0 <= at < len(self.lines):
            self._choose(at)

    def action_page(self, by: int) -> None:
        """So many lines as are seen."""
        if self.chosen is None:
            self.scroll_relative(y=by * self.size.height, animate=False)
        else:
            self._choose(min(max(self.chosen + by * self.size.height, 0), len(self.lines) - 1))

    def action_end(self, by: int) -> None:
        """The first or the last."""
        if self.chosen is None:
            self.scroll_to(y=0 if by < 0 else len(self.lines), animate=False)
        else:
            self._choose(0 if by < 0 else len(self.lines) - 1)

    def _choose(self, at: int) -> None:
        self.chosen = at
        self.scroll_to_region(Region(self.scroll_offset.x, at, 1, 1), animate=False)
        self.refresh()

    def action_choose(self) -> None:
        """More of this one."""
        if self.chosen is not None and self.lines[self.chosen].target is not None:
            self.post_message(self.Chosen(self.lines[self.chosen]))

    def on_click(self, event: events.Click) -> None:
        """As moving there, and Enter."""
        at = event.y + self.scroll_offset.y
        if at < len(self.lines) and self.lines[at].target is not None:
            self._choose(at)
            self.action_choose()
