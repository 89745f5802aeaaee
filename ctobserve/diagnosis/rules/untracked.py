"""What is tracked that need not be?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide, key
from ctobserve.diagnosis.evidence import Evidence, Space
from ctobserve.diagnosis.rules.paste import inside
from ctobserve.diagnosis.rules.words import percent, share
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Verdict
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, UDP

QUARTER = 0.25  # of a namespace's entries: less is not worth a rule
CONSIDERABLE = 100  # entries
IPV4, LOOPBACK = 2, 127
TABLE = "untracked"


def judge_loopback(evidence: Evidence) -> Finding:
    """Entries between addresses of the loopback interface."""
    rows = evidence.entries
    ends = rows["addr"][:, :2]
    one = np.zeros(16, np.uint8)
    one[15] = 1
    local = np.where(rows["l3num"] == IPV4, (ends[:, :, 0] == LOOPBACK).all(axis=1), (ends == one).all(axis=(1, 2)))
    spaces = divide(rows, ("netns",))
    counts = spaces.sums(local)
    if not len(counts) or (entries := int(counts.max())) < CONSIDERABLE:
        return None
    space = evidence.space(int(rows["netns"][spaces.first[counts.argmax()]]))
    whole = evidence.counts[space.inum]
    if entries < QUARTER * whole:
        return None
    sentence = (
        f"{entries} of the {whole} entries of {space.label} ({percent(entries, whole)}) are traffic with itself over loopback, "
        "which seldom needs tracking"
    )
    numbers = {"netns": space.inum, "entries": entries, "share_of_entries": share(entries, whole)}
    do = [_table(space)]
    for hook, side in (("output", "oif"), ("prerouting", "iif")):
        do += [_chain(space, hook), _rule(space, hook, side, "lo")]
    return Verdict(Severity.NOTICE, sentence, numbers, tuple(do))


def judge_service(evidence: Evidence) -> Finding:
    """One UDP port with a good part of the entries, none of which NAT needs."""
    rows = evidence.entries
    plain = rows[(rows["protonum"] == UDP) & ((rows["status"] & (IPS_SRC_NAT | IPS_DST_NAT)) == 0)]
    if len(plain) < CONSIDERABLE:
        return None
    ports = divide(plain, ("netns", "dport"))
    most = ports.largest(1)[0]
    entries, first = int(ports.counts[most]), plain[ports.first[most]]
    space, port = evidence.space(int(first["netns"])), key(first, "dport")
    whole = evidence.counts[space.inum]
    if entries < max(CONSIDERABLE, QUARTER * whole):
        return None
    sentence = (
        f"{entries} of the {whole} entries of {space.label} ({percent(entries, whole)}) are UDP to port {port} without NAT; "
        "if no rule asks for their state, they need no tracking"
    )
    numbers = {"netns": space.inum, "proto": "udp", "dport": port, "entries": entries, "share_of_entries": share(entries, whole)}
    do = [_table(space)]
    for hook in ("prerouting", "output"):
        do.append(_chain(space, hook))
        do += [_rule(space, hook, "udp", side, str(port)) for side in ("dport", "sport")]
    return Verdict(Severity.NOTICE, sentence, numbers, tuple(do))


def _table(space: Space) -> str:
    return inside(space, "nft", "add", "table", "inet", TABLE)


def _chain(space: Space, hook: str) -> str:
    """Before conntrack sees the packet."""
    return inside(space, "nft", f"add chain inet {TABLE} {hook} {{ type filter hook {hook} priority raw; }}")


def _rule(space: Space, hook: str, *match: str) -> str:
    return inside(space, "nft", "add", "rule", "inet", TABLE, hook, *match, "notrack")


RULES = (Rule("notrack_loopback", judge_loopback), Rule("notrack_service", judge_service))
