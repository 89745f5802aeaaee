"""ctobserve why: what became of a connection."""

from __future__ import annotations

import click

from ctobserve.analysis.sought import Sought
from ctobserve.commands.help import LOOK, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import FROM, OF_NETNS, OF_ZONE, SOURCE, STRETCH, common_options, limit_to
from ctobserve.commands.sought import SOUGHT
from ctobserve.documents.request import Request
from ctobserve.documents.why import LIMIT, collect
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.why import why_lines


@click.command(
    cls=Command,
    examples=(
        Example("watch until Ctrl-C, then tell what became of it", "ctobserve why 10.0.0.5:40000-10.0.0.9:443/tcp"),
        Example("each lookup of one host, from a recording", "ctobserve why 10.0.0.5-:53/udp --from incident.ctobserve"),
    ),
)
@click.argument("sought", type=SOUGHT, metavar="TUPLE")
@option(LOOK, "--no-invalid", is_flag=True, help="Spare the probe per packet: INVALID packets are not told.")
@option(LOOK, "--confirms", is_flag=True, help="Also when each entry was allocated.")
@common_options(OF_NETNS, OF_ZONE, SOURCE, limit_to(f"Tell N connections. Default: {LIMIT}."), FROM, STRETCH)
def why(request: Request, sought: Sought, no_invalid: bool, confirms: bool) -> None:
    """The life of each connection that matches TUPLE, and one sentence on it: why it died, was refused, or lives on.

    TUPLE is any part of a connection: 10.0.0.5, 10.0.0.9:443, [2001:db8::1]:53, :53/udp, 10.0.0.5-10.0.0.9, or all of it,
    10.0.0.5:40000-10.0.0.9:443/tcp; of either side of NAT, and in either direction. Looks for --duration or until Ctrl-C, then
    into the table, and tells; --duration 0 asks the table alone. Who ended or was refused comes first.
    """
    purpose = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS | Purpose.UPDATES
    for wanted, more in ((not no_invalid, Purpose.INVALID), (confirms, Purpose.CONFIRMS)):
        if wanted:
            purpose |= more
    with opened(request, purpose, chains=True) as (capture, stretch):
        found = collect(capture, request, stretch, sought, invalid=not no_invalid)
        out([document(found)] if request.json else why_lines(found, room()))
        closed(capture, request, found.meta)
