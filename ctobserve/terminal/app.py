"""The full screen itself: keys and mouse, the page, and what lies over it. The engine works in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from ctobserve.analysis.groups import COLUMNS
from ctobserve.analysis.top import ORDERS
from ctobserve.capture.filters import Filter
from ctobserve.model import Entries
from ctobserve.terminal.lines import Line, Target, line
from ctobserve.terminal.page import Looks, page, picture_rows
from ctobserve.terminal.panels import hash_cells, status, time_of
from ctobserve.terminal.screens import Over, Prompt, Sheet
from ctobserve.terminal.seen import Listed, Seen, Told, Wish
from ctobserve.terminal.told import entry_lines, helped, life_lines, verdict_lines
from ctobserve.terminal.widgets import Lines
from ctobserve.terminal.worker import Open, Worker

SPEEDS = (1, 2, 5, 10, 20, 50, 100)
SMALL, LARGE = 60, 10  # parts of a recording that an arrow goes
THEMES = ("ansi-dark", "textual-dark", "textual-light")


class Typed(NamedTuple):
    """What the command line's words mean; `said` makes words of a filter, but for its namespace.

    The others raise ValueError with what is wrong, in one line.
    """

    filter: Callable[[str, Filter], Filter]
    by: Callable[[str], tuple[str, ...]]
    said: Callable[[Filter], str]


class Page(Lines):
    """The page: what is seen, in lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit", "quit"),
        Binding("question_mark,h", "app.help", "help"),
        Binding("g", "app.group", "group by"),
        Binding("s", "app.sort", "sort"),
        Binding("f,slash", "app.filter", "filter"),
        Binding("n", "app.netns", "namespace"),
        Binding("space", "app.pause", "freeze"),
        Binding("up", "app.choose(-1)", "choose"),
        Binding("down", "app.choose(1)", "choose"),
        Binding("pageup", "app.choose(-10)", "choose"),
        Binding("pagedown", "app.choose(10)", "choose"),
        Binding("enter", "app.drill", "drill"),
        Binding("v", "app.verdicts", "verdicts"),
        Binding("b", "app.bucket", "bucket"),
        Binding("p", "app.prove", "prove"),
        Binding("t", "app.colours", "theme"),
        Binding("left,comma", "app.scrub(-1, False)", "back"),
        Binding("right,full_stop", "app.scrub(1, False)", "forth"),
        Binding("shift+left", "app.scrub(-1, True)", "back"),
        Binding("shift+right", "app.scrub(1, True)", "forth"),
        Binding("home", "app.edge(False)", "begin"),
        Binding("end", "app.edge(True)", "end"),
        Binding("plus,equals_sign", "app.faster(1)", "faster"),
        Binding("minus", "app.faster(-1)", "slower"),
        Binding("l", "app.find('loss', True)", "next loss"),
        Binding("L", "app.find('loss', False)", "last loss"),
        Binding("escape", "app.stay", "end a search"),
        Binding("j", "app.find('verdict', True)", "next verdict"),
        Binding("J", "app.find('verdict', False)", "last verdict"),
    ]


class Top(App[None]):
    """`failed` says after it has ended why, if something went wrong."""

    CSS = "Screen { background: $background; }"
    # It could write a picture of the screen into a file: this only observes.
    ENABLE_COMMAND_PALETTE = False

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "quit", priority=True),
        Binding("ctrl+z", "suspend_process", "suspend"),
    ]

    class Fresh(Message):
        """The engine has something new."""

    def __init__(self, opens: Open, wish: Wish, typed: Typed, coloured: bool = True) -> None:
        """Not `coloured`: whatever is said, is said by words, weight, and what is reversed."""
        # What is not the terminal's own colour would come as a grey.
        super().__init__(ansi_color=None if coloured else True)
        self.no_color = not coloured
        self.theme = THEMES[0]
        self.animation_level = "none"
        self.worker = Worker(opens, self._tell)
        self.failed: BaseException | None = None
        self.shown: Seen | None = None
        self.looks = Looks(words=typed.said(wish.only))
        self.speed = 1
        self._wish, self._typed = wish, typed
        self._page = Page()
        self._pending = False

    def compose(self) -> ComposeResult:
        """The page alone."""
        yield self._page

    def on_mount(self) -> None:
        """Begin to look."""
        self._page.focus()
        # Another program had the terminal.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.worker.start()

    def _handle_exception(self, error: Exception) -> None:
        """In the place of Textual's own page of a traceback: the command says it in one line, below what the terminal had."""
        self.failed = self.failed or error
        self.exit()

    async def on_unmount(self) -> None:
        """Nobody looks any more."""
        self.worker.stop()

    def _tell(self) -> None:
        """In the engine's thread. One word is enough, however much is new, and however long the terminal takes."""
        if not self._pending:
            self._pending = True
            self.post_message(self.Fresh())

    def on_top_fresh(self) -> None:
        """Show what is new, deliver answers; end where the engine did."""
        self._pending = False
        while not self.worker.answers.empty():
            self.worker.answers.get_nowait()()
        if self.worker.over:
            self.failed = self.failed or self.worker.failed
            self.exit()
            return
        if not self.looks.frozen:
            self.shown = self.worker.latest
        self.draw()

    def draw(self) -> None:
        """The page as it is now."""
        size = self._page.size
        if self.shown is None or self.worker.latest is None or not size:
            return
        count = len(self.shown.moment.frame.groups)
        self.looks = self.looks._replace(chosen=min(self.looks.chosen, max(count - 1, 0)))
        self._page.show(page(self.shown, self.worker.latest, self.looks, size.width, size.height))
        if isinstance(self.screen, Over):
            self.screen.tell(status(self.worker.latest))

    def on_lines_resized(self) -> None:
        """Another page."""
        self.draw()

    def _look(self, looks: Looks, message: str = "") -> None:
        self.looks = looks._replace(message=message)
        self.draw()

    def _wants(self, wish: Wish, words: str | None = None) -> None:
        self._wish = wish
        self._look(Looks(words=self.looks.words if words is None else words))
        self.worker.tell(lambda engine: engine.wish(wish))

    def _over(self, screen: Over) -> None:
        """Show it, until it is left."""
        self.push_screen(screen)
        if self.worker.latest is not None:
            screen.tell(status(self.worker.latest))

    @property
    def _recorded(self) -> bool:
        return self.shown is not None and self.shown.place is not None

    def on_lines_clicked(self, message: Lines.Clicked) -> None:
        """A click on the page."""
        if self.shown is None:
            return
        what, which = message.target
        if what == "group":
            self._look(self.looks._replace(chosen=which))
            self.action_drill()
        elif what == "verdict":
            self.action_verdicts()
        elif what == "worst":
            self.action_bucket()
        elif what == "netns":
            self._in_netns(message.target)
        elif what == "cells":
            self._open_cell(which, message.behind)
        elif what == "time" and self.shown.place is not None:
            at_ns = time_of(self.shown.place, message.behind, self._page.size.width)
            self.worker.tell(lambda engine: engine.seek(at_ns))

    def _open_cell(self, row: int, column: int) -> None:
        """The worst bucket of this cell of the picture."""
        assert self.shown is not None
        found = hash_cells(self.shown, picture_rows(self._page.lines))
        at = row * found.columns + column
        if column < found.columns and at < len(found.worst):
            self._open_bucket(int(found.worst[at]))

    def action_help(self) -> None:
        """All keys."""
        self._over(Sheet("keys", helped(self._recorded, self.size.width)))

    def action_group(self) -> None:
        """By other columns."""

        def entered(text: str) -> str | None:
            try:
                by = self._typed.by(text)
            except ValueError as error:
                return str(error)
            self._wants(self._wish._replace(by=by))
            return None

        half = len(COLUMNS) // 2
        hints = ("columns, with commas between:", ", ".join(COLUMNS[:half]), ", ".join(COLUMNS[half:]))
        self._over(Prompt("group by", ",".join(self._wish.by), hints, entered))

    def action_sort(self) -> None:
        """By the next column."""
        order = ORDERS[(ORDERS.index(self._wish.order) + 1) % len(ORDERS)]
        self._wants(self._wish._replace(order=order))

    def action_filter(self) -> None:
        """In the words of the command line."""

        def entered(text: str) -> str | None:
            try:
                only = self._typed.filter(text, self._wish.only)
            except ValueError as error:
                return str(error)
            self._wants(self._wish._replace(only=only), text.strip())
            return None

        hints = (
            "--src --dst CIDR  --sport --dport PORT[-PORT]  --proto NAME",
            "--state STATE  --zone ID  --mark MARK",
            "nothing: all",
        )
        self._over(Prompt("filter", self.looks.words, hints, entered))

    def action_netns(self) -> None:
        """One of those there are."""
        self.worker.ask(lambda engine: engine.namespaces(), self._choose_netns)

    def _choose_netns(self, labels: Mapping[int, str]) -> None:
        lines = [line(" all", target=("netns", 0))]
        lines += [line(f" {label}", target=("netns", inum)) for inum, label in sorted(labels.items(), key=lambda pair: pair[1])]
        self._over(Sheet("network namespace", lines, self._in_netns_and_back))

    def _in_netns_and_back(self, target: Target) -> None:
        self.pop_screen()
        self._in_netns(target)

    def _in_netns(self, target: Target) -> None:
        self._wants(self._wish._replace(only=self._wish.only._replace(netns=target[1] or None)))

    def action_pause(self) -> None:
        """Freeze the screen, or go on; of a recording, play or stand."""
        if self.shown is None:
            return
        if self.shown.place is None:
            self.looks = self.looks._replace(frozen=not self.looks.frozen, message="")
            self.on_top_fresh()
            return
        speed = 0 if self.shown.place.speed else self.speed
        self.worker.tell(lambda engine: engine.play(speed))

    def action_choose(self, by: int) -> None:
        """Another group."""
        self._look(self.looks._replace(chosen=max(self.looks.chosen + by, 0)))

    def action_drill(self) -> None:
        """The entries of the chosen group."""
        if self.shown is None or not self.shown.moment.frame.groups:
            return
        frame = self.shown.moment.frame
        values = frame.groups[self.looks.chosen].values
        self.worker.ask(lambda engine: engine.group(frame.by, values), self._show_entries)

    def _show_entries(self, found: Listed) -> None:
        def chose(target: Target) -> None:
            entry = found.entries[target[1] : target[1] + 1]
            self.worker.ask(lambda engine: engine.life(entry), lambda told: self._show_life(entry, told))

        self._over(Sheet(f"{found.title}: {found.total} entries", entry_lines(found), chose))

    def _show_life(self, entry: Entries, told: Told) -> None:
        def lines(found: Told) -> list[Line]:
            return life_lines(found, self.size.width)

        def again() -> None:
            self.worker.ask(lambda engine: engine.life(entry), lambda found: sheet.show(lines(found)))

        def left() -> None:
            self.worker.tell(lambda engine: engine.leave())

        sheet = Sheet(told.title, lines(told), again=None if self._recorded else again, left=left)
        self._over(sheet)

    def action_verdicts(self) -> None:
        """All of them, whole."""
        if self.shown is not None:
            standing = self.shown.verdicts.standing if self.shown.verdicts else ()
            self._over(Sheet("verdicts", verdict_lines(standing, self.size.width, self._recorded)))

    def action_bucket(self) -> None:
        """Who is in the bucket with the longest chain."""
        if self.shown is not None and self.shown.moment.frame.longest_bucket is not None:
            self._open_bucket(self.shown.moment.frame.longest_bucket)

    def _open_bucket(self, number: int) -> None:
        self.worker.ask(lambda engine: engine.bucket(number), self._show_entries)

    def action_prove(self) -> None:
        """As soon as that can be."""
        self.worker.tell(lambda engine: engine.prove())

    def action_colours(self) -> None:
        """The next."""
        if self.no_color:
            self._look(self.looks, "NO_COLOR is set: there are none")
            return
        self.theme = THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)]

    def action_scrub(self, by: int, far: bool) -> None:
        """Along a recording."""
        place = self.shown.place if self.shown else None
        if place is not None:
            at_ns = place.at_ns + by * (place.end_ns - place.begin_ns) // (LARGE if far else SMALL)
            self.worker.tell(lambda engine: engine.seek(at_ns))

    def action_edge(self, end: bool) -> None:
        """To the begin or the end of a recording."""
        place = self.shown.place if self.shown else None
        if place is not None:
            self.worker.tell(lambda engine: engine.seek(place.end_ns if end else place.begin_ns))

    def action_faster(self, by: int) -> None:
        """Through a recording."""
        self.speed = SPEEDS[min(max(SPEEDS.index(self.speed) + by, 0), len(SPEEDS) - 1)]
        if self.shown and self.shown.place and self.shown.place.speed:
            speed = self.speed
            self.worker.tell(lambda engine: engine.play(speed))
        elif self._recorded:
            self._look(self.looks, f"will play at {self.speed} times the speed: space")

    def action_stay(self) -> None:
        """End a search where it is."""
        if self._recorded:
            self.worker.tell(lambda engine: engine.play(0))

    def action_find(self, what: str, forward: bool) -> None:
        """Along a recording."""
        self.worker.tell(lambda engine: engine.find(what, forward))
