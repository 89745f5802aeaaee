"""ctobserve list: the table now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from ctobserve.capture.filters import Filter
from ctobserve.commands.help import LOOK, OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out, viewed
from ctobserve.commands.options import AT, FROM, OF_NETNS, OF_TUPLE, SOURCE, chosen_form, common_options, limit_to
from ctobserve.commands.replaying import at_the_end
from ctobserve.documents import expectations
from ctobserve.documents.list import ListDocument, collect, collect_listing
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.errors import UsageError
from ctobserve.programs.hooks import Purpose
from ctobserve.render.expectations import expectation_csv, expectation_lines, expectation_notes
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.list import csv, listing_lines, listing_notes, table_lines

FORMS: dict[str, Callable[[ListDocument], Iterable[str]]] = {
    "table": lambda found: table_lines(found, room()),
    "json": lambda found: [document(found)],
    "csv": csv,
}
FORMS_EXPECTED: dict[str, Callable[[expectations.ExpectationsDocument], Iterable[str]]] = {
    "table": lambda found: expectation_lines(found, room()),
    "json": lambda found: [document(found)],
    "csv": expectation_csv,
}


@click.command(
    "list",
    cls=Command,
    examples=(
        Example("who never got an answer", "ctobserve list --state UNREPLIED"),
        Example("every entry to port 53 as a table for other programs", "ctobserve list --dport 53 --format csv > dns.csv"),
    ),
)
@option(LOOK, "--expect", is_flag=True, help="The expectation table instead: what helpers wait for, with masters.")
@option(
    OUTPUT, "--format", "form", type=click.Choice(["kernel", "table", "json", "csv"]), metavar="FORM",
    help="table, csv, json, or kernel: the lines of /proc/net/nf_conntrack. Default: table.",
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("Show at most N entries."), SOURCE, FROM, AT)
def list_entries(request: Request, form: str | None, expect: bool) -> None:
    """The table now: every entry of every network namespace, with its buckets and the lengths of their chains.

    By one reading, with nothing attached to the kernel. With --duration, the table is followed by events that long, then shown
    with its present state. --expect shows connections that are expected, by no BPF; of the filters it takes --netns.
    """
    form = chosen_form(request, form, "table")
    request = at_the_end(request)
    if expect:
        _expectations(request, form)
    else:
        _entries(request, form)


def _entries(request: Request, form: str) -> None:
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


def _expectations(request: Request, form: str) -> None:
    """Raises UsageError for what has no effect on them."""
    plain = at_the_end(
        Request(json=request.json, limit=request.limit, filter=Filter(netns=request.filter.netns), recording=request.recording)
    )
    others = [name for name, value in request._asdict().items() if value != getattr(plain, name) and name != "filter"]
    others += [name for name, value in request.filter._asdict().items() if value != getattr(plain.filter, name)]
    if others:
        raise UsageError(
            f"--expect has no use for --{others[0].replace('_', '-')}; it takes --netns, --limit, --json, --format and --from"
        )
    if form not in FORMS_EXPECTED:
        raise UsageError(f"--expect has no --format {form}; give one of {', '.join(FORMS_EXPECTED)}")
    with viewed(request.recording) as view:
        found = expectations.collect(view, request.filter.netns, request.limit)
    out(FORMS_EXPECTED[form](found))
    for note in expectation_notes(found):
        click.echo(note, err=True)
