"""Do tunnels fill the table with flows that nobody answers?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import Chain, add_chain, add_rule, add_table
from ctobserve.diagnosis.rules.paste import inside, remark, see_entries
from ctobserve.diagnosis.rules.tuples import port
from ctobserve.diagnosis.rules.words import percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import (
    GRE,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_HELPER,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    UDP,
    Entries,
    Mask,
    protocol_name,
)

QUARTER = 0.25  # of the limit, or of the namespace's entries
CONSIDERABLE = 100  # entries
# By UDP port: VXLAN (RFC 7348), VXLAN as Linux had it first, Geneve (RFC 8926), GRE in UDP (RFC 8086), FOU, GUE.
PORTS = {4789: "VXLAN", 8472: "VXLAN", 6081: "Geneve", 4754: "GRE in UDP", 5555: "FOU", 6080: "GUE"}
IPIP, SIT = 4, 41
NUMBERS = {GRE: "GRE", IPIP: "IPIP", SIT: "IPv6 in IPv4"}
TABLE = "tunnels"
# Of a name that is no keyword of nft.
CHAINS = (Chain(TABLE, "coming", "prerouting"), Chain(TABLE, "going", "output"))

OTHERS = remark("a notrack rule for the ends of this tunnel alone would do: NAT or a helper needs entries of others like it")


def one_way(entries: Entries) -> Mask:
    """Entries of tunnels that saw no reply and have no NAT: each end sends from ports of its own, by the flow inside."""
    of_tunnel = (entries["protonum"] == UDP) & np.isin(entries["port"][:, 1], list(PORTS))
    of_tunnel |= np.isin(entries["protonum"], list(NUMBERS))
    found: Mask = of_tunnel & (entries["status"] & (IPS_SEEN_REPLY | IPS_SRC_NAT | IPS_DST_NAT) == 0)
    return found


def judge(evidence: Evidence) -> RuleResult:
    """One kind of tunnel with a good part of a namespace's entries, or of its limit."""
    rows = evidence.entries[one_way(evidence.entries)]
    if len(rows) < CONSIDERABLE:
        return None
    kinds = divide(rows, ("netns", "proto", "dport"))
    most = kinds.largest(1)[0]
    entries, first = int(kinds.counts[most]), rows[kinds.first[most]]
    namespace, udp = evidence.namespace(int(first["netns"])), first["protonum"] == UDP
    whole = evidence.counts[namespace.inum]
    filling = namespace.limit is not None and entries >= QUARTER * namespace.limit
    if entries < CONSIDERABLE or not (filling or entries >= QUARTER * whole):
        return None
    mine = rows[kinds.labels == most]
    sources, ports = len(divide(mine, ("src",)).counts), len(divide(mine, ("sport",)).counts)
    name = PORTS[port(first, "dport")] if udp else NUMBERS[int(first["protonum"])]
    to_port = f", UDP to port {port(first, 'dport')} from {plural(ports, 'source port')}" if udp else ""
    limit = f", {percent(entries, namespace.limit)} of its limit of {namespace.limit}" if namespace.limit else ""
    # Without ports an answer would belong to the entry (gre_pkt_to_tuple, generic_pkt_to_tuple).
    why = (
        "no answer ever comes to the port of a tunnel's packet, so each flow inside makes an entry of its own"
        if udp
        else "each pair of ends has an entry, and nobody answers from where it was sent to, as behind a balancer that makes up "
        "the outer source, or as those ends are gone"
    )
    sentence = (
        f"{name} has {entries} of the {whole} entries of {namespace.label} ({percent(entries, whole)}{limit}){to_port} of "
        f"{plural(sources, 'source')}: {why}, and the tunnel needs none"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "proto": protocol_name(int(first["protonum"])),
        "dport": port(first, "dport") if udp else None,
        "tunnel": name,
        "entries": entries,
        "entries_unreplied": entries,
        "share_of_entries": share(entries, whole),
        "share_of_limit": share(entries, namespace.limit) if namespace.limit else None,
        "limit": namespace.limit,
        "sources": sources,
        "ports": ports,
    }
    do = _untracking(namespace, first, _is_translated(evidence.entries, first))
    return Verdict(Severity.WARNING if filling else Severity.NOTICE, sentence, numbers, do)


def _is_translated(entries: Entries, like: np.void) -> bool:
    """Whether NAT or a helper needs entries of other packets that the same rule would match."""
    needed = (entries["status"] & (IPS_SRC_NAT | IPS_DST_NAT | IPS_HELPER | IPS_EXPECTED)) != 0
    needed &= (entries["netns"] == like["netns"]) & (entries["protonum"] == like["protonum"])
    if like["protonum"] == UDP:
        needed &= (entries["port"] == like["port"][1]).any(axis=1)
    return bool(needed.any())


def _untracking(namespace: NamespaceEvidence, entry: np.void, translated: bool) -> tuple[str, ...]:
    """Lines that take such packets out of conntrack, then its entries, which nothing prolongs any more.

    Not where they would take others out that are `translated`.
    """
    number = int(entry["protonum"])
    if number != UDP:
        see = see_entries("--state", "UNREPLIED", "--proto", str(number))
        return (see, OTHERS) if translated else (see, *_notrack(namespace, "meta", "l4proto", number))
    dport = port(entry, "dport")
    see = see_entries("--state", "UNREPLIED", "--proto", "udp", "--dport", str(dport))
    if translated:
        return (see, OTHERS)
    return (
        see,
        *_notrack(namespace, "udp", "dport", dport),
        inside(namespace, "conntrack", "-D", "-p", "udp", "--dport", dport),
    )


def _notrack(namespace: NamespaceEvidence, *which: str | int) -> tuple[str, ...]:
    lines = [add_table(namespace, TABLE)]
    for chain in CHAINS:
        lines += [add_chain(namespace, chain), add_rule(namespace, chain, *which, "notrack")]
    return tuple(lines)


RULES = (Rule("tunnel_oneway", judge),)
