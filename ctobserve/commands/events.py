"""ctobserve events: one line per event as it happens."""

from __future__ import annotations

import click

from ctobserve.commands.session import Request, common_options, observe, out
from ctobserve.errors import UsageError
from ctobserve.hooks import Purpose
from ctobserve.render.happenings import EVENTS, event_rows
from ctobserve.render.jsonout import line
from ctobserve.render.text import event_line


@click.command()
@click.option(
    "--events", "choice", metavar="LIST", help=f"Comma-separated: {', '.join(EVENTS)}. Default: all, without accepted confirms."
)
@common_options
def events(request: Request, choice: str | None) -> None:
    """One line per event as it happens.

    insert: an entry enters the table. confirm: a packet's new entry passed or failed the last check. destroy: an entry leaves,
    with the reason. drop: conntrack lost a packet, with the reason.
    """
    chosen = _chosen(choice)
    purpose = Purpose.TABLE | Purpose.DEPARTURES | Purpose.DROPS
    if choice and "confirm" in chosen:
        purpose |= Purpose.CONFIRMS
    shown = 0
    with observe("events", request, purpose, chains=True, seed=False) as session:
        session.ready()
        labels = session.labels()
        for records in session.watch():
            rows = event_rows(records, chosen, request.filter, session.clock, session.observer.symbols)
            if any(row["netns"] not in labels for row in rows):
                labels = session.labels()
            rows = rows if request.limit is None else rows[: request.limit - shown]
            shown += len(rows)
            for row in rows:
                out(line(row) if request.json else event_line(row, labels))
            if shown == request.limit:
                break
        session.finish(session.meta())


def _chosen(choice: str | None) -> set[str]:
    if choice is None:
        return set(EVENTS)
    chosen = {name.strip() for name in choice.split(",") if name.strip()}
    wrong = sorted(chosen - set(EVENTS))
    if wrong or not chosen:
        raise UsageError(f"--events {choice!r}: {', '.join(wrong) or 'nothing'} is no event; choose of {', '.join(EVENTS)}")
    return chosen
