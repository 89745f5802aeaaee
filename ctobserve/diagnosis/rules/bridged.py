"""Do bridged packets pass through IP hooks, and are tracked there?"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import inside, look_inside, remark
from ctobserve.diagnosis.rules.tuples import address, end, port, protocol
from ctobserve.diagnosis.rules.words import percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.host.bridges import Bridge
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, WITH_PORTS, Entries, Mask, pick

FEW = 10  # entries without NAT: fewer are not worth a word
SAME = ("proto", "src", "sport", "dst", "dport")
TABLES = {2: "iptables", 10: "ip6tables"}
DEPENDS = remark("Docker and Kubernetes need this for rules between containers of one bridge; others do without:")


class Bridged(NamedTuple):
    """Entries of one namespace between two addresses of one bridge's network: their packets need not leave the bridge."""

    namespace: NamespaceEvidence
    bridge: Bridge
    rows: Entries

    @property
    def mapped(self) -> Entries:
        """Those that NAT changes."""
        return pick(self.rows, (self.rows["status"] & (IPS_SRC_NAT | IPS_DST_NAT)) != 0)

    @property
    def twice(self) -> int:
        """Entries beyond the first with the same original tuple: each passage of a packet may have a zone of its own."""
        return len(self.rows) - len(divide(self.rows, SAME).counts)


def judge(evidence: Evidence) -> RuleResult:
    """Entries between addresses of one bridge's network, where br_netfilter passes bridged packets through IP hooks."""
    found = list(_bridged(evidence))
    if not found:
        nameless = [
            f"{bridge.name} in {namespace.label}"
            for namespace in evidence.namespaces.values()
            for bridge in namespace.account.bridges
            if not bridge.addresses and evidence.counts.get(namespace.inum)
        ]
        return Unjudged(f"which entries are of bridge {nameless[0]} is not known: it has no address") if nameless else None
    worst = max(found, key=lambda one: (len(one.mapped) + one.twice, len(one.rows)))
    if not len(worst.mapped) and not worst.twice and len(worst.rows) < FEW:
        return None
    return _verdict(evidence, worst)


def _bridged(evidence: Evidence) -> Iterator[Bridged]:
    for namespace in evidence.namespaces.values():
        bridges = [bridge for bridge in namespace.account.bridges if bridge.addresses]
        if not bridges or not evidence.counts.get(namespace.inum):
            continue
        rows = evidence.entries[evidence.entries["netns"] == namespace.inum]
        for bridge in bridges:
            inside_it = _between(rows, bridge)
            if inside_it.any():
                yield Bridged(namespace, bridge, rows[inside_it])


def _between(rows: Entries, bridge: Bridge) -> Mask:
    """Which have both ends in one network of this bridge, neither of them the bridge itself."""
    found = np.zeros(len(rows), np.bool_)
    for one in map(ip_interface, bridge.addresses):
        family = 2 if one.version == 4 else 10
        size = one.max_prefixlen // 8
        mask, network, own = (np.frombuffer(part.packed, np.uint8) for part in (one.netmask, one.network.network_address, one.ip))
        mine = np.flatnonzero(rows["l3num"] == family) if family in bridge.families else np.empty(0, np.int64)
        ends = rows["addr"][mine, :2, :size]
        within = ((ends & mask) == network).all(axis=2) & (ends != own).any(axis=2)
        found[mine[within.all(axis=1)]] = True
    return found


def _verdict(evidence: Evidence, found: Bridged) -> Verdict:
    namespace, bridge, rows, mapped = found.namespace, found.bridge, found.rows, found.mapped
    first = mapped[0] if len(mapped) else rows[0]
    family = int(first["l3num"])
    whole, with_ports = evidence.counts[namespace.inum], first["protonum"] in WITH_PORTS
    sport, dport = (port(first, name) if with_ports else None for name in ("sport", "dport"))
    example = f"{protocol(first)} {end(address(first, 'src'), sport)} to {end(address(first, 'dst'), dport)}"
    sentence = (
        f"bridged packets are tracked in {namespace.label}, as {_switch(bridge, family)}: {len(rows)} of its "
        f"{plural(whole, 'entry', 'entries')} ({percent(len(rows), whole)}) lie between addresses of one network of bridge "
        f"{bridge.name}, such as {example}"
    )
    if len(mapped):
        sentence += (
            f"; NAT changes {len(mapped)} of them, here so that replies go to {address(first, 'reply_dst')}, though the packets "
            "need not leave the bridge"
        )
    if found.twice:
        sentence += f"; {plural(found.twice, 'entry is', 'entries are')} there twice, in different zones"
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "bridge": bridge.name,
        "bridge_ports": bridge.ports,
        "entries": len(rows),
        "share_of_entries": share(len(rows), whole),
        "entries_mapped": len(mapped),
        "entries_twice": found.twice,
        "src": address(first, "src"),
        "dst": address(first, "dst"),
        "dport": dport,
        "proto": protocol(first),
    }
    severity = Severity.WARNING if len(mapped) or found.twice else Severity.NOTICE
    return Verdict(severity, sentence, numbers, _do(namespace, bridge, family))


def _switch(bridge: Bridge, family: int) -> str:
    if family in bridge.by_sysctl:
        return f"net.bridge.bridge-nf-call-{TABLES[family]} is 1"
    return f"nf_call_{TABLES[family]} of bridge {bridge.name} is 1"


def _do(namespace: NamespaceEvidence, bridge: Bridge, family: int) -> tuple[str, ...]:
    lines = [look_inside(namespace, "nft", "list", "ruleset"), DEPENDS]
    if family in bridge.by_sysctl:
        lines.append(inside(namespace, "sysctl", "-w", f"net.bridge.bridge-nf-call-{TABLES[family]}=0"))
    if family in bridge.by_option:
        option = f"nf_call_{TABLES[family]}"
        lines.append(inside(namespace, "ip", "link", "set", "dev", bridge.name, "type", "bridge", option, 0))
    return tuple(lines)


RULES = (Rule("tracked_twice", judge),)
