"""Which settings blind other tools?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import set_sysctl
from ctobserve.diagnosis.rules.words import plural, unreadable
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict

Setting = Literal["nf_conntrack_events", "nf_conntrack_acct"]


def _off(name: Setting, blind: str) -> Callable[[Evidence], RuleResult]:
    def judge(evidence: Evidence) -> RuleResult:
        known = [namespace for namespace in evidence.namespaces.values() if name in namespace.sysctls]
        if not known:
            return Unjudged(f"{name} could not be read in any namespace")
        off = [namespace for namespace in known if namespace.sysctls[name] == 0]
        # Where nothing is tracked nothing is missed.
        off = [namespace for namespace in off if evidence.counts.get(namespace.inum)]
        if not off:
            return unreadable(evidence, name)
        entries = sum(evidence.counts[namespace.inum] for namespace in off)
        many = f"{off[0].label} and {plural(len(off) - 1, 'other namespace')}" if len(off) > 1 else off[0].label
        sentence = f"{name} is 0 in {many}, with {plural(entries, 'entry', 'entries')}: {blind}"
        numbers: VerdictEvidence = {"netns": off[0].inum, "namespaces": len(off), "entries": entries}
        numbers[name] = 0
        return Verdict(Severity.NOTICE, sentence, numbers, (set_sysctl(_first(off), name, 1),))

    return judge


def _first(namespaces: list[NamespaceEvidence]) -> NamespaceEvidence:
    return next((namespace for namespace in namespaces if namespace.init), namespaces[0])


RULES = (
    Rule("events_off", _off("nf_conntrack_events", "conntrack -E, conntrackd and flow loggers hear nothing of them")),
    Rule("acct_off", _off("nf_conntrack_acct", "packets and bytes of a connection are not counted; new entries only, once set")),
)
