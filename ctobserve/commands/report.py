"""ctobserve report: what is wrong, in sentences, with the evidence and what to do."""

from __future__ import annotations

import click

from ctobserve.capture.capture import Capture
from ctobserve.capture.watch import Stretch
from ctobserve.commands.help import LOOK, OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import FROM, OF_NETNS, OF_TUPLE, SOURCE, STRETCH, chosen_form, common_options, limit_to
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import JUDGED, Judged, collect_verdicts
from ctobserve.programs.hooks import Purpose
from ctobserve.render.report import report_lines

DEFAULT_S = 5.0


@click.command(
    cls=Command,
    examples=(
        Example("what is wrong here", "ctobserve report"),
        Example("a page for the ticket, of a whole minute", "ctobserve report --duration 60 --format html > report.html"),
    ),
)
@option(LOOK, "--no-invalid", is_flag=True, help="Spare the probe per packet: invalid packets are not judged.")
@option(
    OUTPUT, "--format", "form", type=click.Choice(["text", "json", "html"]), metavar="FORM",
    help="text, json, or html: one page that stands alone. Default: text.",
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("Show at most N verdicts."), SOURCE, FROM, STRETCH)
def report(request: Request, no_invalid: bool, form: str | None) -> None:
    """One incident report: what is wrong, gravest first, each verdict with its numbers and with lines to paste.

    Observes for --duration (default 5 s) or until Ctrl-C, then judges table, losses, counters and settings. What could not be
    judged is named. With filters, only the entries and losses that pass them are judged; limits and hash chains are always those
    of the whole table.
    """
    form = chosen_form(request, form, "text")
    if request.duration is None and request.recording is None:
        request = request._replace(duration=DEFAULT_S)
    purpose = JUDGED | (Purpose(0) if no_invalid else Purpose.INVALID)
    with opened(request, purpose) as (capture, stretch):
        say = _verdicts if form == "text" else _all
        closed(capture, request, say(capture, request, stretch, not no_invalid, form).meta)


def _verdicts(capture: Capture, request: Request, stretch: Stretch, invalid: bool, _form: str) -> Judged:
    found = collect_verdicts(capture, request, stretch, invalid)
    out(report_lines(found))
    return found


def _all(capture: Capture, request: Request, stretch: Stretch, invalid: bool, form: str) -> Judged:
    """With figures, which text has not: they and the page take a tenth of a start."""
    from ctobserve.documents.report import collect
    from ctobserve.render.htmlout import page
    from ctobserve.render.jsonout import document

    found = collect(capture, request, stretch, invalid)
    out(page(found) if form == "html" else [document(found)])
    return found
