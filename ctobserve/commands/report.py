"""ctobserve report: what is wrong, in sentences, with the evidence and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import click

from ctobserve.commands.options import LIMIT, OF_NETNS, OF_TUPLE, SOURCE, chosen_form, common_options
from ctobserve.commands.session import observe, out
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.collect import Collector, Scope
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose
from ctobserve.render.htmlout import page
from ctobserve.render.jsonout import document
from ctobserve.render.report import as_rows, report_lines

DEFAULT_S = 5.0
FORMS: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "text": report_lines,
    "json": lambda body: [document(body)],
    "html": page,
}


@click.command()
@click.option("--no-invalid", is_flag=True, help="Spare the probe per packet: invalid packets are not judged.")
@click.option(
    "--format", "form", type=click.Choice(list(FORMS)), metavar="text|json|html", help="html: one page alone. Default: text."
)
@common_options(OF_NETNS, OF_TUPLE, LIMIT, SOURCE)
def report(request: Request, no_invalid: bool, form: str | None) -> None:
    """One incident report: what is wrong, gravest first, each verdict with its numbers and with lines to paste.

    Observes for --duration (default 5 s) or until Ctrl-C, then judges table, losses, counters and settings. What could not be
    judged is named. With filters, only the entries and losses that pass them are judged; limits and hash chains are always those
    of the whole table.
    """
    form = chosen_form(request, form, "text")
    if request.duration is None:
        request = replace(request, duration=DEFAULT_S)
    purpose = Purpose.TABLE | Purpose.DROPS | (Purpose(0) if no_invalid else Purpose.INVALID)
    with observe("report", request, purpose) as session:
        collector = Collector(session.observer, Scope(request.filter, not no_invalid))
        session.ready()
        for records in session.watch():
            collector.add(records)
        collector.end()
        # Of the same instant: what comes while the namespaces are asked is no part of this.
        meta = session.meta()
        body: dict[str, Any] = {"meta": meta} | as_rows(rules.judge(collector.evidence()), request.limit)
        out(FORMS[form](body))
        session.finish(body["meta"])
