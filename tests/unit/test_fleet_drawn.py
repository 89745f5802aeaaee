"""The page of a fleet's answer in a browser: bars as long as JSON says, nothing asked for, tables that can be sorted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctobserve.fleet.questions import question
from ctobserve.render.fleet_charts import chart_of
from ctobserve.render.fleet_page import fleet_page
from tests.browser import Tab, browsing
from tests.unit.test_fleet_document import AT, answered

SIZES = {"desk": (1280, 800), "phone": (390, 844)}
EVIL = "</script><img src=x onerror=alert(1)>"
ROWS = (("a", "clash", 7, AT), (EVIL, "clash", 2, AT), ("a", "table_full", 4, AT), ("b", None, 1, None))
DRAWN = """(() => { const { data, series } = document.querySelector(".chart").uplot;
    return { data: data.map(line => [...line]), labels: series.slice(1).map(line => line.label) }; })()"""
INKED = """(() => { const one = document.querySelector(".chart canvas");
    const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
    return new Set(new Uint32Array(data.buffer)).size; })()"""
FIRST_CELLS = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[2].textContent)"


@pytest.fixture(scope="module")
def tab() -> Tab:
    with browsing() as opened:
        yield opened


@pytest.fixture
def path(tmp_path) -> Path:
    made = tmp_path / "fleet.html"
    made.write_text("\n".join(fleet_page(answered(*ROWS), question("losses"))))
    return made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dark", [False, True])
def test_bars_stand_above_each_other_and_nothing_is_logged_or_asked_for(tab, path, size, dark):
    tab.open(path, *SIZES[size], dark=dark)
    drawn = tab.ask(DRAWN)
    chart = chart_of(question("losses").chart, answered(*ROWS))
    sorts = list(chart.sorts.items())
    assert drawn["labels"] == [name for name, _ in reversed(sorts)]
    places, *lines = drawn["data"]
    assert places == [0, 1, 2]
    tops = [[sum(numbers[place] for _, numbers in sorts[: at + 1]) for place in places] for at in range(len(sorts))]
    assert lines == tops[::-1]
    assert tab.ask(INKED) > 5, "there is ink on the canvas"
    assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.said == [] and tab.asked == [path.as_uri()]


def test_a_table_is_sorted_by_the_column_that_is_clicked(tab, path):
    tab.open(path)
    tab.ask("document.querySelectorAll('table.sortable thead button')[2].click()")
    assert tab.ask(FIRST_CELLS) == ["7", "4", "2", "1"]
    tab.ask("document.querySelectorAll('table.sortable thead button')[2].click()")
    assert tab.ask(FIRST_CELLS) == ["1", "2", "4", "7"]


def test_a_page_without_a_chart_says_its_rows(tab, tmp_path):
    made = tmp_path / "none.html"
    made.write_text("\n".join(fleet_page(answered(("a", "x", None, None)), question("losses"))))
    tab.open(made)
    assert tab.said == [] and tab.ask("document.querySelector('.chart')") is None
    assert tab.ask(FIRST_CELLS) == ["-"]
