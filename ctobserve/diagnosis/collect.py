"""Fills the evidence from a capture: counts what happens, and asks every namespace for its counters and settings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ctobserve.capture.capture import DAMAGED, PROBES_OFF, Capture, Expected, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.quiet import quiet_reading
from ctobserve.capture.table import lengths_of
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.clashes import Inserted
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence, by_namespace, loss_name, tally
from ctobserve.diagnosis.mappings import unanswered
from ctobserve.diagnosis.rules.paste import way_into
from ctobserve.errors import CtobserveError
from ctobserve.event import FOUND_BAD, NO_EVENTS, DestroyReason, DropReason, Events, Kind, destroy_name, drop_name, entries_in
from ctobserve.host.counters import delta, total
from ctobserve.host.sysctls import LIMIT, PREFIX, TIMEOUTS
from ctobserve.model import in_order, join, pick

KEPT = 5_000  # rows of each reason: enough to see who, bounded whatever comes
BAD = 3  # INVALID packets of a namespace: its rules say whether these are dropped
SILENT, PASSED = 8, 10  # namespaces, and packets of each: one that tracks nothing is asked for its rules, too
ASKED_FROM = 100  # entries of a namespace: listing its rules costs a process, and who tracks fewer hardly pays for it
COUNT = "nf_conntrack_count"
REMOVED = (DestroyReason.DELETED, DestroyReason.FLUSHED)
OTHERS = tuple(
    PREFIX + name
    for name in (
        *("max", "events", "acct", "expect_max", "helper"),
        # What a reader of the report wants to know, no rule.
        *("buckets", "checksum", "log_invalid", "tcp_be_liberal", "tcp_ignore_invalid_rst", "tcp_loose", "timestamp"),
    )
)
SYSCTLS = (COUNT, *OTHERS, *TIMEOUTS)


class Level(NamedTuple):
    """How many entries each namespace had at an instant (CLOCK_MONOTONIC), by inode number."""

    at_ns: int
    entries: Mapping[int, int]


class Kept:
    """Rows of events, so many of each reason: enough to see who, bounded whatever comes."""

    def __init__(self) -> None:
        self._parts = [NO_EVENTS]
        self._counts: Counter[int] = Counter()

    def add(self, lost: Events) -> None:
        """The first of each reason stay."""
        for reason in np.unique(lost["reason"]).tolist():
            # Copies: a view would keep the whole batch.
            chosen = np.flatnonzero(lost["reason"] == reason)[: KEPT - self._counts[reason]]
            if len(chosen):
                self._counts[reason] += len(chosen)
                self._parts.append(pick(lost, chosen))

    def rows(self) -> Events:
        """All that were kept."""
        return join(self._parts)


class Collector:
    """Made when the table is followed; `add` every batch of events, then `end`, then ask for the `evidence`.

    `only` chooses what is judged; `invalid` says that invalid packets are looked for. `took` is given the events that it takes
    from the capture itself, for who wants them too. `began` and, after `end`, `ended` are of all entries, whatever `only` says.
    """

    def __init__(self, capture: Capture, only: Filter, invalid: bool, took: Callable[[Events], object] = lambda _: None) -> None:
        self._capture = capture
        self._only = only
        self._invalid = invalid
        self._took = took
        self._inserts: Counter[int] = Counter()
        self._destroys: dict[int, Counter[str]] = defaultdict(Counter)
        self._drops: dict[int, Counter[str]] = defaultdict(Counter)
        self._kept, self._unconfirmed, self._removed = Kept(), Kept(), Kept()
        self._inserted = Inserted()
        # What happened until here is in the table, and none of the incident.
        self._counters = quiet_reading(capture, only.netns, took)
        self._names = capture.names()
        self._accounts = capture.accounts(only.netns)
        self._before = capture.table.entries()
        self._started = by_namespace(self._before)
        self.began = Level(capture.now_ns(), self._started)

    def add(self, events: Events) -> None:
        """Count by namespace, and keep the rows of losses."""
        netns, kinds, reasons = events["entry"]["netns"], events["kind"], events["reason"]
        mine = np.ones(len(events), np.bool_) if self._only.netns is None else netns == self._only.netns
        inums, counts = np.unique(netns[mine & (kinds == Kind.INSERT)], return_counts=True)
        self._inserts.update(dict(zip(inums.tolist(), counts.tolist(), strict=True)))
        # An entry that never entered the table did not leave it either.
        gone = mine & (kinds == Kind.DESTROY) & (reasons != DestroyReason.UNCONFIRMED)
        _add(self._destroys, tally(netns[gone], reasons[gone], destroy_name))
        died = pick(events, mine & (kinds == Kind.DESTROY) & (reasons == DestroyReason.UNCONFIRMED))
        self._unconfirmed.add(pick(died, self._only.mask(died["entry"])))
        self._removed.add(pick(events, gone & np.isin(reasons, REMOVED)))
        lost = pick(events, mine & ((kinds == Kind.DROP) | (kinds == Kind.RESOLVED)))
        clashed = lost["entry"][(lost["kind"] == Kind.DROP) & (lost["reason"] == DropReason.CLASH)]
        self._inserted.add(entries_in(events, mine & (kinds == Kind.INSERT)), clashed)
        lost = pick(lost, self._only.mask(lost["entry"]))
        _add(self._drops, tally(lost["entry"]["netns"], lost["reason"], loss_name))
        self._kept.add(lost)

    def _take(self, events: Events) -> None:
        self.add(events)
        self._took(events)

    def end(self) -> None:
        """Read the table once more, for the timeouts and states that moved, and the counters beside it."""
        capture = self._capture
        capture.follow()
        then = by_namespace(capture.table.entries())
        self._accounted = capture.accounts(self._only.netns)
        self._counted = quiet_reading(capture, self._only.netns, self._take)
        self._whole = capture.table.entries()
        self._held = held = by_namespace(self._whole)
        self.ended = Level(capture.now_ns(), held)
        self._seconds = (self.ended.at_ns - self.began.at_ns) / NS_PER_S
        # Counts were read in between: what comes or leaves meanwhile is not missing.
        self._listed = held | then
        self._clock, self._fidelity = capture.clock(), capture.fidelity()

    def evidence(self) -> Evidence:
        """Ask the namespaces what they say of themselves. Rule sets need their time: what comes meanwhile is no part of this."""
        only, fidelity = self._only, self._fidelity
        entries = in_order(only.passing(self._whole))
        many = {inum for inum, count in by_namespace(entries).items() if count >= ASKED_FROM}
        # The rules say whether an entry that is not answered sends its packets to where new ones would go, and whether INVALID
        # packets are dropped.
        astray = set(np.unique(entries["netns"][unanswered(entries)]).tolist())
        bad = {inum for inum, reasons in self._drops.items() if sum(reasons[drop_name(one)] for one in FOUND_BAD) >= BAD}
        around = self._namespaces(rules_of=many | astray | bad | self._silent())
        self._name_the_ended(around)
        return Evidence(
            entries=entries,
            before=only.passing(self._before),
            lengths=lengths_of(self._whole, self._capture.buckets),
            namespaces={inum: one for inum, one in around.items() if only.netns in (None, inum)},
            losses=self._kept.rows(),
            drops=self._drops,
            destroys=self._destroys,
            inserts=self._inserts,
            duration_s=self._seconds,
            clock=self._clock,
            events_seen=fidelity.seen,
            events_lost=sum(fidelity.lost.values()),
            damaged=fidelity.lost.get(DAMAGED, 0),
            probes_off_s=fidelity.lost.get(PROBES_OFF, 0),
            uncertain_s=fidelity.uncertain_ns / NS_PER_S,
            unread=fidelity.unread,
            invalid=self._invalid,
            narrowed=only.netns is not None,
            filtered=only != Filter(netns=only.netns),
            # Of a packet without an entry mark and state are not known, of an INVALID one its zone is not either.
            blind_to_losses=any((only.mark is not None, only.state, self._invalid and only.zone is not None)),
            init=next((one for one in around.values() if one.init), None),
            unconfirmed=self._unconfirmed.rows(),
            removed=self._removed.rows(),
            winners=self._inserted.won(),
            expected=self._expected(),
            uncounted=self._uncounted(),
            not_attached=fidelity.not_attached,
            asked=self._asked,
        )

    def _uncounted(self) -> str:
        """Why the kernel's counters of a recording cannot be compared, and for which stretch they could."""
        for end, option, reading in (("begin", "since", self._counters), ("end", "until", self._counted)):
            if reading.last_ns:
                at = self._clock.iso(reading.last_ns)
                return f"at the {end} of this stretch nobody read the kernel's counters; they were read at {at} (--{option} {at})"
        return ""

    def _expected(self) -> Expected | None:
        with suppress(CtobserveError):
            return self._capture.expectations(self._only.netns)
        return None

    @property
    def _asked(self) -> int:
        """The namespace that is looked at, else the one we are in."""
        return self._capture.host.here if self._only.netns is None else self._only.netns

    def _silent(self) -> set[int]:
        """Those in which nothing at all is tracked: that one, and of the others those through which most packets went.

        Their rules may say why.
        """
        busy = (self._listed, self._started, self._inserts, self._destroys, self._drops)
        passed = Counter(
            {
                inum: sum(now.packets.since(then.packets))
                for inum, now in self._accounted.items()
                if (then := self._accounts.get(inum)) and then.packets and now.packets and not now.counted
            }
        )
        most = {inum for inum, packets in passed.most_common(SILENT) if packets >= PASSED}
        return {inum for inum in {self._asked, *most} if not any(inum in known for known in busy)}

    def _namespaces(self, rules_of: set[int]) -> dict[int, NamespaceEvidence]:
        """Every namespace that can be entered, or only one and the first; what cannot be read of it is missing."""
        only = self._only.netns
        found = self._capture.namespaces(SYSCTLS, None if only is None else (only,), rules_of)
        gained: dict[int, list[Counter[str]]] = defaultdict(list)
        for (inum, _), values in delta(self._counters, self._counted).items():
            gained[inum].append(values)
        here = self._capture.host.here
        told = {
            inum: self._told(_evidence_of(state, inum == here, total(gained[inum]) if inum in gained else None))
            for inum, state in found.items()
        }
        # Nobody can enter one that only a file or a mount elsewhere holds: its entries are there all the same.
        told |= {inum: NamespaceEvidence(inum, str(inum)) for inum in self._held.keys() - told.keys() if only in (None, inum)}
        cap = next((one.own_limit for one in told.values() if one.init), None)
        return {inum: replace(one, listed=self._listed[inum], cap=cap) for inum, one in told.items()}

    def _told(self, namespace: NamespaceEvidence) -> NamespaceEvidence:
        """With its account, which is of the same instant as the table."""
        inum = namespace.inum
        then, now = self._accounts.get(inum), self._accounted.get(inum)
        if now is None:
            return namespace
        passed = now.packets.since(then.packets) if then and then.packets and now.packets else None
        counted = {} if now.counted is None else {COUNT: now.counted}
        return replace(
            namespace,
            sysctls={**namespace.sysctls, **counted},
            account=now,
            unlisted_before=max(then.counted - self._started[inum], 0) if then and then.counted is not None else None,
            passed=passed,
        )

    def _name_the_ended(self, around: dict[int, NamespaceEvidence]) -> None:
        """What a namespace was called that is no more; its number may be another's by now, which the cookie says."""
        then, now = self._counters.cookies, self._counted.cookies
        for inum in (self._drops.keys() | self._destroys.keys()) - self._counters.unread - self._counted.unread:
            if inum not in self._names or then.get(inum) == now.get(inum):
                continue
            if inum in around:
                around[inum] = replace(around[inum], label=f"{self._names[inum]}, then {around[inum].label}")
            else:
                around[inum] = NamespaceEvidence(inum, f"{self._names[inum]} (ended)")


def _add(sums: dict[int, Counter[str]], more: dict[int, Counter[str]]) -> None:
    for inum, reasons in more.items():
        sums[inum].update(reasons)


def _evidence_of(state: NamespaceState, here: bool, gained: Counter[str] | None) -> NamespaceEvidence:
    """`here`: lines are pasted in it."""
    return NamespaceEvidence(
        state.inum,
        state.label,
        prefix=() if here else way_into(state),
        init=state.init,
        sysctls={name: value for name, value in state.sysctls.items() if value is not None},
        counters=gained,
        ruleset=state.ruleset,
        addresses=state.addresses,
        limits_itself=LIMIT in state.writable and not state.init,
    )
