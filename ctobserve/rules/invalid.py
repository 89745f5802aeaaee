"""Why are packets INVALID: out of the window, or because we see one direction only?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ctobserve.analysis.groups import divide, key
from ctobserve.events import FLAG_ENTRY, DropReason
from ctobserve.evidence import Evidence, Losses
from ctobserve.model import IPS_SEEN_REPLY, NF_HOOKS, TCP, TCP_STATES, Entries
from ctobserve.rules.words import during, plural
from ctobserve.verdict import Finding, Rule, Severity, Unjudged, Verdict

MANY = 10  # packets: a few late retransmissions are normal on any network
SEVERAL = 5  # packets: a lost SYN leaves at most a few stray SYN+ACKs, of one connection
ONE_WAY = 10  # entries: a moment after a flush, or a connection about to end, makes some
WORDS = (b"SEQ is", b"ACK is")  # how tcp_in_window's complaints begin
SYN, RST, ACK = 0x02, 0x04, 0x10
OUTPUT = NF_HOOKS.index("output")
NOT_WATCHED = "invalid packets were not looked for"
SYN_SENT, ESTABLISHED = TCP_STATES.index("SYN_SENT"), TCP_STATES.index("ESTABLISHED")


def judge_window(evidence: Evidence) -> Finding:
    """TCP packets of known connections whose sequence numbers the kernel does not believe."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    invalid = evidence.losses.of(DropReason.INVALID)
    outside = invalid.only(_begins(invalid, *WORDS))
    packets = len(outside.entries)
    if packets < MANY:
        return None
    connections = divide(outside.entries, ("netns", "src", "sport", "dst", "dport"))
    most = outside.entries[connections.first[connections.largest(1)[0]]]
    space = evidence.space(int(most["netns"]))
    words = sorted({bytes(text).split(b"\0")[0].split(b" (")[0].decode(errors="replace") for text in np.unique(outside.text)})
    sentence = (
        f"{plural(packets, 'packet')} of {plural(len(connections.counts), 'connection')} were INVALID "
        f"{during(evidence, packets)} for being outside the TCP window, most in {space.label}; "
        f"a rule that rejects INVALID, or NAT that skips it, resets them"
    )
    numbers = {
        "packets": packets,
        "packets_per_s": evidence.rate(packets),
        "connections": len(connections.counts),
        "netns": space.inum,
        **_tuple(most),
        "kernel_says": words,
    }
    return Verdict(Severity.WARNING, sentence, numbers, (space.set("nf_conntrack_tcp_be_liberal", 1),))


def judge_asymmetric(evidence: Evidence) -> Finding:
    """Signs that one direction of connections goes another way: answers to a SYN never seen, data without answers."""
    if not evidence.invalid:
        return Unjudged(NOT_WATCHED)
    invalid = evidence.losses.of(DropReason.INVALID)
    tcp = invalid.only(invalid.entries["protonum"] == TCP)
    # What this host itself sends answers what came here: its entry is gone, as after `conntrack -D`.
    stray = tcp.only(((tcp.flags & FLAG_ENTRY) == 0) & (tcp.hook != OUTPUT))
    answers = stray.only((stray.tcp_flags & (SYN | ACK | RST)) == SYN | ACK).entries
    middle = stray.only((stray.tcp_flags & (SYN | ACK | RST)) == ACK).entries
    unanswered = _half(evidence.entries, ESTABLISHED)
    acks = tcp.only(((tcp.flags & FLAG_ENTRY) != 0) & ((tcp.tcp_flags & (SYN | ACK | RST)) == ACK)).entries
    opening = acks[np.isin(acks["ct"], _half(evidence.entries, SYN_SENT)["ct"])]
    few = len(answers) < SEVERAL and len(middle) < SEVERAL and len(opening) < SEVERAL and len(unanswered) < ONE_WAY
    if few:
        return None
    seen = next(rows for rows in (answers, opening, middle, unanswered) if len(rows))
    space = evidence.space(int(seen[0]["netns"]))
    parts = [
        (len(answers), "SYN+ACK without a SYN before"),
        (len(middle), "packets from the middle of unknown connections"),
        (len(opening), "ACK by which a client answers a SYN+ACK that never came by"),
        (len(unanswered), "established connections that only one side speaks on"),
    ]
    listed = ", ".join(f"{count} {words}" for count, words in parts if count)
    sentence = f"{space.label} sees one direction of connections only, as with asymmetric routing: {listed}"
    numbers = {
        "netns": space.inum,
        "syn_ack_without_entry": len(answers),
        "mid_stream_without_entry": len(middle),
        "ack_after_unanswered_syn": len(opening),
        "entries_one_way": len(unanswered),
        **_tuple(seen[0]),
    }
    example = numbers["dst"]
    do = (f"{space.prefix}ip route get {example}", f"{space.prefix}sysctl net.ipv4.conf.all.rp_filter")
    return Verdict(Severity.WARNING, sentence, numbers, do)


def _begins(losses: Losses, *words: bytes) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(losses.text), np.bool_)
    for word in words:
        found |= np.char.startswith(losses.text, word)
    return found


def _half(entries: Entries, state: int) -> Entries:
    """TCP entries in this state that no reply was ever seen for."""
    found: Entries = entries[
        (entries["protonum"] == TCP) & (entries["tcp_state"] == state) & ((entries["status"] & IPS_SEEN_REPLY) == 0)
    ]
    return found


def _tuple(entry: np.void) -> dict[str, Any]:
    return {name: key(entry, name) for name in ("src", "sport", "dst", "dport")}


RULES = (Rule("invalid_window", judge_window), Rule("asymmetric_routing", judge_asymmetric))
