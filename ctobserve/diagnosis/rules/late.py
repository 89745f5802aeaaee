"""Which INVALID packets came after their connection's entry had left, and why did it leave?"""

from __future__ import annotations

from ctobserve.analysis.invalid import Like, likeness
from ctobserve.diagnosis.evidence import Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.invalid import of_the_host
from ctobserve.diagnosis.rules.past import (
    FEW_ARE_NORMAL,
    connections,
    listed,
    longer,
    numbers_of,
    oldest_s,
    unfinished,
    ways,
    where,
)
from ctobserve.diagnosis.rules.paste import look, netns_option, see_losses
from ctobserve.diagnosis.rules.tuples import connection, original
from ctobserve.diagnosis.rules.untranslated import leaking
from ctobserve.diagnosis.rules.words import NOT_WATCHED, among, counted, during, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import DropReason, Events
from ctobserve.model import NF_HOOKS, TCP, Mask, pick

SEVERAL = 5  # connections: below it one that was slow to end, as everywhere
MANY = 10  # packets
RST = 0x04
MOMENT_S = 0.1


def judge(evidence: Evidence) -> RuleResult:
    """Packets of connections whose entry left in this stretch of time, other than those that a rule of their own speaks of.

    A reset ends what is over anyway; and of a connection that had ended, a few stragglers are normal.
    """
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    rows: Mask = (losses["reason"] == DropReason.INVALID) & (likeness(losses) == Like.LATE)
    rows &= ~leaking(evidence) & ~of_the_host(losses) & ~evidence.past_us
    if not rows.any():
        return hidden(evidence)
    open_ = rows & unfinished(losses) & (losses["tcp_flags"] & RST == 0)
    severe = open_.any() and _are_many(pick(losses, where(evidence, open_).rows))
    # Others may have more, and all of them normal.
    namespace, *_ = where(evidence, open_ if severe else rows)
    mine: Mask = rows & (losses["entry"]["netns"] == namespace.inum)
    packets, cut_off, elsewhere = pick(losses, mine), pick(losses, mine & open_), int(rows.sum() - mine.sum())
    found = ways(namespace, packets)
    first = packets[0]
    also = f", and {plural(elsewhere, 'more', 'more')} in other namespaces" if elsewhere else ""
    sentence = (
        f"{plural(len(packets), 'packet')} of {plural(connections(packets), 'connection')} came by in {namespace.label} "
        f"{among(evidence, DropReason.INVALID) or during(evidence, len(packets))}, {_when(packets)} their entries had left"
        f"{also}: {listed(found)}; the first is "
        f"{connection(first['entry'])} at {NF_HOOKS[int(first['hook'])]}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        **counted(evidence, len(packets), DropReason.INVALID),
        "packets_elsewhere": elsewhere,
        "connections": connections(packets),
        "connections_cut_off": connections(cut_off),
        "rst": int(((packets["entry"]["protonum"] == TCP) & (packets["tcp_flags"] & RST != 0)).sum()),
        **numbers_of(packets, found),
        **original(first["entry"]),
    }
    explains = Explained(rows=rows)
    if not severe:
        sentence += f"; {FEW_ARE_NORMAL}"
        return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(namespace),), explains)
    sentence += "; INVALID passes no NAT and no rule for what is established, so these connections hang or break"
    looks = (see_losses(namespace), look("ctobserve", "events", "--events", "destroy", *netns_option(namespace)))
    return Verdict(Severity.WARNING, sentence, numbers, looks + longer(namespace, ways(namespace, cut_off)), explains)


def _are_many(cut_off: Events) -> bool:
    """Too many of one namespace to be normal."""
    return connections(cut_off) >= SEVERAL or len(cut_off) >= MANY


def _when(packets: Events) -> str:
    """How long after; an entry whose time is over leaves when somebody looks for it, and be it by this packet."""
    seconds = oldest_s(packets)
    return f"up to {seconds:.1f} s after" if seconds >= MOMENT_S else "right after"


RULES = (Rule("late_packets", judge),)
