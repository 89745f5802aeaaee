"""Has a namespace less room than the first one?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import set_sysctl
from ctobserve.diagnosis.rules.words import percent, unreadable
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict

HALF = 0.5  # of its own limit: from there on the smaller limit will be met first


def judge(evidence: Evidence) -> RuleResult:
    """Since nf_conntrack_max is a namespace's own, the smaller of its value and the first namespace's holds."""
    init = evidence.init
    if init is None or init.own_limit is None:
        return Unjudged("the limit of the first namespace is not known")
    lower = [
        namespace
        for namespace in evidence.namespaces.values()
        if namespace.own_limit and namespace.own_limit < init.own_limit and namespace.count is not None
    ]
    if not lower:
        return unreadable(evidence, "nf_conntrack_max")
    namespace = max(lower, key=lambda one: (one.count or 0) / (one.limit or 1))
    count, limit = namespace.count or 0, namespace.limit or 1
    sentence = (
        f"{namespace.label} may have {limit} entries, fewer than the {init.own_limit} of the first namespace, and has {count} "
        f"({percent(count, limit)}); namespaces with a lower limit: {len(lower)}"
    )
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "limit": limit,
        "limit_init": init.own_limit,
        "entries": count,
        "namespaces": len(lower),
    }
    severity = Severity.WARNING if count >= HALF * limit else Severity.NOTICE
    return Verdict(severity, sentence, numbers, (set_sysctl(namespace, "nf_conntrack_max", init.own_limit),))


RULES = (Rule("netns_limit", judge),)
