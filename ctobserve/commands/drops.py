"""ctobserve drops: lost packets and evicted entries, beside the kernel's counters."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import click
import numpy as np

from ctobserve.analysis.drops import balance
from ctobserve.capture.records import Records
from ctobserve.commands.help import LOOK, Command, Example, option
from ctobserve.commands.options import OF_NETNS, OF_TUPLE, common_options, limit_to
from ctobserve.commands.session import Session, observe, out
from ctobserve.diagnosis.collect import read_quietly
from ctobserve.documents.request import Request
from ctobserve.host import counters
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.happenings import Chosen, Happenings, Told
from ctobserve.render.jsonout import document
from ctobserve.render.lines import EventLines
from ctobserve.render.rows import Row
from ctobserve.render.text import balance_lines

KEPT = 10_000  # rows in the JSON document
RESOLVED = "clash_resolved"


class Tally:
    """Losses seen: counted all, by namespace and CPU; told up to a limit."""

    def __init__(self, session: Session, limit: int | None) -> None:
        chosen = Chosen(("drop", "destroy", "resolved"), session.request.filter)
        self._happenings = Happenings(chosen, session.clock, session.observer.symbols)
        self._limit = limit
        self._session = session
        self.reasons: dict[counters.Place, Counter[str]] = defaultdict(Counter)
        self.losses = self.told = 0

    def add(self, records: Records, final: bool = False) -> Told:
        """Count what is a loss among these records; returns those to be told."""
        told = self._happenings.of(records, final)
        self._session.ended(told.ended())
        losses = []
        for at, (facts, inum) in enumerate(zip(told.facts, told.entries["netns"].tolist(), strict=True)):
            place = inum, facts["cpu"]
            if facts["event"] == "resolved":
                self.reasons[place][RESOLVED] += 1
            elif facts["event"] == "drop" or facts["reason"] == "early_drop":
                self.reasons[place][facts["reason"]] += 1
                losses.append(at)
        self.losses += len(losses)
        chosen = told.only(losses if self._limit is None else losses[: self._limit - self.told])
        self.told += len(chosen)
        return chosen

    def forget(self) -> None:
        """Begin again at zero."""
        self.reasons.clear()
        self.losses = self.told = 0


@click.command(
    cls=Command,
    examples=(
        Example("every packet lost and every entry evicted, until Ctrl-C", "ctobserve drops"),
        Example("a minute, also of INVALID packets, with the kernel's own words", "ctobserve drops --invalid --duration 60"),
    ),
)
@option(
    LOOK, "--invalid", is_flag=True,
    help="Also INVALID packets and refused ICMP errors, with the kernel's words. Costs one probe per packet.",
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("Show at most N losses; all are counted. Default: all, with --json 10000."))
def drops(request: Request, invalid: bool) -> None:
    """Lost packets and evicted entries with tuple and reason, then the sums by reason beside the kernel's own counters.

    `unaccounted` is what the kernel counted and we did not see; with filters other than --netns it says what they hid.
    """
    purpose = Purpose.DROPS | (Purpose.INVALID if invalid else Purpose(0))
    with observe("drops", request, purpose, reads=False, table=False) as session:
        shown = _Shown(session)
        tally = Tally(session, KEPT if request.json and request.limit is None else request.limit)
        before = read_quietly(session.observer, request.filter.netns, tally.add)
        tally.forget()
        session.ready()

        def tell(records: Records) -> None:
            shown.add(tally.add(records))

        for records in session.watch():
            tell(records)
        after = read_quietly(session.observer, request.filter.netns, tell)
        shown.add(tally.add(session.observer.poll(), final=True))
        report = _report(session, tally, counters.delta(before, after), shown.rows)
        if request.json:
            out([document(report)])
        else:
            out(balance_lines(report, session.labels()))
        session.finish(report["meta"])


class _Shown:
    """Prints losses as they come; in JSON they are rows of the document at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines = EventLines(room())
        self.rows: list[Row] = []

    def add(self, told: Told) -> None:
        session = self._session
        if session.request.json:
            self.rows += told.rows(session.clock)
        elif len(told):
            out([self._lines.of(told, session.clock, session.labels_for(np.unique(told.entries["netns"]).tolist()))])


def _report(session: Session, tally: Tally, delta: counters.Moved, rows: list[Row]) -> dict[str, Any]:
    readable = {inum for inum, _ in delta}
    gone = counters.total(found for (inum, _), found in tally.reasons.items() if inum not in readable)
    whole = balance(counters.total(tally.reasons.values()), counters.total(delta.values()), gone)
    resolved = whole.by_reason.pop(RESOLVED, 0)
    return {
        "meta": session.meta() | {"drops_not_shown": tally.losses - tally.told},
        "by_reason": whole.by_reason,
        "clash_resolved": resolved,
        "kernel_counters": whole.kernel_counters,
        "unaccounted": whole.unaccounted,
        "not_compared": dict(gone) if delta else {},
        "by_netns": {str(inum): _of_netns(inum, tally, delta) for inum in sorted({inum for inum, _ in [*delta, *tally.reasons]})},
        "drops": rows,
    }


def _of_netns(inum: int, tally: Tally, delta: counters.Moved) -> dict[str, Any]:
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
