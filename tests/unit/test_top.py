"""Who fills the table: groups, intervals, frames; and the whole command on a capture that is made up."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from ctobserve.analysis.groups import COLUMNS
from ctobserve.analysis.top import MOST, Gathered, Line, heaviest
from ctobserve.capture.capture import Fidelity, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.documents.request import Request
from ctobserve.documents.top import Frame, GroupRow, View, collect
from ctobserve.event import DestroyReason, DropReason, Kind
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.model import join
from ctobserve.render.jsonout import line
from ctobserve.render.top import frame_lines
from tests.scripted import NETNS, ScriptedCapture, events
from tests.unit.tables import entries, tcp

FRAME = Frame(
    ts="2026-11-23T03:00:07.000000000Z",
    interval_s=2.0,
    max=1000,
    max_by_netns={"7": 20, "8": 1000},
    entries=760,
    entries_by_netns={"7": 10, "8": 750},
    buckets=256,
    max_chain=11,
    new_per_s=40.5,
    gone_per_s=1.0,
    lost_per_s=2.0,
    lost_by_reason={"table_full": 4},
    not_grouped=0,
    by=("netns", "dport", "replied", "state"),
    groups=(GroupRow((8, 53, False, None), 750, 40.5, 4),),
    events_lost=0,
    entries_offloaded=0,
    full_in_s_by_netns={"7": None, "8": 45.0},
    longest_bucket=17,
    owner_by_netns={"7": "pod/web-0", "8": "host"},
)


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
        "03:00:07  760 entries, new 40.5/s, gone 1.0/s, lost 2.0/s; longest chain 11 (bucket 17) in 256 buckets",
        "  [######################        ]  75.0 % of 1000: 750 in blue, full in 45 s",
        "  [###############               ]  50.0 % of 20: 10 in 7 (pod/web-0)",
        "  lost: table_full 4",
        "  ENTRIES     NEW/s    LOST  NETNS, DPORT, REPLIED, STATE",
        "      750      40.5       4  blue 53 not replied -",
        "",
    ]
    assert "records lost so far" in "\n".join(frame_lines(replace(FRAME, events_lost=3), {}))
    assert "% of -: 10 in 7 (pod/web-0)" in "\n".join(frame_lines(replace(FRAME, max_by_netns={"7": None, "8": None}), {}))
    assert "  760 entries (7 offloaded), new" in "\n".join(frame_lines(replace(FRAME, entries_offloaded=7), {}))
    own = replace(FRAME, max_by_netns={"7": 10, "8": 1000})
    assert list(frame_lines(own, {}))[1].endswith("100.0 % of 10: 10 in 7 (pod/web-0)"), "by its own limit it is the fullest"
    assert "5 new or lost are in no group" in "\n".join(frame_lines(replace(FRAME, not_grouped=5), {}))


def test_by_owner_namespaces_of_one_owner_are_one_group_and_namesakes_are_not():
    pods = (Owner(OwnerKind.POD, "web-0", uid) for uid in ("8a", "8a", "9b"))
    owners = dict(zip((7, 8, 9), pods, strict=True))
    owners[8] = owners[8]._replace(container="c" * 64)
    now = entries(22, netns=[7] * 3 + [8] * 4 + [9] * 5 + [10] * 4 + [11] * 6)
    new = gathered(entries(3, netns=[8, 9, 10]), by=("owner",))
    lost = gathered(entries(2, netns=[12, 9]), by=("owner",))
    nobody, one, other = heaviest(now, new, lost, ("owner",), "entries", 10, owners)
    assert nobody == Line((None,), 10, 1, 1)
    assert (one, other) == (Line(("pod/web-0",), 7, 1, 0), Line(("pod/web-0",), 5, 1, 1))
    assert [line.values for line in heaviest(now, new, lost, ("owner", "netns"), "entries", 2, owners)] == [
        (None, 11),
        ("pod/web-0", 9),
    ]
    capture = ScriptedCapture((), entries(5, netns=[7, 7, 7, 8, 8]), states={NETNS: BLUE, 8: GREEN}, owners={8: owners[9]})
    capture.follow()
    frame = frames(capture, view=View(("owner",), "entries", 0.5))[0]
    assert [(group.values, group.entries) for group in frame.groups] == [((None,), 3), (("pod/web-0",), 2)]
    assert frame.owner_by_netns == {"7": None, "8": "pod/web-0"}
    text = "\n".join(frame_lines(frame, capture.names()))
    assert "2 in green (pod/web-0)\n" in text and "3 in blue\n" in text
    assert text.splitlines()[-2:] == ["        3       0.0       0  -", "        2       0.0       0  pod/web-0"]


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


def test_a_frame_counts_the_namespaces_that_it_does_not_draw():
    frame = replace(
        FRAME,
        max_by_netns={"0": 200, "1": None, "2": 98, "3": 10, "4": 1000},
        entries_by_netns={str(inum): 100 - inum for inum in range(5)},
        lost_by_reason={"clash": 6},
        not_grouped=12,
        by=("src",),
        groups=(),
    )
    text = "\n".join(frame_lines(frame, {}))
    assert "50.0 % of 200: 100 in 0" in text and "100.0 % of 98: 98 in 2" in text, "each by its own limit"
    assert "970.0 % of 10: 97 in 3" in text
    assert "and 195 in 2 other namespaces" in text
    assert "12 new or lost are in no group" in text and "lost: clash 6" in text


ALL = Request()
BY_SOURCE = View(("src",), "entries", 0.5)


def frames(capture, request=ALL, view=BY_SOURCE, seconds=1.0):
    return list(collect(capture, request, Stretch(seconds), view))


BLUE, GREEN = (
    NamespaceState(inum, label, init=init, sysctls={"nf_conntrack_max": limit, "nf_conntrack_count": 1})
    for inum, label, init, limit in ((NETNS, "blue", True, 40), (8, "green", False, 65_536))
)
OLD = join(
    [entries(12, src="10.0.0.1", bucket=[3, 4]), tcp(8, src="10.0.0.2", netns=8, ct=np.arange(1, 9) * 4096, bucket=[3, 5])]
)
NEW = entries(5, src="10.0.0.3", ct=np.arange(1, 6) * 65_536, bucket=[6, 7])


def happening() -> ScriptedCapture:
    """In the first half second 5 new entries, 3 packets lost, 2 entries gone, and one that never entered; then nothing."""
    first = (
        events(Kind.INSERT, NEW),
        events(Kind.DROP, NEW[:2], reason=DropReason.TABLE_FULL),
        events(Kind.DROP, NEW[:1], reason=DropReason.CHAINTOOLONG),
        events(Kind.DESTROY, OLD[:2], reason=DestroyReason.TIMEOUT),
        events(Kind.DESTROY, entries(1, ct=77 << 32), reason=DestroyReason.UNCONFIRMED),
    )
    told = Fidelity("fentry", read_via="walk", lost={"insert": 2})
    # What came with the table is no event of the first interval.
    capture = ScriptedCapture([events(Kind.INSERT, OLD[:1]), join(first)], OLD, states={NETNS: BLUE, 8: GREEN}, told=told)
    capture.follow()
    return capture


def test_the_whole_document_as_json():
    first, second = map(json.loads, map(line, frames(happening())))
    assert first == {
        "ts": "2023-11-14T22:13:20.500000000Z",
        "interval_s": 0.5,
        "max": 40,
        "max_by_netns": {"7": 40, "8": 40},
        "entries": 23,
        "entries_by_netns": {"7": 15, "8": 8},
        "buckets": 1024,
        "max_chain": 18,
        "new_per_s": 10.0,
        "gone_per_s": 4.0,
        "lost_per_s": 6.0,
        "lost_by_reason": {"table_full": 2, "chaintoolong": 1},
        "not_grouped": 0,
        "by": ["src"],
        "groups": [
            {"values": ["10.0.0.1"], "entries": 10, "new_per_s": 0.0, "lost": 0},
            {"values": ["10.0.0.2"], "entries": 8, "new_per_s": 0.0, "lost": 0},
            {"values": ["10.0.0.3"], "entries": 5, "new_per_s": 10.0, "lost": 3},
        ],
        "events_lost": 2,
        "entries_offloaded": 0,
        "full_in_s_by_netns": {"7": None, "8": None},
        "longest_bucket": 3,
        "owner_by_netns": {"7": None, "8": None},
    }
    quiet = {"new_per_s": 0.0, "gone_per_s": 0.0, "lost_per_s": 0.0, "lost_by_reason": {}}
    assert second == first | quiet | {
        "ts": "2023-11-14T22:13:21.000000000Z",
        "groups": [group | {"new_per_s": 0.0, "lost": 0} for group in first["groups"]],
    }
    assert list(first) == list(second) == [one.name for one in fields(Frame)]


def test_the_whole_document_as_text():
    first, *_ = frames(happening())
    assert list(frame_lines(first, {NETNS: "blue", 8: "green"})) == [
        "22:13:20  23 entries, new 10.0/s, gone 4.0/s, lost 6.0/s; longest chain 18 (bucket 3) in 1024 buckets",
        "  [###########                   ]  37.5 % of 40: 15 in blue",
        "  [######                        ]  20.0 % of 40: 8 in green",
        "  lost: table_full 2, chaintoolong 1",
        "  2 records lost so far, so numbers may be too low; try a larger --ring-mib",
        "  ENTRIES     NEW/s    LOST  SRC",
        "       10       0.0       0  10.0.0.1",
        "        8       0.0       0  10.0.0.2",
        "        5      10.0       3  10.0.0.3",
        "",
    ]


def test_a_filter_chooses_entries_and_events_but_not_how_full_the_table_is():
    first, _ = frames(happening(), Request(filter=Filter(netns=8)), view=View(("src", "state"), "lost", 0.5))
    assert (first.entries, first.entries_by_netns, first.max_chain) == (8, {"7": 15, "8": 8}, 18)
    assert (first.new_per_s, first.gone_per_s, first.lost_per_s, first.lost_by_reason) == (0, 0, 0, {})
    assert first.groups == (GroupRow(("10.0.0.2", "ESTABLISHED"), 8, 0.0, 0),)


def test_no_more_groups_than_wanted_in_the_order_wanted():
    first, _ = frames(happening(), Request(limit=1), view=View(("src",), "lost", 0.5))
    assert [group.values for group in first.groups] == [("10.0.0.3",)]
    many = ScriptedCapture(entries=entries(40, src=[f"10.0.0.{at}" for at in range(40)]))
    many.follow()
    assert len(frames(many)[0].groups) == 10


def test_a_limit_that_is_none_or_cannot_be_read_is_unknown():
    def limits(**settings):
        states = {
            inum: state._replace(sysctls={"nf_conntrack_max": settings[state.label]} if state.label in settings else {})
            for inum, state in {NETNS: BLUE, 8: GREEN}.items()
        }
        capture = ScriptedCapture(entries=OLD, states=states)
        capture.follow()
        frame = frames(capture)[0]
        return frame.max, frame.max_by_netns

    assert limits(blue=40, green=30) == (40, {"7": 40, "8": 30})
    assert limits(blue=0, green=30) == (0, {"7": None, "8": 30})
    assert limits(green=30) == (None, {"7": None, "8": 30})
    assert limits(blue=40) == (40, {"7": 40, "8": None})


def test_without_a_stretch_of_time_there_is_one_frame_and_no_rate_is_infinite():
    (only,) = frames(happening(), seconds=0)
    assert only.interval_s == 0 and only.entries == 23
