"""Fills the evidence from an observation: counts what happens, reads counters and settings of every namespace."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctobserve.capture.destroy_reasons import DestroyReasons
from ctobserve.capture.filters import Filter
from ctobserve.capture.observer import Observer
from ctobserve.capture.records import FLAG_TEXT, TEXT_BYTES, DropReason, Kind, Records, entries_of
from ctobserve.capture.table import lengths_of
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.evidence import RESOLVED, Evidence, Losses, Space, reason_name
from ctobserve.diagnosis.rules.paste import way_into
from ctobserve.errors import CtobserveError
from ctobserve.host import counters, kernel, netns, ruleset
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import TCP, join, pick

QUIET_S = 1.0  # on a host that never stops losing packets the reading is taken as it is
RULES_S = 20.0  # for the rule sets of all namespaces together
KEPT = 5_000  # rows of each reason: enough to see who, bounded whatever comes
ASKED_FROM = 100  # entries of a namespace: listing its rules costs a process, and of fewer entries nobody cares
SYSCTLS = (
    "nf_conntrack_count",
    "nf_conntrack_max",
    "nf_conntrack_events",
    "nf_conntrack_acct",
    "nf_conntrack_tcp_timeout_established",
)


@dataclass(frozen=True)
class Scope:
    """What of the world is judged: `invalid` says that invalid packets are watched."""

    only: Filter
    invalid: bool


def read_quietly(observer: Observer, only: int | None, add: Callable[[Records], object]) -> counters.Reading:
    """The kernel's counters at an instant when no loss is under way, so that both sides count the same packets.

    What happens meanwhile is given to `add`.
    """
    add(observer.poll())
    end = time.monotonic() + QUIET_S
    while True:
        reading = observer.drained(lambda: counters.read(only))
        records = observer.poll()
        add(records)
        kinds = records["kind"]
        # A destroy of an eviction.
        losses = (kinds == Kind.DROP) | (kinds == Kind.RESOLVED) | ((kinds == Kind.DESTROY) & (records["eviction"] != 0))
        if not losses.any() or time.monotonic() > end:
            return reading


class Kept:
    """Rows of losses, so many of each reason: enough to see who, bounded whatever comes."""

    def __init__(self, none: Records) -> None:
        """`none`: no records, of the form that will come."""
        self._parts = [none]
        self._counts: Counter[int] = Counter()

    def add(self, lost: Records, reasons: npt.NDArray[np.integer[Any]]) -> None:
        """Records, and the reason of each."""
        for reason in np.unique(reasons).tolist():
            # Copies: a view would keep the whole batch.
            chosen = np.flatnonzero(reasons == reason)[: KEPT - self._counts[reason]]
            if len(chosen):
                self._counts[reason] += len(chosen)
                self._parts.append(pick(lost, chosen))

    def rows(self) -> Records:
        """All that were kept."""
        return join(self._parts)


class Collector:
    """Made when the table is seeded; `add` every batch of records, then `end`, then take the `evidence`."""

    def __init__(self, observer: Observer, scope: Scope) -> None:
        self._observer = observer
        self._scope = scope
        self._departures = DestroyReasons(observer.symbols)
        self._inserts: Counter[int] = Counter()
        self._destroys: dict[int, Counter[str]] = defaultdict(Counter)
        self._drops: dict[int, Counter[str]] = defaultdict(Counter)
        self._kept = Kept(observer.poll()[:0])
        # What happened until here is in the table, and none of the incident.
        self._counters = read_quietly(observer, scope.only.netns, lambda _: None)
        self._names = _labels()
        self._before = observer.table.entries()
        self._began_ns = time.monotonic_ns()

    def add(self, records: Records) -> None:
        """Count by namespace, and keep the rows of losses."""
        if self._scope.only.netns is not None:
            records = records[records["netns"] == self._scope.only.netns]
        kinds = records["kind"]
        self._inserts.update(records["netns"][kinds == Kind.INSERT].tolist())
        gone = records[kinds == Kind.DESTROY]
        for inum, departure in zip(gone["netns"].tolist(), self._departures.of(gone).values(), strict=True):
            self._destroys[inum][departure.reason] += 1
        lost = records[(kinds == Kind.DROP) | (kinds == Kind.RESOLVED)]
        lost = lost[self._scope.only.mask(entries_of(lost))]
        reasons = np.where(lost["kind"] == Kind.RESOLVED, RESOLVED, lost["reason"])
        for (inum, reason), count in Counter(zip(lost["netns"].tolist(), reasons.tolist(), strict=True)).items():
            self._drops[inum][reason_name(reason)] += count
        self._kept.add(lost, reasons)

    def end(self) -> None:
        """Read the table once more, for the timeouts and states that moved, and the counters beside it."""
        observer = self._observer
        observer.seed()
        self._counted = read_quietly(observer, self._scope.only.netns, self.add)
        self._seconds = (time.monotonic_ns() - self._began_ns) / NS_PER_S
        self._whole = observer.table.entries()
        self._clock, self._seen, self._lost = observer.clock(), observer.seen, sum(observer.lost().values())

    def evidence(self) -> Evidence:
        """Ask the namespaces what they say of themselves.

        Rule sets take their time, a process for each namespace: what comes meanwhile is no part of this, and is forgotten.
        """
        observer, only, whole = self._observer, self._scope.only, self._whole
        entries = only.passing(whole)
        spaces, counts = np.unique(entries["netns"], return_counts=True)
        many = dict(zip(spaces.tolist(), counts.tolist(), strict=True))
        gained = counters.delta(self._counters, self._counted)
        around = observer.drained(lambda: _spaces(only.netns, many, gained), keep=False)
        self._name_the_ended(around, self._counted)
        return Evidence(
            entries=entries,
            before=only.passing(self._before),
            lengths=lengths_of(whole, observer.buckets),
            spaces={inum: space for inum, space in around.items() if only.netns in (None, inum)},
            losses=self._losses(),
            drops=self._drops,
            destroys=self._destroys,
            inserts=self._inserts,
            duration_s=self._seconds,
            clock=self._clock,
            events_seen=self._seen,
            events_lost=self._lost,
            uncertain_s=observer.uncertain_ns / NS_PER_S,
            unread=observer.unread,
            invalid=self._scope.invalid,
            narrowed=only.netns is not None,
            filtered=only != Filter(netns=only.netns),
            # Of a packet without an entry mark and state are not known, of an INVALID one its zone is not either.
            blind_to_losses=any((only.mark is not None, only.state, self._scope.invalid and only.zone is not None)),
            init=next((space for space in around.values() if space.init), None),
        )

    def _name_the_ended(self, around: dict[int, Space], counted: counters.Reading) -> None:
        """What a namespace was called that is no more; its number may be another's by now, which the cookie tells."""
        then, now = self._counters.cookies, counted.cookies
        for inum in (self._drops.keys() | self._destroys.keys()) - self._counters.unread - counted.unread:
            if inum not in self._names or then.get(inum) == now.get(inum):
                continue
            if inum in around:
                around[inum] = replace(around[inum], label=f"{self._names[inum]}, then {around[inum].label}")
            else:
                around[inum] = Space(inum, f"{self._names[inum]} (ended)")

    def _losses(self) -> Losses:
        rows = self._kept.rows()
        entries = entries_of(rows)
        spoken = (rows["flags"] & FLAG_TEXT) != 0
        text = np.ascontiguousarray(rows["extra"]).view(f"S{TEXT_BYTES}")[:, 0]
        flagged = (rows["kind"] == Kind.DROP) & (rows["reason"] == DropReason.INVALID) & (entries["protonum"] == TCP)
        return Losses(
            entries,
            reason=np.where(rows["kind"] == Kind.RESOLVED, RESOLVED, rows["reason"]).astype(np.uint8),
            flags=rows["flags"],
            hook=rows["hook"],
            tcp_flags=np.where(flagged, rows["tcp_flags"], 0).astype(np.uint8),
            text=np.where(spoken, text, b""),
        )


def _spaces(only: int | None, counts: dict[int, int], gained: counters.Moved) -> dict[int, Space]:
    """Every namespace that can be entered, or `only` one and the first; what cannot be read of it is missing."""
    here = Path("/proc/self/ns/net").stat().st_ino
    until = time.monotonic() + RULES_S
    found = {}
    for inum, space in netns.discover().items():
        if only not in (None, inum) and not space.init:
            continue
        asked = counts.get(inum, 0) >= ASKED_FROM
        try:
            sysctls, rules = netns.run_inside(space, (lambda: _ask_rules(until)) if asked else _ask)
        except (CtobserveError, OSError):
            sysctls, rules = {}, None
        cpus = [values for (at, _), values in gained.items() if at == inum]
        found[inum] = Space(
            inum,
            space.label,
            prefix=() if inum == here else way_into(space),
            init=space.init,
            sysctls=sysctls,
            counters=counters.total(cpus) if cpus else None,
            ruleset=rules,
        )
    return found


def _labels() -> dict[int, str]:
    return {inum: space.label for inum, space in netns.discover().items()}


def _ask() -> tuple[dict[str, int], Ruleset | None]:
    """Sysctls of the namespace of this thread."""
    values = {name: kernel.sysctl(name) for name in SYSCTLS}
    return {name: value for name, value in values.items() if value is not None}, None


def _ask_rules(until: float) -> tuple[dict[str, int], Ruleset | None]:
    return _ask()[0], ruleset.read(until)
