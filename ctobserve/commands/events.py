"""ctobserve events: one line per event as it happens."""

from __future__ import annotations

import click

from ctobserve.capture.event_filter import EventFilter
from ctobserve.commands.help import LOOK, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import FROM, OF_NETNS, OF_TUPLE, STRETCH, common_options, limit_to
from ctobserve.commands.values import some_of
from ctobserve.documents.events import collect, collect_packets
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.event import Kind
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import line, lines
from ctobserve.render.packets import packet_line
from ctobserve.render.stream import StreamLines

EVENTS = ("insert", "confirm", "update", "destroy", "drop")


@click.command(
    cls=Command,
    examples=(
        Example("why entries leave, and who deletes them", "ctobserve events --events destroy"),
        Example("replies, TCP states and marks of one host's connections", "ctobserve events --events update --src 10.1.2.3"),
    ),
)
@option(
    LOOK, "--events", "choice", type=some_of(EVENTS), metavar="LIST",
    help=f"Comma-separated: {', '.join(EVENTS)}. Default: all, without accepted confirms.",
)  # fmt: skip
@option(
    LOOK, "--invalid", is_flag=True,
    help="Drops also of INVALID packets, with the kernel's words. Costs one probe per packet.",
)  # fmt: skip
@option(
    LOOK, "--packets", is_flag=True, help="At the end, packets by state, namespace and hook. Costs one probe per packet."
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("End after N events."), FROM, STRETCH)
def events(request: Request, choice: tuple[str, ...] | None, invalid: bool, packets: bool) -> None:
    """One line per event as it happens.

    insert: an entry enters the table. confirm: a packet's new entry passed or failed the last check. update: status, TCP state,
    mark or helper changed. destroy: an entry leaves, with the reason. drop: conntrack lost a packet, with the reason.
    """
    kinds = {Kind[word.upper()] for word in choice or EVENTS}
    purpose = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS
    for wanted, more in (
        (choice and Kind.CONFIRM in kinds, Purpose.CONFIRMS),
        (Kind.UPDATE in kinds, Purpose.UPDATES),
        (invalid and Kind.DROP in kinds, Purpose.INVALID),
        (packets, Purpose.PACKETS),
    ):
        if wanted:
            purpose |= more
    with opened(request, purpose, follows=False, reads=False, chains=True, streams=True) as (capture, stretch):
        stream = StreamLines(capture, room())
        for rows in collect(capture, request, stretch, EventFilter(kinds, request.filter)):
            out(lines(rows) if request.json else stream.of(rows.events, rows.events))
        for row in collect_packets(capture, request) if packets else ():
            out([line(row) if request.json else packet_line(row, stream.labels([row.netns or 0]), room())])
        closed(capture, request, meta_of("events", capture, request))
