"""The incident report as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.verdicts import Judged, VerdictRow
from ctobserve.host.owner import HOST
from ctobserve.render.folding import filled, folded


def not_shown(report: Judged) -> Iterable[str]:
    """What --limit left out."""
    if report.verdicts_not_shown:
        yield f"... and {report.verdicts_not_shown} more verdicts (--limit)"


def as_read(report: Judged) -> list[VerdictRow]:
    """Verdicts as people read them: what is wrong, or that nothing is, and only then what is merely worth knowing."""
    return sorted(report.verdicts, key=lambda row: row.severity is Severity.NOTICE)


def evidence_of(row: VerdictRow) -> list[tuple[str, object]]:
    """By its names, what a verdict rests on; behind the namespace who owns it, unless it is the host."""
    found: list[tuple[str, object]] = []
    for name, value in row.evidence.items():
        found.append((name, value))
        if name == "netns" and row.owner not in (None, HOST.label):
            found.append(("owner", row.owner))
    return found


def report_lines(report: Judged) -> Iterable[str]:
    """A line or two for each verdict, what it rests on, and lines to paste; last what could not be judged."""
    for row in as_read(report):
        yield from folded(f"{row.severity.value.upper():<8}  {row.id}: {row.sentence}", " " * 10)
        evidence = [f"{name}={shown(value)}" for name, value in evidence_of(row)]
        yield from filled(evidence, "            ")
        # Lines to paste stay whole, whatever their length.
        for line, only_looks in zip(row.do, row.do_only_looks, strict=True):
            yield f"          {'look:' if only_looks else '$'} {line}"
        yield ""
    yield from not_shown(report)
    for left in report.not_judged:
        yield from folded(f"not judged: {left.id}: {left.why}", " " * 12)


def shown(value: object) -> str:
    """A value of the evidence or of meta as people read it; `-` for unknown and for none."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(map(shown, value)) or "-"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if value == 0 or value >= 0.001 else f"{value:.2g}"
    return "-" if value is None else str(value)
