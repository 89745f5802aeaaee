"""Losses beside the kernel's counters: sums, and the whole command on a capture that is made up."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from ctobserve import __version__
from ctobserve.analysis.drops import sums
from ctobserve.capture.capture import Fidelity, NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.documents.base import EventRows
from ctobserve.documents.drops import DropsDocument, DropsMeta, NetnsSums, collect
from ctobserve.documents.meta import NetnsOwner
from ctobserve.documents.request import Request
from ctobserve.event import NO_EVENTS, TUPLE, DestroyReason, DropReason, Kind
from ctobserve.host.counters import Reading
from ctobserve.host.owner import HOST, Owner, OwnerKind
from ctobserve.model import UNKNOWN_BUCKET, UNKNOWN_CHAIN, join
from ctobserve.render.drops import balance_lines
from ctobserve.render.jsonout import document
from ctobserve.render.stream import StreamLines
from tests.scripted import CLOCK, NETNS, ScriptedCapture, events, reading
from tests.unit.tables import entries

GONE = 9  # inode number of a namespace that nobody can enter
LABELS = {NETNS: "blue", 8: "green"}
STATES = {NETNS: NamespaceState(NETNS, "blue", init=True), 8: NamespaceState(8, "green")}
ALL = Request()


def packets(count=1, **given):
    """Packets of which no entry is known: their tuple alone, and the zone."""
    return entries(count, has_ct=2, bucket=UNKNOWN_BUCKET, chain=UNKNOWN_CHAIN, status=0, timeout=0, **given)


def readings(**more):
    """Before and after: of blue on two CPUs, and of green, where nothing moved."""
    before = (reading(drop=50, found=9), reading(cpu=1), reading(8, cookie=2))
    after = (reading(drop=53, early_drop=1, clash_resolve=1, found=12), reading(cpu=1, drop=1, invalid=3), reading(8, cookie=2))
    return [Reading({place: values for one in parts for place, values in one.counts.items()}) for parts in (before, after)]


NEWCOMER = np.zeros(1, TUPLE)
NEWCOMER["addr"], NEWCOMER["port"] = entries(1, src="10.0.0.9", sport=9999)["addr"][:, :2], (9999, 53)
NEWCOMER["l3num"], NEWCOMER["protonum"] = 2, 17
FULL = events(
    Kind.DROP, packets(2), reason=DropReason.TABLE_FULL, at_s=0.1, scanned=[[6, 2, 0, 3], [0, 0, 0, 0]], pid=77, comm=b"curl"
)
OTHER_CPU = events(Kind.DROP, packets(sport=7), reason=DropReason.NO_MEMORY, at_s=0.25, cpu=1, ifindex=3, device=b"eth0")
VICTIM = events(
    Kind.DESTROY, entries(1), reason=DestroyReason.EARLY_DROP, at_s=0.3, born_ns=CLOCK.monotonic_ns - 10**9, evictor=NEWCOMER
)
RESOLVED = events(Kind.RESOLVED, entries(1), at_s=0.4)
ELSEWHERE = events(Kind.DROP, packets(netns=GONE), reason=DropReason.CHAINTOOLONG, at_s=0.5)
TIMED_OUT = events(Kind.DESTROY, entries(3), reason=DestroyReason.TIMEOUT)
HAPPENED = (NO_EVENTS, NO_EVENTS, FULL, join([OTHER_CPU, TIMED_OUT, RESOLVED]), ELSEWHERE)


def capture(*batches, held=VICTIM, **more):
    """What is in the first two batches happens before the command is ready."""
    given = {"readings": readings(), "states": STATES, "told": Fidelity("fentry", lost={"drop": 2})} | more
    return ScriptedCapture(batches or HAPPENED, held=held, **given)


def collected(request=ALL, made=None, show=None):
    return collect(made or capture(), request, Stretch(1.0), show)


KERNEL = {
    "chaintoolong": 0, "clash_resolve": 1, "drop": 4, "early_drop": 1, "error": 0, "found": 3, "insert": 0, "insert_failed": 0,
    "invalid": 3, "search_restart": 0,
}  # fmt: skip
ENTRY = {
    "netns": 7, "l3": "ipv4", "proto": "udp", "protonum": 17, "zone": 0, "mark": None,
    "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1024, "dport": 53}, "reply": None,
    "status": None, "timeout_s": None, "tcp_state": None,
    "bucket": {"original": None, "reply": None}, "chain": {"original": None, "reply": None}, "master": None,
    "zone_dir": None, "owner": None,
}  # fmt: skip
DROP = {"direction": "original", "process": None, "interface": None, "hook": None, "text": None, "looked_at": None}
DROP |= {"like": None, "tcp_flags": None, "inner": None, "left": None}
CURL = {"process": {"pid": 77, "comm": "curl"}}
SCANNED = {"looked_at": {"assured": 6, "other_netns": 2, "other": 0, "empty_buckets": 3}}


def dropped(at, reason, cpu=0, sport=1024, netns=7, **more):
    row = {"event": "drop", "ts": f"2023-11-14T22:13:20.{at}00000000Z"[:29] + "Z"} | ENTRY | {"netns": netns}
    row |= {"original": ENTRY["original"] | {"sport": sport}}
    return row | {"reason": reason, "cpu": cpu} | DROP | more


def test_the_whole_document_as_json():
    found = json.loads(document(collected()))
    zeros = dict.fromkeys(KERNEL, 0)
    expected = {
        "meta": {
            "command": "drops", "version": __version__, "schema": 1, "kernel": "6.1.0-test",
            "started": "2023-11-14T22:13:20.000000000Z", "ended": "2023-11-14T22:13:21.000000000Z", "duration_s": 1.0,
            "netns": "all", "netns_names": {"7": "blue", "8": "green"}, "attach": "fentry", "not_attached": [],
            "table_source": None, "events_seen": 9, "events_lost": 2, "lost_by_kind": {"drop": 2}, "evictions_unpaired": 0,
            "table_age_s": None, "table_uncertain_s": 0.0, "buckets_unread": 0, "events_seen_in_netns": None,
            "from_recording": None, "netns_owners": {"7": None, "8": None}, "drops_not_shown": 0,
        },
        "by_reason": {"chaintoolong": 1, "early_drop": 1, "no_memory": 1, "table_full": 2},
        "clash_resolved": 1,
        "kernel_counters": KERNEL,
        "unaccounted": {"invalid": 3, "drop": 1},
        "not_compared": {"chaintoolong": 1},
        "by_netns": {
            "7": {
                "by_reason": {"clash_resolved": 1, "early_drop": 1, "no_memory": 1, "table_full": 2},
                "kernel_counters": KERNEL,
                "unaccounted": {"invalid": 3, "drop": 1},
                "by_cpu": {
                    "0": {
                        "by_reason": {"clash_resolved": 1, "early_drop": 1, "table_full": 2},
                        "kernel_counters": {"found": 3, "drop": 3, "early_drop": 1, "clash_resolve": 1},
                    },
                    "1": {"by_reason": {"no_memory": 1}, "kernel_counters": {"invalid": 3, "drop": 1}},
                },
            },
            "8": {
                "by_reason": {}, "kernel_counters": zeros, "unaccounted": {},
                "by_cpu": {"0": {"by_reason": {}, "kernel_counters": {}}},
            },
            "9": {
                "by_reason": {"chaintoolong": 1}, "kernel_counters": {}, "unaccounted": {},
                "by_cpu": {"0": {"by_reason": {"chaintoolong": 1}, "kernel_counters": {}}},
            },
        },
        "drops": [
            dropped(1, "table_full", **CURL, **SCANNED),
            dropped(1, "table_full", sport=1025, **CURL),
            dropped(25, "no_memory", cpu=1, sport=7, interface="eth0"),
            dropped(5, "chaintoolong", netns=9),
            {"event": "destroy", "ts": "2023-11-14T22:13:20.300000000Z"} | ENTRY | {
                "mark": 0, "status": ["seen_reply", "assured", "confirmed"], "timeout_s": 99,
                "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 53, "dport": 1024},
                "bucket": {"original": 0, "reply": 0}, "chain": {"original": 0, "reply": 0},
                "reason": "early_drop", "detail": None, "age_s": 1.3, "packets": None, "bytes": None, "portid": None,
                "process": None, "made_room_for": {"src": "10.0.0.9", "dst": "10.0.0.2", "sport": 9999, "dport": 53}, "cpu": 0,
            },
        ],
    }  # fmt: skip
    assert found == expected
    assert list(found) == list(expected) == [one.name for one in fields(DropsDocument)]
    assert list(found["meta"]) == list(expected["meta"])


def told(request=ALL, made=None):
    """All that the command prints for people."""
    made = made or capture()
    stream = StreamLines(made)
    lines = []
    found = collected(request, made, lambda came, shown: lines.extend(stream.of(came, shown)))
    assert not len(found.drops), "who was shown them as they came has them"
    return "\n".join([*lines, *balance_lines(found)]).split("\n")


def test_the_whole_command_as_text():
    assert told() == [
        "22:13:20.100 drop    blue     udp   10.0.0.1:1024 > 10.0.0.2:53 reason=table_full cpu=0 by curl[77] "
        "(looked at: 6 assured, 2 other netns, 0 other, 3 empty buckets)",
        "22:13:20.100 drop    blue     udp   10.0.0.1:1025 > 10.0.0.2:53 reason=table_full cpu=0 by curl[77]",
        "22:13:20.250 drop    blue     udp   10.0.0.1:7 > 10.0.0.2:53 reason=no_memory cpu=1 on eth0",
        "22:13:20.500 drop    9        udp   10.0.0.1:1024 > 10.0.0.2:53 reason=chaintoolong cpu=0",
        "22:13:20.300 destroy blue     udp   10.0.0.1:1024 > 10.0.0.2:53 reason=early_drop ASSURED left=99s "
        "bucket=0/0 chain=0/0 age=1.3s cpu=0 for 10.0.0.9:9999 > 10.0.0.2:53",
        "blue: clash_resolved 1, early_drop 1, no_memory 1, table_full 2; kernel: clash_resolve 1, drop 4,",
        "  early_drop 1, found 3, invalid 3; unaccounted: invalid +3, drop +1",
        "9: chaintoolong 1; kernel: none moved",
        "By reason:       chaintoolong 1, early_drop 1, no_memory 1, table_full 2; 1 clashes resolved, no",
        "                 loss",
        "Kernel counters: clash_resolve +1, drop +4, early_drop +1, found +3, invalid +3",
        "Not compared:    chaintoolong 1, where the counters can no longer be read",
        "Unaccounted:     invalid +3, drop +1",
        "                 (--invalid shows those packets, at the cost of a probe per packet)",
    ]


POD = Owner(OwnerKind.POD, "web-0", "8a")


def test_who_owns_the_namespace_of_a_loss_is_said_unless_it_is_the_host():
    made = capture(owners={7: POD, 8: HOST})
    stream, lines = StreamLines(made, owned=True), []
    found = collected(made=made, show=lambda came, shown: lines.extend(stream.of(came, shown)))
    text = "\n".join([*lines, *balance_lines(found)])
    assert text.count(" owner=pod/web-0 ") == 4, "the one of namespace 9 is nobody's"
    assert "\nblue (pod/web-0): clash_resolved 1" in text and "host" not in text
    rows = json.loads(document(collected(made=capture(owners={7: POD, 8: HOST}))))["drops"]
    assert [row["owner"] for row in rows] == ["pod/web-0" if row["netns"] == 7 else None for row in rows]


def test_beyond_the_limit_losses_are_counted_and_not_shown():
    made = collected(Request(limit=3))
    assert (len(made.drops), made.meta.drops_not_shown, sum(made.by_reason.values())) == (3, 2, 5)
    lines = told(Request(limit=1))
    assert sum("reason=" in line for line in lines) == 1
    assert "... and 4 more (--limit)" in lines
    assert len(collected(Request(limit=0)).drops) == 0


def test_a_document_has_ten_thousand_losses_and_text_has_all():
    flood = [events(Kind.DROP, packets(3001), reason=DropReason.TABLE_FULL)] * 4
    found = collected(made=capture(NO_EVENTS, NO_EVENTS, *flood))
    assert (len(found.drops), found.meta.drops_not_shown, found.by_reason["table_full"]) == (10_000, 2005, 12_004)
    assert sum("reason=" in line for line in told(made=capture(NO_EVENTS, NO_EVENTS, *flood))) == 12_005


def test_what_was_lost_before_the_command_was_ready_is_none_of_its_losses():
    found = collected(made=capture(FULL, NO_EVENTS, OTHER_CPU, held=NO_EVENTS))
    assert found.by_reason == {"no_memory": 1} and len(found.drops) == 1


def test_a_filter_chooses_losses_and_says_by_the_counters_what_it_hid():
    found = collected(Request(filter=Filter(sport=(7, 7))))
    assert found.by_reason == {"no_memory": 1} and found.clash_resolved == 0
    assert found.unaccounted == {"invalid": 3, "drop": 3, "early_drop": 1, "clash_resolve": 1}


def test_one_namespace_alone_is_compared_with_its_own_counters():
    found = collected(Request(filter=Filter(netns=8)))
    assert (found.by_reason, found.by_netns.keys(), found.meta.netns) == ({}, {"8"}, 8)
    assert "Kernel counters: none moved" in list(balance_lines(found))


def test_where_no_counters_can_be_read_nothing_is_compared():
    found = collected(made=capture(readings=[Reading({})]))
    assert (found.kernel_counters, found.unaccounted, found.not_compared) == ({}, {}, {})
    assert list(balance_lines(found))[-1] == "Kernel counters: not readable here, so nothing can be compared"
    recorded = replace(found, meta=replace(found.meta, from_recording="r.cto"))
    words = "not read at both ends of this stretch of the recording"
    assert list(balance_lines(recorded))[-1] == f"Kernel counters: {words}, so nothing can be compared"


@pytest.mark.parametrize(
    ("kind", "reason", "word"),
    [
        *((Kind.DROP, reason, reason.name.lower()) for reason in DropReason),
        (Kind.DROP, 99, "reason_99"),
        (Kind.DESTROY, DestroyReason.EARLY_DROP, "early_drop"),
        (Kind.RESOLVED, 0, "clash_resolved"),
    ],
)
def test_each_loss_is_counted_under_its_word(kind, reason, word):
    assert sums(events(kind, entries(3), reason=reason, cpu=5)) == {(NETNS, 5): Counter({word: 3})}


def test_what_is_no_loss_is_not_counted():
    others = [kind for kind in Kind if kind not in (Kind.DROP, Kind.RESOLVED, Kind.DESTROY)]
    made = [events(kind, entries(1), reason=1) for kind in others]
    made += [events(Kind.DESTROY, entries(1), reason=reason) for reason in DestroyReason if reason != DestroyReason.EARLY_DROP]
    assert sums(join(made)) == {}


def test_places_are_counted_apart():
    drops = events(Kind.DROP, entries(4, netns=[1, 1, (1 << 32) - 1, 1]), reason=1, cpu=[0, 65_535, 0, 0])
    assert sums(drops) == {
        (1, 0): Counter(table_full=2),
        (1, 65_535): Counter(table_full=1),
        ((1 << 32) - 1, 0): Counter(table_full=1),
    }


META = DropsMeta(
    command="drops",
    version="9.8.7",
    schema=1,
    kernel="6.1.0-test",
    started="2026-11-23T03:00:07.000000001Z",
    ended="2026-11-23T03:00:12.000000002Z",
    duration_s=5.125,
    netns="all",
    netns_names={"77": "blue"},
    attach="fentry",
    not_attached=(),
    table_source=None,
    events_seen=1234,
    events_lost=0,
    lost_by_kind={},
    evictions_unpaired=0,
    table_age_s=None,
    table_uncertain_s=0.0,
    buckets_unread=0,
    events_seen_in_netns=None,
    from_recording=None,
    netns_owners={"77": NetnsOwner("pod/web-0", OwnerKind.POD, "web-0", "8a", None)},
    drops_not_shown=4,
)
SUMS = {"by_reason": {"clash": 2, "table_full": 3}, "kernel_counters": {"drop": 6, "found": 0}, "unaccounted": {"drop": 1}}


def balanced(netns="all", **more):
    body = {
        "meta": replace(META, netns=netns),
        "clash_resolved": 5,
        "not_compared": {},
        "by_netns": {"77": NetnsSums(**SUMS, by_cpu={})},
        "drops": EventRows(NO_EVENTS, CLOCK),
    }
    return "\n".join(balance_lines(DropsDocument(**body | SUMS | more)))


def test_the_sums_of_drops_name_the_only_namespace_that_lost_something():
    text = balanced()
    assert "blue (pod/web-0): clash 2, table_full 3; kernel: drop +6; unaccounted: drop +1" in text.replace("drop 6", "drop +6")
    for said in ("4 more", "5 clashes resolved", "By reason:       clash 2, table_full 3", "Kernel counters: drop +6"):
        assert said in text
    assert "Unaccounted:     drop +1" in text and "Not compared" not in text
    assert "blue" not in balanced(netns=77), "it was asked for"
    assert "Not compared:    clash 1" in balanced(not_compared={"clash": 1})
