"""Who fills the table with connections that nobody answers?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide, key
from ctobserve.diagnosis.evidence import Evidence, Space
from ctobserve.diagnosis.rules.paste import inside, paste, set_sysctl
from ctobserve.diagnosis.rules.words import percent, plural, service, share
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Verdict
from ctobserve.model import IPS_ASSURED, IPS_SEEN_REPLY, TCP, TCP_STATES

TARGETS = 100  # unanswered at once: more than a client that retries, or a monitor whose targets are down, has
SOURCES = 50  # of half-open connections to one service: more than a burst of slow clients
OPENING = [TCP_STATES.index(name) for name in ("SYN_SENT", "SYN_RECV", "SYN_SENT2")]


def judge_scan(evidence: Evidence) -> Finding:
    """One source, many destinations or ports, no answers."""
    unanswered = evidence.entries[(evidence.entries["status"] & IPS_SEEN_REPLY) == 0]
    if len(unanswered) < TARGETS:
        return None
    sources = divide(unanswered, ("netns", "src"))
    finer = divide(unanswered, ("netns", "src", "proto", "dst", "dport"))
    targets = sources.distinct(finer)
    most = int(targets.argmax())
    if targets[most] < TARGETS:
        return None
    first = unanswered[sources.first[most]]
    mine = unanswered[sources.labels == most]
    hosts, ports = (len(divide(mine, columns).counts) for columns in (("dst",), ("dport",)))
    space, entries, source = evidence.space(int(first["netns"])), int(sources.counts[most]), key(first, "src")
    whole = evidence.counts[space.inum]
    sentence = (
        f"{source} fills {space.label} with connections that nobody answers: {entries} entries ({percent(entries, whole)} of its "
        f"table) to {plural(hosts, 'address', 'addresses')} and {plural(ports, 'port')}, as a scan does"
    )
    numbers = {
        "netns": space.inum,
        "src": source,
        "entries_unreplied": entries,
        "targets": int(targets[most]),
        "addresses": hosts,
        "ports": ports,
        "share_of_entries": share(entries, whole),
        "sources_like_it": int((targets >= TARGETS).sum()) - 1,
    }
    return Verdict(Severity.WARNING, sentence, numbers, (_list(str(source)), *_drop(space, str(source))))


def judge_syn(evidence: Evidence) -> Finding:
    """Many sources, one service, handshakes that do not end."""
    rows = evidence.entries
    opening = rows[(rows["protonum"] == TCP) & np.isin(rows["tcp_state"], OPENING) & ((rows["status"] & IPS_ASSURED) == 0)]
    if len(opening) < SOURCES:
        return None
    services = divide(opening, ("netns", "dst", "dport"))
    sources = services.distinct(divide(opening, ("netns", "dst", "dport", "src")))
    most = int(sources.argmax())
    if sources[most] < SOURCES:
        return None
    first, entries = opening[services.first[most]], int(services.counts[most])
    answered = int(services.sums((opening["status"] & IPS_SEEN_REPLY) != 0)[most])
    space, target = evidence.space(int(first["netns"])), service(key(first, "dst"), key(first, "dport"), "tcp")
    whole = evidence.counts[space.inum]
    sentence = (
        f"{target} gets SYNs that nobody completes: {entries} half-open entries from {sources[most]} sources in {space.label} "
        f"({percent(entries, whole)} of its table), {answered} of them answered, as in a SYN flood"
    )
    numbers = {
        "netns": space.inum,
        "dst": key(first, "dst"),
        "dport": key(first, "dport"),
        "entries_half_open": entries,
        "entries_answered": answered,
        "sources": int(sources[most]),
        "share_of_entries": share(entries, whole),
    }
    do = (
        inside(space, "sysctl", "-w", "net.ipv4.tcp_syncookies=1"),
        set_sysctl(space, "nf_conntrack_tcp_timeout_syn_recv", 10),
        set_sysctl(space, "nf_conntrack_tcp_timeout_syn_sent", 20),
    )
    return Verdict(Severity.WARNING, sentence, numbers, do)


def _list(source: str) -> str:
    return paste("ctobserve", "list", "--state", "UNREPLIED", "--src", source, "--limit", 20)


def _drop(space: Space, source: str) -> tuple[str, ...]:
    """In the raw hook, before conntrack sees the packet: no entry is made."""
    family = "ip6" if ":" in source else "ip"
    return (
        inside(space, "nft", "add", "table", "inet", "calm"),
        inside(space, "nft", "add chain inet calm pre { type filter hook prerouting priority raw; }"),
        inside(space, "nft", "add", "rule", "inet", "calm", "pre", family, "saddr", source, "drop"),
    )


RULES = (Rule("scan", judge_scan), Rule("syn_flood", judge_syn))
