"""What a fleet's answer says as a document, as text, CSV, and as a chart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ctobserve.documents.fleet import Answer, Chart, Covered, FleetDocument, collect
from ctobserve.fleet.engine import answer
from ctobserve.fleet.questions import question
from ctobserve.fleet.spark import named
from ctobserve.render.fleet import covered_words, fleet_csv, fleet_lines
from ctobserve.render.fleet_charts import BARS, SORTS, chart_of
from ctobserve.render.fleet_page import fleet_page

COLUMNS = ("host", "reason", "packets", "first_at")
AT = "2024-10-04T00:01:00.000000000Z"


def answered(*rows: tuple, more: bool = False) -> FleetDocument:
    given = rows or (("a", "clash", 7, AT), ("b", None, 2.5, None))
    return collect(
        question("losses"),
        {"least": 1},
        Answer(COLUMNS, given, more),
        Covered(2, 3, 1_728_000_000_000_000_000, 1_728_003_600_000_000_000, 4),
        engine="duckdb 2",
        dataset="fleet",
        skipped=[("events/x", "is damaged")],
    )


def test_text_has_numbers_to_the_right_and_what_is_missing():
    lines = list(fleet_lines(answered(more=True)))
    assert lines[3:6] == [
        "HOST  REASON  PACKETS  FIRST_AT",
        "a     clash         7  2024-10-04T00:01:00Z",
        "b     -           2.5  -",
    ]
    assert lines[7:] == [
        "There are more rows than these 2; give a larger --limit.",
        "4 records were lost while these were recorded: what they told is in no answer.",
        "skipped   events/x: is damaged",
    ]


def test_people_read_one_row_as_one_and_instants_to_the_second():
    found = answered(("a", "clash", 7, AT))
    assert covered_words(found).startswith("1 row of 2 hosts, 3 recordings, ")
    page = "\n".join(fleet_page(found, question("losses")))
    assert AT not in page and "<td>2024-10-04T00:01:00Z</td>" in page


def test_of_many_skipped_files_some_are_named():
    found = answered()
    lines = list(fleet_lines(replace(found, skipped=found.skipped * 13)))
    assert len([line for line in lines if line.startswith("skipped")]) == 11
    assert lines[-1] == "skipped   3 files more; --json names all"


def test_csv_leaves_empty_what_is_unknown_and_quotes_what_others_wrote():
    assert list(fleet_csv(answered(('a,"b', "x", 1, None)))) == ["host,reason,packets,first_at", '"a,""b",x,1,']


BY_HOST = Chart("bars", "host", "packets", "reason")


def test_a_bar_is_the_sum_of_its_rows_by_sort():
    chart = chart_of(BY_HOST, answered(("a", "x", 1, AT), ("b", "y", 2, AT), ("a", "y", 4, AT), ("a", None, 8, AT)))
    assert chart.at == ("a", "b")
    assert chart.sorts == {"-": (8.0, 0.0), "y": (4.0, 2.0), "x": (1.0, 0.0)}


def test_of_many_bars_and_sorts_the_first_and_largest_are_drawn():
    rows = [(f"h{at}", f"r{at % (SORTS + 3)}", at, AT) for at in range(BARS + 5)]
    chart = chart_of(BY_HOST, answered(*rows))
    assert (len(chart.at), chart.left_out, len(chart.sorts)) == (BARS, 5, SORTS)
    sums = Counter({place: sum(numbers[at] for numbers in chart.sorts.values()) for at, place in enumerate(chart.at)})
    assert sums == {f"h{at}": at for at in range(BARS)}


def test_bars_of_time_stand_where_it_was():
    rows = [("a", "x", 2, "2024-10-04T13:00Z"), ("a", "x", 1, AT), ("a", "x", 4, None)]
    chart = chart_of(Chart("time", "first_at", "packets", "reason"), answered(*rows))
    assert (chart.at, chart.sorts) == ((1_728_000_060.0, 1_728_046_800.0), {"x": (1.0, 2.0)})


def test_there_is_no_chart_of_nothing():
    assert chart_of(BY_HOST, answered(("a", "x", None, AT))) is None


@pytest.mark.parametrize(
    ("sql", "of_spark"),
    [
        ("SELECT $a + $b_2", "SELECT :a + :b_2"),
        ("SELECT '$a', \"$a\", `$a`, $a", "SELECT '$a', \"$a\", `$a`, :a"),
        ("SELECT 'it''s $a' -- $a\n, $a /* $a\n $a */", "SELECT 'it''s $a' -- $a\n, :a /* $a\n $a */"),
        ("SELECT '^[0-9]$', $a", "SELECT '^[0-9]$', :a"),
    ],
)
def test_a_parameter_is_spark_s_own_but_not_within_texts_names_and_comments(sql, of_spark):
    assert named(sql) == of_spark


def test_rows_of_an_engine_are_what_json_has_a_form_for():
    rows = [(1, None, True, b"\xff\x1b", [1, "x"]), (2, float("inf"), False, "é\n", {"a": 1})]
    found = answer(["a", "b", "a", "c\x1b", "d"], iter(rows), 1)
    assert found.columns == ("a", "b", "a_2", "c\\x1b", "d")
    assert (found.rows, found.more) == ([(1, None, True, "\\xff\\x1b", "[1, 'x']")], True)
    assert answer(["a", "b", "c", "d", "e"], iter(rows[1:]), 1) == (
        ("a", "b", "c", "d", "e"),
        [(2, None, False, "é\\x0a", "{'a': 1}")],
        False,
    )
