"""Does the kernel evict entries to make room?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import raise_limit
from ctobserve.diagnosis.rules.unlisted import missing, see_holders
from ctobserve.diagnosis.rules.words import during, plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Verdict


def judge(evidence: Evidence) -> RuleResult:
    """Entries that early_drop evicted for new ones, and the gc worker above 95 % of the limit, which no counter shows."""
    evicted = {inum: evidence.evicted(inum) for inum in evidence.destroys}
    worst = max(evicted, key=lambda inum: sum(evicted[inum]), default=0)
    if not evicted or not sum(evicted[worst]):
        return None
    namespace = evidence.namespace(worst)
    early, by_gc = evicted[worst]
    sentence = (
        f"{namespace.label} runs at its limit: {plural(early + by_gc, 'living entry', 'living entries')} evicted "
        f"{during(evidence, early + by_gc)}, {early} by early drop for new connections, {by_gc} by the gc worker, which moves no "
        "counter; their connections lose their NAT and their state"
    )
    numbers: VerdictEvidence = {
        "netns": worst,
        "evicted": early + by_gc,
        "evicted_per_s": evidence.rate(early + by_gc),
        "early_drop": early,
        "gc_early_drop": by_gc,
        "evicted_elsewhere": sum(map(sum, evicted.values())) - early - by_gc,
        "entries": namespace.count,
        "limit": namespace.limit,
        "kernel_early_drop": None if namespace.counters is None else namespace.counters.get("early_drop"),
    }
    limit = namespace.limit
    do: tuple[str, ...] = see_holders(namespace) if missing(namespace) else ()
    if limit:
        do += raise_limit(evidence, namespace, 2 * limit)
    return Verdict(Severity.WARNING, sentence, numbers, do)


RULES = (Rule("early_drop", judge),)
