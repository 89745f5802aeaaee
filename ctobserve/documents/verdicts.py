"""What is wrong, what it rests on, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from ctobserve.capture.capture import Capture
from ctobserve.capture.watch import Stretch, watch
from ctobserve.diagnosis.collect import Collector
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules import Judgement, judge
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.base import doc
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose

# What a capture looks for that is judged; INVALID beside it where invalid packets are.
JUDGED = Purpose.TABLE | Purpose.DROPS | Purpose.UNCONFIRMED


@dataclass(frozen=True)
class VerdictRow:
    """What one rule found."""

    id: str = doc("the rule's name")
    severity: Severity = doc("critical: packets are lost now; warning; notice: worth knowing; healthy")
    sentence: str = doc("what is wrong, with the numbers in it")
    evidence: VerdictEvidence = doc("the same as numbers, and the addresses, ports and namespace they belong to; null: unknown")
    do: tuple[str, ...] = doc("lines to paste, to be read first")
    do_only_looks: tuple[bool, ...] = doc("of each line of `do`, whether it only shows something and changes nothing")
    owner: str | None = doc("who owns the namespace `evidence.netns` (docs/owner.md); null: not known, or it is of no single one")


@dataclass(frozen=True)
class NotJudged:
    """A rule that lacks its data."""

    id: str = doc("the rule's name")
    why: str = doc("what it lacks")


@dataclass(frozen=True)
class Judged:
    """Verdicts on one stretch of time, the most severe first."""

    meta: Meta = doc("who says it, and what makes it doubtful")
    verdicts: tuple[VerdictRow, ...] = doc("the most severe first, each id at most once; no more than `--limit`")
    verdicts_not_shown: int = doc("verdicts beyond `--limit`")
    not_judged: tuple[NotJudged, ...] = doc("rules that gave no verdict for want of data")


def collect_verdicts(capture: Capture, request: Request, stretch: Stretch, invalid: bool) -> Judged:
    """Judge what happens in this stretch of time; `invalid`: the capture sees invalid packets too."""
    collector = Collector(capture, request.filter, invalid)
    for events in watch(capture, stretch):
        collector.add(events)
    collector.end()
    return judged(capture, request, collector)[0]


def judged(capture: Capture, request: Request, collector: Collector) -> tuple[Judged, Evidence]:
    """What was collected, whose end this is; and what it rests on."""
    meta = meta_of("report", capture, request)
    # Of the same instant: what comes while the namespaces are asked is no part of this, and nobody need keep it.
    capture.cease()
    evidence = collector.evidence()
    return judged_of(meta, judge(evidence), request.limit), evidence


def judged_of(meta: Meta, judgement: Judgement, limit: int | None = None) -> Judged:
    """What was judged, with no more verdicts than `limit`."""
    rows = [
        VerdictRow(
            name,
            verdict.severity,
            verdict.sentence,
            verdict.evidence,
            tuple(map(str, verdict.do)),
            verdict.do_only_looks,
            _owner(meta, verdict.evidence.get("netns")),
        )
        for name, verdict in judgement.verdicts.items()
    ]
    shown = tuple(rows[:limit])
    not_judged = tuple(NotJudged(name, why) for name, why in judgement.not_judged.items())
    return Judged(meta, shown, len(rows) - len(shown), not_judged)


def _owner(meta: Meta, netns: object) -> str | None:
    return meta.owners.get(netns) if isinstance(netns, int) else None
