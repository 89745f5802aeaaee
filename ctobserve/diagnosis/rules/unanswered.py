"""Does a service answer nobody?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import see_entries
from ctobserve.diagnosis.rules.tunnels import one_way
from ctobserve.diagnosis.rules.tuples import address, port, protocol, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_SEEN_REPLY, TCP, UDP, Entries, Mask

ID = "unanswered"
MANY = 20  # entries: a client that retries, or a monitor whose target is down, has fewer at once
NEARLY_ALL = 0.9  # of the service's entries: a busy one has some that wait at any time
# What asks for no answer: DHCP, SNMP traps, syslog, NetFlow and IPFIX, sFlow, statsd, GELF.
MUTE = (67, 68, 162, 514, 2055, 4739, 6343, 8125, 9995, 9996, 12201)


def judge(evidence: Evidence) -> RuleResult:
    """Entries of TCP and UDP to one service, hardly any of which saw a reply: not the table is ill, but something behind it.

    Who begins these connections is not asked: a scan or a flood has a verdict of its own.
    """
    rows = evidence.entries
    waiting_at = rows["port"][:, 1][_asking(rows) & ((rows["status"] & IPS_SEEN_REPLY) == 0)]
    if len(waiting_at) < MANY:
        return None
    rows = rows[_asking(rows) & np.isin(rows["port"][:, 1], np.unique(waiting_at))]
    silent = (rows["status"] & IPS_SEEN_REPLY) == 0
    services = divide(rows, ("netns", "dst", "dport", "proto"))
    unanswered = services.sums(silent)
    unanswered[unanswered < NEARLY_ALL * services.counts] = 0
    most = int(unanswered.argmax())
    if unanswered[most] < MANY:
        return None
    first, whole, waiting = rows[services.first[most]], int(services.counts[most]), int(unanswered[most])
    namespace = evidence.namespace(int(first["netns"]))
    target = service(address(first, "dst"), port(first, "dport"), protocol(first))
    sentence = (
        f"{target} answers nobody: {waiting} of the {plural(whole, 'entry', 'entries')} to it in {namespace.label} saw no reply; "
        "the table is not the cause, unless another verdict here says so"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "dst": address(first, "dst"),
        "dport": port(first, "dport"),
        "proto": protocol(first),
        "entries": whole,
        "entries_unreplied": waiting,
    }
    return Verdict(Severity.NOTICE, sentence, numbers, (see_entries("--state", "UNREPLIED", "--dst", address(first, "dst")),))


def _asking(rows: Entries) -> Mask:
    """Entries of TCP and UDP whose first packet wants an answer, as far as their addresses and ports tell."""
    first = rows["addr"][:, 1, :4]
    ipv4 = rows["l3num"] == 2
    multicast = np.where(ipv4, (first[:, 0] & 0xF0) == 0xE0, first[:, 0] == 0xFF)
    broadcast = ipv4 & (first == 0xFF).all(axis=1)
    mute = (rows["protonum"] == UDP) & np.isin(rows["port"][:, 1], MUTE)
    asking: Mask = np.isin(rows["protonum"], (TCP, UDP)) & ~one_way(rows) & ~multicast & ~broadcast & ~mute
    return asking


RULES = (Rule(ID, judge),)
