from __future__ import annotations

import pytest

from ctobserve.analysis.groups import COLUMNS
from ctobserve.analysis.top import MOST, Gathered, Line, heaviest
from ctobserve.render.top import frame_lines
from tests.unit.tables import entries

FRAME = {
    "ts": "2026-11-23T03:00:07.000000+00:00",
    "max": 1000,
    "entries": 760,
    "entries_by_netns": {"7": 10, "8": 750},
    "max_by_netns": {"7": 20, "8": 1000},
    "not_grouped": 0,
    "buckets": 256,
    "max_chain": 11,
    "new_per_s": 40.5,
    "gone_per_s": 1.0,
    "lost_per_s": 2.0,
    "lost_by_reason": {"table_full": 4},
    "by": ["netns", "dport", "replied", "state"],
    "groups": [{"values": [8, 53, False, None], "entries": 750, "new_per_s": 40.5, "lost": 4}],
    "events_lost": 0,
}


def gathered(*parts, by=("src",)):
    made = Gathered(by)
    for part in parts:
        made.add(part)
    return made


def test_groups_are_ordered_by_what_was_asked():
    now = entries(6, src=["10.0.0.1"] * 4 + ["10.0.0.2"] * 2)
    new = gathered(entries(3, src=["10.0.0.2"] * 2 + ["10.0.0.3"]))
    lost = gathered(entries(1, src="10.0.0.4"))
    one, two, three, four = (
        Line((f"10.0.0.{last}",), *counts) for last, counts in ((1, (4, 0, 0)), (2, (2, 2, 0)), (3, (0, 1, 0)), (4, (0, 0, 1)))
    )
    assert heaviest(now, new, lost, ("src",), "entries", 10)[:2] == [one, two]
    assert heaviest(now, new, lost, ("src",), "new", 2) == [two, three]
    assert heaviest(now, new, lost, ("src",), "lost", 1) == [four]
    assert heaviest(now[:0], gathered(), gathered(), ("src",), "entries", 10) == []


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_can_be_asked_for(column):
    (line,) = heaviest(entries(5, sport=1024), gathered(by=(column,)), gathered(by=(column,)), (column,), "entries", 10)
    assert line.entries == 5


def test_a_frame_names_the_fullest_namespace_first_and_what_is_lost():
    assert list(frame_lines(FRAME, {8: "blue"})) == [
        "03:00:07  760 entries, new 40.5/s, gone 1.0/s, lost 2.0/s; longest chain 11 in 256 buckets",
        "  [######################        ]  75.0 % of 1000: 750 in blue",
        "  [###############               ]  50.0 % of 20: 10 in 7",
        "  lost: table_full 4",
        "  ENTRIES     NEW/s    LOST  NETNS, DPORT, REPLIED, STATE",
        "      750      40.5       4  blue 53 not replied -",
        "",
    ]
    assert "records lost so far" in "\n".join(frame_lines(FRAME | {"events_lost": 3}, {}))
    assert "% of -: 10 in 7" in "\n".join(frame_lines(FRAME | {"max_by_netns": {"7": None, "8": None}}, {}))
    own = FRAME | {"max_by_netns": {"7": 10, "8": 1000}}
    assert list(frame_lines(own, {}))[1].endswith("100.0 % of 10: 10 in 7"), "by its own limit it is the fullest"
    assert "5 new or lost are in no group" in "\n".join(frame_lines(FRAME | {"not_grouped": 5}, {}))


def test_an_interval_takes_no_more_room_than_its_groups():
    few = gathered(*(entries(10_000, src=[f"10.0.0.{at % 7}" for at in range(10_000)]) for _ in range(50)))
    kept, weights = few.result()
    assert len(kept) <= 2 * MOST + 10_000 < 500_000
    assert weights.sum() == 500_000 and few.forgotten == 0
    lines = heaviest(entries(0), few, gathered(), ("src",), "new", 10)
    assert sorted(line.new for line in lines) == sorted(50 * len(range(at, 10_000, 7)) for at in range(7))


def test_a_filter_that_lets_nothing_pass_keeps_nothing():
    made = gathered(*(entries(0) for _ in range(1000)))
    assert len(made._parts) == 1


def test_with_too_many_groups_the_largest_stay_and_the_rest_is_counted():
    by = ("src", "sport", "dport")
    ports = range(1024, 41_024)
    many = gathered(*(entries(40_000, sport=ports, dport=port) for port in range(5)), entries(99, sport=7, dport=7), by=by)
    assert len(many.result()[0]) <= 2 * MOST + 40_000
    assert many.forgotten > 0
    assert many.result()[1].sum() + many.forgotten == 5 * 40_000 + 99
    first = heaviest(entries(0), many, gathered(by=by), by, "new", 1)
    assert first == [Line(("10.0.0.1", 7, 7), 0, 99, 0)]
