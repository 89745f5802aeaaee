"""How far work is that takes its time: a bar on stderr, for who sits at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click

AFTER_S = 1.0  # what is done by then never shows a bar
SHORT_S = 2.0  # nor what will be done by then
PARTS = 1000
Tell = Callable[[float], None]  # which part of the work is done, 0 to 1


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """To be told again and again how much of `what` is done; it costs little, so it may be told often.

    Where stderr is no terminal nothing is shown. The bar stands in a line of its own, which ends when all is done: who prints to
    the same terminal before breaks it, so it is for work before the first line of output.
    """
    with ExitStack() as opened:
        yield _Bar(what, opened).tell if sys.stderr.isatty() else lambda _: None


class _Bar:
    """Appears when the work has taken a while and will take longer; it is what `opened` holds."""

    def __init__(self, what: str, opened: ExitStack) -> None:
        self._what = what
        self._opened = opened
        self._began_s = time.monotonic()
        self._advance: Callable[[int], None] | None = None
        self._told = 0

    def tell(self, share: float) -> None:
        part = min(int(share * PARTS), PARTS)
        if part <= self._told:
            return
        if self._advance is None:
            passed_s = time.monotonic() - self._began_s
            if part < PARTS and (passed_s < AFTER_S or passed_s < SHORT_S * share):
                return
            self._advance = self._begin() if part < PARTS else lambda _: None
        self._advance(part - self._told)
        self._told = part
        if part == PARTS:
            self._opened.close()

    def _begin(self) -> Callable[[int], None]:
        shown = click.progressbar(range(PARTS), label=self._what, file=sys.stderr)
        return self._opened.enter_context(shown).update
