"""Does one state fill the table, by a timeout above the kernel's default or as nobody closes?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.analysis.time_left import Held, kinds_of
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.idle import NOT_AT_ONCE
from ctobserve.diagnosis.rules.idle import SYSCTL as ESTABLISHED
from ctobserve.diagnosis.rules.paste import inside, look_inside, remark, see_entries, set_sysctl
from ctobserve.diagnosis.rules.tuples import address, port, protocol, service
from ctobserve.diagnosis.rules.words import percent, share, span
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.model import TCP, WITH_PORTS, Entries, NDArray, protocol_name

CONSIDERABLE = 100  # entries
HALF = 0.5  # of the entries of the same protocol
TENTH = 0.1  # of all entries of the namespace
QUARTER = 0.25  # of its limit
# States of connections that end, as `ss` names them on the host whose application does not close.
CLOSING = {"CLOSE_WAIT": "close-wait", "FIN_WAIT": "fin-wait-2", "LAST_ACK": "last-ack"}
# Every connection that ends well is in it for a while: many are a busy day, unless they fill the table.
DONE = "TIME_WAIT"
WITH_DELETE = remark("to be rid of those that wait now; one that still sends loses its entry, and its NAT:")


class Pile(NamedTuple):
    """Entries of one namespace that one timeout holds, among `of_proto` of their protocol; `states` are all of these."""

    namespace: NamespaceEvidence
    held: Held
    rows: Entries
    of_proto: int
    states: list[str]
    remaining_s: NDArray[np.int64]

    @property
    def severe(self) -> bool:
        """Four such piles fill the table."""
        return self.namespace.limit is not None and len(self.rows) >= QUARTER * self.namespace.limit


def judge(evidence: Evidence) -> RuleResult:
    """Entries that the same timeout holds, most of their protocol's: what the kernel's default would have freed by now.

    An entry is as long idle as its timeout, now, less what is left of it: true while nobody changed the timeout meanwhile.
    """
    results = list(map(_verdict, _piles(evidence)))
    found = [one for one in results if isinstance(one, Verdict)]
    if not found:
        return next((one for one in results if one), None)
    return min(found, key=lambda one: (one.severity is not Severity.WARNING, -(one.evidence["entries"] or 0)))


def _piles(evidence: Evidence) -> Iterator[Pile]:
    rows = evidence.entries
    if len(rows) < CONSIDERABLE:
        return
    namespaces = divide(rows, ("netns",))
    kinds, of = kinds_of(rows)
    both = namespaces.labels * len(kinds) + of
    counts = np.bincount(both, minlength=len(namespaces.counts) * len(kinds)).reshape(-1, len(kinds))
    # Each pile's rows lie together: sorted once, and by few bits, where there may be thousands of piles.
    order = np.argsort(both.astype(np.min_scalar_type(counts.size)), kind="stable")
    ends = np.cumsum(counts).reshape(counts.shape)
    for at, kind in np.argwhere(counts >= CONSIDERABLE).tolist():
        held, entries = kinds[kind], int(counts[at, kind])
        alike = {one.state: int(counts[at, place]) for place, one in enumerate(kinds) if one.proto == held.proto}
        of_proto = int(counts[at][[one.proto == held.proto for one in kinds]].sum())
        namespace = evidence.namespace(int(rows["netns"][namespaces.first[at]]))
        if held.timeout in (None, ESTABLISHED) or entries < max(HALF * of_proto, TENTH * evidence.counts[namespace.inum]):
            continue
        mine = order[ends[at, kind] - entries : ends[at, kind]]
        states = [f"{state} {count}" for state, count in sorted(alike.items(), key=lambda one: -one[1]) if state and count]
        yield Pile(namespace, held, rows[mine], of_proto, states, evidence.remaining_s[mine])


def _verdict(pile: Pile) -> RuleResult:
    namespace, timeout = pile.namespace, pile.held.timeout or ""
    if timeout not in namespace.timeouts:
        return Unjudged(f"{timeout} could not be read in {namespace.label}, where it holds {len(pile.rows)} entries")
    value, default = namespace.timeouts[timeout]
    freed = int((value - pile.remaining_s > default).sum()) if value > default else 0
    ending = pile.held.state in (*CLOSING, DONE)
    if value > default and (ending or freed >= HALF * len(pile.rows)):
        why = f"{timeout} is {value} s, not the kernel's {default} s, which would have freed {freed} of them by now"
        severity = Severity.WARNING if pile.severe else Severity.NOTICE
    elif ending and pile.severe:
        why = f"{timeout} is {span(value)}, no more than the kernel's default, so new ones come all the time"
        if pile.held.state in CLOSING:
            why += ": one end closed these connections, and the application at the other does not"
        severity = Severity.NOTICE if pile.held.state == DONE else Severity.WARNING
    else:
        return None
    return Verdict(severity, f"{_what(pile)}: {why}", _numbers(pile, value, default, freed), _do(pile, value, default))


def _what(pile: Pile) -> str:
    """How many, in which state, whose."""
    entries, namespace, numbers = len(pile.rows), pile.namespace, _whose(pile.rows)
    which = f"are in {pile.held.state}" if pile.held.state else f"are held by {pile.held.timeout}"
    limit = f", {percent(entries, namespace.limit)} of its limit of {namespace.limit}" if namespace.limit else ""
    to = numbers["dst"] if numbers["dport"] is None else service(numbers["dst"], numbers["dport"], numbers["proto"])
    return (
        f"{entries} of the {pile.of_proto} {pile.held.proto.upper()} entries of {namespace.label} "
        f"({percent(entries, pile.of_proto)}) {which}{limit}, {numbers['entries_of_src']} of them from {numbers['src']} and "
        f"{numbers['entries_of_dst']} to {to}"
    )


def _whose(rows: Entries) -> VerdictEvidence:
    """The commonest source, and the commonest service."""
    sources, services = divide(rows, ("src",)), divide(rows, ("dst", "dport", "proto"))
    one, other = int(sources.largest(1)[0]), int(services.largest(1)[0])
    first = rows[services.first[other]]
    return {
        "src": address(rows[sources.first[one]], "src"),
        "entries_of_src": int(sources.counts[one]),
        "sources": len(sources.counts),
        "dst": address(first, "dst"),
        "dport": port(first, "dport") if first["protonum"] in WITH_PORTS else None,
        "proto": protocol(first),
        "entries_of_dst": int(services.counts[other]),
    }


def _numbers(pile: Pile, value: int, default: int, freed: int) -> VerdictEvidence:
    entries, limit = len(pile.rows), pile.namespace.limit
    return {
        "netns": pile.namespace.inum,
        "state": pile.held.state,
        "entries": entries,
        "entries_of_proto": pile.of_proto,
        "share_of_limit": None if limit is None else share(entries, limit),
        "states": pile.states,
        "sysctl": pile.held.timeout or "",
        "timeout_s": value,
        "timeout_default_s": default,
        "entries_freed": freed,
        **_whose(pile.rows),
    }


def _do(pile: Pile, value: int, default: int) -> tuple[str, ...]:
    namespace, state, timeout = pile.namespace, pile.held.state, pile.held.timeout or ""
    tcp = pile.held.proto == protocol_name(TCP) and state is not None
    looks = [see_entries("--state", str(state))] if tcp else []
    if state in CLOSING:
        looks.append(look_inside(namespace, "ss", "-tnp", "state", CLOSING[state]))
    if value <= default:
        return tuple(looks) if state in CLOSING else (*looks, set_sysctl(namespace, timeout, max(value // 4, 1)))
    delete = (WITH_DELETE, inside(namespace, "conntrack", "-D", "-p", "tcp", "--state", str(state))) if tcp else ()
    return (*looks, set_sysctl(namespace, timeout, default), NOT_AT_ONCE, *delete)


RULES = (Rule("state_piles_up", judge),)
