"""Why are packets INVALID: out of the window, or because we see one direction only?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.analysis.invalid import NEW, OUTSIDE, begins_with
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.evidence import Evidence, Explained, by_namespace
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.past import left_before, listed, numbers_of, ways
from ctobserve.diagnosis.rules.paste import look_inside, see_losses, set_sysctl
from ctobserve.diagnosis.rules.tuples import address, original
from ctobserve.diagnosis.rules.untranslated import leaking
from ctobserve.diagnosis.rules.words import NOT_WATCHED, among, counted, during, hidden, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import NO_DIRECTION, DropReason, Events
from ctobserve.model import IPS_SEEN_REPLY, NF_HOOKS, TCP, TCP_STATES, Entries, Mask, pick, printable

MANY = 10  # packets: a few late retransmissions, or answers after an entry's end, are normal on any network
SEVERAL = 5  # packets: a lost SYN leaves at most a few stray SYN+ACKs, of one connection
EACH_S = 30  # in a long time one of either in so many seconds comes to any host
ONE_WAY = 10  # entries: a moment after a flush, or a connection about to end, makes some
THOUSANDTH = 0.001  # of the entries
SYN, RST, ACK = 0x02, 0x04, 0x10
OUTPUT = NF_HOOKS.index("output")
SYN_SENT, ESTABLISHED = TCP_STATES.index("SYN_SENT"), TCP_STATES.index("ESTABLISHED")


def judge_window(evidence: Evidence) -> RuleResult:
    """TCP packets of known connections whose sequence numbers the kernel does not believe."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    rows: Mask = (losses["reason"] == DropReason.INVALID) & begins_with(losses["text"], OUTSIDE)
    outside = losses["entry"][rows]
    packets = len(outside)
    if not packets:
        return None
    connections = divide(outside, ("netns", "src", "sport", "dst", "dport"))
    most = outside[connections.first[connections.largest(1)[0]]]
    namespace = evidence.namespace(int(most["netns"]))
    words = sorted({printable(text.split(b" (")[0]) for text in np.unique(losses["text"][rows]).tolist()})
    numbers: VerdictEvidence = {
        **counted(evidence, packets, DropReason.INVALID),
        "connections": len(connections.counts),
        "netns": namespace.inum,
        **original(most),
        "kernel_says": words,
    }
    sentence = (
        f"{plural(packets, 'packet')} of {plural(len(connections.counts), 'connection')} were INVALID "
        f"{among(evidence, DropReason.INVALID) or during(evidence, packets)} for being outside the TCP window, "
        f"most in {namespace.label}; "
    )
    if not _enough(evidence, rows, MANY):
        sentence += "so few are late retransmissions, as on any network"
        return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(namespace),), Explained(rows=rows))
    sentence += "a rule that rejects INVALID, or NAT that skips it, resets them"
    do = (set_sysctl(namespace, "nf_conntrack_tcp_be_liberal", 1),)
    return Verdict(Severity.WARNING, sentence, numbers, do, Explained(rows=rows))


def judge_asymmetric(evidence: Evidence) -> RuleResult:
    """Signs that one direction of connections goes another way: answers to a SYN never seen, data without answers."""
    losses = evidence.losses
    # Of one whose entry was seen to leave, or that others' NAT shows to be on its way out, both directions pass here.
    stray = _stray(losses) & (losses["hook"] != OUTPUT) & ~evidence.past_us & ~left_before(losses) & ~leaking(evidence)
    answers, middle = stray & _flagged(losses, SYN | ACK), stray & _flagged(losses, ACK)
    opening = _tcp(losses) & (losses["direction"] != NO_DIRECTION) & _flagged(losses, ACK)
    opening &= np.isin(losses["entry"]["ct"], _half(evidence.entries, SYN_SENT)["ct"])
    unanswered = _half(evidence.entries, ESTABLISHED)
    rows: Mask = answers | middle | opening
    few = not any(_enough(evidence, some, SEVERAL) for some in (answers, middle, opening))
    few &= not any(count >= max(ONE_WAY, THOUSANDTH * evidence.counts[inum]) for inum, count in by_namespace(unanswered).items())
    if few and not rows.any():
        return hidden(evidence) if evidence.invalid else Unjudged(NOT_WATCHED)
    seen = next(found for found in (*(losses["entry"][mask] for mask in (answers, opening, middle)), unanswered) if len(found))
    namespace = evidence.namespace(int(seen[0]["netns"]))
    parts = [
        (int(answers.sum()), "SYN+ACK without a SYN before"),
        (int(middle.sum()), "packets from the middle of unknown connections"),
        (int(opening.sum()), "ACK by which a client answers a SYN+ACK that never came by"),
        (len(unanswered), "established connections that only one side speaks on"),
    ]
    listed = ", ".join(f"{count} {words}" for count, words in parts if count)
    if rows.any() and (some := among(evidence, DropReason.INVALID)):
        listed += f"; the packets {some}"
    kept, whole = evidence.kept_of(DropReason.INVALID)
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "syn_ack_without_entry": int(answers.sum()),
        "mid_stream_without_entry": int(middle.sum()),
        "ack_after_unanswered_syn": int(opening.sum()),
        "entries_one_way": len(unanswered),
        "packets_not_kept": whole - kept,
        **original(seen[0]),
    }
    if few:
        sentence = f"{namespace.label} saw packets of connections that it did not see begin, too few to mean anything: {listed}"
        return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(namespace),), Explained(rows=rows))
    sentence = f"{namespace.label} sees one direction of connections only, as with asymmetric routing: {listed}"
    do = (
        look_inside(namespace, "ip", "route", "get", address(seen[0], "dst")),
        look_inside(namespace, "sysctl", "net.ipv4.conf.all.rp_filter"),
    )
    return Verdict(Severity.WARNING, sentence, numbers, do, Explained(rows=rows))


def judge_gone(evidence: Evidence) -> RuleResult:
    """What a host itself sends on answers what came here: the entry was there, and was taken away, as by `conntrack -D`.

    Answers to SYNs are few for each half-open connection, and end with it (net.ipv4.tcp_synack_retries): worth knowing. On open
    connections it goes on.
    """
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    rows = of_the_host(losses)
    answers, others = rows & _flagged(losses, SYN | ACK), rows & _flagged(losses, ACK)
    own = losses["entry"][rows]
    packets = len(own)
    if not packets:
        return hidden(evidence)
    namespaces = divide(own, ("netns",))
    first = own[namespaces.first[namespaces.largest(1)[0]]]
    namespace = evidence.namespace(int(first["netns"]))
    there = pick(losses, rows & (losses["entry"]["netns"] == namespace.inum))
    found = ways(namespace, there)
    how = listed(found) if found else "as after conntrack -D or a flush"
    sentence = (
        f"{plural(packets, 'packet')} that {namespace.label} itself sent on TCP connections were INVALID "
        f"{among(evidence, DropReason.INVALID) or during(evidence, packets)}: their entries are gone, {how}; "
        f"{int(answers.sum())} of them answer a SYN, and end when the half-open connection does"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        **counted(evidence, packets, DropReason.INVALID),
        "syn_ack": int(answers.sum()),
        **numbers_of(there, found),
        **original(first),
    }
    severity = Severity.NOTICE if others.sum() < MANY else Severity.WARNING
    return Verdict(severity, sentence, numbers, (see_losses(namespace),), Explained(rows=rows))


def _enough(evidence: Evidence, rows: Mask, least: int) -> bool:
    """So many, and while they came one each EACH_S seconds; those that were kept of a flood stand for all."""
    packets = int(rows.sum())
    kept, whole = evidence.kept_of(DropReason.INVALID)
    if whole > kept:
        return packets * whole >= least * kept
    seen_ns = evidence.losses["entry"]["seen_ns"][rows]
    return packets >= max(least, (int(seen_ns.max()) - int(seen_ns.min())) / NS_PER_S / EACH_S if packets else 0)


def of_the_host(losses: Events) -> Mask:
    """What a host itself sends, and is no reset: SYN+ACK, ACK and data of connections that it knows."""
    sent: Mask = _stray(losses) & (losses["hook"] == OUTPUT)
    sent &= _flagged(losses, SYN | ACK) | _flagged(losses, ACK)
    return sent


def _tcp(losses: Events) -> Mask:
    """INVALID packets of TCP."""
    found: Mask = (losses["reason"] == DropReason.INVALID) & (losses["entry"]["protonum"] == TCP)
    return found


def _stray(losses: Events) -> Mask:
    """Those that belong to no entry, and with which nothing else is wrong."""
    found: Mask = _tcp(losses) & (losses["direction"] == NO_DIRECTION) & np.isin(losses["text"], NEW)
    return found


def _flagged(losses: Events, flags: int) -> Mask:
    """Those with these TCP flags, of the ones that say what a segment is for."""
    found: Mask = (losses["tcp_flags"] & (SYN | ACK | RST)) == flags
    return found


def _half(entries: Entries, state: int) -> Entries:
    """TCP entries in this state that no reply was ever seen for."""
    found: Entries = entries[
        (entries["protonum"] == TCP) & (entries["tcp_state"] == state) & ((entries["status"] & IPS_SEEN_REPLY) == 0)
    ]
    return found


RULES = (
    Rule("invalid_window", judge_window),
    Rule("asymmetric_routing", judge_asymmetric),
    Rule("entry_gone", judge_gone),
)
