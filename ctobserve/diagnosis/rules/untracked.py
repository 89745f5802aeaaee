"""What is tracked that need not be?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import Chain, add_chain, add_rule, add_table
from ctobserve.diagnosis.rules.paste import look_inside, remark
from ctobserve.diagnosis.rules.tunnels import one_way
from ctobserve.diagnosis.rules.tuples import port
from ctobserve.diagnosis.rules.words import percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_DST_NAT, IPS_EXPECTED, IPS_HELPER, IPS_SRC_NAT, UDP, Entries, Mask, NDArray

QUARTER = 0.25  # of a namespace's entries: less is not worth a rule
CONSIDERABLE = 100  # entries
IPV4, LOOPBACK = 2, 127
TABLE = "untracked"
OUTPUT, PREROUTING = (Chain(TABLE, hook, hook) for hook in ("output", "prerouting"))


def judge_loopback(evidence: Evidence) -> RuleResult:
    """Entries between addresses of the loopback interface, where nothing that passes it is translated."""
    rows = evidence.entries
    ends = rows["addr"][:, :2]
    one = np.zeros(16, np.uint8)
    one[15] = 1
    local = np.where(rows["l3num"] == IPV4, (ends[:, :, 0] == LOOPBACK).all(axis=1), (ends == one).all(axis=(1, 2)))
    namespaces = divide(rows, ("netns",))
    # A host that speaks with its own address does so over loopback, too.
    over_it = (ends[:, :, 0] == LOOPBACK).any(axis=1) & (rows["l3num"] == IPV4) | (ends == one).all(axis=2).any(axis=1)
    over_it |= (ends[:, 0] == ends[:, 1]).all(axis=1)
    counts = namespaces.sums(local) * (namespaces.sums(over_it & _needed(rows)) == 0)
    if not len(counts) or (entries := int(counts.max())) < CONSIDERABLE:
        return None
    namespace = evidence.namespace(int(rows["netns"][namespaces.first[counts.argmax()]]))
    whole = evidence.counts[namespace.inum]
    if entries < QUARTER * whole:
        return None
    sentence = (
        f"{entries} of the {whole} entries of {namespace.label} ({percent(entries, whole)}) are traffic with itself over "
        "loopback, which seldom needs tracking"
    )
    numbers: VerdictEvidence = {"netns": namespace.inum, "entries": entries, "share_of_entries": share(entries, whole)}
    do = [add_table(namespace, TABLE)]
    for chain, side in ((OUTPUT, "oif"), (PREROUTING, "iif")):
        do += [add_chain(namespace, chain), add_rule(namespace, chain, side, "lo", "notrack")]
    return Verdict(Severity.NOTICE, sentence, numbers, tuple(do))


def judge_service(evidence: Evidence) -> RuleResult:
    """One UDP port with a good part of the entries, none of which NAT or a helper needs."""
    rows = evidence.entries
    of_udp, needed = rows["protonum"] == UDP, _needed(rows)
    taken = rows[of_udp & needed]
    # Of tunnels speaks a rule of their own.
    plain = rows[of_udp & ~needed & ~one_way(rows)]
    plain = plain[~np.isin(_port(plain, 1), np.concatenate([_port(taken, at) for at in range(4)]))]
    if len(plain) < CONSIDERABLE:
        return None
    ports = divide(plain, ("netns", "dport"))
    most = ports.largest(1)[0]
    entries, first = int(ports.counts[most]), plain[ports.first[most]]
    namespace, dport = evidence.namespace(int(first["netns"])), port(first, "dport")
    whole = evidence.counts[namespace.inum]
    if entries < max(CONSIDERABLE, QUARTER * whole):
        return None
    sentence = (
        f"{entries} of the {whole} entries of {namespace.label} ({percent(entries, whole)}) are UDP to port {dport} without NAT; "
        "if no rule asks for their state, they need no tracking"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "proto": "udp",
        "dport": dport,
        "entries": entries,
        "share_of_entries": share(entries, whole),
    }
    return Verdict(Severity.NOTICE, sentence, numbers, _untrack(namespace, dport))


def _untrack(namespace: NamespaceEvidence, dport: int) -> tuple[str, ...]:
    """Rules for it; where others may ask for state, only these to look at: an answer that is untracked is not `established`."""
    rules = namespace.ruleset
    if rules is None or rules.unread or rules.needing:
        asking = plural(rules.needing, "rule asks", "rules ask") if rules and rules.needing else "rules that nobody read may ask"
        why = remark(f"{asking} for state: let port {dport} pass, to it and from it, before you have it not tracked")
        return (look_inside(namespace, "nft", "list", "ruleset"), why)
    do = [add_table(namespace, TABLE)]
    for chain in (PREROUTING, OUTPUT):
        do.append(add_chain(namespace, chain))
        do += [add_rule(namespace, chain, "udp", side, dport, "notrack") for side in ("dport", "sport")]
    return tuple(do)


def _needed(rows: Entries) -> Mask:
    """Entries that translate, have a helper or were expected by one: without them their connections break."""
    needed: Mask = (rows["status"] & (IPS_SRC_NAT | IPS_DST_NAT | IPS_HELPER | IPS_EXPECTED)) != 0
    return needed


def _port(rows: Entries, at: int) -> NDArray[np.int64]:
    """One of an entry's four ports, in its namespace."""
    found: NDArray[np.int64] = rows["netns"].astype(np.int64) << 16 | rows["port"][:, at]
    return found


RULES = (Rule("notrack_loopback", judge_loopback), Rule("notrack_service", judge_service))
