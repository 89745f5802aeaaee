"""The incident report as one page that stands alone: to attach to a ticket, readable without us and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.buckets import BucketsDocument
from ctobserve.documents.meta import Meta
from ctobserve.documents.report import ReportDocument
from ctobserve.documents.verdicts import VerdictRow
from ctobserve.render.assets import asset, policy, styles, uplot
from ctobserve.render.figures import at_a_glance, chains, groups, lifetimes, over_time, settings
from ctobserve.render.jsonout import plain
from ctobserve.render.markup import Markup, folded_away, pairs, text
from ctobserve.render.report import as_read, evidence_of, not_shown

# A shape for each severity, beside its word: who sees no colours sees an octagon, a triangle, a circle, a tick.
SHAPES = {
    Severity.CRITICAL: '<path d="M7 1h10l6 6v10l-6 6H7l-6-6V7z" fill="currentColor"/><path d="M12 5v9M12 16.5v2.5" {}/>',
    Severity.WARNING: '<path d="M12 1l11.5 21H.5z" fill="currentColor"/><path d="M12 8v7M12 17v2.5" {}/>',
    Severity.NOTICE: '<circle cx="12" cy="12" r="10.5" fill="currentColor"/><path d="M12 10.5v8M12 5.5v2.5" {}/>',
    Severity.HEALTHY: '<rect x="1" y="1" width="22" height="22" rx="4" fill="currentColor"/><path d="M6 12l4.5 5L18 7.5" {}/>',
}
RESTS = "What it rests on"
STROKE = 'fill="none" stroke="Canvas" stroke-width="2.6"'


def page(report: ReportDocument) -> Iterable[str]:
    """Lines of an HTML document with what the JSON one says."""
    style = styles("page.css", "hash.css", "uPlot.min.css")
    scripts = (uplot(), asset("page.js"), asset("tables.js"))
    worst = report.verdicts[0].severity.value.upper() if report.verdicts else "no verdict"
    yield from head(f"{worst}: ctobserve report, {report.meta.ended}", style, scripts)
    yield "<header>\n<h1>Connection tracking: incident report</h1>"
    yield f"<p>{_when(report.meta)}</p>\n</header>\n<main>"
    rows = as_read(report)
    yield '<div class="first">'
    yield from (_verdict(row) for row in rows[:1])
    yield at_a_glance(report)
    yield '<div class="rest">'
    yield from (_verdict(row) for row in rows[1:])
    yield from (f"<p>{text(line)}</p>" for line in not_shown(report))
    yield "</div>\n</div>"
    yield from over_time(report.figures)
    yield from chains(report.figures.chains)
    yield from groups(report.figures, report.meta.labels)
    yield from lifetimes(report.figures)
    yield from settings(report.figures)
    if report.not_judged:
        yield "<h2>Not judged</h2>"
        yield pairs((left.id, left.why) for left in report.not_judged)
    yield "<h2>About this report</h2>"
    yield folded_away("Who says it, and what makes it doubtful", pairs(plain(report.meta).items()))
    yield f'</main>\n<script type="application/json" id="figures">{as_data(report.figures)}</script>'
    yield from (f"<script>{script}</script>" for script in scripts)
    yield "</body>\n</html>"


def buckets_page(found: BucketsDocument) -> Iterable[str]:
    """Lines of an HTML document with the two pictures of the hash and the numbers behind them."""
    style = styles("page.css", "hash.css")
    yield from head(f"ctobserve buckets, {found.meta.ended}", style, ())
    yield "<header>\n<h1>Connection tracking: the hash</h1>"
    yield f"<p>{_when(found.meta)}</p>\n</header>\n<main>"
    yield from chains(found)
    yield "<h2>About this page</h2>"
    yield folded_away("Who says it, and what makes it doubtful", pairs(plain(found.meta).items()))
    yield "</main>\n</body>\n</html>"


def head(title: str, style: str, scripts: Iterable[str]) -> Iterable[Markup]:
    """What a page begins with: it runs these scripts, and asks for nothing."""
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{text(policy(style, scripts))}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>"


def _when(meta: Meta) -> Markup:
    of = (
        "all network namespaces"
        if meta.netns == "all"
        else f"network namespace {meta.netns_names.get(str(meta.netns), meta.netns)}"
    )
    began, ended = (at.partition(".")[0].replace("T", " ") for at in (meta.started, meta.ended))
    return text(f"{began} to {ended} UTC, {meta.duration_s} s; {of}; kernel {meta.kernel}")


def _verdict(row: VerdictRow) -> Markup:
    """What is wrong and what to do; of what is merely worth knowing the latter is folded away."""
    severity = row.severity.value
    lines = []
    for only_looks, alike in groupby(zip(row.do_only_looks, row.do, strict=True), key=itemgetter(0)):
        lines.append(f"<p>{'To look, changing nothing' if only_looks else 'To change'}:</p>")
        lines.append(f"<pre>{text(chr(10).join(line for _, line in alike))}</pre>")
    evidence = pairs(evidence_of(row))
    notice = row.severity is Severity.NOTICE
    rest = (
        (folded_away("What to do, and what it rests on", *lines, evidence),) if notice else (*lines, folded_away(RESTS, evidence))
    )
    return "\n".join(
        (
            f'<section class="verdict {severity}">',
            f'<svg viewBox="0 0 24 24" aria-hidden="true">{SHAPES[row.severity].format(STROKE)}</svg>',
            f'<h2>{severity.upper()}: {text(row.id)}</h2>\n<p class="sentence">{text(row.sentence)}</p>',
            *rest,
            "</section>",
        )
    )


def as_data(value: object) -> str:
    """JSON that ends no script and begins no comment, whatever is in it."""
    made = json.dumps(plain(value), separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        made = made.replace(character, f"\\u{ord(character):04x}")
    return made
