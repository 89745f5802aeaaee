"""What to say when nothing is wrong: the same numbers, in peace; and when so little was seen that nobody can say."""

from __future__ import annotations

from collections.abc import Sequence

from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.full import soon_full
from ctobserve.diagnosis.rules.unanswered import ID as UNANSWERED
from ctobserve.diagnosis.rules.unseen import EACH_PACKET
from ctobserve.diagnosis.rules.words import hidden, percent, plural
from ctobserve.diagnosis.verdict import Severity, Unjudged, Verdict

ID = "healthy"
UNSEEN = "unseen"
LEAST_S = 0.05
# No verdict rests on updates; without IPv6 a kernel has not the other, and what that would refuse is in its counters, too.
BESIDE = frozenset({"ctnetlink_conntrack_event", "nf_conntrack_icmpv6_error"})
WAITING = 1000  # packets in a queue: it takes 1024 if nobody asked for another length (NFQNL_QMAX_DEFAULT)
MANY = 10  # packets: below it a few late ones, as on any network


def judge(evidence: Evidence, noticed: Sequence[str]) -> Verdict | Unjudged:
    """Asked only where no rule found anything critical or a reason to warn, but these have something to notice."""
    packets = sum(reasons.total() - reasons["clash_resolved"] for reasons in evidence.drops.values())
    why = _why_not(evidence, noticed, packets)
    if why:
        return Unjudged(why)
    if unknown := hidden(evidence):
        return unknown
    inserts = sum(evidence.inserts.values())
    known = [namespace for namespace in evidence.namespaces.values() if namespace.count is not None and namespace.limit]
    fullest = max(known, key=lambda namespace: (namespace.count or 0) / (namespace.limit or 1), default=None)
    lengths = evidence.lengths
    longest = int(lengths.of_bucket.max(initial=0))
    limits = "nothing is known of limits"
    if fullest is not None:
        share = percent(fullest.count or 0, fullest.limit or 1)
        limits = f"{fullest.label} is the fullest with {fullest.count} of {fullest.limit} ({share})"
    closed = evidence.unreadable("nf_conntrack_max")
    unread = f" ({closed} of them could not be read)" if closed else ""
    passing = " that pass the filter" if evidence.filtered else ""
    hash_of_all = " of the hash, which all namespaces share," if evidence.narrowed else ""
    sentence = (
        f"{plural(len(evidence.entries), 'entry', 'entries')}{passing} in {plural(len(evidence.counts), 'namespace')}{unread}, "
        f"{limits}; "
        f"{_losses(evidence, packets)} and no entry evicted in {evidence.duration_s:.1f} s, "
        f"with {evidence.rate(inserts):.1f} new entries per s; longest chain{hash_of_all} {longest}"
    )
    if noticed:
        sentence += f"; worth knowing: {plural(len(noticed), 'notice')}"
    numbers: VerdictEvidence = {
        "entries": len(evidence.entries),
        "namespaces": len(evidence.counts),
        "netns_fullest": None if fullest is None else fullest.inum,
        "entries_fullest": None if fullest is None else fullest.count,
        "limit_fullest": None if fullest is None else fullest.limit,
        "packets_lost": packets,
        "invalid_watched": evidence.invalid,
        "notices": len(noticed),
        "inserts_per_s": evidence.rate(inserts),
        "load_factor": round(lengths.nodes / len(lengths.of_bucket), 3),
        "max_chain": longest,
    }
    return Verdict(Severity.HEALTHY, sentence, numbers)


def _why_not(evidence: Evidence, noticed: Sequence[str], packets: int) -> str | None:
    """Why nobody can say that all is well, though nothing warns; None where nothing speaks against it."""
    inserts = sum(evidence.inserts.values())
    unkept = sum(reasons.total() for reasons in evidence.not_kept.values())
    soon = soon_full(evidence)
    unlimited = sum(not evidence.namespace(inum).limit_is_known for inum in evidence.counts)
    waiting = _waiting(evidence)
    blind = ", ".join(sorted({*evidence.not_attached} - BESIDE))
    judged = () if evidence.invalid or evidence.filtered else evidence.namespaces.values()
    unlooked = sum(map(_found_bad, judged))
    something = len(evidence.entries) or len(evidence.before) or packets or (inserts and not evidence.filtered)
    nothing = "nothing passed the filter" if evidence.filtered else "nothing was tracked"
    reasons = (
        (not any(namespace.sysctls for namespace in evidence.namespaces.values()), "no network namespace could be read"),
        (evidence.duration_s < LEAST_S, f"{evidence.duration_s:.2f} s are too short a time to see anything"),
        (not something, f"{nothing}: no entry and no loss was there to judge"),
        (_uncounted(evidence), f"losses that nobody saw would look like none: {_uncounted(evidence)}"),
        (blind, f"not attached, so not seen: {blind}"),
        (unlimited, f"the limit (nf_conntrack_max) of {plural(unlimited, 'namespace')} with entries is not known"),
        (soon, soon or ""),
        (UNANSWERED in noticed, "a service answers nobody (unanswered), and nobody can say that conntrack has no part in it"),
        (waiting, waiting),
        (unlooked >= MANY, f"the kernel counted {unlooked} INVALID packets, and nobody looked for these (--no-invalid)"),
        (UNSEEN in noticed, "the kernel counted losses that were not seen"),
        (unkept, f"too much came at once: of {plural(unkept, 'packet')} lost or INVALID only the reason was kept"),
        (packets >= MANY, f"{packets} packets were INVALID, and though the notices say why, nobody can say what that broke"),
    )
    return next((words for true, words in reasons if true), None)


def _waiting(evidence: Evidence) -> str:
    """Whether so many packets wait for a program's verdict that it may do nothing any more; else nothing."""
    for namespace in evidence.namespaces.values():
        for queue in namespace.account.queues:
            if queue.waiting >= WAITING:
                return f"{queue.waiting} packets wait in NFQUEUE {queue.number} of {namespace.label} for a verdict of its reader"
    return ""


def _uncounted(evidence: Evidence) -> str:
    """Why nothing is known of the kernel's counters, where these would tell of losses; else nothing."""
    if evidence.uncounted:
        return evidence.uncounted
    if evidence.filtered or any(namespace.counters for namespace in evidence.namespaces.values()):
        return ""
    return "the kernel's counters could not be read in any namespace"


def _found_bad(namespace: NamespaceEvidence) -> int:
    counters = namespace.counters or {}
    return max(counters.get(name, 0) for name in EACH_PACKET)


def _losses(evidence: Evidence, packets: int) -> str:
    """What was looked for, and how much of it there was; what warns is not said here."""
    unjudged = ("INVALID ones were not looked for", not evidence.invalid), ("others are not judged", evidence.filtered)
    aside = "; ".join(words for words, true in unjudged if true)
    aside = aside and f" ({aside})"
    if packets and evidence.invalid:
        passing = " that pass the filter" if evidence.filtered else ""
        return f"{plural(packets, 'packet')}{passing} INVALID, which the notices explain{aside},"
    passing = " that passes the filter was" if evidence.filtered else ""
    return f"no packet{passing} lost{' or INVALID' if evidence.invalid else ''}{aside}"
