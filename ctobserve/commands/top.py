"""ctobserve top: a live view of fill level, rates, losses and the heaviest groups."""

from __future__ import annotations

import sys

import click

from ctobserve.analysis.top import ORDERS
from ctobserve.commands import fullscreen
from ctobserve.commands.help import LOOK, OBSERVE, OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import AT, BY, FROM, OF_NETNS, OF_TUPLE, SOURCE, STRETCH, common_options, limit_to
from ctobserve.commands.values import real
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.documents.top import LINES, View, collect
from ctobserve.programs.hooks import Purpose
from ctobserve.render.jsonout import line
from ctobserve.render.top import frame_lines

CLEAR = "\x1b[H\x1b[J"
INTERVAL_S, SCREEN_S = 2.0, 1.0


@click.command(
    cls=Command,
    examples=(
        Example("which services make the most entries now", "ctobserve top --by dst,dport --order new"),
        Example("an incident that was recorded, minute by minute", "ctobserve top --from incident.ctobserve"),
    ),
)
@option(
    LOOK, "--order", type=click.Choice(ORDERS), default="entries", metavar="COLUMN",
    help=f"Which groups come first, those with the most: {', '.join(ORDERS)}. Default: entries.",
)  # fmt: skip
@option(
    LOOK, "--no-invalid", is_flag=True,
    help="Spare the probe per packet of the full screen: its verdicts say nothing of INVALID packets.",
)  # fmt: skip
@option(
    OBSERVE, "--interval", type=real(0.1), metavar="SECONDS",
    help=f"Between frames. Default: {INTERVAL_S:g}, of the full screen {SCREEN_S:g}.",
)  # fmt: skip
@option(OUTPUT, "--plain", is_flag=True, help="Frames one below the other, also on a terminal.")
@common_options(BY, OF_NETNS, OF_TUPLE, limit_to(f"Show at most N groups. Default: {LINES}."), SOURCE, FROM, AT, STRETCH)
def top(request: Request, by: tuple[str, ...], order: str, no_invalid: bool, interval: float | None, plain: bool) -> None:
    """Who fills the table, now: how full it is, rates of new, leaving and lost, and the heaviest sources, services, namespaces.

    On a terminal a full screen, where Textual is there (extra tui of the wheel): also verdicts, the hash as a picture, and
    from a group to its entries and their lives; ? says the keys. Of a recording it begins at the end, and goes wherever you like.
    Elsewhere, and with --plain, a frame every interval, until --duration or Ctrl-C; with --json one object per line.
    """
    if not plain and not request.json and fullscreen.wanted():
        fullscreen.run(request, View(by, order, interval or SCREEN_S), invalid=not no_invalid)
        return
    seconds = interval or INTERVAL_S
    with opened(request, Purpose.TABLE | Purpose.DROPS, before_s=seconds, streams=True) as (capture, stretch):
        for frame in collect(capture, request, stretch, View(by, order, seconds)):
            if request.json:
                out([line(frame)])
                continue
            if sys.stdout.isatty():
                sys.stdout.write(CLEAR)
            out(frame_lines(frame, capture.names()))
        closed(capture, request, meta_of("top", capture, request))
