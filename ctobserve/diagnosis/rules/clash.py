"""Do packets race for the same tuple, or for the same NAT port?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctobserve.analysis.groups import divide, key
from ctobserve.capture.records import DropReason
from ctobserve.diagnosis.evidence import RESOLVED, Evidence, Explained, Mask
from ctobserve.diagnosis.rules.paste import inside, paste
from ctobserve.diagnosis.rules.words import among, counted, during, percent, plural, service, share
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Verdict
from ctobserve.model import IPS_SRC_NAT, UDP, WITH_PORTS, Entries, protocol_name

DNS = 53
# nf_nat_l4proto_unique_tuple: a source port of 1024 or more is mapped to one of 1024..65535.
NAT_PORTS = 64512
ORIGINAL = ("netns", "zone", "proto", "src", "sport", "dst", "dport")
NEARLY = 0.8  # of them: the kernel tries a bounded number of ports at random, and fails before the last is taken


def judge_race(evidence: Evidence) -> Finding:
    """Two packets of one new connection at the same instant: one loses, unless the kernel can join them."""
    rows = _clashes(evidence, for_a_port=False)
    lost = evidence.losses.only(rows)
    packets = len(lost.entries)
    resolved = sum(reasons["clash_resolved"] for reasons in evidence.drops.values())
    if not packets and not resolved:
        return None
    where = lost if packets else evidence.losses.of(RESOLVED)
    target: dict[str, Any] = {"dst": None, "dport": None, "proto": None}
    if len(where.entries):
        groups = divide(where.entries, ("dst", "dport", "proto"))
        first = where.entries[groups.first[groups.largest(1)[0]]]
        target = {name: key(first, name) for name in target}
    dns = target["dport"] == DNS and target["proto"] == protocol_name(UDP)
    at = f", most for {service(target['dst'], target['dport'], target['proto'])}" if target["dst"] else ""
    often = among(evidence, DropReason.CLASH if packets else RESOLVED) or during(evidence, packets + resolved)
    sentence = (
        f"packets of one new connection raced each other {often}{at}: {packets} lost, {resolved} given to the winner's entry"
    )
    if dns and packets:
        sentence += "; this is the resolver that waits 5 s, as A and AAAA are asked at once from one socket"
    numbers = {
        **counted(evidence, packets, DropReason.CLASH),
        "clash_resolved": resolved,
        "kernel_insert_failed": _counted(evidence, "insert_failed"),
        **target,
    }
    do = (paste("sh", "-c", "echo options single-request-reopen >> /etc/resolv.conf"),) if dns and packets else ()
    return Verdict(Severity.WARNING if packets else Severity.NOTICE, sentence, numbers, do, Explained(rows=rows))


def judge_ports(evidence: Evidence) -> Finding:
    """ReadVia ports of one NAT address towards one service: all taken, or nearly."""
    rows = _clashes(evidence, for_a_port=True)
    lost = evidence.losses.only(rows).entries
    nat = evidence.entries[_mapped(evidence.entries)]
    if not len(lost) and not len(nat):
        return None
    place = ("netns", "proto", "reply_dst", "reply_src", "reply_sport")
    if len(lost):
        groups = divide(lost, place)
        first = lost[groups.first[groups.largest(1)[0]]]
        used = int(_same(nat, first).sum())
    else:
        groups = divide(nat, place)
        largest = groups.largest(1)[0]
        first, used = nat[groups.first[largest]], int(groups.counts[largest])
        if used < NEARLY * NAT_PORTS:
            return None
    names = {"netns": "netns", "address": "reply_dst", "dst": "reply_src", "dport": "reply_sport", "proto": "proto"}
    target = {name: key(first, column) for name, column in names.items()}
    space, packets = evidence.space(int(first["netns"])), len(lost)
    towards = service(target["dst"], target["dport"], str(target["proto"]))
    sentence = (
        f"{space.label} runs out of source ports: {used} connections from {target['address']} to {towards} use "
        f"{percent(used, NAT_PORTS)} of the {NAT_PORTS} ports there can be"
    )
    if packets:
        sentence = (
            f"{space.label} has no free source port: {plural(packets, 'packet')} of new connections lost "
            f"{among(evidence, DropReason.CLASH) or during(evidence, packets)} as {target['address']} to {towards} was mapped to "
            f"a port in use; that pair has {plural(used, 'connection')} now"
        )
    numbers = {
        **target,
        **counted(evidence, packets, DropReason.CLASH),
        "connections": used,
        "ports": NAT_PORTS,
        "share_of_ports": share(used, NAT_PORTS),
        "kernel_insert_failed": _counted(evidence, "insert_failed"),
    }
    severity, do = Severity.CRITICAL if packets else Severity.WARNING, (inside(space, "nft", "list", "ruleset"),)
    return Verdict(severity, sentence, numbers, do, Explained(rows=rows))


def _clashes(evidence: Evidence, for_a_port: bool) -> Mask:
    """Which losses met another connection on their mapped port; else those that met the winner of a race."""
    rows: Mask = evidence.losses.reason == DropReason.CLASH
    rows[rows] = _for_a_port(evidence.losses.entries[rows], evidence.entries) == for_a_port
    return rows


def _for_a_port(lost: Entries, table: Entries) -> Mask:
    """Which lost packets met another connection on their mapped port, not the winner of a race with the same original tuple."""
    wanted = np.zeros(1 << 16, np.bool_)
    wanted[lost["port"][:, 0]] = True
    both = np.concatenate((lost, table[wanted[table["port"][:, 0]]]))
    same = divide(both, ORIGINAL)
    raced = same.sums(np.arange(len(both)) >= len(lost)) > 0
    contested: Mask = _mapped(lost) & ~raced[same.labels[: len(lost)]]
    return contested


def _mapped(entries: Entries) -> Mask:
    """ReadVia NAT did something: the reply goes to another address or port than the packet came from."""
    moved = (entries["addr"][:, 0] != entries["addr"][:, 3]).any(axis=1) | (entries["port"][:, 0] != entries["port"][:, 3])
    ports = np.isin(entries["protonum"], list(WITH_PORTS))
    mapped: Mask = moved & ports & ((entries["status"] & IPS_SRC_NAT) != 0)
    return mapped


def _same(entries: Entries, one: np.void) -> Mask:
    """Which entries have the same NAT address, service and namespace."""
    same: Mask = (entries["addr"][:, 2:] == one["addr"][2:]).all(axis=(1, 2))
    same &= (entries["netns"] == one["netns"]) & (entries["protonum"] == one["protonum"])
    same &= entries["port"][:, 2] == one["port"][2]
    return same


def _counted(evidence: Evidence, name: str) -> int | None:
    """What the kernel's counter gained, over the namespaces that could be read."""
    known = [space.counters[name] for space in evidence.spaces.values() if space.counters and name in space.counters]
    return sum(known) if known else None


RULES = (Rule("clash_race", judge_race), Rule("snat_ports", judge_ports))
