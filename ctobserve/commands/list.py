"""ctobserve list: the table now."""

from __future__ import annotations

from collections.abc import Callable

import click

from ctobserve.analysis.buckets import with_chains
from ctobserve.capture.table import lengths_of
from ctobserve.commands.help import OUTPUT, Command, Example, option
from ctobserve.commands.options import OF_NETNS, OF_TUPLE, SOURCE, chosen_form, common_options, limit_to
from ctobserve.commands.session import Session, observe, out
from ctobserve.documents.request import Request
from ctobserve.host import kernel
from ctobserve.model import Entries
from ctobserve.programs.hooks import Purpose
from ctobserve.render.csvout import csv_lines
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.kernel_lines import Kernel, kernel_lines, printed
from ctobserve.render.lines import entry_lines
from ctobserve.render.rows import Row, entry_rows


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
    with observe("list", request, watched, table=form != "kernel", stream=False) as session:
        session.ready()
        if request.duration:
            for _ in session.watch():
                pass
        FORMS[form](session)
        session.finish(session.meta())


def _table(session: Session) -> None:
    shown = _shown(session)
    out(entry_lines(shown, session.observer.clock(), session.labels(), _masters(shown, session), room()))


def _json(session: Session) -> None:
    shown = _shown(session)
    rows = entry_rows(shown, session.observer.clock())
    _name_masters(rows, shown, session)
    out([document({"meta": session.meta(), "entries": rows})])


def _csv(session: Session) -> None:
    shown = _shown(session)
    out(csv_lines(shown, _masters(shown, session), session.observer.clock()))


def _kernel(session: Session) -> None:
    """One more walk, with what only these lines show; its instant is that of the times in them."""
    walk, _ = session.observer.walk(details=True)
    clock = session.observer.clock()
    keep = (printed(walk.entries, clock) & session.request.filter.mask(walk.entries)).nonzero()[0][: session.request.limit]
    entries, details = walk.entries[keep], walk.details[keep]
    contexts = kernel.security_contexts()
    out(kernel_lines(entries, details, clock, Kernel(session.observer.symbols.trackers(), contexts)))
    hidden = int((~printed(walk.entries, clock)).sum())
    if hidden:
        click.echo(f"left out, as the kernel would: {hidden} entries, expired or hashed by their reply alone", err=True)
    if any(number and number not in contexts for number in set(details["secmark"].tolist())):
        click.echo("secctx= is missing where an entry has a security id that only the kernel can name", err=True)


FORMS: dict[str, Callable[[Session], None]] = {"table": _table, "json": _json, "csv": _csv, "kernel": _kernel}


def _shown(session: Session) -> Entries:
    """What the filters let pass, read anew after a time of watching."""
    if session.request.duration:
        session.observer.seed()
    whole = session.observer.table.entries()
    shown = session.request.filter.passing(whole)[: session.request.limit]
    return with_chains(shown, lengths_of(whole, session.observer.buckets))


def _masters(entries: Entries, session: Session) -> Entries:
    """Those of these entries' masters that are in the table."""
    return session.observer.table.find(entries["master"][entries["master"] != 0])


def _name_masters(rows: list[Row], entries: Entries, session: Session) -> None:
    """An expected (RELATED) entry shows the original tuple of the entry that its helper expected it for."""
    masters = _masters(entries, session)
    tuples = dict(zip(masters["ct"].tolist(), entry_rows(masters, session.clock), strict=True))
    for row, master in zip(rows, entries["master"].tolist(), strict=True):
        if master in tuples:
            row["master"] = tuples[master]["original"]
