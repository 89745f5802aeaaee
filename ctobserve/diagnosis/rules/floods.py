"""Who fills the table with connections that nobody answers?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.nft import Chain, for_source
from ctobserve.diagnosis.rules.paste import inside, remark, see_entries, set_sysctl
from ctobserve.diagnosis.rules.tunnels import one_way
from ctobserve.diagnosis.rules.tuples import address, port, service
from ctobserve.diagnosis.rules.words import percent, plural, share
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_ASSURED, IPS_SEEN_REPLY, TCP, TCP_STATES, join

TARGETS = 100  # unanswered at once: more than a client that retries, or a monitor whose targets are down, has
HALF = 0.5  # of a source's entries: a resolver or a crawler is answered by most
TENTH = 0.1  # of a service's entries: a busy one has some half-open at any time; of a source's: it is no mere scanner
SOURCES = 50  # of half-open connections to one service: more than a burst of slow clients
MASS = 1000  # half-open connections to one service, from however few sources
OPENING = [TCP_STATES.index(name) for name in ("SYN_SENT", "SYN_RECV", "SYN_SENT2")]
PREROUTING = Chain("calm", "pre", "prerouting")  # raw: no entry is made


def judge_scan(evidence: Evidence) -> RuleResult:
    """One source, many destinations or ports, few answers. Of tunnels, which get none, speaks a rule of their own."""
    rows = evidence.entries
    silent = ((rows["status"] & IPS_SEEN_REPLY) == 0) & ~one_way(rows)
    if silent.sum() < TARGETS:
        return None
    all_of = divide(rows, ("netns", "src"))
    unanswered = rows[silent & (all_of.sums(silent) >= HALF * all_of.counts)[all_of.labels]]
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
    namespace, entries, source = evidence.namespace(int(first["netns"])), int(sources.counts[most]), address(first, "src")
    whole = evidence.counts[namespace.inum]
    sentence = (
        f"{source} fills {namespace.label} with connections that nobody answers: {entries} entries "
        f"({percent(entries, whole)} of its table) to {plural(hosts, 'address', 'addresses')} and "
        f"{plural(ports, 'port')}, as a scan does"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "src": source,
        "entries_unreplied": entries,
        "targets": int(targets[most]),
        "addresses": hosts,
        "ports": ports,
        "share_of_entries": share(entries, whole),
        "sources_like_it": int((targets >= TARGETS).sum()) - 1,
    }
    its = rows[(rows["netns"] == first["netns"]) & (rows["addr"][:, 0] == first["addr"][0]).all(axis=1)]
    answered = int(((its["status"] & IPS_SEEN_REPLY) != 0).sum())
    refuse = for_source(namespace, (PREROUTING,), source, "drop")
    if answered >= TENTH * len(its):
        refuse = (
            remark(f"{plural(answered, 'entry', 'entries')} of {source} got answers: to drop its packets would end these, too"),
        )
    return Verdict(Severity.WARNING, sentence, numbers, (see_entries("--state", "UNREPLIED", "--src", source), *refuse))


def judge_syn(evidence: Evidence) -> RuleResult:
    """Many sources, one service, handshakes that do not end."""
    rows = evidence.entries
    opening = rows[(rows["protonum"] == TCP) & np.isin(rows["tcp_state"], OPENING) & ((rows["status"] & IPS_ASSURED) == 0)]
    if len(opening) < SOURCES:
        return None
    # Beside all that those services have; of a million entries those to other ports need not be compared.
    asked = rows[(rows["protonum"] == TCP) & np.isin(rows["port"][:, 1], np.unique(opening["port"][:, 1]))]
    both = divide(join([opening, asked]), ("netns", "dst", "dport"))
    begun = both.sums(np.arange(len(both.labels)) < len(opening))
    opening = opening[(begun >= TENTH * (both.counts - begun))[both.labels[: len(opening)]]]
    if len(opening) < SOURCES:
        return None
    services = divide(opening, ("netns", "dst", "dport"))
    sources = services.distinct(divide(opening, ("netns", "dst", "dport", "src")))
    # Of one source, too, if so many were answered: it does not end handshakes. Who gets no answer is no flood.
    answers = services.sums((opening["status"] & IPS_SEEN_REPLY) != 0)
    many = np.where(answers >= MASS, answers, sources)
    most = int(many.argmax())
    if many[most] < SOURCES:
        return None
    first, entries = opening[services.first[most]], int(services.counts[most])
    answered = int(answers[most])
    namespace, target = evidence.namespace(int(first["netns"])), service(address(first, "dst"), port(first, "dport"), "tcp")
    whole = evidence.counts[namespace.inum]
    sentence = (
        f"{target} gets SYNs that nobody completes: {entries} half-open entries from {plural(int(sources[most]), 'source')} in "
        f"{namespace.label} ({percent(entries, whole)} of its table), {answered} of them answered, as in a SYN flood"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "dst": address(first, "dst"),
        "dport": port(first, "dport"),
        "entries_half_open": entries,
        "entries_answered": answered,
        "sources": int(sources[most]),
        "share_of_entries": share(entries, whole),
    }
    do = (
        inside(namespace, "sysctl", "-w", "net.ipv4.tcp_syncookies=1"),
        set_sysctl(namespace, "nf_conntrack_tcp_timeout_syn_recv", 10),
        set_sysctl(namespace, "nf_conntrack_tcp_timeout_syn_sent", 20),
    )
    return Verdict(Severity.WARNING, sentence, numbers, do)


RULES = (Rule("scan", judge_scan), Rule("syn_flood", judge_syn))
