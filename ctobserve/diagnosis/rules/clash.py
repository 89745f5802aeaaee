"""Do packets race for the same tuple, or for the same NAT port?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.clashes import PAIR, mapped
from ctobserve.diagnosis.evidence import RESOLVED, Evidence, Explained
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look_inside, paste
from ctobserve.diagnosis.rules.tuples import address, port, protocol, service
from ctobserve.diagnosis.rules.words import among, counted, during, percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.event import DropReason
from ctobserve.model import UDP, Entries, Mask, pick

DNS = 53
# nf_nat_l4proto_unique_tuple: a source port of 1024 or more is mapped to one of 1024..65535.
NAT_PORTS = 64512
SEVERAL = 5  # packets: two connections may be given one port at the same instant
NEARLY = 0.8  # of them: the kernel tries a bounded number of ports at random, and fails before the last is taken


def judge_race(evidence: Evidence) -> RuleResult:
    """Two packets of one new connection at the same instant: one loses, unless the kernel can join them."""
    rows = evidence.clashed & ~evidence.short_of_ports
    packets = int(rows.sum())
    resolved = sum(reasons["clash_resolved"] for reasons in evidence.drops.values())
    if not packets and not resolved:
        return None
    where = evidence.losses["entry"][rows if packets else evidence.losses["reason"] == RESOLVED]
    target: VerdictEvidence = {"dst": None, "dport": None, "proto": None}
    at, dns = "", False
    if len(where):
        groups = divide(where, ("dst", "dport", "proto"))
        first = where[groups.first[groups.largest(1)[0]]]
        target = {"dst": address(first, "dst"), "dport": port(first, "dport"), "proto": protocol(first)}
        at = f", most for {service(target['dst'], target['dport'], target['proto'])}"
        dns = target["dport"] == DNS and first["protonum"] == UDP
    often = among(evidence, DropReason.CLASH if packets else RESOLVED) or during(evidence, packets + resolved)
    sentence = (
        f"packets of one new connection raced each other {often}{at}: {packets} lost, {resolved} given to the winner's entry"
    )
    if dns and packets:
        sentence += "; this is the resolver that waits 5 s, as A and AAAA are asked at once from one socket"
    numbers: VerdictEvidence = {
        **counted(evidence, packets, DropReason.CLASH),
        "clash_resolved": resolved,
        "kernel_insert_failed": _gained(evidence, "insert_failed"),
        **target,
    }
    do = (paste("sh", "-c", "echo options single-request-reopen >> /etc/resolv.conf"),) if dns and packets else ()
    return Verdict(Severity.WARNING if packets else Severity.NOTICE, sentence, numbers, do, Explained(rows=rows))


def judge_ports(evidence: Evidence) -> RuleResult:
    """Source ports of one NAT address towards one service: all taken, or nearly."""
    rows = evidence.short_of_ports
    lost = evidence.losses["entry"][rows]
    nat = pick(evidence.entries, mapped(evidence.entries))
    if not len(lost) and not len(nat):
        return None
    if len(lost):
        groups = divide(lost, PAIR)
        first = lost[groups.first[groups.largest(1)[0]]]
        used = int(_same(nat, first).sum())
    else:
        groups = divide(nat, PAIR)
        largest = groups.largest(1)[0]
        first, used = nat[groups.first[largest]], int(groups.counts[largest])
        if used < NEARLY * NAT_PORTS:
            return None
    namespace, packets = evidence.namespace(int(first["netns"])), len(lost)
    nat_address, dst = address(first, "reply_dst"), address(first, "reply_src")
    dport, proto = port(first, "reply_sport"), protocol(first)
    towards = service(dst, dport, proto)
    sentence = (
        f"{namespace.label} runs out of source ports: {used} connections from {nat_address} to {towards} use "
        f"{percent(used, NAT_PORTS)} of the {NAT_PORTS} ports there can be"
    )
    short = packets >= SEVERAL or used >= NEARLY * NAT_PORTS
    if packets:
        what = "has no free source port" if short else "gave a source port twice at once, or has no free one"
        sentence = (
            f"{namespace.label} {what}: {plural(packets, 'packet')} of new connections lost "
            f"{among(evidence, DropReason.CLASH) or during(evidence, packets)} as {nat_address} to {towards} was mapped to "
            f"a port in use; that pair has {plural(used, 'connection')} now"
        )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "address": nat_address,
        "dst": dst,
        "dport": dport,
        "proto": proto,
        **counted(evidence, packets, DropReason.CLASH),
        "connections": used,
        "ports": NAT_PORTS,
        "share_of_ports": share(used, NAT_PORTS),
        "kernel_insert_failed": _gained(evidence, "insert_failed"),
    }
    severity, do = (
        Severity.CRITICAL if packets and short else Severity.WARNING,
        (look_inside(namespace, "nft", "list", "ruleset"),),
    )
    return Verdict(severity, sentence, numbers, do, Explained(rows=rows))


def _same(entries: Entries, one: np.void) -> Mask:
    """Which entries have the same NAT address, service and namespace."""
    same: Mask = (entries["addr"][:, 2:] == one["addr"][2:]).all(axis=(1, 2))
    same &= (entries["netns"] == one["netns"]) & (entries["protonum"] == one["protonum"])
    same &= entries["port"][:, 2] == one["port"][2]
    return same


def _gained(evidence: Evidence, name: str) -> int | None:
    """What the kernel's counter gained, over the namespaces that could be read."""
    counters = [namespace.counters or {} for namespace in evidence.namespaces.values()]
    known = [gained[name] for gained in counters if name in gained]
    return sum(known) if known else None


RULES = (Rule("clash_race", judge_race), Rule("snat_ports", judge_ports))
