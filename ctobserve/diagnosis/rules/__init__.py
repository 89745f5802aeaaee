"""The rules of `ctobserve report`: each a pure function of the evidence, listed here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.rules import (
    bridged,
    chains,
    checksum,
    clash,
    deleted,
    eviction,
    expectations,
    floods,
    full,
    hairpin,
    healthy,
    helpers,
    icmp,
    idle,
    invalid,
    late,
    limits,
    loss,
    offload,
    older,
    piles,
    settings,
    shares,
    silent,
    stale,
    tunnels,
    unanswered,
    unexplained,
    unlisted,
    unneeded,
    unseen,
    untracked,
    untranslated,
)
from ctobserve.diagnosis.verdict import Rule, RuleResult, Severity, Unjudged, Verdict

RULES: tuple[Rule, ...] = (
    *full.RULES,
    *unlisted.RULES,
    *eviction.RULES,
    *deleted.RULES,
    *chains.RULES,
    *clash.RULES,
    *invalid.RULES,
    *untranslated.RULES,
    *late.RULES,
    *icmp.RULES,
    *checksum.RULES,
    *floods.RULES,
    *unanswered.RULES,
    *shares.RULES,
    *piles.RULES,
    *tunnels.RULES,
    *idle.RULES,
    *stale.RULES,
    *older.RULES,
    *hairpin.RULES,
    *expectations.RULES,
    *helpers.RULES,
    *limits.RULES,
    *loss.RULES,
    *silent.RULES,
    *bridged.RULES,
    *untracked.RULES,
    *offload.RULES,
    *unneeded.RULES,
    *unseen.RULES,
    # What is off explains nothing that happened: it comes behind all that does.
    *settings.RULES,
    unexplained.RULE,
)
ORDER = list(Severity)


class Judgement(NamedTuple):
    """By the rule's id: verdicts, the most severe first, and why those rules that could not judge were silent."""

    verdicts: Mapping[str, Verdict]
    not_judged: Mapping[str, str]


def judge(evidence: Evidence) -> Judgement:
    """Ask every rule, the last one of what the others leave; where none has a reason to warn, ask whether that is health."""
    results: dict[str, RuleResult] = {rule.id: rule.judge(evidence) for rule in RULES if rule is not unexplained.RULE}
    results[unexplained.RULE.id] = unexplained.RULE.judge(evidence.without(one.explains for one in _verdicts(results).values()))
    found = _verdicts(results)
    if all(verdict.severity is Severity.NOTICE for verdict in found.values()):
        results[healthy.ID] = healthy.judge(evidence, list(found))
    return Judgement(
        dict(sorted(_verdicts(results).items(), key=lambda pair: ORDER.index(pair[1].severity))),
        {name: result.why for name, result in results.items() if isinstance(result, Unjudged)},
    )


def _verdicts(results: Mapping[str, RuleResult]) -> dict[str, Verdict]:
    return {name: result for name, result in results.items() if isinstance(result, Verdict)}
