"""Has a namespace less room than the first one?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.rules.paste import set_sysctl
from ctobserve.diagnosis.rules.words import percent, unreadable
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict

HALF = 0.5  # of its own limit: from there on the smaller limit will be met first


def judge(evidence: Evidence) -> Finding:
    """Since nf_conntrack_max is a namespace's own, the smaller of its value and the first namespace's holds."""
    init = evidence.init
    if init is None or init.limit is None:
        return Unjudged("the limit of the first namespace is not known")
    lower = [space for space in evidence.spaces.values() if space.limit and space.limit < init.limit and space.count is not None]
    if not lower:
        return unreadable(evidence, "nf_conntrack_max")
    space = max(lower, key=lambda one: (one.count or 0) / (one.limit or 1))
    count, limit = space.count or 0, space.limit or 1
    sentence = (
        f"{space.label} may have {limit} entries, fewer than the {init.limit} of the first namespace, and has {count} "
        f"({percent(count, limit)}); namespaces with a lower limit: {len(lower)}"
    )
    numbers = {"netns": space.inum, "limit": limit, "limit_init": init.limit, "entries": count, "namespaces": len(lower)}
    severity = Severity.WARNING if count >= HALF * limit else Severity.NOTICE
    return Verdict(severity, sentence, numbers, (set_sysctl(space, "nf_conntrack_max", init.limit),))


RULES = (Rule("netns_limit", judge),)
