"""Verdicts of `report` as they come and go: judged again and again, each time of what happened since the last time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ctobserve.capture.capture import Capture
from ctobserve.capture.filters import Filter
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.collect import Collector
from ctobserve.diagnosis.rules import judge
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import Judged, VerdictRow, judged_of
from ctobserve.errors import CtobserveError
from ctobserve.event import Events
from ctobserve.render.report import as_read
from ctobserve.terminal.seen import Standing, Verdicts

FIRST_NS, AGAIN_NS = 3 * NS_PER_S, 10 * NS_PER_S
COSTS = 100  # a judgement reads the table: so many times as long as it takes nobody judges
SOON_NS, COSTS_SOON = NS_PER_S, 10  # the same where what was found is in doubt
GONE_NS = 60 * NS_PER_S  # so long a verdict that is no more is still shown


def judged(capture: Capture, collector: Collector, only: Filter) -> Judged:
    """End collecting, and judge; raises CtobserveError as Capture.follow."""
    collector.end()
    meta = meta_of("top", capture, Request(filter=only))
    evidence = collector.evidence()
    return judged_of(meta, capture.aside(lambda: judge(evidence)))


def said(found: Judged, at_ns: int, before: Verdicts | None = None, at: str | None = None) -> Verdicts:
    """What was found, and which of those `before` are gone; `at_ns`: the end of what was judged, `at`: when (ISO 8601, UTC),
    None: then."""
    now = found.meta.ended if at is None else at
    known: Mapping[str, Standing] = {one.row.id: one for one in before.standing} if before else {}
    there = tuple(Standing(row, _since(row, known, now)) for row in as_read(found))
    ids = {one.row.id for one in there}
    gone = tuple(
        one if one.gone else one._replace(gone=now)
        for one in known.values()
        if one.row.id not in ids and one.row.severity is not Severity.HEALTHY
    )
    return Verdicts(there + gone, found.meta.duration_s, len(found.not_judged), at_ns, now)


def _since(row: VerdictRow, known: Mapping[str, Standing], now: str) -> str:
    before = known.get(row.id)
    return now if before is None or before.gone else before.since


class Judging:
    """Made when the table is followed; `add` every batch of events, and `judge` when that is `due`."""

    def __init__(self, capture: Capture, only: Filter, invalid: bool, took: Callable[[Events], object]) -> None:
        """`took` is given the events that this takes from the capture itself."""
        self.found: Verdicts | None = None
        self._capture, self._only, self._invalid, self._took = capture, only, invalid, took
        self._gone_ns: dict[str, int] = {}
        self._cost_ns = 0
        self._begin(FIRST_NS)

    def _begin(self, after_ns: int) -> None:
        self._collector = Collector(self._capture, self._only, self._invalid, self._took)
        self._began_ns = self._capture.now_ns()
        self._due_ns = self._began_ns + after_ns

    def look_at(self, only: Filter) -> None:
        """From now on judge of these; what was said of others goes."""
        if only != self._only:
            self._only, self.found, self._gone_ns = only, None, {}
            self._begin(FIRST_NS)

    def add(self, events: Events) -> None:
        """What happened, in order."""
        self._collector.add(events)

    def due(self) -> bool:
        """Whether it is time to judge."""
        return self._capture.now_ns() >= self._due_ns

    def hurry(self) -> None:
        """What was found is in doubt."""
        self._due_ns = min(self._due_ns, self._began_ns + max(SOON_NS, COSTS_SOON * self._cost_ns))

    def judge(self) -> None:
        """What was added since the last time."""
        began_ns = self._capture.now_ns()
        try:
            document = judged(self._capture, self._collector, self._only)
        except CtobserveError:
            document = None  # the hash is being resized: the next judgement is of another table
        now_ns = self._capture.now_ns()
        if document is not None:
            self._say(document, began_ns)
        self._cost_ns = now_ns - began_ns
        self._begin(max(AGAIN_NS, COSTS * self._cost_ns))

    def _say(self, document: Judged, now_ns: int) -> None:
        found = said(document, now_ns, self.found, self._capture.started.iso(now_ns))
        ids = {one.row.id for one in found.standing if one.gone}
        self._gone_ns = {name: self._gone_ns.get(name, now_ns) for name in ids}
        kept = tuple(one for one in found.standing if not one.gone or now_ns - self._gone_ns[one.row.id] <= GONE_NS)
        self.found = found._replace(standing=kept, of_s=(now_ns - self._began_ns) / NS_PER_S)
