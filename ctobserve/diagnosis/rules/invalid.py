"""Why are packets INVALID: out of the window, or because we see one direction only?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctobserve.analysis.groups import divide, key
from ctobserve.capture.records import FLAG_ENTRY, DropReason
from ctobserve.diagnosis.evidence import Evidence, Explained, Losses, Mask
from ctobserve.diagnosis.rules.paste import inside, see_losses, set_sysctl
from ctobserve.diagnosis.rules.words import among, counted, during, hidden, plural
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict
from ctobserve.model import IPS_SEEN_REPLY, NF_HOOKS, TCP, TCP_STATES, Entries, printable

MANY = 10  # packets: a few late retransmissions, or answers after an entry's end, are normal on any network
SEVERAL = 5  # packets: a lost SYN leaves at most a few stray SYN+ACKs, of one connection
ONE_WAY = 10  # entries: a moment after a flush, or a connection about to end, makes some
OUTSIDE = (b"SEQ is", b"ACK is")  # how tcp_in_window's complaints begin
NEW = (b"", b"invalid new")  # of a packet that begins no connection: nothing, or tcp_new's word (6.7); others say what is broken
SYN, RST, ACK = 0x02, 0x04, 0x10
OUTPUT = NF_HOOKS.index("output")
NOT_WATCHED = "invalid packets were not looked for"
SYN_SENT, ESTABLISHED = TCP_STATES.index("SYN_SENT"), TCP_STATES.index("ESTABLISHED")


def judge_window(evidence: Evidence) -> Finding:
    """TCP packets of known connections whose sequence numbers the kernel does not believe."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    rows: Mask = (losses.reason == DropReason.INVALID) & _begins(losses, OUTSIDE)
    outside = losses.only(rows)
    packets = len(outside.entries)
    if not packets:
        return None
    connections = divide(outside.entries, ("netns", "src", "sport", "dst", "dport"))
    most = outside.entries[connections.first[connections.largest(1)[0]]]
    space = evidence.space(int(most["netns"]))
    words = sorted({printable(bytes(text).split(b"\0")[0].split(b" (")[0]) for text in np.unique(outside.text)})
    numbers = {
        **counted(evidence, packets, DropReason.INVALID),
        "connections": len(connections.counts),
        "netns": space.inum,
        **_tuple(most),
        "kernel_says": words,
    }
    sentence = (
        f"{plural(packets, 'packet')} of {plural(len(connections.counts), 'connection')} were INVALID "
        f"{among(evidence, DropReason.INVALID) or during(evidence, packets)} for being outside the TCP window, "
        f"most in {space.label}; "
    )
    if packets < MANY:
        sentence += "so few are late retransmissions, as on any network"
        return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(space),), Explained(rows=rows))
    sentence += "a rule that rejects INVALID, or NAT that skips it, resets them"
    do = (set_sysctl(space, "nf_conntrack_tcp_be_liberal", 1),)
    return Verdict(Severity.WARNING, sentence, numbers, do, Explained(rows=rows))


def judge_asymmetric(evidence: Evidence) -> Finding:
    """Signs that one direction of connections goes another way: answers to a SYN never seen, data without answers."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    stray = _stray(losses) & (losses.hook != OUTPUT)
    answers, middle = stray & _flagged(losses, SYN | ACK), stray & _flagged(losses, ACK)
    opening = _tcp(losses) & ((losses.flags & FLAG_ENTRY) != 0) & _flagged(losses, ACK)
    opening &= np.isin(losses.entries["ct"], _half(evidence.entries, SYN_SENT)["ct"])
    unanswered = _half(evidence.entries, ESTABLISHED)
    rows: Mask = answers | middle | opening
    few = max(answers.sum(), middle.sum(), opening.sum()) < SEVERAL and len(unanswered) < ONE_WAY
    if few and not rows.any():
        return hidden(evidence)
    seen = next(found for found in (*(losses.entries[mask] for mask in (answers, opening, middle)), unanswered) if len(found))
    space = evidence.space(int(seen[0]["netns"]))
    parts = [
        (int(answers.sum()), "SYN+ACK without a SYN before"),
        (int(middle.sum()), "packets from the middle of unknown connections"),
        (int(opening.sum()), "ACK by which a client answers a SYN+ACK that never came by"),
        (len(unanswered), "established connections that only one side speaks on"),
    ]
    listed = ", ".join(f"{count} {words}" for count, words in parts if count)
    if rows.any() and (some := among(evidence, DropReason.INVALID)):
        listed += f"; the packets {some}"
    names = ("syn_ack_without_entry", "mid_stream_without_entry", "ack_after_unanswered_syn", "entries_one_way")
    counts = {name: count for name, (count, _) in zip(names, parts, strict=True)}
    kept, whole = evidence.kept_of(DropReason.INVALID)
    numbers = {"netns": space.inum, **counts, "packets_not_kept": whole - kept, **_tuple(seen[0])}
    if few:
        sentence = f"{space.label} saw packets of connections that it did not see begin, too few to mean anything: {listed}"
        return Verdict(Severity.NOTICE, sentence, numbers, (see_losses(space),), Explained(rows=rows))
    sentence = f"{space.label} sees one direction of connections only, as with asymmetric routing: {listed}"
    do = (
        inside(space, "ip", "route", "get", str(numbers["dst"])),
        inside(space, "sysctl", "net.ipv4.conf.all.rp_filter"),
    )
    return Verdict(Severity.WARNING, sentence, numbers, do, Explained(rows=rows))


def judge_gone(evidence: Evidence) -> Finding:
    """What a host itself sends on answers what came here: the entry was there, and was taken away, as by `conntrack -D`.

    Answers to SYNs are few for each half-open connection, and end with it (net.ipv4.tcp_synack_retries): worth knowing. On open
    connections it goes on.
    """
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    losses = evidence.losses
    sent: Mask = _stray(losses) & (losses.hook == OUTPUT)
    answers, others = sent & _flagged(losses, SYN | ACK), sent & _flagged(losses, ACK)
    rows: Mask = answers | others
    own = losses.entries[rows]
    packets = len(own)
    if not packets:
        return hidden(evidence)
    spaces = divide(own, ("netns",))
    first = own[spaces.first[spaces.largest(1)[0]]]
    space = evidence.space(int(first["netns"]))
    sentence = (
        f"{plural(packets, 'packet')} that {space.label} itself sent on TCP connections were INVALID "
        f"{among(evidence, DropReason.INVALID) or during(evidence, packets)}: their entries are gone, as after conntrack -D or a "
        f"flush; {int(answers.sum())} of them answer a SYN, and end when the half-open connection does"
    )
    numbers = {
        "netns": space.inum,
        **counted(evidence, packets, DropReason.INVALID),
        "syn_ack": int(answers.sum()),
        **_tuple(first),
    }
    severity = Severity.NOTICE if others.sum() < MANY else Severity.WARNING
    return Verdict(severity, sentence, numbers, (see_losses(space),), Explained(rows=rows))


def _begins(losses: Losses, words: tuple[bytes, ...]) -> Mask:
    found = np.zeros(len(losses.text), np.bool_)
    for word in words:
        found |= np.char.startswith(losses.text, word)
    return found


def _tcp(losses: Losses) -> Mask:
    """INVALID packets of TCP."""
    found: Mask = (losses.reason == DropReason.INVALID) & (losses.entries["protonum"] == TCP)
    return found


def _stray(losses: Losses) -> Mask:
    """Those that belong to no entry, and with which nothing else is wrong."""
    found: Mask = _tcp(losses) & ((losses.flags & FLAG_ENTRY) == 0) & np.isin(losses.text, NEW)
    return found


def _flagged(losses: Losses, flags: int) -> Mask:
    """Those with these TCP flags, of the ones that say what a segment is for."""
    found: Mask = (losses.tcp_flags & (SYN | ACK | RST)) == flags
    return found


def _half(entries: Entries, state: int) -> Entries:
    """TCP entries in this state that no reply was ever seen for."""
    found: Entries = entries[
        (entries["protonum"] == TCP) & (entries["tcp_state"] == state) & ((entries["status"] & IPS_SEEN_REPLY) == 0)
    ]
    return found


def _tuple(entry: np.void) -> dict[str, Any]:
    return {name: key(entry, name) for name in ("src", "sport", "dst", "dport")}


RULES = (
    Rule("invalid_window", judge_window),
    Rule("asymmetric_routing", judge_asymmetric),
    Rule("entry_gone", judge_gone),
)
