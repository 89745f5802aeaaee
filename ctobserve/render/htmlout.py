"""The incident report as one page that stands alone: to attach to a ticket, readable without us and without a network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import groupby
from operator import itemgetter

from ctobserve.documents.report import ReportDocument
from ctobserve.render.jsonout import plain
from ctobserve.render.report import as_read, not_shown, shown

STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
section { border-left: .4em solid #888; padding: .1em 1em; margin: 1.5em 0; background: #f6f6f6 }
.critical { border-color: #b00020 } .warning { border-color: #c77700 } .healthy { border-color: #1b7a2f }
h2 { font-size: 1.05em; margin: .6em 0 }
table { border-collapse: collapse; font-size: .9em }
th { text-align: left; font-weight: normal; padding-right: 1.5em; color: #555 }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
pre { background: #222; color: #eee; padding: .6em; overflow-x: auto }"""


def page(report: ReportDocument) -> Iterable[str]:
    """Lines of an HTML document with what the JSON one says: `meta`, `verdicts`, `not_judged`."""
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>ctobserve report, {_text(report.meta.ended)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>"
    yield "<h1>Connection tracking: incident report</h1>"
    yield from _table(plain(report.meta).items())
    for row in as_read(report):
        severity = row.severity.value
        yield f'<section class="{severity}">\n<h2>{severity.upper()}: {_text(row.id)}</h2>\n<p>{_text(row.sentence)}</p>'
        yield from _table(row.evidence.items())
        for only_looks, lines in groupby(zip(row.do_only_looks, row.do, strict=True), key=itemgetter(0)):
            yield f"<p>{'To look, changing nothing' if only_looks else 'To change'}:</p>"
            yield f"<pre>{_text(chr(10).join(line for _, line in lines))}</pre>"
        yield "</section>"
    yield from (f"<p>{_text(line)}</p>" for line in not_shown(report))
    if report.not_judged:
        yield "<h2>Not judged</h2>"
        yield from _table((left.id, left.why) for left in report.not_judged)
    yield "</body>\n</html>"


def _table(pairs: Iterable[tuple[str, object]]) -> Iterable[str]:
    yield "<table>"
    yield from (f"<tr><th>{_text(name)}</th><td>{_text(shown(value))}</td></tr>" for name, value in pairs)
    yield "</table>"


def _text(value: object) -> str:
    return escape(str(value))
