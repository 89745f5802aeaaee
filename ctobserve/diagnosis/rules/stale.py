"""Do old UDP entries send packets where nobody is any more?"""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import inside
from ctobserve.diagnosis.rules.tuples import address, port, service
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict
from ctobserve.model import IPS_DST_NAT, IPS_SEEN_REPLY, UDP, Entries, Mask

SERVICE = ("netns", "dst", "dport")
BACKEND = (*SERVICE, "reply_src", "reply_sport")


def judge(evidence: Evidence) -> RuleResult:
    """Unanswered UDP entries that packets keep alive: as long as they come, the entry's old backend gets them.

    Certain where the same service is answered elsewhere and never by this backend; without such a comparison, and with NAT,
    only worth knowing: some protocols never answer.
    """
    rows = evidence.entries[evidence.entries["protonum"] == UDP]
    if not len(rows):
        return None
    kept = _refreshed(rows, evidence.before)
    if not kept.any():
        return None
    replied = (rows["status"] & IPS_SEEN_REPLY) != 0
    services, backends = divide(rows, SERVICE), divide(rows, BACKEND)
    answered = (services.sums(replied) > 0)[services.labels]
    silent = (backends.sums(replied) == 0)[backends.labels]
    stale, mapped = kept & answered & silent, kept & ((rows["status"] & IPS_DST_NAT) != 0)
    severity, found = (Severity.WARNING, stale) if stale.any() else (Severity.NOTICE, mapped)
    if not found.any():
        return None
    chosen = rows[found]
    groups = divide(chosen, BACKEND)
    first = chosen[groups.first[groups.largest(1)[0]]]
    namespace, entries = evidence.namespace(int(first["netns"])), int(found.sum())
    dst, dport = address(first, "dst"), port(first, "dport")
    backend, backend_port = address(first, "reply_src"), port(first, "reply_sport")
    sentence = (
        f"{plural(entries, 'old UDP entry', 'old UDP entries')} in {namespace.label} kept alive by unanswered packets, most to "
        f"{service(dst, dport, 'udp')} by way of {service(backend, backend_port, 'udp')}"
    )
    if severity is Severity.WARNING:
        sentence += ", which answers nobody, while others get answers elsewhere: their rule changed, and the entry still holds"
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": entries,
        "dst": dst,
        "dport": dport,
        "backend": backend,
        "backend_port": backend_port,
        "answered_elsewhere": bool(stale.any()),
    }
    delete = inside(namespace, "conntrack", "-D", "-p", "udp", "-d", dst, "--dport", dport, "--reply-src", backend)
    return Verdict(severity, sentence, numbers, (delete,))


def _refreshed(rows: Entries, before: Entries) -> Mask:
    """Which of these unanswered entries were there at the start and expire later now than they would have then."""
    result = np.zeros(len(rows), np.bool_)
    at = np.flatnonzero((rows["status"] & IPS_SEEN_REPLY) == 0)
    before = before[before["protonum"] == UDP]
    if not len(at) or not len(before):
        return result
    before = before[np.argsort(before["ct"], kind="stable")]
    place = np.minimum(np.searchsorted(before["ct"], rows["ct"][at]), len(before) - 1)
    old, new = before[place], rows[at]
    same = (old["ct"] == new["ct"]) & (old["port"] == new["port"]).all(axis=1) & (old["addr"] == new["addr"]).all(axis=(1, 2))
    later = (new["timeout"] - old["timeout"]).astype(np.int32) > 0
    result[at] = same & later
    return result


RULES = (Rule("stale_udp", judge),)
