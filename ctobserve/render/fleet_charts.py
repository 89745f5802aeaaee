"""What a chart of a fleet's answer is drawn of: sorts of numbers beside each other, by a category or an instant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ctobserve.documents.base import doc
from ctobserve.documents.fleet import Chart, FleetDocument

BARS, SORTS = 40, 8  # more are not told apart; the table has all
OTHERS = "others"
NONE = "-"


@dataclass(frozen=True)
class FleetChart:
    """Bars, one above the other where there are several sorts."""

    kind: str = doc("bars or time")
    x: str = doc("the column that says where a bar stands")
    y: str = doc("the column that says how long it is")
    at: tuple[str | float, ...] = doc("where bars stand: words, or seconds since 1970")
    sorts: Mapping[str, tuple[float, ...]] = doc("sort -> a number for each place")
    left_out: int = doc("places beyond those that there is room for")


def chart_of(chart: Chart, found: FleetDocument) -> FleetChart | None:
    """None where there is nothing to be drawn. The first rows come first: a question has the gravest there."""
    sums: dict[str | float, dict[str, float]] = {}
    for row in found.rows:
        number, at = row[chart.y], row[chart.x]
        if isinstance(number, int | float) and at is not None:
            place = _seconds(str(at)) if chart.kind == "time" else str(at)
            by_sort = sums.setdefault(place, defaultdict(float))
            by_sort[NONE if row[chart.by] is None else str(row[chart.by])] += number
    places = sorted(sums, key=str) if chart.kind == "time" else list(sums)[:BARS]
    if not places:
        return None
    totals: dict[str, float] = defaultdict(float)
    for place in places:
        for sort, number in sums[place].items():
            totals[sort] += number
    largest = sorted(totals, key=lambda sort: (-totals[sort], sort))
    kept = largest if len(largest) <= SORTS else largest[: SORTS - 1]
    sorts = {sort: tuple(sums[place].get(sort, 0.0) for place in places) for sort in kept}
    if len(kept) < len(largest):
        sorts[OTHERS] = tuple(sum(sums[place].values()) - sum(sums[place].get(sort, 0.0) for sort in kept) for place in places)
    return FleetChart(chart.kind, chart.x, chart.y, tuple(places), sorts, len(sums) - len(places))


def _seconds(at: str) -> float:
    """Of ISO 8601 in UTC, to the minute or finer."""
    return datetime.fromisoformat(f"{at.rstrip('Z')[:26]}").replace(tzinfo=UTC).timestamp()
