"""What a flight recorder keeps an incident for: losses as they come, a table that fills, a verdict of the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from ctobserve.analysis.drops import CLASH_RESOLVED, sums
from ctobserve.capture.capture import Capture
from ctobserve.capture.filters import Filter
from ctobserve.capture.store.facts import Trigger
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.collect import Collector
from ctobserve.diagnosis.rules import RULES, judge
from ctobserve.documents.limits import limits
from ctobserve.errors import CtobserveError
from ctobserve.event import FOUND_BAD, DestroyReason, Events, destroy_name, drop_name
from ctobserve.host.counters import total

DROP, EARLY_DROP = "drop", destroy_name(DestroyReason.EARLY_DROP)
VERDICTS = tuple(rule.id for rule in RULES)
FILL_NS = 5 * NS_PER_S  # every namespace is asked
JUDGE_S = 10.0  # at least, between two judgements
NO_LOSSES = (CLASH_RESOLVED, EARLY_DROP, *map(drop_name, FOUND_BAD))
COUNT, LIMIT = "nf_conntrack_count", "nf_conntrack_max"
Took = Callable[[Events], object]


class Conditions(NamedTuple):
    """Losses of packets, entries evicted by early_drop, shares of the limit, verdicts by their id."""

    drop: bool = False
    early_drop: bool = False
    fills: Collection[float] = ()
    verdicts: Collection[str] = ()


class Triggers:
    """Made when the table is followed; `add` every batch of events, then ask what is `due`.

    What goes on is due once: again only after it was not so for `quiet_s`.
    """

    def __init__(self, capture: Capture, conditions: Conditions, quiet_s: float, judge_s: float, invalid: bool) -> None:
        """`judge_s`: between two judgements, each of which reads the table. `invalid`: the capture sees INVALID packets."""
        self._capture = capture
        self._wanted = conditions
        self._judge_ns = round(max(judge_s, JUDGE_S) * NS_PER_S)
        self._quiet_ns = max(round(quiet_s * NS_PER_S), 2 * FILL_NS)
        self._invalid = invalid
        self._so_at: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._evicted = 0
        self._filled_ns = self._judged_ns = capture.now_ns()
        self._collector: Collector | None = None

    def add(self, events: Events) -> None:
        """Events that somebody took from the capture."""
        if self._collector:
            self._collector.add(events)
        self._count(events)

    def _count(self, events: Events) -> None:
        if len(events) and (self._wanted.drop or self._wanted.early_drop):
            found = total(sums(events).values())
            self._evicted += found[EARLY_DROP]
            for word in found.keys() - set(NO_LOSSES):
                self._lost[word] = self._lost.get(word, 0) + found[word]

    def due(self, take: Took) -> Iterator[Trigger]:
        """What an incident is to be kept for now. `take` is given the events that are taken from the capture meanwhile."""
        now_ns = self._capture.now_ns()
        lost, evicted, self._lost, self._evicted = self._lost, self._evicted, {}, 0
        if self._wanted.drop and lost and self._is_new(DROP, now_ns, self._quiet_ns):
            reasons = ", ".join(f"{word} {count}" for word, count in sorted(lost.items()))
            yield Trigger(DROP, f"packets lost ({reasons})")
        if self._wanted.early_drop and evicted and self._is_new(EARLY_DROP, now_ns, self._quiet_ns):
            yield Trigger(EARLY_DROP, f"entries evicted by early_drop ({evicted})")
        if self._wanted.fills and now_ns - self._filled_ns >= FILL_NS:
            self._filled_ns = now_ns
            yield from self._filled(now_ns)
        if self._wanted.verdicts:
            if self._collector is None:
                self._collector, self._judged_ns = self._collects(take), now_ns
            elif now_ns - self._judged_ns >= self._judge_ns:
                yield from self._judged(self._collector, take, now_ns)

    def _filled(self, now_ns: int) -> Iterator[Trigger]:
        states = self._capture.namespaces((COUNT, LIMIT))
        allowed = limits(states, states)
        for inum, state in states.items():
            count, limit = state.sysctls.get(COUNT), allowed[inum]
            for share in self._wanted.fills if count is not None and limit else ():
                full = (count or 0) >= share * (limit or 1)
                if full and self._is_new(f"fill {share} {inum}", now_ns, self._quiet_ns):
                    yield Trigger("fill", f"{state.label} has {count} of {limit} entries")

    def _judged(self, collector: Collector, take: Took, now_ns: int) -> Iterator[Trigger]:
        found = {}
        try:
            collector.end()
            evidence = collector.evidence()
            found = dict(self._capture.aside(lambda: judge(evidence)).verdicts)
        except CtobserveError:
            pass  # the hash is being resized: the next judgement is of another table
        self._collector, self._judged_ns = self._collects(take), self._capture.now_ns()
        for name in sorted(found.keys() & set(self._wanted.verdicts)):
            if self._is_new(f"verdict {name}", now_ns, max(self._quiet_ns, 2 * self._judge_ns)):
                yield Trigger(f"verdict-{name}", found[name].sentence)

    def _collects(self, take: Took) -> Collector:
        def took(events: Events) -> None:
            take(events)
            self._count(events)

        return Collector(self._capture, Filter(), self._invalid, took)

    def _is_new(self, what: str, now_ns: int, quiet_ns: int) -> bool:
        """Whether it was not so for a while; from now on it is."""
        before_ns = self._so_at.get(what)
        self._so_at = {name: at_ns for name, at_ns in self._so_at.items() if now_ns - at_ns <= 2 * self._judge_ns + quiet_ns}
        self._so_at[what] = now_ns
        return before_ns is None or now_ns - before_ns > quiet_ns
