"""ctobserve list: the table now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from ctobserve.commands.help import OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import OF_NETNS, OF_TUPLE, SOURCE, chosen_form, common_options, limit_to
from ctobserve.documents.list import ListDocument, collect, collect_listing
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.list import csv, listing_lines, listing_notes, table_lines

FORMS: dict[str, Callable[[ListDocument], Iterable[str]]] = {
    "table": lambda found: table_lines(found, room()),
    "json": lambda found: [document(found)],
    "csv": csv,
}


@click.command(
    "list",
    cls=Command,
    examples=(
        Example("who never got an answer", "ctobserve list --state UNREPLIED"),
        Example("every entry to port 53 as a table for other programs", "ctobserve list --dport 53 --format csv > dns.csv"),
    ),
)
@option(
    OUTPUT, "--format", "form", type=click.Choice(["kernel", "table", "json", "csv"]), metavar="FORM",
    help="table, csv, json, or kernel: the lines of /proc/net/nf_conntrack. Default: table.",
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("Show at most N entries."), SOURCE)
def list_entries(request: Request, form: str | None) -> None:
    """The table now: every entry of every network namespace, with its buckets and the lengths of their chains.

    By one reading, with nothing attached to the kernel. With --duration, the table is followed by events that long, then shown
    with its present state.
    """
    form = chosen_form(request, form, "table")
    watched = Purpose.TABLE if request.duration else Purpose(0)
    with opened(request, watched, follows=form != "kernel", tells=False) as (capture, stretch):
        if form == "kernel":
            listing = collect_listing(capture, request, stretch)
            out(listing_lines(listing))
            for note in listing_notes(listing):
                click.echo(note, err=True)
        else:
            out(FORMS[form](collect(capture, request, stretch)))
        # Who takes a large table slowly may lose records meanwhile.
        closed(capture, request, meta_of("list", capture, request))
