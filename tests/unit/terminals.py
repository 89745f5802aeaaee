"""The full screen of `top` in a test: on a recording that ships, on a made capture, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.joined import opened
from ctobserve.capture.watch import Stretch as Watched
from ctobserve.commands.fullscreen import typed_of
from ctobserve.terminal.app import Top
from ctobserve.terminal.live import Live
from ctobserve.terminal.recorded import Recorded, Stretch
from ctobserve.terminal.seen import Engine, Seen, Wish
from ctobserve.terminal.worker import Open
from ctobserve_lab.recordings import recording
from tests.scripted import ScriptedCapture

WISH = Wish(Filter(), ("src", "dport"), "entries")
LONG_S = 60  # whoever waits longer waits in vain


@contextmanager
def recorded(name: str, wish: Wish = WISH, at: float = 1.0) -> Iterator[Recorded]:
    """The engine on a recording that ships, at this share of it."""
    with closing(opened(recording(name))) as reader:
        view = RecordedView(reader)
        at_ns = view.begin_ns + round(at * (view.end_ns - view.begin_ns))
        yield Recorded(reader, Stretch(view.begin_ns, view.end_ns, at_ns), wish, 1.0)


def settled(engine: Recorded) -> Seen:
    """What is to be seen when nothing is left to be done."""
    seen = engine.turn()
    while seen is None or seen.busy:
        seen = engine.turn() or seen
    return seen


def first_screen(name: str) -> Seen:
    """What somebody sees of a recording who has touched no key."""
    with recorded(name) as engine:
        return settled(engine)


def live(capture: ScriptedCapture, wish: Wish = WISH, seconds: float | None = None, invalid: bool = True) -> Live:
    """The engine on a made capture, which it follows."""
    capture.follow()
    return Live(capture, Watched(seconds), wish, 1.0, invalid)


def opens_recording(name: str) -> Open:
    """In the thread that reads it."""

    @contextmanager
    def opens() -> Iterator[Engine]:
        with recorded(name) as engine:
            yield engine

    return opens


class Paced(ScriptedCapture):
    """Its time passes faster than ours, but it passes: others have their turn."""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds / 4)
        super().wait(seconds)


def opens_live(capture: ScriptedCapture) -> Open:
    """A capture that is Paced."""

    @contextmanager
    def opens() -> Iterator[Engine]:
        yield live(capture)

    return opens


class Driven:
    """A running screen: keys are pressed, then it is waited for what they are to lead to."""

    def __init__(self, app: Top, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def until(self, holds: Callable[[], object]) -> None:
        """Raises TimeoutError where it never does."""
        async with asyncio.timeout(LONG_S):
            while not holds():
                await self.pilot.pause(0.01)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def types(self, text: str) -> None:
        """A line, in the place of what stands there, and Enter."""
        self.app.screen.query_one(Input).value = text
        await self.pilot.press("enter")

    async def click(self, words: str, behind: int = 0) -> None:
        """On the first line that says that, so many cells behind where it begins to."""
        await self.says(words)
        row, line = next((row, line) for row, line in enumerate(self.text.splitlines()) if words in line)
        await self.pilot.click(offset=(line.index(words) + behind, row))

    @property
    def text(self) -> str:
        """What is on the screen, line by line, as the terminal has it."""
        return "\n".join(strip.text.rstrip() for strip in self.app.screen._compositor.render_strips())

    async def says(self, words: str) -> None:
        """Wait until that is on the screen."""
        await self.until(lambda: words in self.text)


@asynccontextmanager
async def driven(
    opens: Open, size: tuple[int, int] = (80, 24), path: Path | None = None, coloured: bool = True
) -> AsyncIterator[Driven]:
    """`path`: of the recording, for the words of filters."""
    app = Top(opens, WISH, typed_of(path), coloured)
    async with app.run_test(size=size) as pilot:
        driven = Driven(app, pilot)
        await driven.until(lambda: app.shown is not None)
        yield driven
    if app.failed is not None:
        raise app.failed


@asynccontextmanager
async def incident(name: str, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Driven]:
    """A recording that ships, judged."""
    async with driven(opens_recording(name), size, recording(name)) as made:
        await made.until(lambda: made.app.shown and made.app.shown.verdicts and not made.app.shown.busy)
        yield made
