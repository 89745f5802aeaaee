"""Is there any rule that needs the tracking?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import look_inside
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict
from ctobserve.host.ruleset import Ruleset

CONSIDERABLE = 100  # entries of a namespace: fewer cost next to nothing


def judge(evidence: Evidence) -> RuleResult:
    """Entries in a namespace none of whose rules uses them; a NAT chain alone, even an empty one, switches tracking on."""
    asked = [
        (namespace, namespace.ruleset)
        for namespace in evidence.namespaces.values()
        if namespace.ruleset and evidence.counts.get(namespace.inum, 0) >= CONSIDERABLE
    ]
    read = [(namespace, rules) for namespace, rules in asked if not rules.unread]
    if not asked:
        return Unjudged("no namespace has entries enough to ask for its rules")
    unneeded = [(namespace, rules) for namespace, rules in read if not rules.needing]
    if not unneeded:
        return next((Unjudged(rules.unread) for _, rules in asked if rules.unread), None)
    namespace, rules = max(unneeded, key=lambda pair: evidence.counts[pair[0].inum])
    return _verdict(evidence, namespace, rules)


def _verdict(evidence: Evidence, namespace: NamespaceEvidence, rules: Ruleset) -> Verdict:
    entries = evidence.counts[namespace.inum]
    chains = f" (tracking is on for {plural(rules.chains, 'NAT chain')})" if rules.chains else ""
    sentence = (
        f"{namespace.label} tracks {plural(entries, 'connection')} and none of its {plural(rules.rules, 'firewall rule')} uses "
        f"them{chains}: every packet pays for a lookup that nothing reads"
    )
    if rules.built_in:
        sentence += f", unless {' or '.join(rules.built_in)}, built into this kernel, is in use: that was not asked"
    numbers: VerdictEvidence = {
        "netns": namespace.inum,
        "entries": entries,
        "rules": rules.rules,
        "nat_chains": rules.chains,
        "built_in": list(rules.built_in),
    }
    return Verdict(Severity.NOTICE, sentence, numbers, (look_inside(namespace, "nft", "list", "ruleset"),))


RULES = (Rule("tracking_unneeded", judge),)
