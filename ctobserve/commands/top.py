"""ctobserve top: a live view of fill level, rates, losses and the heaviest groups."""

from __future__ import annotations

import sys

import click

from ctobserve.analysis.top import ORDERS
from ctobserve.commands.help import LOOK, OBSERVE, Command, Example, option
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


@click.command(
    cls=Command,
    examples=(
        Example("which services fill the table", "ctobserve top --by dst,dport"),
        Example("which sources make the most entries now", "ctobserve top --order new"),
    ),
)
@option(
    LOOK, "--order", type=click.Choice(ORDERS), default="entries", metavar="COLUMN",
    help=f"Which groups come first, those with the most: {', '.join(ORDERS)}. Default: entries.",
)  # fmt: skip
@option(
    OBSERVE, "--interval", type=real(0.1), default=2.0, metavar="SECONDS", help="Between frames. Default: 2."
)  # fmt: skip
@common_options(BY, OF_NETNS, OF_TUPLE, limit_to(f"Show at most N groups. Default: {LINES}."), SOURCE, FROM, AT, STRETCH)
def top(request: Request, by: tuple[str, ...], order: str, interval: float) -> None:
    """Who fills the table, now: how full it is, rates of new, leaving and lost, and the heaviest sources, services, namespaces.

    A new frame every interval, until --duration or Ctrl-C; with --json one object per line.
    """
    with opened(request, Purpose.TABLE | Purpose.DROPS, before_s=interval, streams=True) as (capture, stretch):
        for frame in collect(capture, request, stretch, View(by, order, interval)):
            if request.json:
                out([line(frame)])
                continue
            if sys.stdout.isatty():
                sys.stdout.write(CLEAR)
            out(frame_lines(frame, capture.names()))
        closed(capture, request, meta_of("top", capture, request))
