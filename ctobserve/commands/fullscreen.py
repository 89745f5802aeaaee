"""Whether `top` can fill the terminal, and how it gets what that shows: a capture, or a recording."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctobserve.analysis.groups import COLUMNS
from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.joined import opened as opened_recording
from ctobserve.commands.opening import Stop, closed, opened
from ctobserve.commands.options import FROM, OF_NETNS, OF_TUPLE, options_of
from ctobserve.commands.replaying import reading, require_recorded, stretch_of
from ctobserve.commands.values import some_of
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.documents.top import View
from ctobserve.errors import CtobserveError, by_pip
from ctobserve.programs.hooks import Purpose

if TYPE_CHECKING:
    from ctobserve.terminal.app import Typed
    from ctobserve.terminal.seen import Engine, Wish
    from ctobserve.terminal.worker import Open

WITHOUT = f"the full screen needs Textual: {by_pip('tui')}; --plain says nothing of that"
ENCODED = "the full screen needs a terminal that takes UTF-8 (LANG); --plain says nothing of that"


def wanted() -> bool:
    """Whether there is a terminal that can be filled; where only something is missing for that, a line on stderr says what."""
    if not sys.stdout.isatty() or not sys.stdin.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    lacking = WITHOUT if find_spec("textual") is None else None if sys.stdout.encoding.lower() == "utf-8" else ENCODED
    if lacking:
        click.echo(f"ctobserve: {lacking}", err=True)
    return lacking is None


def run(request: Request, view: View, invalid: bool) -> None:
    """Until somebody quits, or the stretch is over. Raises as opening a capture or a recording does."""
    os.environ.pop("COLUMNS", None)  # the terminal says it, and says it anew when that changes
    from ctobserve.terminal.seen import Wish

    wish = Wish(request.filter, view.by, view.order)
    if request.recording is not None:
        _recorded(request, request.recording, wish, view.interval_s)
    else:
        _live(request, wish, view.interval_s, invalid)


def _live(request: Request, wish: Wish, interval_s: float, invalid: bool) -> None:
    from ctobserve.terminal.live import Live

    purpose = Purpose.TABLE | Purpose.DROPS | Purpose.UNCONFIRMED | (Purpose.INVALID if invalid else Purpose(0))
    with opened(request, purpose, streams=True) as (capture, stretch):

        @contextmanager
        def opens() -> Iterator[Engine]:
            yield Live(capture, stretch, wish, interval_s, invalid)

        _show(opens, wish, None)
        closed(capture, request, meta_of("top", capture, request))


def _recorded(request: Request, path: Path, wish: Wish, interval_s: float) -> None:
    from ctobserve.terminal.recorded import Recorded, Stretch

    require_recorded(request)
    stop = Stop()
    stop.arm()
    with reading(path) as reader:
        seen = RecordedView(reader)
        since_ns, end_ns = stretch_of(request, seen)
        begin_ns = seen.begin_ns if since_ns is None else since_ns
        at_ns = end_ns if request.at is None else min(max(request.at.within(seen), begin_ns), end_ns)

    @contextmanager
    def opens() -> Iterator[Engine]:
        # In the thread that reads it.
        with closing(opened_recording(path)) as recording:
            yield Recorded(recording, Stretch(begin_ns, end_ns, at_ns), wish, interval_s, lambda: stop.requested)

    _show(opens, wish, path)


def _show(opens: Open, wish: Wish, recording: Path | None) -> None:
    from ctobserve.terminal.app import Top

    app = Top(opens, wish, typed_of(recording), coloured="NO_COLOR" not in os.environ)
    app.run()
    if app.failed is not None:
        raise app.failed


def typed_of(recording: Path | None) -> Typed:
    """What the command line's words mean, of this host or of a recording."""
    from ctobserve.terminal.app import Typed

    return Typed(lambda text, only: narrowed(text, only, recording), columns, said)


@click.command(add_help_option=False)
@options_of(FROM, OF_NETNS, OF_TUPLE)
def _words(request: Request) -> Filter:
    return request.filter


def narrowed(text: str, only: Filter, recording: Path | None) -> Filter:
    """The filter that these words of the command line make; dashes may be left out, and --netns, which stays as it is.

    Raises ValueError with one line that says what is wrong.
    """
    known = {option.lstrip("-") for param in _words.params for option in param.opts} - {"from"}
    try:
        words = shlex.split(text)
        # What follows an option is its value, even where it is called like one.
        named = [f"--{word}" if at % 2 == 0 and word in known else word for at, word in enumerate(words)]
        source = [] if recording is None else ["--from", str(recording)]
        found: Filter = _words.main([*source, *named], prog_name="filter", standalone_mode=False)
    except click.ClickException as error:
        raise ValueError(error.format_message()) from None
    except CtobserveError as error:
        raise ValueError(str(error)) from None
    if not any(word.startswith("--netns") for word in named):
        found = found._replace(netns=only.netns)
    return found


def columns(text: str) -> tuple[str, ...]:
    """Columns to group by; raises ValueError with one line that says what is wrong."""
    try:
        found: tuple[str, ...] = some_of(COLUMNS).convert(text.replace(" ", ""), None, None)
    except click.ClickException as error:
        raise ValueError(error.format_message()) from None
    return found


def said(only: Filter) -> str:
    """The words that make this filter, but for its namespace."""
    made = []
    for name, value in only._asdict().items():
        if value is None or name == "netns":
            continue
        text = "-".join(map(str, dict.fromkeys(value))) if name in ("sport", "dport") else str(value)
        made.append(f"--{name} {text}")
    return " ".join(made)
