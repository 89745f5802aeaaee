"""The rules of `ctobserve report`: each a pure function of the evidence, listed here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from ctobserve.evidence import Evidence
from ctobserve.rules import (
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
    unneeded,
    untracked,
)
from ctobserve.verdict import Rule, Severity, Unjudged, Verdict

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
)
ORDER = list(Severity)


@dataclass(frozen=True)
class Judgement:
    """By id: what the rules found, the gravest first, and why those that could not judge were silent."""

    verdicts: dict[str, Verdict]
    not_judged: dict[str, str]


def judge(evidence: Evidence) -> Judgement:
    """Ask every rule; where none has a reason to warn, say that the table is healthy."""
    findings = {rule.id: rule.judge(evidence) for rule in RULES}
    found = {name: finding for name, finding in findings.items() if isinstance(finding, Verdict)}
    if all(verdict.severity is Severity.NOTICE for verdict in found.values()):
        found[healthy.ID] = healthy.judge(evidence)
    verdicts = dict(sorted(found.items(), key=lambda pair: ORDER.index(pair[1].severity)))
    return Judgement(verdicts, {name: finding.why for name, finding in findings.items() if isinstance(finding, Unjudged)})
