"""Do old UDP entries send packets to a backend that answers nobody any more?"""

from __future__ import annotations

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.by_rules import Judged
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.mappings import BACKEND
from ctobserve.diagnosis.rules.paste import inside, look_inside, zone_option
from ctobserve.diagnosis.rules.tuples import address, port, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_DST_NAT, UDP, Mask


def judge_udp(evidence: Evidence) -> RuleResult:
    """Unanswered UDP entries that packets keep alive: as long as they come, the entry's old backend gets them.

    Certain where new packets are mapped elsewhere and answered there, and this backend answers nobody. Where the rules are not
    known and there is nobody to compare with, only the fact is told: some protocols never answer.
    """
    found = evidence.mappings
    kept: Mask = found.kept & (found.rows["protonum"] == UDP)
    stale = answered_elsewhere(evidence)
    untold: Mask = kept & found.judged(Judged.UNKNOWN) & ((found.rows["status"] & IPS_DST_NAT) != 0)
    chosen = stale if stale.any() else untold
    if not chosen.any():
        return None
    rows = found.rows[chosen]
    groups = divide(rows, BACKEND)
    at = int(groups.first[groups.largest(1)[0]])
    first, namespace, entries = rows[at], evidence.namespace(int(rows["netns"][at])), len(rows)
    dst, dport = address(first, "dst"), port(first, "dport")
    backend, backend_port = address(first, "reply_src"), port(first, "reply_sport")
    way = f"{service(dst, dport, 'udp')} by way of {service(backend, backend_port, 'udp')}"
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": entries,
        "dst": dst,
        "dport": dport,
        "backend": backend,
        "backend_port": backend_port,
        "answered_elsewhere": bool(stale.any()),
    }
    if not stale.any():
        why = found.expected[int(found.groups.labels[chosen][at])].why
        sentence = (
            f"{plural(entries, 'UDP entry', 'UDP entries')} in {namespace.label} got packets and no answer, most to {way}, as is "
            f"normal where nobody answers (syslog, statsd); whether new packets go there too is not known: {why}"
        )
        return Verdict(Severity.NOTICE, sentence, numbers, (look_inside(namespace, "nft", "list", "ruleset"),))
    sentence = (
        f"{plural(entries, 'old UDP entry', 'old UDP entries')} in {namespace.label} kept alive by unanswered packets, most to "
        f"{way}, which answers nobody, while others get answers elsewhere: their rule changed, and the entry still holds"
    )
    which = ("-p", "udp", "-d", dst, "--dport", dport, "--reply-src", backend, *zone_option(evidence, int(first["zone"])))
    return Verdict(Severity.WARNING, sentence, numbers, (inside(namespace, "conntrack", "-D", *which),))


def answered_elsewhere(evidence: Evidence) -> Mask:
    """UDP entries kept alive for a backend that answers nobody, while new packets go to another and get answers."""
    found = evidence.mappings
    stale: Mask = found.judged(Judged.OTHER) & found.kept & found.answered & (found.rows["protonum"] == UDP)
    return stale


RULES = (Rule("stale_udp", judge_udp),)
