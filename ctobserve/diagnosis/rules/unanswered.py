"""Does a service answer nobody, or nobody at all?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import PORTS, divide
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import netns_option, see_entries
from ctobserve.diagnosis.rules.tunnels import one_way
from ctobserve.diagnosis.rules.tuples import address, port, protocol, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_SEEN_REPLY, SCTP, TCP, UDP, Entries, Mask, pick

ID = "unanswered"
MANY = 20  # entries: a client that retries, or a monitor whose target is down, has fewer at once
CONSIDERABLE, SEVERAL = 100, 5  # entries of a namespace; clients: one that asks into the void is no uplink that is down
HALF = 0.5  # of the namespace's entries
ASKED, ANSWERING = ("dst", "dport"), ("reply_src", "reply_sport")
NEARLY_ALL = 0.9  # of the service's entries: a busy one has some that wait at any time
# What asks for no answer: DHCP, SNMP traps, syslog, NetFlow and IPFIX, sFlow, statsd, GELF.
MUTE = (67, 68, 162, 514, 2055, 4739, 6343, 8125, 9995, 9996, 12201)


def judge(evidence: Evidence) -> RuleResult:
    """Entries to one service, or to one backend of it, hardly any of which saw a reply; else to many, by most of a namespace's.

    Not the table is ill, but something behind it. Who begins these connections is not asked: a scan or a flood has a verdict of
    its own.
    """
    rows = pick(evidence.entries, _asking(evidence.entries))
    if int(((rows["status"] & IPS_SEEN_REPLY) == 0).sum()) < MANY:
        return None
    return _of_service(evidence, rows, ASKED) or _of_service(evidence, rows, ANSWERING) or _of_namespace(evidence, rows)


def _of_service(evidence: Evidence, rows: Entries, ends: tuple[str, str]) -> Verdict | None:
    """By who is asked, or by who should answer: behind DNAT that is a backend."""
    ports = rows["port"][:, PORTS[ends[1]]]
    rows = pick(rows, np.isin(ports, np.unique(ports[(rows["status"] & IPS_SEEN_REPLY) == 0])))
    silent = (rows["status"] & IPS_SEEN_REPLY) == 0
    services = divide(rows, ("netns", "proto", *ends))
    unanswered = services.sums(silent)
    unanswered[unanswered < NEARLY_ALL * services.counts] = 0
    most = int(unanswered.argmax())
    if unanswered[most] < MANY:
        return None
    first, whole, waiting = rows[services.first[most]], int(services.counts[most]), int(unanswered[most])
    namespace = evidence.namespace(int(first["netns"]))
    target = service(address(first, ends[0]), port(first, ends[1]), protocol(first))
    asked = service(address(first, "dst"), port(first, "dport"), protocol(first))
    behind = "" if target == asked else f", to which those for {asked} are sent,"
    sentence = (
        f"{target}{behind} answers nobody: {waiting} of the {plural(whole, 'entry', 'entries')} to it in {namespace.label} "
        "saw no reply; the table is not the cause, unless another verdict here says so"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "dst": address(first, "dst"),
        "dport": port(first, "dport"),
        "proto": protocol(first),
        "entries": whole,
        "entries_unreplied": waiting,
    }
    if behind:
        numbers |= {"backend": address(first, ends[0]), "backend_port": port(first, ends[1])}
    which = ("--reply-src", address(first, ends[0])) if behind else ("--dst", address(first, "dst"))
    return Verdict(Severity.NOTICE, sentence, numbers, (see_entries("--state", "UNREPLIED", *which),))


def _of_namespace(evidence: Evidence, rows: Entries) -> Verdict | None:
    """Of many clients to many services: something that they all pass."""
    silent = (rows["status"] & IPS_SEEN_REPLY) == 0
    namespaces = divide(rows, ("netns",))
    waiting = pick(rows, silent & (namespaces.sums(silent) >= HALF * namespaces.counts)[namespaces.labels])
    places = divide(waiting, ("netns",))
    unanswered = places.counts * (places.distinct(divide(waiting, ("netns", "src"))) >= SEVERAL)
    unanswered *= places.distinct(divide(waiting, ("netns", "dst"))) >= MANY
    if not len(unanswered) or unanswered.max() < CONSIDERABLE:
        return None
    most = int(unanswered.argmax())
    inum, count = int(waiting["netns"][places.first[most]]), int(unanswered[most])
    namespace, whole = evidence.namespace(inum), int((rows["netns"] == inum).sum())
    sentence = (
        f"many connections of {namespace.label} get no answer: {count} of the {whole} entries whose first packet wants one saw "
        "none, of several clients and to many addresses; the table is not the cause, unless another verdict here says so"
    )
    numbers: VerdictEvidence = {
        **{"netns": inum, "dst": None, "dport": None, "proto": None},
        **{"entries": whole, "entries_unreplied": count},
    }
    return Verdict(Severity.NOTICE, sentence, numbers, (see_entries("--state", "UNREPLIED", *map(str, netns_option(namespace))),))


def _asking(rows: Entries) -> Mask:
    """Entries of TCP, UDP and SCTP whose first packet wants an answer, as far as their addresses and ports tell."""
    first = rows["addr"][:, 1, :4]
    ipv4 = rows["l3num"] == 2
    multicast = np.where(ipv4, (first[:, 0] & 0xF0) == 0xE0, first[:, 0] == 0xFF)
    broadcast = ipv4 & (first == 0xFF).all(axis=1)
    mute = (rows["protonum"] == UDP) & np.isin(rows["port"][:, 1], MUTE)
    asking: Mask = np.isin(rows["protonum"], (TCP, UDP, SCTP)) & ~one_way(rows) & ~multicast & ~broadcast & ~mute
    return asking


RULES = (Rule(ID, judge),)
