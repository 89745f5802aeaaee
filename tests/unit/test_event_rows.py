"""Events as the JSON contract has them, and as lines for people: each kind whole."""

from __future__ import annotations

import pytest

from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.filters import Filter
from ctobserve.clock import NS_PER_S
from ctobserve.event import (
    HAS_COUNTERS,
    HAS_TEXT,
    NO_DIRECTION,
    NO_EVENTS,
    REPLY,
    DestroyReason,
    DropReason,
    Kind,
)
from ctobserve.model import IPS_CONFIRMED, UNKNOWN_BUCKET, join
from ctobserve.render.event_lines import EventLines
from ctobserve.render.event_rows import event_rows
from tests.scripted import CLOCK, events
from tests.unit.samples import departed, entry, tuple_of

TOLD = (Kind.INSERT, Kind.CONFIRM, Kind.UPDATE, Kind.DESTROY, Kind.DROP)
IN_30_S = CLOCK.jiffies + 30 * CLOCK.hz
PLACED = {"status": IPS_CONFIRMED, "timeout": IN_30_S, "bucket": (5, 6), "chain": (1, 2)}
ENTRY = {
    "netns": 7,
    "l3": "ipv4",
    "proto": "udp",
    "protonum": 17,
    "zone": 0,
    "mark": 0,
    "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 53},
    "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 53, "dport": 1000},
    "status": ["confirmed"],
    "timeout_s": 30,
    "tcp_state": None,
    "bucket": {"original": 5, "reply": 6},
    "chain": {"original": 1, "reply": 2},
    "master": None,
    "zone_dir": "both",
}
NO_PAIR = {"original": None, "reply": None}
BARE = ENTRY | {
    **{"zone": None, "mark": None, "reply": None, "status": None, "timeout_s": None, "tcp_state": None},
    **{"bucket": NO_PAIR, "chain": NO_PAIR},
    "zone_dir": None,
}
TS = "2023-11-14T22:13:20.000000000Z"
FTP = tuple_of(entry(5, dport=21, proto=6))
SIX = tuple_of(entry(0, src="fd00::1", dst="fd00::2", dport=99))
NOTHING_MORE = {"process": None, "interface": None, "hook": None, "text": None, "looked_at": None} | {
    **{"like": None, "tcp_flags": None, "inner": None, "left": None}
}
LOST = {"reason": "table_full", "cpu": 0, "direction": "original"} | NOTHING_MORE
GONE = {"reason": "timeout", "detail": None, "age_s": None, "packets": None, "bytes": None} | {
    "portid": None,
    "process": None,
    "made_room_for": None,
    "cpu": 0,
}

WHERE = "blue     udp   10.0.0.1:1000 > 10.0.0.2:53"
STATE = "UNREPLIED left=30s"
CASES = {
    "insert": (
        events(Kind.INSERT, entry(1, **PLACED)),
        ENTRY,
        f"22:13:20.000 insert  {WHERE} {STATE} bucket=5/6 chain=1/2",
    ),
    "insert of an expected entry": (
        events(Kind.INSERT, entry(1, **PLACED), master=FTP),
        ENTRY | {"master": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 21}},
        f"22:13:20.000 insert  {WHERE} {STATE} bucket=5/6 chain=1/2 master 10.0.0.1:1000 > 10.0.0.2:21",
    ),
    "insert of which one bucket is not known": (
        events(Kind.INSERT, entry(1, **PLACED | {"bucket": (5, UNKNOWN_BUCKET), "chain": 0xFFFF})),
        ENTRY | {"bucket": {"original": 5, "reply": None}, "chain": {"original": None, "reply": None}},
        f"22:13:20.000 insert  {WHERE} {STATE} bucket=5/-",
    ),
    "accepted confirm": (
        events(Kind.CONFIRM, entry(1, **PLACED), since_alloc_ns=1500),
        ENTRY | {"verdict": "accept", "since_alloc_ns": 1500},
        f"22:13:20.000 confirm {WHERE} verdict=accept since_alloc=1500ns {STATE} bucket=5/6 chain=1/2",
    ),
    "refused confirm": (
        events(Kind.CONFIRM, entry(1, **PLACED), reason=DropReason.CLASH),
        ENTRY | {"verdict": "drop", "since_alloc_ns": None},
        f"22:13:20.000 confirm {WHERE} verdict=drop {STATE} bucket=5/6 chain=1/2",
    ),
    "update": (
        events(Kind.UPDATE, entry(1, **PLACED), changes=0b1000_0010_1000),
        ENTRY | {"changes": ["reply", "protoinfo", "synproxy"]},
        f"22:13:20.000 update  {WHERE} changes=reply,protoinfo,synproxy {STATE} bucket=5/6 chain=1/2",
    ),
    "update of nothing that is told": (
        events(Kind.UPDATE, entry(1, **PLACED)),
        ENTRY | {"changes": []},
        f"22:13:20.000 update  {WHERE} {STATE} bucket=5/6 chain=1/2",
    ),
    "destroy of which little is known": (
        events(Kind.DESTROY, entry(1, **PLACED), reason=DestroyReason.TIMEOUT),
        ENTRY | GONE,
        f"22:13:20.000 destroy {WHERE} reason=timeout {STATE} bucket=5/6 chain=1/2 cpu=0",
    ),
    "destroy of which much is known": (
        events(
            Kind.DESTROY, entry(1, **PLACED), reason=DestroyReason.DELETED, detail=b"ctnetlink", at_s=1.5,
            born_ns=CLOCK.monotonic_ns, has=HAS_COUNTERS, packets=(3, 2), bytes=(300, 1 << 40), portid=4711, pid=4,
            comm=b"conntrack", cpu=3, master=FTP,
        ),
        ENTRY | {"timeout_s": 28, "master": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 21}} | {
            "reason": "deleted", "detail": "ctnetlink", "age_s": 1.5, "packets": {"original": 3, "reply": 2},
            "bytes": {"original": 300, "reply": 1 << 40}, "portid": 4711, "process": {"pid": 4, "comm": "conntrack"},
            "made_room_for": None, "cpu": 3,
        },
        f"22:13:21.500 destroy {WHERE} reason=deleted UNREPLIED left=28s bucket=5/6 chain=1/2 age=1.5s packets=3/2 "
        "bytes=300/1099511627776 portid=4711 cpu=3 by conntrack[4] master 10.0.0.1:1000 > 10.0.0.2:21 (ctnetlink)",
    ),
    "destroy that made room": (
        events(Kind.DESTROY, entry(1, **PLACED), reason=DestroyReason.EARLY_DROP, evictor=SIX),
        ENTRY | GONE | {
            "reason": "early_drop", "made_room_for": {"src": "fd00::1", "dst": "fd00::2", "sport": 1000, "dport": 99}
        },
        f"22:13:20.000 destroy {WHERE} reason=early_drop {STATE} bucket=5/6 chain=1/2 cpu=0 for [fd00::1]:1000 > [fd00::2]:99",
    ),
    "drop where the table is full": (
        events(Kind.DROP, entry(0, has_ct=0), reason=DropReason.TABLE_FULL, scanned=(0, 1, 0, 7), pid=1, comm=b"a b", cpu=2),
        BARE | LOST | {
            "cpu": 2, "process": {"pid": 1, "comm": "a b"},
            "looked_at": {"assured": 0, "other_netns": 1, "other": 0, "empty_buckets": 7},
        },
        f"22:13:20.000 drop    {WHERE} reason=table_full cpu=2 by a b[1] "
        "(looked at: 0 assured, 1 other netns, 0 other, 7 empty buckets)",
    ),
    "drop where the buckets could not be read": (
        events(Kind.DROP, entry(0, has_ct=0), reason=DropReason.TABLE_FULL),
        BARE | LOST,
        f"22:13:20.000 drop    {WHERE} reason=table_full cpu=0",
    ),
    "drop in confirm": (
        events(Kind.DROP, entry(1, **PLACED), reason=DropReason.CHAINTOOLONG, ifindex=2, device=b"eth0", since_alloc_ns=9),
        ENTRY | LOST | {"reason": "chaintoolong", "interface": "eth0"},
        f"22:13:20.000 drop    {WHERE} reason=chaintoolong bucket=5/6 chain=1/2 cpu=0 on eth0",
    ),
    "invalid packet": (
        events(
            Kind.DROP, entry(1, has_ct=2), reason=DropReason.INVALID, hook=3, direction=REPLY, has=HAS_TEXT, text=b" invalid new "
        ),
        BARE | {"zone": 0} | LOST | {
            "reason": "invalid", "direction": "reply", "hook": "output", "text": "invalid new", "like": "unexpected"
        },
        f"22:13:20.000 drop    {WHERE} reason=invalid like=unexpected hook=output direction=reply cpu=0 (invalid new)",
    ),
    "packet that its helper drops": (
        events(
            Kind.DROP, entry(1, has_ct=2), reason=DropReason.HELPER, direction=REPLY, ifindex=2, device=b"eth0",
            has=HAS_TEXT, text=b"cannot add expectation",
        ),
        BARE | {"zone": 0} | LOST | {
            "reason": "helper", "direction": "reply", "interface": "eth0", "text": "cannot add expectation"
        },
        f"22:13:20.000 drop    {WHERE} reason=helper direction=reply cpu=0 on eth0 (cannot add expectation)",
    ),
    "packet that comes late": (
        events(
            Kind.DROP, entry(0, has_ct=0, proto=6), at_s=1.5, reason=DropReason.INVALID, hook=0, direction=NO_DIRECTION,
            tcp_flags=0x11, left=departed(entry(0, proto=6), DestroyReason.DELETED, 5, pid=77, comm=b"conntrack"),
        ),
        BARE | {"proto": "tcp", "protonum": 6} | LOST | {
            "reason": "invalid", "direction": None, "hook": "prerouting", "like": "late", "tcp_flags": ["FIN", "ACK"],
            "left": {
                "reason": "deleted", "before_s": 1.5, "tcp_state": "CLOSE_WAIT",
                "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 53},
                "process": {"pid": 77, "comm": "conntrack"},
            },
        },
        "22:13:21.500 drop    blue     tcp   10.0.0.1:1000 > 10.0.0.2:53 reason=invalid like=late flags=FIN+ACK "
        "hook=prerouting cpu=0 entry left 1.5s before: deleted in CLOSE_WAIT by conntrack[77] it was 10.0.0.1:1000 > 10.0.0.2:53",
    ),
    "refused ICMP error about a packet whose entry timed out": (
        events(
            Kind.DROP, entry(0, has_ct=0, proto=1, sport=0, dport=0x0304), reason=DropReason.ERROR, direction=NO_DIRECTION,
            inner=tuple_of(entry(0, dport=99)), left=departed(entry(0, dport=99), DestroyReason.TIMEOUT, 0),
        ),
        BARE | LOST | {
            "proto": "icmp", "protonum": 1, "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "type": 3, "code": 4, "id": 0},
            "reason": "error", "direction": None, "hook": "prerouting", "like": "icmp_error",
            "inner": {"proto": "udp", "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 99},
            "left": {
                "reason": "timeout", "before_s": 0.0, "tcp_state": None,
                "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 99}, "process": None,
            },
        },
        "22:13:20.000 drop    blue     icmp  10.0.0.1 > 10.0.0.2 type 3 code 4 id 0 reason=error like=icmp_error hook=prerouting "
        "cpu=0 inner udp 10.0.0.1:1000 > 10.0.0.2:99 entry left 0.0s before: timeout it was 10.0.0.1:1000 > 10.0.0.2:99",
    ),
    "refused ICMP error of no known entry": (
        events(Kind.DROP, entry(0, has_ct=0, netns=0), reason=DropReason.ERROR, direction=NO_DIRECTION),
        BARE | {"netns": None} | LOST | {
            "reason": "error", "direction": None, "hook": "prerouting", "like": "no_start"
        },
        "22:13:20.000 drop    -        udp   10.0.0.1:1000 > 10.0.0.2:53 reason=error like=no_start hook=prerouting cpu=0",
    ),
    "reasons that this version does not know": (
        events(Kind.DROP, entry(0, has_ct=0), reason=99),
        BARE | LOST | {"reason": "reason_99"},
        f"22:13:20.000 drop    {WHERE} reason=reason_99 cpu=0",
    ),
}  # fmt: skip


def rows(made):
    return event_rows(made, CLOCK)


def lines(made):
    return EventLines().of(made, CLOCK, {7: "blue"}).split("\n")


@pytest.mark.parametrize("case", CASES)
def test_an_event_is_the_contract(case):
    made, more, _ = CASES[case]
    (row,) = rows(made)
    when = "2023-11-14T22:13:21.500000000Z" if made["entry"]["seen_ns"][0] != CLOCK.monotonic_ns else TS
    expected = {"event": Kind(made["kind"][0]).name.lower(), "ts": when} | more
    assert row == expected
    assert [*row] == [*expected], "keys in this order"


@pytest.mark.parametrize("case", CASES)
def test_an_event_is_a_line(case):
    made, _, line = CASES[case]
    assert lines(made) == [line]


def test_events_of_all_kinds_side_by_side_say_what_each_says_alone():
    made = join([made for made, _, _ in CASES.values()])
    for some in (made, made[::-1].copy(), join([made, made])):
        assert rows(some) == [row for at in range(len(some)) for row in rows(some[at : at + 1])]
        assert lines(some) == [line for at in range(len(some)) for line in lines(some[at : at + 1])]


def test_of_no_events_there_are_no_rows():
    assert rows(NO_EVENTS) == []


def test_a_packet_lost_in_confirm_is_a_verdict_and_a_drop():
    made = events(Kind.DROP, entry(1), reason=DropReason.CLASH, since_alloc_ns=30)
    both = EventFilter(TOLD, Filter()).select(made)
    assert [(row["event"], row.get("verdict"), row.get("reason")) for row in rows(both)] == [
        ("confirm", "drop", None),
        ("drop", None, "clash"),
    ]
    assert rows(both)[0]["since_alloc_ns"] == 30
    assert [row["event"] for row in rows(EventFilter((Kind.DROP,), Filter()).select(made))] == ["drop"]
    confirm, drop = lines(both)
    assert confirm.endswith("10.0.0.2:53 verdict=drop since_alloc=30ns UNREPLIED left=0s")
    assert drop.endswith("10.0.0.2:53 reason=clash cpu=0")


def test_reasons_of_entries_that_left():
    made = events(Kind.DESTROY, join([entry(ct) for ct in range(len(DestroyReason))]), reason=list(DestroyReason))
    assert [row["reason"] for row in rows(made)] == [
        *("timeout", "early_drop", "gc_early_drop", "deleted", "flushed", "tcp_reuse", "netns_exit", "unconfirmed", "other"),
        "ipvs",
    ]


def test_reasons_of_lost_packets():
    made = events(Kind.DROP, join([entry(ct) for ct in range(len(DropReason))]), reason=list(DropReason))
    assert [row["reason"] for row in rows(made)] == [
        *("table_full", "no_memory", "clash", "chaintoolong", "dying", "confirmed", "invalid", "error", "helper"),
    ]


@pytest.mark.parametrize(
    ("ns", "age_s"), [(1, 0.0), (499_999, 0.0), (1_499_999_999, 1.5), (86_400_000_000_000, 86400.0), (1_234_567_890, 1.235)]
)
def test_ages_are_rounded_to_ms(ns, age_s):
    now_ns = CLOCK.monotonic_ns + 100_000 * NS_PER_S
    made = events(Kind.DESTROY, entry(1), reason=DestroyReason.TIMEOUT, at_s=100_000, born_ns=now_ns - ns)
    assert rows(made)[0]["age_s"] == age_s
    assert f" age={age_s}s " in lines(made)[0]


def test_times_of_day_are_utc_to_the_millisecond():
    made = events(Kind.INSERT, join([entry(ct) for ct in range(4)]), at_s=[0.0015, 6399.9999, 6400, 6400 + 86_400])
    assert [line.partition(" ")[0] for line in lines(made)] == ["22:13:20.001", "23:59:59.999", "00:00:00.000", "00:00:00.000"]
    assert [row["ts"][:23] for row in rows(made)] == [
        "2023-11-14T22:13:20.001",
        "2023-11-14T23:59:59.999",
        "2023-11-15T00:00:00.000",
        "2023-11-16T00:00:00.000",
    ]
