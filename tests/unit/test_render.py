from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ctobserve.capture.filters import Filter
from ctobserve.capture.memory import Memory
from ctobserve.capture.records import FLAG_CLASHED, FLAG_COUNTERS, FLAG_TEXT, TEXT_BYTES, DropReason, Kind, entries_of
from ctobserve.clock import Clock
from ctobserve.host.counters import parse
from ctobserve.model import IPS_CONFIRMED, IPS_SEEN_REPLY, IPS_SRC_NAT, UNKNOWN_BUCKET
from ctobserve.render import happenings
from ctobserve.render.folding import fitted
from ctobserve.render.happenings import EVENTS, Chosen, Happenings
from ctobserve.render.lines import EventLines, described, entry_lines
from ctobserve.render.rows import entry_rows
from ctobserve.render.tuples import side
from tests.unit.samples import record, records

CLOCK = Clock(monotonic_ns=1_000_000_000, wall_ns=1_700_000_000_000_000_000, jiffies=0xFFFFFF00, hz=250)
FUNCTIONS = dict(
    enumerate(("nf_ct_gc_expired.part.0", "early_drop", "nf_ct_iterate_cleanup", "act_ct", "kill_all", "gc_worker"), 1)
)
SYMBOLS = SimpleNamespace(containing=FUNCTIONS.get)
NETNS = {7: "blue"}


def rows(*made):
    return entry_rows(entries_of(records(*made)), CLOCK)


def told(*made, chosen=EVENTS, only=None):
    return Happenings(Chosen(chosen, only or Filter()), CLOCK, SYMBOLS).of(records(*made), final=True)


def events(*made, **more):
    return told(*made, **more).rows(CLOCK)


def lines(*made):
    return EventLines().of(told(*made), CLOCK, NETNS).split("\n")


def short(*made, labels=NETNS):
    return [fitted(row, None) for row in described(entries_of(records(*made)), labels)]


def test_an_entry_is_the_contract():
    made = record(
        Kind.INSERT, 0xA, ts=1_000_000_000, timeout=0xFFFFFF00 + 29 * 250 - (1 << 32), bucket=(5, 6), chain=(1, 2), zone=3, mark=4
    )
    assert rows(made) == [
        {
            "netns": 7,
            "l3": "ipv4",
            "proto": "udp",
            "protonum": 17,
            "zone": 3,
            "mark": 4,
            "original": {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 53},
            "reply": {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 53, "dport": 1000},
            "status": ["confirmed"],
            "timeout_s": 29,
            "tcp_state": None,
            "bucket": {"original": 5, "reply": 6},
            "chain": {"original": 1, "reply": 2},
            "master": None,
        }
    ]


def test_icmp_ipv6_tcp_and_generic():
    icmp, six, tcp, other = rows(
        record(Kind.WALK, 1, proto=1, sport=77, dport=0x0800),
        record(Kind.WALK, 2, src="fd00::1", dst="fd00::2"),
        record(Kind.WALK, 3, proto=6, tcp_state=3),
        record(Kind.WALK, 4, proto=253, sport=0, dport=0),
    )
    assert icmp["original"] == {"src": "10.0.0.1", "dst": "10.0.0.2", "type": 8, "code": 0, "id": 77}
    assert (six["l3"], six["original"]["src"]) == ("ipv6", "fd00::1")
    assert tcp["tcp_state"] == "ESTABLISHED"
    assert (other["proto"], other["original"]["sport"]) == ("unknown", None)


def test_expired_entries_have_no_negative_time():
    assert rows(record(Kind.WALK, 1, status=IPS_CONFIRMED, ts=1_000_000_000, timeout=0xFFFFF000))[0]["timeout_s"] == 0


def test_a_tuple_only_record_has_unknowns_not_zeros():
    row = events(record(Kind.DROP, 0, has_ct=0, reason=DropReason.TABLE_FULL))[0]
    assert row["event"] == "drop" and row["reason"] == "table_full"
    assert row["direction"] == "original"
    assert all(row[name] is None for name in ("reply", "zone", "mark", "timeout_s", "tcp_state"))
    assert row["bucket"] == row["chain"] == {"original": None, "reply": None}


def test_reasons_of_departure():
    made = [record(Kind.DESTROY, i, caller=i, portid=9 if i == 3 else 0) for i in (1, 2, 3, 4, 6)]
    made += [record(Kind.DESTROY, 7, caller=3, iterator=5, netns=9), record(Kind.FREE, 8)]
    assert told(*made).ended() == {9}, "the namespace whose end it was"
    reasons = ["timeout", "early_drop", "flushed", "other", "gc_early_drop", "netns_exit", "unconfirmed"]
    assert [row["reason"] for row in events(*made)] == reasons


def test_a_victim_waits_for_the_tuple_it_made_room_for():
    stream = Happenings(Chosen(EVENTS, Filter()), CLOCK, SYMBOLS)
    assert len(stream.of(records(record(Kind.DESTROY, 1, caller=2, eviction=77), record(Kind.INSERT, 2)))) == 0
    evictor = record(Kind.EVICTOR, 0, has_ct=0, eviction=77, dport=99)
    first, second = stream.of(records(evictor)).rows(CLOCK)
    assert (first["reason"], first["made_room_for"]["dport"], second["event"]) == ("early_drop", 99, "insert")


def test_a_victim_whose_evictor_was_lost_holds_up_no_more_than_so_many_records(monkeypatch):
    monkeypatch.setattr(happenings, "HOLD_RECORDS", 10)
    stream = Happenings(Chosen(EVENTS, Filter()), CLOCK, SYMBOLS)
    assert len(stream.of(records(record(Kind.DESTROY, 1, caller=2, eviction=77)))) == 0
    assert len(stream.of(records(*(record(Kind.INSERT, ct) for ct in range(2, 11))))) == 0
    first, *others = stream.of(records(record(Kind.INSERT, 11))).rows(CLOCK)
    assert (first["reason"], first["made_room_for"], len(others)) == ("early_drop", None, 10)


def test_age_traffic_and_process_of_an_entry_that_leaves():
    traffic = np.zeros(TEXT_BYTES, np.uint8)
    traffic[:32] = np.array([3, 300, 2, 200], "<u8").view(np.uint8)
    fields = {"caller": 1, "ts": 2_500_000_000, "pid": 4, "comm": b"conntrack", "flags": FLAG_COUNTERS, "extra": traffic}
    made = record(Kind.INSERT, 1, ts=1_000_000_000), record(Kind.DESTROY, 1, **fields)
    row = events(*made)[1]
    assert row["age_s"] == 1.5
    assert (row["packets"], row["bytes"]) == ({"original": 3, "reply": 2}, {"original": 300, "reply": 200})
    assert row["process"] == {"pid": 4, "comm": "conntrack"}
    assert lines(*made)[1].endswith("age=1.5s packets=3/2 bytes=300/200 cpu=0 by conntrack[4]")


def test_related_entries_name_their_master():
    made = record(Kind.MASTER, 5, dport=21, proto=6), record(Kind.INSERT, 6, master=5, dport=20)
    assert events(*made)[0]["master"]["dport"] == 21


def test_the_fate_of_an_unconfirmed_entry():
    made = record(Kind.DROP, 1, reason=DropReason.CHAINTOOLONG), record(Kind.FREE, 1), record(Kind.FREE, 2, flags=FLAG_CLASHED)
    destroys = [row for row in events(*made) if row["event"] == "destroy"]
    assert [row["detail"] for row in destroys] == ["chaintoolong", "clash_resolved"]


def test_an_invalid_packet_has_the_kernels_words():
    words = np.frombuffer(b"invalid new".ljust(TEXT_BYTES, b"\0"), np.uint8)
    row = events(record(Kind.DROP, 0, has_ct=0, reason=DropReason.INVALID, flags=FLAG_TEXT, extra=words, hook=3))[0]
    assert (row["reason"], row["text"], row["hook"]) == ("invalid", "invalid new", "output")


def test_a_packet_lost_in_confirm_is_a_verdict_and_a_drop():
    made = record(Kind.DROP, 1, reason=DropReason.CLASH, ts=50, since=20)
    both = events(made)
    assert [(row["event"], row.get("verdict"), row.get("reason")) for row in both] == [
        ("confirm", "drop", None),
        ("drop", None, "clash"),
    ]
    assert both[0]["since_alloc_ns"] == 30
    assert [row["event"] for row in events(made, chosen=("drop",))] == ["drop"]


def test_filters():
    made = [record(Kind.INSERT, 1, dport=53), record(Kind.INSERT, 2, dport=54), record(Kind.INSERT, 3, proto=6, dport=53)]
    assert len(events(*made, only=Filter(dport=(53, 53)))) == 2
    assert len(events(*made, only=Filter(proto=17))) == 2
    assert len(events(*made, only=Filter(netns=8))) == 0
    assert len(events(*made, only=Filter(state="UNREPLIED"))) == 3


def test_lines():
    status, timeout = IPS_CONFIRMED | IPS_SEEN_REPLY, 0xFFFFFF00 + 500 - (1 << 32)
    made = record(Kind.WALK, 1, ts=1_000_000_000, proto=6, tcp_state=3, status=status, timeout=timeout, bucket=(5, 6))
    _, line = entry_lines(entries_of(records(made)), CLOCK, NETNS)
    assert line.split() == ["blue", "tcp", "2", "5/6", "-/-", "10.0.0.1:1000", ">", "10.0.0.2:53", "ESTABLISHED"]
    lost = record(Kind.DROP, 0, has_ct=0, reason=1, ts=1_000_000_000, src="fd00::1", dst="fd00::2")
    assert "looked at" not in lines(lost)[0], "unknown where the buckets could not be read"
    lost["scanned"] = (0, 1, 0, 7)
    line = lines(lost)[0]
    assert line.startswith(
        "22:13:20.000 drop    blue     udp   [fd00::1]:1000 > [fd00::2]:53 reason=table_full cpu=0 (looked at: 0 assured"
    )


def test_counters_of_proc():
    columns = {"entries": 3, "clashres": 17, "found": 0, "invalid": 31, "chainlength": 2, "drop": 5, "icmp_error": 7}
    (cpu,) = parse(" ".join(columns) + "\n" + " ".join(f"{value:08x}" for value in columns.values()) + "\n")
    expected = {"entries": 3, "clash_resolve": 17, "found": 0, "invalid": 31, "chaintoolong": 2, "drop": 5, "error": 7}
    assert cpu == expected


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"src": "fd00::1", "dst": "fd00::2"},
        {"proto": 1, "sport": 77, "dport": 0x0800, "sport1": 77, "dport1": 0},
        {"proto": 253, "sport": 0, "dport": 0},
        {"proto": 47, "sport": 5, "dport": 6},
    ],
)
def test_a_tuple_reads_the_same_from_columns_and_from_json(fields):
    made = record(Kind.WALK, 1, **fields)
    (text,) = short(made)
    assert side(rows(made)[0]["original"]) in text
    assert text.startswith("blue ") and text.endswith(" UNREPLIED")


def test_nat_shows_the_reply_and_only_where_it_differs():
    mirrored = record(Kind.WALK, 1, status=IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_SRC_NAT)
    moved = record(Kind.WALK, 2, status=IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_SRC_NAT)
    moved["dport1"] = 7777
    assert short(mirrored, moved, labels={}) == [
        "7 udp 10.0.0.1:1000 > 10.0.0.2:53 src_nat",
        "7 udp 10.0.0.1:1000 > 10.0.0.2:53 reply 10.0.0.2:53 > 10.0.0.1:7777 src_nat",
    ]


def test_what_an_insert_and_what_a_refused_packet_say():
    timeout = 0xFFFFFF00 + 30 * 250 - (1 << 32)
    inserted = record(Kind.INSERT, 1, ts=1_000_000_000, timeout=timeout, bucket=(5, 6), chain=(1, 2))
    (line,) = lines(inserted)
    assert line == "22:13:20.000 insert  blue     udp   10.0.0.1:1000 > 10.0.0.2:53 UNREPLIED left=30s bucket=5/6 chain=1/2"
    blind = record(Kind.INSERT, 1, ts=1_000_000_000, timeout=timeout, bucket=(5, UNKNOWN_BUCKET))
    assert lines(blind)[0].endswith("UNREPLIED left=30s bucket=5/-")
    confirm, drop = lines(record(Kind.DROP, 1, reason=DropReason.CLASH, ts=1_000_000_000, since=20))
    assert confirm.endswith("verdict=drop since_alloc=999999980ns UNREPLIED left=0s")
    assert drop.endswith("10.0.0.2:53 reason=clash cpu=0")


def test_a_memory_keeps_the_latest_and_never_more_than_two_halves():
    memory: Memory[int] = Memory(100)
    for ct in range(1000):
        memory.latest[ct] = ct
        memory.age()
        assert len(memory) <= 200 and memory.get(max(0, ct - 99)) == max(0, ct - 99)
    assert memory.get(0) is None and memory.pop(0) is None, "forgotten is unknown"
    known = len(memory)
    memory.latest[900] = -900
    assert memory.pop(900) == -900 and memory.pop(900) is None, "an older entry at the address is forgotten with it"
    assert len(memory) == known - 1


def test_the_age_of_an_entry_is_right_or_unknown_however_many_there_are(monkeypatch):
    monkeypatch.setattr(happenings, "ENTRIES_REMEMBERED", 100)
    monkeypatch.setattr(happenings, "MASTERS_REMEMBERED", 100)
    stream = Happenings(Chosen(EVENTS, Filter()), CLOCK, SYMBOLS)
    for ct in range(1, 1001):
        born = ct * 1_000_000_000
        stream.of(
            records(*(record(kind, ct, ts=born, reason=DropReason.CLASH) for kind in (Kind.INSERT, Kind.MASTER, Kind.DROP)))
        )
    # An address that was used before, and is again: its first entry's end was never seen.
    stream.of(records(record(Kind.INSERT, 950, ts=2000 * 1_000_000_000)))
    ended = [record(Kind.DESTROY, ct, ts=3000 * 1_000_000_000, caller=1) for ct in (1, 950, 1000)]
    assert [row["age_s"] for row in stream.of(records(*ended)).rows(CLOCK)] == [None, 1000.0, 2000.0]
    assert all(len(memory) <= 200 for memory in (stream._births, stream._masters, stream._fates))
