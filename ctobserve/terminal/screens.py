"""What lies over the page until it is left: lists to choose from, texts to read, a line to type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input

from ctobserve.terminal.lines import Line, Span, Target, line
from ctobserve.terminal.widgets import Lines, Rows

CLOSE: list[BindingType] = [
    Binding("escape", "leave", "back", show=False),
    Binding("q", "leave", "back", show=False),
    Binding("backspace", "leave", "back", show=False),
]


class Over(ModalScreen[None]):
    """All that lies over the page: below it stays in sight what makes things doubtful."""

    DEFAULT_CSS = """
    Over { background: $background; }
    Over .one { height: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._status = Lines(classes="one")
        self._status.can_focus = False

    def tell(self, status: Line) -> None:
        """The page's own line on records lost, and on the last proof."""
        self._status.show([status])


class Sheet(Over):
    """A title, lines that scroll, and a hint. `chose` is called with what a line leads to; `left` when it is left.

    `again` is called when somebody wants to know how it is now; None: it does not change.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*CLOSE, Binding("r", "again", "again", show=False)]

    def __init__(
        self,
        title: str,
        lines: Sequence[Line],
        chose: Callable[[Target], None] = lambda _: None,
        left: Callable[[], None] = lambda: None,
        again: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.rows = Rows(lines)
        self._titled = title
        self._head, self._foot = Lines(classes="one"), Lines(classes="one")
        self._head.can_focus = self._foot.can_focus = False
        self._chose, self._left, self._again = chose, left, again

    def compose(self) -> ComposeResult:
        """One below the other."""
        yield self._head
        yield self.rows
        yield self._status
        yield self._foot

    def on_mount(self) -> None:
        """The list hears the keys."""
        self.rows.focus()
        leads = any(one.target is not None for one in self.rows.lines)
        hint = " ↑↓ move  ⏎ more" if leads else " ↑↓ scroll"
        self._head.show([line(Span(f" {self._titled} ", "chosen"))])
        self._foot.show([line(Span(f"{hint}{'' if self._again is None else '  r again'}  esc back", "key"))])

    def show(self, lines: Sequence[Line]) -> None:
        """As it is now."""
        self.rows.show(lines)

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        """Lead on."""
        message.stop()
        if message.line.target is not None:
            self._chose(message.line.target)

    def action_again(self) -> None:
        """How it is now."""
        if self._again is not None:
            self._again()

    def action_leave(self) -> None:
        """Back to what lies below."""
        self._left()
        self.dismiss(None)


class Prompt(Over):
    """A line to type, and what may be typed. `entered` is called with it, and gives a complaint, or None: then it closes."""

    CSS = "Prompt Input, Prompt Input:focus { border: none; padding: 0 1; height: 1; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = CLOSE[:1]

    def __init__(self, title: str, value: str, hints: Sequence[str], entered: Callable[[str], str | None]) -> None:
        super().__init__()
        self._titled, self._value, self._hints, self._entered = title, value, hints, entered
        self._head, self._lines = Lines(classes="one"), Lines()

    def compose(self) -> ComposeResult:
        """What it is for, the line, the hints."""
        self._head.can_focus = self._lines.can_focus = False
        yield self._head
        yield Input(value=self._value, select_on_focus=False)
        yield self._lines
        yield self._status

    def on_mount(self) -> None:
        """It hears the keys."""
        self.query_one(Input).focus()
        self._say("")

    def _say(self, complaint: str) -> None:
        self._head.show([line(Span(f" {self._titled} ", "chosen"), "  ⏎ apply  esc back")])
        hints = [line(Span(f" {hint}", "muted")) for hint in self._hints]
        self._lines.show([line(Span(f" {complaint}", "warning")) if complaint else Line(), *hints])

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Take it, or say what is wrong with it."""
        message.stop()
        complaint = self._entered(message.value)
        if complaint is None:
            self.dismiss(None)
        else:
            self._say(complaint)

    def action_leave(self) -> None:
        """As it was."""
        self.dismiss(None)
