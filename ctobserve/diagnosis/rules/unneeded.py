"""Is there any rule that needs the tracking?"""

from __future__ import annotations

from ctobserve.diagnosis.evidence import Evidence, Space
from ctobserve.diagnosis.rules.paste import inside
from ctobserve.diagnosis.rules.words import plural
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict
from ctobserve.host.ruleset import Ruleset


def judge(evidence: Evidence) -> Finding:
    """Entries in a namespace none of whose rules uses them; a NAT chain alone, even an empty one, switches tracking on."""
    asked = [(space, space.ruleset) for space in evidence.spaces.values() if space.ruleset and evidence.counts.get(space.inum)]
    read = [(space, rules) for space, rules in asked if not rules.unread]
    if not asked:
        return Unjudged("no namespace has entries enough to ask for its rules")
    unneeded = [(space, rules) for space, rules in read if not rules.needing]
    if not unneeded:
        return next((Unjudged(rules.unread) for _, rules in asked if rules.unread), None)
    space, rules = max(unneeded, key=lambda pair: evidence.counts[pair[0].inum])
    return _say(evidence, space, rules)


def _say(evidence: Evidence, space: Space, rules: Ruleset) -> Verdict:
    entries = evidence.counts[space.inum]
    chains = f" (tracking is on for {plural(rules.chains, 'NAT chain')})" if rules.chains else ""
    sentence = (
        f"{space.label} tracks {plural(entries, 'connection')} and none of its {plural(rules.rules, 'firewall rule')} uses them"
        f"{chains}: every packet pays for a lookup that nothing reads"
    )
    if rules.built_in:
        sentence += f", unless {' or '.join(rules.built_in)}, built into this kernel, is in use: that was not asked"
    numbers = {
        "netns": space.inum,
        "entries": entries,
        "rules": rules.rules,
        "nat_chains": rules.chains,
        "built_in": list(rules.built_in),
    }
    return Verdict(Severity.NOTICE, sentence, numbers, (inside(space, "nft", "list", "ruleset"),))


RULES = (Rule("tracking_unneeded", judge),)
