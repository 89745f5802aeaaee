"""Is there room for what helpers expect?"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence, Explained, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look, netns_option, set_global
from ctobserve.diagnosis.rules.tuples import CONNECTION, connection, original, protocol
from ctobserve.diagnosis.rules.words import during, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.event import DropReason, Events
from ctobserve.host.helpers import HELPERS
from ctobserve.model import ENTRY, Entries, Expectations, Mask, pick, printable

SYSCTL = "nf_conntrack_expect_max"
REFUSED = b"cannot add expectation"  # nf_ct_helper_log: what helpers say when nf_ct_expect_related refuses
LEAST = 256  # to be set: the kernel's own defaults begin near it
MOST = {helper.name: helper.most for helper in HELPERS}
OWN_PORT = re.compile(r"-[0-9]+$")  # nf_ct_helper_init: for a port that its module was given, a helper is called like sip-5061


class Full(NamedTuple):
    """A namespace with as many expectations as it may have; `refused` are the packets lost as there was no room for one more."""

    namespace: NamespaceEvidence
    expectations: Expectations
    limit: int
    refused: Events


def judge(evidence: Evidence) -> RuleResult:
    """As many expectations as nf_conntrack_expect_max, or of one master as its helper allows."""
    if evidence.expected is None:
        return Unjudged("which expectations there were is not in the recording")
    rows = evidence.expected.rows
    if not rows["netns"].all():
        return Unjudged("whose expectations there are only nf_conntrack_netlink tells, which is not loaded")
    found = _full(evidence, rows)
    if not found:
        return _crowded_master(evidence, rows)
    worst = max(found, key=lambda one: (len(one.refused), len(one.expectations)))
    everywhere = np.isin(evidence.losses["entry"]["netns"], [one.namespace.inum for one in found])
    namespace, packets = worst.namespace, len(worst.refused)
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "expectations": len(worst.expectations),
        "expectations_limit": worst.limit,
        "packets": packets,
        "packets_per_s": evidence.rate(packets),
        "packets_elsewhere": sum(len(one.refused) for one in found) - packets,
        "expect_create": None if namespace.counters is None else namespace.counters.get("expect_create"),
    }
    sentence = (
        f"the expectation table of {namespace.label} is full, {len(worst.expectations)} of {worst.limit} "
        f"({SYSCTL}): {_lost(evidence, worst.refused, numbers)}"
    )
    if len(worst.expectations):
        masters = masters_of(worst.expectations)
        groups = divide(masters, CONNECTION)
        most = groups.largest(1)[0]
        numbers |= {"masters": len(groups.counts), "expectations_of_master": int(groups.counts[most])}
        sentence += f"; {plural(len(groups.counts), 'master')}, most of {connection(masters[groups.first[most]])}"
    wanted = max(LEAST, 1 << (2 * (len(worst.expectations) + packets)).bit_length())
    do = (
        look("ctobserve", "list", "--expect", *netns_option(namespace), "--limit", 20),
        set_global(evidence, SYSCTL, wanted),
    )
    severity = Severity.CRITICAL if packets else Severity.WARNING
    return Verdict(severity, sentence, numbers, do, Explained(rows=_refused(evidence.losses) & everywhere))


def _lost(evidence: Evidence, refused: Events, numbers: VerdictEvidence) -> str:
    """What it costs, in words; of what was lost the numbers, too."""
    if not len(refused):
        return "the next connection that a helper reads of cannot be expected, and some helpers say so to nobody"
    rows = refused["entry"]
    connections = len(divide(rows, CONNECTION).counts)
    numbers |= {"connections": connections, **original(rows[0])}
    return (
        f"{plural(len(refused), 'packet')} of {plural(connections, 'connection')} dropped {during(evidence, len(refused))}, as "
        f"the connection that they announce could not be expected, the first on {connection(rows[0])}"
    )


def _full(evidence: Evidence, rows: Expectations) -> list[Full]:
    lost = pick(evidence.losses, _refused(evidence.losses))
    found = []
    for inum in np.unique(np.concatenate([rows["netns"], lost["entry"]["netns"]])).tolist():
        namespace, own = evidence.namespace(inum), pick(rows, rows["netns"] == inum)
        # Global, whether or not a namespace shows it: each has a count of its own.
        limit = namespace.sysctls.get(SYSCTL, evidence.init.sysctls.get(SYSCTL) if evidence.init else None)
        if limit is not None and len(own) >= limit:
            found.append(Full(namespace, own, limit, pick(lost, lost["entry"]["netns"] == inum)))
    return found


def _refused(losses: Events) -> Mask:
    refused: Mask = (losses["reason"] == DropReason.HELPER) & np.char.startswith(losses["text"], REFUSED)
    return refused


def _crowded_master(evidence: Evidence, rows: Expectations) -> RuleResult:
    """One with as many expectations of a class as its helper's policy has room for, where that is more than one."""
    masters = masters_of(rows)
    masters["mark"] = rows["class"]
    groups = divide(masters, (*CONNECTION, "mark"))
    for at in groups.largest().tolist():
        first, count = groups.first[at], int(groups.counts[at])
        name = printable(rows["helper"][first])
        allowed, number = MOST.get(OWN_PORT.sub("", name), ()), int(rows["class"][first])
        if number < len(allowed) and 1 < allowed[number] <= count:
            namespace, master = evidence.namespace(int(rows["netns"][first])), masters[first]
            sentence = (
                f"{connection(master)} in {namespace.label} waits for {count} connections, as many as the helper {name} allows: "
                "one more takes the place of the oldest, which is NEW when it comes, and how many did nobody counts"
            )
            numbers: VerdictEvidence = {
                "netns": namespace.inum,
                "helper_name": name,
                "expectations": len(rows),
                "expectations_of_master": count,
                "expectations_limit": allowed[number],
                **original(master),
                "proto": protocol(master),
            }
            do = (look("ctobserve", "list", "--expect", *netns_option(namespace), "--limit", 20),)
            return Verdict(Severity.NOTICE, sentence, numbers, do)
    return None


def masters_of(rows: Expectations) -> Entries:
    """The original tuple of each one's master."""
    masters = np.zeros(len(rows), ENTRY)
    masters["addr"][:, :2], masters["port"][:, :2] = rows["addr"][:, 4:], rows["port"][:, 4:]
    masters["netns"], masters["l3num"], masters["protonum"] = rows["netns"], rows["l3num"], rows["master_protonum"]
    return masters


RULES = (Rule("expect_full", judge),)
