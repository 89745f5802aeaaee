"""ctobserve drops: lost packets and evicted entries, beside the kernel's counters."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import click

from ctobserve import counters
from ctobserve.analysis.drops import balance
from ctobserve.commands.session import Request, Session, common_options, observe, out
from ctobserve.events import Records
from ctobserve.hooks import Purpose
from ctobserve.render.happenings import Chosen, Happenings
from ctobserve.render.jsonout import document
from ctobserve.render.rows import Row
from ctobserve.render.text import balance_lines, event_line

KEPT = 10_000
QUIET_TRIES = 10
RESOLVED = "clash_resolved"


class Tally:
    """Losses seen: counted all, by namespace and CPU; kept up to a limit."""

    def __init__(self, session: Session, limit: int) -> None:
        chosen = Chosen(("drop", "destroy", "resolved"), session.request.filter)
        self._happenings = Happenings(chosen, session.clock, session.observer.symbols)
        self._limit = limit
        self.reasons: dict[counters.Place, Counter[str]] = defaultdict(Counter)
        self.kept: list[Row] = []
        self.losses = 0

    def add(self, records: Records, final: bool = False) -> list[Row]:
        """Count what is a loss among these records; returns the rows that were kept of it."""
        kept = []
        for row in self._happenings.rows(records, final):
            place = row["netns"], row.get("cpu", 0)
            if row["event"] == "resolved":
                self.reasons[place][RESOLVED] += 1
            elif row["event"] == "drop" or row["reason"] == "early_drop":
                self.reasons[place][row["reason"]] += 1
                self.losses += 1
                if len(self.kept) < self._limit:
                    self.kept.append(row)
                    kept.append(row)
        return kept

    def forget(self) -> None:
        """Begin again at zero."""
        self.reasons.clear()
        self.kept.clear()
        self.losses = 0


@click.command()
@click.option(
    "--invalid", is_flag=True, help="Also INVALID packets and refused ICMP errors, with the kernel's words. One probe per packet."
)
@common_options
def drops(request: Request, invalid: bool) -> None:
    """Lost packets and evicted entries with tuple and reason, then the sums by reason beside the kernel's own counters.

    `unaccounted` is what the kernel counted and we did not see; with filters other than --netns it says what they hid.
    """
    purpose = Purpose.DROPS | (Purpose.INVALID if invalid else Purpose(0))
    with observe("drops", request, purpose, seed=False) as session:
        tally = Tally(session, KEPT if request.limit is None else request.limit)
        before, _ = _read_quietly(session, tally)
        tally.forget()
        session.ready()
        for records in session.watch():
            _show(tally.add(records), request, session)
        after, late = _read_quietly(session, tally)
        _show(late + tally.add(session.observer.poll(), final=True), request, session)
        report = _report(session, tally, counters.delta(before, after))
        if request.json:
            out(document(report))
        else:
            for text in balance_lines(report, session.labels()):
                out(text)
        session.finish(report["meta"])


def _show(rows: list[Row], request: Request, session: Session) -> None:
    if rows and not request.json:
        labels = session.labels_for(rows)
        for row in rows:
            out(event_line(row, labels))


def _read_quietly(session: Session, tally: Tally) -> tuple[counters.Reading, list[Row]]:
    """The kernel's counters at an instant when no loss is under way, so that both sides count the same packets."""
    shown = tally.add(session.observer.poll())
    for _ in range(QUIET_TRIES):
        reading = counters.read(session.request.filter.netns)
        seen = session.observer.seen
        shown += tally.add(session.observer.poll())
        if session.observer.seen == seen:
            break
    return reading, shown


def _report(session: Session, tally: Tally, delta: counters.Reading) -> dict[str, Any]:
    whole = balance(counters.total(tally.reasons.values()), counters.total(delta.values()))
    resolved = whole.by_reason.pop(RESOLVED, 0)
    return {
        "meta": session.meta() | {"drops_not_shown": tally.losses - len(tally.kept)},
        "by_reason": whole.by_reason,
        "clash_resolved": resolved,
        "kernel_counters": whole.kernel_counters,
        "unaccounted": whole.unaccounted,
        "by_netns": {str(inum): _of_netns(inum, tally, delta) for inum in sorted({inum for inum, _ in [*delta, *tally.reasons]})},
        "drops": tally.kept,
    }


def _of_netns(inum: int, tally: Tally, delta: counters.Reading) -> dict[str, Any]:
    """The same sums for one namespace, and for each CPU in it; a CPU's two sides can differ where a task moved meanwhile."""
    reasons = {cpu: found for (at, cpu), found in tally.reasons.items() if at == inum}
    kernel = {cpu: found for (at, cpu), found in delta.items() if at == inum}
    here = balance(counters.total(reasons.values()), counters.total(kernel.values()))
    cpus = {
        str(cpu): {
            "by_reason": dict(reasons.get(cpu, Counter())),
            "kernel_counters": {k: v for k, v in kernel.get(cpu, Counter()).items() if v},
        }
        for cpu in sorted({*reasons, *kernel})
    }
    return here.__dict__ | {"by_cpu": cpus}
