"""The incident report: verdicts as lines for people, and as rows of the JSON contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctobserve.diagnosis.rules import Judgement
from ctobserve.render.folding import filled, folded


def as_rows(judgement: Judgement, limit: int | None = None) -> dict[str, Any]:
    """`verdicts`, `verdicts_not_shown` and `not_judged` of the contract; no more verdicts than `limit`."""
    verdicts = list(judgement.verdicts.items())
    return {
        "verdicts": [
            {
                "id": name,
                "severity": verdict.severity.value,
                "sentence": verdict.sentence,
                "evidence": dict(verdict.evidence),
                "do": list(verdict.do),
            }
            for name, verdict in verdicts[:limit]
        ],
        "verdicts_not_shown": len(verdicts) - len(verdicts[:limit]),
        "not_judged": [{"id": name, "why": why} for name, why in judgement.not_judged.items()],
    }


def not_shown(report: Mapping[str, Any]) -> Iterable[str]:
    """What --limit left out."""
    if report["verdicts_not_shown"]:
        yield f"... and {report['verdicts_not_shown']} more verdicts (--limit)"


def report_lines(report: Mapping[str, Any]) -> Iterable[str]:
    """A line or two for each verdict, what it rests on, and lines to paste; last what could not be judged."""
    for row in report["verdicts"]:
        yield from folded(f"{row['severity'].upper():<8}  {row['id']}: {row['sentence']}", " " * 10)
        evidence = [f"{name}={shown(value)}" for name, value in row["evidence"].items()]
        yield from filled(evidence, "            ")
        # Lines to paste stay whole, whatever their length.
        yield from (f"          $ {line}" for line in row["do"])
        yield ""
    yield from not_shown(report)
    for row in report["not_judged"]:
        yield from folded(f"not judged: {row['id']}: {row['why']}", " " * 12)


def shown(value: Any) -> str:
    """A value of the evidence or of meta as people read it; `-` for unknown and for none."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(map(shown, value)) or "-"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if value == 0 or value >= 0.001 else f"{value:.2g}"
    return "-" if value is None else str(value)
