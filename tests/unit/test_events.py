"""ctobserve events: the whole stream on a capture that is made up, its limit and its end, and packets counted by state."""

from __future__ import annotations

import json

from ctobserve.capture.capture import NamespaceState, PacketCount
from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.documents.events import PacketsRow, collect, collect_packets
from ctobserve.documents.request import Request
from ctobserve.event import HAS_COUNTERS, DestroyReason, DropReason, Kind
from ctobserve.model import IPS_CONFIRMED, UNKNOWN_BUCKET, join
from ctobserve.render.folding import CLAUSE
from ctobserve.render.jsonout import line, lines
from ctobserve.render.packets import packet_line
from ctobserve.render.stream import StreamLines
from tests.scripted import CLOCK, NETNS, ScriptedCapture, events
from tests.unit.tables import entries

ALL = Request()
EVERY = frozenset({Kind.INSERT, Kind.CONFIRM, Kind.UPDATE, Kind.DESTROY, Kind.DROP})
STATES = {NETNS: NamespaceState(NETNS, "blue", init=True), 8: NamespaceState(8, "green")}
BORN = entries(2, status=IPS_CONFIRMED, bucket=[3, 4], chain=[1, 2], left_s=30)
LOST = entries(1, status=0, timeout=0, bucket=UNKNOWN_BUCKET, sport=7)
HAPPENED = (
    events(Kind.INSERT, BORN, at_s=[0.001, 0.002]),
    join(
        [
            events(Kind.UPDATE, BORN[:1], at_s=0.1, changes=1 << 3 | 1 << 4),
            events(Kind.RESOLVED, BORN[:1], at_s=0.1),
            events(Kind.DROP, LOST, at_s=0.2, reason=DropReason.CLASH, since_alloc_ns=1500, cpu=1, pid=77, comm=b"curl"),
        ]
    ),
)
GONE = events(
    Kind.DESTROY, BORN[:1], at_s=0.3, reason=DestroyReason.DELETED, born_ns=CLOCK.monotonic_ns, has=HAS_COUNTERS,
    packets=[3, 2], bytes=[300, 200], portid=4711, pid=78, comm=b"conntrack", detail=b"ctnetlink",
)  # fmt: skip


def capture(*batches, **more):
    return ScriptedCapture(batches or HAPPENED, **({"held": GONE, "states": STATES} | more))


def shown(made=None, kinds=EVERY, request=ALL, seconds=1.0):
    return list(collect(made or capture(), request, Stretch(seconds), EventFilter(kinds, request.filter)))


ENTRY = {
    "netns": 7, "l3": "ipv4", "proto": "udp", "protonum": 17, "zone": 0, "mark": 0,
    "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1024, "dport": 53},
    "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 53, "dport": 1024},
    "status": ["confirmed"], "timeout_s": 29, "tcp_state": None,
    "bucket": {"original": 3, "reply": 4}, "chain": {"original": 1, "reply": 2}, "master": None,
    "zone_dir": None,
}  # fmt: skip


def of(sport):
    return {"original": ENTRY["original"] | {"sport": sport}, "reply": ENTRY["reply"] | {"dport": sport}}


def test_the_whole_stream_as_json():
    found = [json.loads(row) for rows in shown() for row in lines(rows)]
    refused = ENTRY | of(7) | {
        "status": [], "timeout_s": 0, "bucket": {"original": None, "reply": None}, "chain": {"original": 0, "reply": 0},
    }  # fmt: skip
    expected = [
        {"event": "insert", "ts": "2023-11-14T22:13:20.001000000Z"} | ENTRY | {"timeout_s": 30},
        {"event": "insert", "ts": "2023-11-14T22:13:20.002000000Z"} | ENTRY | of(1025) | {"timeout_s": 30},
        {"event": "update", "ts": "2023-11-14T22:13:20.100000000Z"} | ENTRY | {"changes": ["reply", "assured"]},
        {"event": "confirm", "ts": "2023-11-14T22:13:20.200000000Z"} | refused | {"verdict": "drop", "since_alloc_ns": 1500},
        {"event": "drop", "ts": "2023-11-14T22:13:20.200000000Z"} | refused | {
            "reason": "clash", "cpu": 1, "direction": "original", "process": {"pid": 77, "comm": "curl"}, "interface": None,
            "hook": None, "text": None, "looked_at": None, "like": None, "tcp_flags": None, "inner": None, "left": None,
        },
        {"event": "destroy", "ts": "2023-11-14T22:13:20.300000000Z"} | ENTRY | {
            "reason": "deleted", "detail": "ctnetlink", "age_s": 0.3, "packets": {"original": 3, "reply": 2},
            "bytes": {"original": 300, "reply": 200}, "portid": 4711, "process": {"pid": 78, "comm": "conntrack"},
            "made_room_for": None, "cpu": 0,
        },
    ]  # fmt: skip
    assert found == expected
    assert [list(row) for row in found] == [list(row) for row in expected]


def test_the_whole_stream_as_text():
    made = capture()
    stream = StreamLines(made)
    assert [text for rows in shown(made) for text in stream.of(rows.events, rows.events)] == [
        "22:13:20.001 insert  blue     udp   10.0.0.1:1024 > 10.0.0.2:53 UNREPLIED left=30s bucket=3/4 chain=1/2\n"
        "22:13:20.002 insert  blue     udp   10.0.0.1:1025 > 10.0.0.2:53 UNREPLIED left=30s bucket=3/4 chain=1/2",
        "22:13:20.100 update  blue     udp   10.0.0.1:1024 > 10.0.0.2:53 changes=reply,assured UNREPLIED left=29s "
        "bucket=3/4 chain=1/2\n"
        "22:13:20.200 confirm blue     udp   10.0.0.1:7 > 10.0.0.2:53 verdict=drop since_alloc=1500ns UNREPLIED left=0s "
        "chain=0/0\n"
        "22:13:20.200 drop    blue     udp   10.0.0.1:7 > 10.0.0.2:53 reason=clash chain=0/0 cpu=1 by curl[77]",
        "22:13:20.300 destroy blue     udp   10.0.0.1:1024 > 10.0.0.2:53 reason=deleted UNREPLIED left=29s bucket=3/4 chain=1/2 "
        "age=0.3s packets=3/2 bytes=300/200 portid=4711 cpu=0 by conntrack[78] (ctnetlink)",
    ]


def test_only_kinds_and_entries_that_were_asked_for_are_shown():
    assert [rows.events["kind"].tolist() for rows in shown(kinds={Kind.DROP})] == [[], [Kind.DROP], []]
    assert sum(map(len, shown(request=Request(filter=Filter(sport=(1025, 1025)))))) == 1


def test_it_ends_when_the_limit_is_reached():
    assert list(map(len, shown(request=Request(limit=3)))) == [2, 1]
    assert list(map(len, shown(request=Request(limit=2)))) == [2]
    assert list(map(len, shown(request=Request(limit=0)))) == [0]
    assert sum(map(len, shown(request=Request(limit=100)))) == 6


def test_what_was_held_back_comes_at_the_end():
    *_, last = shown(seconds=0)
    assert last.events["kind"].tolist() == [Kind.UPDATE, Kind.CONFIRM, Kind.DROP]
    *_, last = shown()
    assert last.events["kind"].tolist() == [Kind.DESTROY]


def test_a_namespace_keeps_its_name_until_its_last_event():
    states = dict(STATES)
    end = events(Kind.DESTROY, entries(1, netns=8), reason=DestroyReason.NETNS_EXIT)
    another = events(Kind.INSERT, entries(1, netns=8))
    made = capture(end, another, states=states)
    stream = StreamLines(made)
    del states[8]
    (first,), (second,) = (stream.of(batch, batch) for batch in (end, another))
    assert "destroy green " in first
    assert "insert  8 " in second, "the number is another's by now"


def test_what_is_not_shown_still_says_that_a_namespace_ended():
    states = dict(STATES)
    made = capture(states=states)
    stream = StreamLines(made)
    del states[8]
    end = events(Kind.DESTROY, entries(1, netns=8), reason=DestroyReason.NETNS_EXIT)
    assert stream.of(end, end[:0]) == []
    assert stream.of(end[:0], end[:0]) == []
    another = events(Kind.INSERT, entries(1, netns=8))
    assert "insert  8 " in stream.of(another, another)[0]


COUNTED = (
    PacketCount(8, 1, 8, 5),
    PacketCount(NETNS, 4, 0, 10),
    PacketCount(NETNS, 4, 3, 20),
    PacketCount(NETNS, 0, 2, 3),
    PacketCount(NETNS, 0, 5, 1),
    PacketCount(0, 3, 7, 6),
)


def packets(request=ALL):
    return collect_packets(capture(counted=COUNTED), request)


def test_packets_are_counted_by_namespace_hook_and_state_and_replies_as_what_they_answer():
    assert [json.loads(line(row)) for row in packets()] == [
        {
            "event": "packets",
            "ts": "2023-11-14T22:13:20.000000000Z",
            "netns": netns,
            "hook": hook,
            "state": state,
            "packets": count,
        }
        for netns, hook, state, count in (
            (None, "output", "UNTRACKED", 6),
            (7, "prerouting", "5", 1),
            (7, "prerouting", "NEW", 3),
            (7, "postrouting", "ESTABLISHED", 30),
            (8, "input", "INVALID", 5),
        )
    ]
    assert [row.netns for row in packets(Request(filter=Filter(netns=8)))] == [8]


def test_packets_as_text():
    assert [packet_line(row, {NETNS: "blue", 8: "green"}) for row in packets()] == [
        "22:13:20.000 packets -        output      UNTRACKED   6",
        "22:13:20.000 packets blue     prerouting  5           1",
        "22:13:20.000 packets blue     prerouting  NEW         3",
        "22:13:20.000 packets blue     postrouting ESTABLISHED 30",
        "22:13:20.000 packets green    input       INVALID     5",
    ]


def test_a_line_of_packets_is_folded_on_a_terminal_alone():
    row = PacketsRow("packets", "2026-11-23T03:00:12.000000002Z", 9, "postrouting", "ESTABLISHED", 10**12)
    labels = {9: "x" * 60}
    whole, folded = packet_line(row, labels), packet_line(row, labels, 79)
    assert "\n" not in whole and CLAUSE not in whole
    assert max(map(len, folded.split("\n"))) <= 79 and folded.split() == whole.split()
