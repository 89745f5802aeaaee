"""Sections of rows for people: lines of at most 130 columns."""

from __future__ import annotations

from collections.abc import Iterator

from bench.rows import Row, Section, number

LINE = "  {:33}{:>11}  {:>22}  {:30}  {:11} {}"


def spread(row: Row) -> str:
    """Empty where there was one measurement."""
    if row.measured is None or row.measured.low == row.measured.high:
        return ""
    return f"{number(row.measured.low)} to {number(row.measured.high)}"


def ratio(row: Row) -> str:
    """Of how much less, or more, and than what."""
    if row.ratio is None:
        return ""
    digits = 2 if row.ratio < 10 else 1 if row.ratio < 100 else 0
    return f"{row.ratio:.{digits}f} {row.against}"


def verdict(row: Row) -> str:
    """Of the bar, and how many times the bar it is."""
    if row.bar is None:
        return ""
    if row.met is None:
        return "not measured"
    return f"{'met' if row.met else 'missed'} {row.part_of_bar:.2f} x"


def cells(row: Row) -> tuple[str, ...]:
    """What, median, lowest and highest, ratio, bar, verdict."""
    value = "-" if row.measured is None else number(row.measured.value)
    return row.what, value, spread(row), ratio(row), "" if row.bar is None else str(row.bar), verdict(row)


def lines(table: list[Section]) -> Iterator[str]:
    """All sections, then how many bars were met."""
    for section in table:
        yield ""
        yield f"{section.title}: {section.unit}"
        for row in section.rows:
            name, *rest = cells(row)
            yield LINE.format("  " * bool(row.part_of) + name, *rest).rstrip()
            if row.note:
                yield f"      {row.note}"
    yield ""
    yield summary(table)


def summary(table: list[Section]) -> str:
    """How many bars were met, how many missed, how many nothing was measured for."""
    found = [row.met for section in table for row in section.rows if row.bar]
    unknown = f", {found.count(None)} not measured" if None in found else ""
    return f"{len(found)} bars: {found.count(True)} met, {found.count(False)} missed{unknown}"
