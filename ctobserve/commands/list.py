"""ctobserve list: the table now."""

from __future__ import annotations

import click

from ctobserve.analysis.buckets import with_chains
from ctobserve.commands.session import Request, Session, common_options, observe, out
from ctobserve.hooks import Purpose
from ctobserve.model import Entries
from ctobserve.render.jsonout import document
from ctobserve.render.rows import Row, entry_rows
from ctobserve.render.text import entry_lines
from ctobserve.table import lengths_of


@click.command("list")
@click.option("--snapshot", is_flag=True, help="By one reading, nothing attached to the kernel: the default without --duration.")
@common_options
def list_entries(request: Request, snapshot: bool) -> None:
    """The table now: every entry of every network namespace, with its buckets and the lengths of their chains.

    With --duration, the table is followed by events that long, then shown with its present state.
    """
    if snapshot and request.duration:
        raise click.UsageError("--snapshot reads once and --duration follows; use just one of them")
    with observe("list", request, Purpose.TABLE if request.duration else Purpose(0)) as session:
        session.ready()
        if request.duration:
            for _ in session.watch():
                pass
            session.observer.seed()
        whole = session.observer.table.entries()
        shown = whole[request.filter.mask(whole)][: request.limit]
        shown = with_chains(shown, lengths_of(whole, session.observer.buckets))
        rows = entry_rows(shown, session.observer.clock())
        _name_masters(rows, shown, session)
        meta = session.meta()
        if request.json:
            out(document({"meta": meta, "entries": rows}))
        else:
            for text in entry_lines(rows, session.labels()):
                out(text)
        session.finish(meta)


def _name_masters(rows: list[Row], entries: Entries, session: Session) -> None:
    """An expected (RELATED) entry shows the original tuple of the entry that its helper expected it for."""
    related = entries["master"] != 0
    if not related.any():
        return
    masters = session.observer.table.find(entries["master"][related])
    tuples = dict(zip(masters["ct"].tolist(), entry_rows(masters, session.clock), strict=True))
    for row, master in zip(rows, entries["master"].tolist(), strict=True):
        if master in tuples:
            row["master"] = tuples[master]["original"]
