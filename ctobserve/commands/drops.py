"""ctobserve drops: lost packets and evicted entries, beside the kernel's counters."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from ctobserve import counters
from ctobserve.analysis.drops import balance
from ctobserve.commands.options import LIMIT, OF_NETNS, OF_TUPLE, Request, common_options
from ctobserve.commands.session import Session, observe, out
from ctobserve.events import Records
from ctobserve.hooks import Purpose
from ctobserve.render.happenings import Chosen, Happenings, Told
from ctobserve.render.jsonout import document
from ctobserve.render.lines import EventLines
from ctobserve.render.rows import Row
from ctobserve.render.text import balance_lines

KEPT = 10_000
QUIET_TRIES = 10
RESOLVED = "clash_resolved"


class Tally:
    """Losses seen: counted all, by namespace and CPU; kept up to a limit."""

    def __init__(self, session: Session, limit: int) -> None:
        chosen = Chosen(("drop", "destroy", "resolved"), session.request.filter)
        self._happenings = Happenings(chosen, session.clock, session.observer.symbols)
        self._limit = limit
        self._clock = session.clock
        self.reasons: dict[counters.Place, Counter[str]] = defaultdict(Counter)
        self.kept: list[Row] = []
        self.losses = 0

    def add(self, records: Records, final: bool = False) -> Told:
        """Count what is a loss among these records; returns those events that were kept."""
        told = self._happenings.of(records, final)
        losses = []
        for at, (facts, inum) in enumerate(zip(told.facts, told.entries["netns"].tolist(), strict=True)):
            place = inum, facts["cpu"]
            if facts["event"] == "resolved":
                self.reasons[place][RESOLVED] += 1
            elif facts["event"] == "drop" or facts["reason"] == "early_drop":
                self.reasons[place][facts["reason"]] += 1
                losses.append(at)
        self.losses += len(losses)
        kept = told.only(losses[: self._limit - len(self.kept)])
        self.kept += kept.rows(self._clock)
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
@common_options(OF_NETNS, OF_TUPLE, LIMIT)
def drops(request: Request, invalid: bool) -> None:
    """Lost packets and evicted entries with tuple and reason, then the sums by reason beside the kernel's own counters.

    `unaccounted` is what the kernel counted and we did not see; with filters other than --netns it says what they hid.
    """
    purpose = Purpose.DROPS | (Purpose.INVALID if invalid else Purpose(0))
    with observe("drops", request, purpose, table=False) as session:
        tally = Tally(session, KEPT if request.limit is None else request.limit)
        show = _Shown(session)
        before = _read_quietly(session, tally, lambda _: None)
        tally.forget()
        session.ready()
        for records in session.watch():
            show(tally.add(records))
        after = _read_quietly(session, tally, show)
        show(tally.add(session.observer.poll(), final=True))
        report = _report(session, tally, counters.delta(before, after))
        if request.json:
            out([document(report)])
        else:
            out(balance_lines(report, session.labels()))
        session.finish(report["meta"])


class _Shown:
    """Prints losses as they come; in JSON they are part of the document at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines = EventLines()

    def __call__(self, told: Told) -> None:
        session = self._session
        if len(told) and not session.request.json:
            out([self._lines.of(told, session.clock, session.labels_for(np.unique(told.entries["netns"]).tolist()))])


def _read_quietly(session: Session, tally: Tally, show: Callable[[Told], None]) -> counters.Reading:
    """The kernel's counters at an instant when no loss is under way, so that both sides count the same packets."""
    show(tally.add(session.observer.poll()))
    for _ in range(QUIET_TRIES):
        reading = counters.read(session.request.filter.netns)
        seen = session.observer.seen
        show(tally.add(session.observer.poll()))
        if session.observer.seen == seen:
            break
    return reading


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
