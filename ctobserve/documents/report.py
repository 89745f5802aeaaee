"""The incident report: verdicts, and the numbers behind the pictures of what they are on."""

from __future__ import annotations

from dataclasses import dataclass

from ctobserve.capture.capture import Capture
from ctobserve.capture.watch import Stretch, watch
from ctobserve.diagnosis.collect import Collector
from ctobserve.documents.base import doc
from ctobserve.documents.figures import Figures, Watched
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import Judged, judged
from ctobserve.event import Events


@dataclass(frozen=True)
class ReportDocument(Judged):
    """Verdicts on one stretch of time, the most severe first, and the numbers behind the pictures of it."""

    figures: Figures = doc("the numbers behind the page's pictures")


def collect(capture: Capture, request: Request, stretch: Stretch, invalid: bool) -> ReportDocument:
    """Judge what happens in this stretch of time, and count it; `invalid`: the capture sees invalid packets too."""
    taken: list[Events] = []
    collector = Collector(capture, request.filter, invalid, taken.append)
    # What happened until here is in the table.
    taken.clear()
    watched = Watched(request.filter, collector.began)
    for events in watch(capture, stretch):
        collector.add(events)
        watched.add(events)
    collector.end()
    for events in taken:
        watched.add(events)
    found, evidence = judged(capture, request, collector)
    return with_figures(found, watched.figures(evidence, collector.ended, capture.started, capture.host.limits_chains))


def with_figures(judged: Judged, figures: Figures) -> ReportDocument:
    """The whole report."""
    return ReportDocument(judged.meta, judged.verdicts, judged.verdicts_not_shown, judged.not_judged, figures)
