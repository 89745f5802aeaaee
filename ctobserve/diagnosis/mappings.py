"""Where unanswered entries send packets, beside where new packets to the same destination go: by the rules, and by other entries.

An entry keeps the mapping that its first packet got, whatever rules come later, as long as packets keep it alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from ctobserve.analysis.groups import PORTS, Groups, divide, key
from ctobserve.diagnosis import by_rules
from ctobserve.diagnosis.by_rules import Judged, NewMapping, Place
from ctobserve.model import (
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    TCP,
    TCP_STATES,
    UDP,
    Entries,
    Mask,
    NDArray,
    pick,
)

SERVICE = ("netns", "zone", "proto", "dst", "dport")
BACKEND = (*SERVICE, "reply_src", "reply_sport")
NEARBY = (*SERVICE, "subnet")  # senders that came by the same device, as far as addresses say
LEAVING = (*SERVICE, "src", "reply_dst")
ALIKE = (*BACKEND, "src", "reply_dst")
MOST = 2_000  # groups that are compared, those that packets keep alive first
WALKED = 1_000_000  # rules that all of them may be held against
MISREAD = "new entries are mapped as the old ones, whatever its rules seem to say"
SYN_SENT = TCP_STATES.index("SYN_SENT")
Indices = NDArray[np.intp]


class Mappings(NamedTuple):
    """Unanswered entries (UDP, and TCP in SYN_SENT) that no helper expected: `rows`, in `groups` that differ in sport alone.

    `expected[group]` is where new packets are sent instead, `leaving[group]` the address with which they leave. Of each row,
    `old`: it was there when the observation began, `kept`: packets gave it a later timeout since, `answered`: the same service
    answers others, at other backends, and this backend nobody, `backend_answers`: this one does answer others.
    """

    rows: Entries
    groups: Groups
    expected: Sequence[NewMapping]
    leaving: Sequence[NewMapping]
    old: Mask
    kept: Mask
    answered: Mask
    backend_answers: Mask

    def judged(self, as_: Judged) -> Mask:
        """Rows of groups of which the destination is judged so."""
        return self._judged(self.expected, as_)

    @property
    def leaves_otherwise(self) -> Mask:
        """Rows of groups from whose source new packets would leave with another address."""
        return self._judged(self.leaving, Judged.OTHER)

    def _judged(self, of_groups: Sequence[NewMapping], as_: Judged) -> Mask:
        found: Mask = np.array([one.judged for one in of_groups], np.int64)[self.groups.labels] == as_
        return found


def unanswered(entries: Entries) -> Mask:
    """Entries whose first packets had no answer yet, as far as a rule may have sent them astray.

    Not those in a flow table, which the gc worker keeps alive without a packet.
    """
    opening = (entries["protonum"] == UDP) | ((entries["protonum"] == TCP) & (entries["tcp_state"] == SYN_SENT))
    found: Mask = opening & ((entries["status"] & (IPS_SEEN_REPLY | IPS_EXPECTED | IPS_OFFLOAD)) == 0)
    return found


def mappings(entries: Entries, before: Entries, place: Callable[[int], Place]) -> Mappings:
    """`before` are the entries at the start of the observation; `place` gives what is known of a namespace (inode number)."""
    rows = pick(entries, unanswered(entries))
    old, kept = _since(rows, before)
    groups = divide(rows, ALIKE)
    # Only who uses the same port and protocol can be compared: of a million entries that are few.
    services = rows["protonum"].astype(np.int64) << 16 | rows["port"][:, PORTS["dport"]]
    beside = pick(entries, np.isin(entries["protonum"].astype(np.int64) << 16 | entries["port"][:, PORTS["dport"]], services))
    around = _Beside(rows, beside, before)
    alive = groups.sums(kept)
    expected = [NewMapping(Judged.UNKNOWN, why="there were too many of such groups to compare them all")] * len(groups.counts)
    leaving = expected.copy()
    walked = 0
    for at in np.argsort(-alive, kind="stable")[:MOST].tolist():
        first = int(groups.first[at])
        here = place(int(rows["netns"][first]))
        walked += here.length
        if walked > WALKED:
            break
        expected[at] = _expected(rows[first], here, around, first, bool(alive[at]))
        leaving[at] = _leaving(rows[first], here, around, first)
    return Mappings(rows, groups, expected, leaving, old, kept, around.answered, around.backend_answers)


class _Beside:
    """Of each unanswered entry, what others to the same service have: masks over `rows`, in their order."""

    def __init__(self, rows: Entries, beside: Entries, before: Entries) -> None:
        count = len(rows)
        both = np.concatenate([rows, beside]) if count else rows
        new, replied = np.ones(len(both), np.bool_), (both["status"] & IPS_SEEN_REPLY) != 0
        new[count:] = ~_since(beside, before)[0]
        new[:count] = replied[:count] = False  # they come again among the others
        mapped = (both["status"] & IPS_DST_NAT) != 0
        mapped[:count] = False
        services, backends, nearby, leaving = (divide(both, by) for by in (SERVICE, BACKEND, NEARBY, LEAVING))
        self.services, self.backends = services.labels, backends.labels
        self.backend_answers: Mask = (backends.sums(replied) > 0)[backends.labels[:count]]
        self.answered: Mask = ~self.backend_answers & (services.sums(replied) > 0)[services.labels[:count]]
        self.still: Mask = (backends.sums(new) > 0)[backends.labels[:count]]
        self.still_leaving: Mask = (leaving.sums(new) > 0)[leaving.labels[:count]]
        self.mapped: Mask = (nearby.sums(mapped) > 0)[nearby.labels[:count]]
        self.newly_mapped: Mask = (nearby.sums(mapped & new) > 0)[nearby.labels[:count]]
        self._firsts = pick(both, backends.first) if len(both) else both
        others = np.ones(len(both), np.bool_)
        others[:count] = False
        # Those that are new or answered before any.
        of_service = services.labels[backends.first]
        self._ranked = [_Ranked.of(backends.sums(some & others), of_service) for some in (new | replied, others)]

    def elsewhere(self, at: int) -> tuple[str | None, int | None, int]:
        """Where most others to the service of this row are mapped, those that are new or answered first; and how many."""
        backend = int(self.backends[at])
        for ranked in self._ranked:
            for other in ranked.first_two(int(self.services[at])):
                if other != backend and ranked.counts[other]:
                    one = self._firsts[other]
                    return str(key(one, "reply_src")), int(one["port"][PORTS["reply_sport"]]), int(ranked.counts[other])
        return None, None, 0


class _Ranked(NamedTuple):
    """Backends by service, those with the most entries first: numbers of groups, and how many entries each has."""

    counts: NDArray[np.int64]
    order: NDArray[np.int64]
    services: NDArray[np.int64]

    @classmethod
    def of(cls, counts: NDArray[np.int64], of_service: NDArray[np.int64]) -> Self:
        """`of_service`: of each backend, its service."""
        order = np.lexsort((-counts, of_service))
        return cls(counts, order, of_service[order])

    def first_two(self, service: int) -> list[int]:
        """One of them is another one than any that is asked about."""
        at = int(np.searchsorted(self.services, service))
        found: list[int] = self.order[at : at + 2][self.services[at : at + 2] == service].tolist()
        return found


def _expected(entry: np.void, place: Place, beside: _Beside, at: int, kept: bool) -> NewMapping:
    """By the rules, where they decide; else by the entries of others."""
    ruled, mapped_by_rule = by_rules.destination(entry, place)
    if ruled.judged is Judged.SAME:
        return ruled
    if ruled.judged is Judged.OTHER and beside.still[at]:
        return NewMapping(Judged.UNKNOWN, why=MISREAD)
    if ruled.judged is Judged.OTHER:
        address, port, others = beside.elsewhere(at)
        if ruled.address is None or (ruled.address, ruled.port) == (address, port):
            return ruled._replace(address=ruled.address or address, port=ruled.port or port, others=others)
        return ruled
    # Others are answered elsewhere, or are mapped while this one is not; and no new one is mapped as it is.
    answered = kept and beside.answered[at]
    came_before = not _is_mapped(entry) and (beside.mapped[at] if mapped_by_rule else beside.newly_mapped[at])
    if beside.still[at] or not (answered or came_before):
        return ruled
    return NewMapping(Judged.OTHER, None, *beside.elsewhere(at), ruled.why)


def _leaving(entry: np.void, place: Place, beside: _Beside, at: int) -> NewMapping:
    """By the rules alone: other connections may leave from any address."""
    ruled = by_rules.source(entry, place)
    misread = ruled.judged is Judged.OTHER and beside.still_leaving[at]
    return NewMapping(Judged.UNKNOWN, why=MISREAD) if misread else ruled


def _is_mapped(entry: np.void) -> bool:
    return bool(entry["status"] & IPS_DST_NAT)


def _since(rows: Entries, before: Entries) -> tuple[Mask, Mask]:
    """Which of these were there at the start, and which of those expire later now than they would have then."""
    old, later = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    if not len(rows) or not len(before):
        return old, later
    before = pick(before, np.argsort(before["ct"], kind="stable"))
    was = pick(before, np.minimum(np.searchsorted(before["ct"], rows["ct"]), len(before) - 1))
    old = (was["ct"] == rows["ct"]) & (was["port"] == rows["port"]).all(axis=1) & (was["addr"] == rows["addr"]).all(axis=(1, 2))
    later = old & ((rows["timeout"] - was["timeout"]).astype(np.int32) > 0)
    return old, later
