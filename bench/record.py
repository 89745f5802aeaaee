"""docs/cost.md: the bench's result as a page, written by nobody else."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.rows import Row, Section, number
from bench.text import cells, ratio, summary, verdict
from ctobserve import __version__

HEADS = ("", "median", "lowest to highest", "ratio", "bar", "")
CPUINFO = Path("/proc/cpuinfo")


class Made(NamedTuple):
    """When and where a result came about: line by line what a reader must know of it."""

    date: str
    guest: str
    host: str
    repeats: str


def here() -> str:
    """The machine on which the ring is measured."""
    model = re.search(r"^model name\s*: (.*)$", CPUINFO.read_text(), re.M)
    kernel, python = platform.release(), platform.python_version()
    return f"{model[1] if model else platform.machine()}; Linux {kernel}, Python {python}, NumPy {np.__version__}"


def page(table: list[Section], made: Made) -> Iterator[str]:
    """The whole page, line by line."""
    yield "# What observing costs"
    yield ""
    yield "Made by `make bench`, never by hand. Instructions are counted: they, and all ratios, hold elsewhere too. Events per"
    yield "second are this machine's alone. How each is measured is said in bench/."
    yield ""
    yield from _table(
        ("", ""),
        [
            ("ctobserve", f"{__version__}, {made.date}"),
            ("instructions", f"QEMU icount, one CPU; {made.guest}"),
            ("events/s", made.host),
            ("repeats", made.repeats),
        ],
    )
    yield ""
    yield "## Bars"
    yield ""
    yield f"{summary(table)}; beside each verdict, how many times the bar was measured."
    yield ""
    bars = [(section, row) for section in table for row in section.rows if row.bar]
    yield from _table(
        ("", "measured", "bar", ""),
        [(f"{section.title}: {row.name}", measured(section, row), str(row.bar), verdict(row)) for section, row in bars],
    )
    for section in table:
        yield ""
        yield f"## {section.title}"
        yield ""
        yield f"In {section.unit}. {section.says}"
        yield ""
        yield from _table(HEADS, [_cells(row) for row in section.rows])


def measured(section: Section, row: Row) -> str:
    """What the bar is of."""
    if row.bar and row.bar.of_ratio:
        return ratio(row)
    return "" if row.measured is None else f"{number(row.measured.value)} {section.unit}"


def _cells(row: Row) -> tuple[str, ...]:
    name, *between, found = cells(row)
    return "- " * bool(row.part_of) + name, *between, "; ".join(filter(None, (found, row.note)))


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in (heads, ("---",) * len(heads), *rows):
        yield f"| {' | '.join(row)} |"
