"""ctobserve drops: lost packets and evicted entries, beside the kernel's counters."""

from __future__ import annotations

import click

from ctobserve.commands.help import LOOK, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import FROM, OF_NETNS, OF_TUPLE, STRETCH, common_options, limit_to
from ctobserve.documents.drops import MOST_ROWS, collect
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose
from ctobserve.render.drops import balance_lines
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.stream import StreamLines


@click.command(
    cls=Command,
    examples=(
        Example("every packet lost and every entry evicted, until Ctrl-C", "ctobserve drops"),
        Example("a minute, also of INVALID packets, with the kernel's own words", "ctobserve drops --invalid --duration 60"),
    ),
)
@option(
    LOOK, "--invalid", is_flag=True,
    help="Also INVALID packets and refused ICMP errors, with the kernel's words. Costs one probe per packet.",
)  # fmt: skip
@common_options(
    OF_NETNS, OF_TUPLE, limit_to(f"Show at most N losses; all are counted. Default: all, with --json {MOST_ROWS}."), FROM, STRETCH
)
def drops(request: Request, invalid: bool) -> None:
    """Lost packets and evicted entries with tuple and reason, then the sums by reason beside the kernel's own counters.

    `unaccounted` is what the kernel counted and we did not see; with filters other than --netns it says what they hid.
    """
    purpose = Purpose.DROPS | (Purpose.INVALID if invalid else Purpose(0))
    with opened(request, purpose, follows=False, reads=False, streams=not request.json) as (capture, stretch):
        if request.json:
            found = collect(capture, request, stretch)
            out([document(found)])
        else:
            stream = StreamLines(capture, room(), owned=True)
            found = collect(capture, request, stretch, lambda came, shown: out(stream.of(came, shown)))
            out(balance_lines(found))
        closed(capture, request, found.meta)
