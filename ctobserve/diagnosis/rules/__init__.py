"""The rules of `ctobserve report`: each a pure function of the evidence, listed here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.rules import (
    chains,
    clash,
    eviction,
    floods,
    full,
    healthy,
    idle,
    invalid,
    limits,
    loss,
    settings,
    shares,
    stale,
    unexplained,
    unneeded,
    unseen,
    untracked,
)
from ctobserve.diagnosis.verdict import Finding, Rule, Severity, Unjudged, Verdict

RULES: tuple[Rule, ...] = (
    *full.RULES,
    *eviction.RULES,
    *chains.RULES,
    *clash.RULES,
    *invalid.RULES,
    *floods.RULES,
    *shares.RULES,
    *idle.RULES,
    *stale.RULES,
    *limits.RULES,
    *loss.RULES,
    *untracked.RULES,
    *settings.RULES,
    *unneeded.RULES,
    *unseen.RULES,
    unexplained.RULE,
)
ORDER = list(Severity)


@dataclass(frozen=True)
class Judgement:
    """By id: what the rules found, the gravest first, and why those that could not judge were silent."""

    verdicts: dict[str, Verdict]
    not_judged: dict[str, str]


def judge(evidence: Evidence) -> Judgement:
    """Ask every rule, the last one of what the others leave; where none has a reason to warn, ask whether that is health."""
    findings: dict[str, Finding] = {rule.id: rule.judge(evidence) for rule in RULES if rule is not unexplained.RULE}
    told = [finding.explains for finding in findings.values() if isinstance(finding, Verdict)]
    findings[unexplained.RULE.id] = unexplained.RULE.judge(evidence.without(told))
    found = [finding for finding in findings.values() if isinstance(finding, Verdict)]
    if all(verdict.severity is Severity.NOTICE for verdict in found):
        findings[healthy.ID] = healthy.judge(evidence, [name for name, one in findings.items() if isinstance(one, Verdict)])
    verdicts = {name: finding for name, finding in findings.items() if isinstance(finding, Verdict)}
    return Judgement(
        dict(sorted(verdicts.items(), key=lambda pair: ORDER.index(pair[1].severity))),
        {name: finding.why for name, finding in findings.items() if isinstance(finding, Unjudged)},
    )
