"""ctobserve drops: lost packets and evicted entries, beside the kernel's counters."""

from __future__ import annotations

from collections import Counter

import click

from ctobserve import counters
from ctobserve.analysis.drops import balance
from ctobserve.commands.session import Request, Session, common_options, observe, out
from ctobserve.events import Records
from ctobserve.hooks import Purpose
from ctobserve.render.happenings import event_rows
from ctobserve.render.jsonout import document
from ctobserve.render.rows import Row
from ctobserve.render.text import balance_lines, event_line

KEPT = 10_000
QUIET_TRIES = 10
EVICTIONS = ("early_drop",)


class Tally:
    """Losses seen: counted all, kept up to a limit."""

    def __init__(self, session: Session, limit: int) -> None:
        self._session = session
        self._limit = limit
        self.reasons: Counter[str] = Counter()
        self.kept: list[Row] = []

    def add(self, records: Records) -> list[Row]:
        """Count what is a loss among these records; returns the rows that were kept of it."""
        session = self._session
        rows = event_rows(records, ("drop", "destroy"), session.request.filter, session.clock, session.observer.symbols)
        rows = [row for row in rows if row["event"] == "drop" or row["reason"] in EVICTIONS]
        self.reasons.update(row["reason"] for row in rows)
        kept = rows[: self._limit - len(self.kept)]
        self.kept += kept
        return kept


@click.command()
@common_options
def drops(request: Request) -> None:
    """Lost packets and evicted entries with tuple and reason, then the sums by reason beside the kernel's own counters.

    `unaccounted` is what the kernel counted and we did not see; with filters other than --netns it says what they hid.
    """
    with observe("drops", request, Purpose.DROPS, seed=False) as session:
        tally = Tally(session, KEPT if request.limit is None else request.limit)
        before = _read_quietly(session, tally, [])
        tally.reasons.clear()
        tally.kept.clear()
        session.ready()
        for records in session.watch():
            _show(tally.add(records), request, session)
        late: list[Row] = []
        after = _read_quietly(session, tally, late)
        _show(late, request, session)
        delta = counters.delta(before, after)
        result = balance(tally.reasons, delta)
        meta = session.meta() | {"drops_not_shown": tally.reasons.total() - len(tally.kept)}
        report = {
            "meta": meta,
            "by_reason": result.by_reason,
            "kernel_counters": result.kernel_counters,
            "unaccounted": result.unaccounted,
            "drops": tally.kept,
        }
        if request.json:
            out(document(report))
        else:
            for text in balance_lines(report):
                out(text)
        session.finish(meta)


def _show(rows: list[Row], request: Request, session: Session) -> None:
    if rows and not request.json:
        labels = session.labels()
        for row in rows:
            out(event_line(row, labels))


def _read_quietly(session: Session, tally: Tally, taken: list[Row]) -> dict[int, Counter[str]]:
    """The kernel's counters at an instant when no loss is under way, so that both sides count the same packets."""
    taken += tally.add(session.observer.poll())
    for _ in range(QUIET_TRIES):
        reading = counters.read(session.request.filter.netns)
        seen = tally.reasons.total()
        taken += tally.add(session.observer.poll())
        if tally.reasons.total() == seen:
            break
    return reading
