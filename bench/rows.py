"""The bench's result as rows of ratios with their bars, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LISTENER, LISTING = "conntrack -E", "conntrack -L"
NOT_INSTALLED, TOO_LONG = "not installed", "not measured: it takes the square of so many"


@dataclass(frozen=True)
class Row:
    """`value` is what was measured, in `unit`; `ratio` sets it beside `against`; `bar` is wanted, `met` says if it was met."""

    what: str
    value: float | None
    unit: str
    ratio: float | None = None
    against: str = ""
    bar: str = ""
    met: bool | None = None
    note: str = ""


def rows(guest: dict[str, Any], native: dict[str, float]) -> list[Row]:
    """All of them, in reading order."""
    return [*_new_entries(guest), *_reading(guest), *_ring(native)]


def _new_entries(guest: dict[str, Any]) -> Iterator[Row]:
    costs = {cost["name"]: cost for cost in guest.get("costs", ())}
    if not costs:
        return
    yield Row("new UDP entry, nobody watching", guest["alone"], "instructions")
    listener = costs[LISTENER]["total"]
    for name, cost in costs.items():
        total = cost["total"]
        if total is None:
            yield Row(f"  + {name}", None, "instructions", note=NOT_INSTALLED)
            continue
        bar, met = "", None
        if name.startswith("ctobserve buckets"):
            bar, met = "<= 1,500", total <= 1500
        elif name == "ctobserve events":
            bar, met = f"< {LISTENER}", total < listener
        seen = cost["seen"]
        note = "" if seen is None or seen == 1 else f"saw {seen:.0%} of the events"
        yield Row(f"  + {name}", total, "instructions", _over(listener, total), f"of {LISTENER}", bar, met, note)
        if cost["kernel"] is not None:
            yield Row("      of which in the kernel", cost["kernel"], "instructions")


def _reading(guest: dict[str, Any]) -> Iterator[Row]:
    reading = dict(guest.get("reading", {}))
    if not reading:
        return
    kept, peak = reading.pop("bytes per entry"), reading.pop("bytes per entry, peak")
    listing = reading[LISTING]
    bars = {"ctobserve walk": 5, "ctobserve lengths": 20}
    for name, value in reading.items():
        least = bars.get(name)
        ratio = _over(listing, value)
        met = None if least is None or ratio is None else ratio >= least
        bar = f">= {least} x" if least else ""
        note = TOO_LONG if value is None else ""
        yield Row(f"{name}, per entry", value, "instructions", ratio, f"of {LISTING}", bar, met, note)
    yield Row("ctobserve table, per entry", kept, "bytes", bar="<= 300", met=kept <= 300)
    yield Row("  while it is filled, at most", peak, "bytes")


def _ring(native: dict[str, float]) -> Iterator[Row]:
    if not native:
        return
    ours = native["ctobserve"]
    yield Row("ring to table: ctobserve", ours, "events/s", bar=">= 1,000,000", met=ours >= 1e6)
    for name, rate in native.items():
        if name != "ctobserve":
            strict = name == "bcc callback"
            ratio = ours / rate
            yield Row(
                f"ring to table: {name}",
                rate,
                "events/s",
                ratio,
                "times ours",
                ">= 10 x" if strict else "",
                ratio >= 10 if strict else None,
            )


def _over(one: float, other: float | None) -> float | None:
    return one / other if other else None


def lines(table: list[Row]) -> Iterator[str]:
    """For people. A ratio above 1 says how many times cheaper the row is than what it is set beside."""
    yield f"{'':42}{'measured':>12}  {'':13}{'cheaper by':>10}  {'bar':15}met"
    for row in table:
        value = row.note if row.value is None else f"{row.value:,.0f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.1f} x"
        met = {None: "", True: "yes", False: "no"}[row.met]
        note = row.note if row.value is not None else ""
        yield f"{row.what:42}{value:>12}  {row.unit:13}{ratio:>10}  {row.bar:15}{met:4}{note}".rstrip()
