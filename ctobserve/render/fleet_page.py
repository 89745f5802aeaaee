"""The answer of a fleet as one page that stands alone: a chart, and the rows in a table that can be sorted."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.documents.fleet import FleetDocument, Question
from ctobserve.render.assets import asset, styles, uplot
from ctobserve.render.fleet import NOTHING, covered_words, notes, to_second
from ctobserve.render.fleet_charts import FleetChart, chart_of
from ctobserve.render.htmlout import as_data, head
from ctobserve.render.jsonout import plain
from ctobserve.render.markup import Markup, folded_away, pairs, scrolled, table, text


def fleet_page(found: FleetDocument, question: Question) -> Iterable[Markup]:
    """Lines of an HTML document with what the JSON one says."""
    drawn = chart_of(question.chart, found) if question.chart else None
    style = styles("page.css", "uPlot.min.css")
    scripts = (uplot(), asset("fleet.js"), asset("tables.js"))
    yield from head(f"ctobserve fleet: {found.says}", style, scripts)
    yield f"<header>\n<h1>{text(found.says)}</h1>\n<p>{text(covered_words(found))}; {text(found.dataset)}</p>\n</header>\n<main>"
    if question.more:
        yield f"<p>{text(question.more)}</p>"
    if drawn:
        yield from _figure(drawn)
    if found.rows:
        yield from _rows(found)
    else:
        yield f"<p>{text(NOTHING)}</p>"
    yield from (f"<p>{text(line)}</p>" for line in notes(found))
    yield "<h2>About this page</h2>"
    asked = {**plain(found.meta), **{f"parameter {name}": value for name, value in found.parameters.items()}}
    yield folded_away("Who says it, and how it was asked", pairs(asked.items()))
    yield folded_away("The SQL", f"<pre>{text(question.sql)}</pre>")
    yield f'</main>\n<script type="application/json" id="chart">{as_data(drawn)}</script>'
    yield from (f"<script>{script}</script>" for script in scripts)
    yield "</body>\n</html>"


def _figure(drawn: FleetChart) -> Iterable[Markup]:
    more = f"; {drawn.left_out} more are in the table alone" if drawn.left_out else ""
    says = f"{drawn.y} by {drawn.x}: {', '.join(f'{name} {sum(numbers):g}' for name, numbers in drawn.sorts.items())}{more}"
    yield "<noscript><p>The chart needs JavaScript; its numbers are in the table below it.</p></noscript>"
    yield f"<figure>\n<figcaption>{text(says)}</figcaption>\n"
    yield f'<div class="chart" data-says="{text(says)}"></div>\n</figure>'


def _rows(found: FleetDocument) -> Iterable[Markup]:
    names = [column.name for column in found.columns]
    says = f"{found.says} {covered_words(found)}"
    yield scrolled(says, table(says, names, ([to_second(row[name]) for name in names] for row in found.rows)))
    yield "<h2>Columns</h2>"
    yield pairs((column.name, column.says) for column in found.columns)
