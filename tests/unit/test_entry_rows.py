"""Entries as the JSON contract has them, and as lines for people."""

from __future__ import annotations

import pytest

from ctobserve.clock import Clock
from ctobserve.model import IPS_CONFIRMED, IPS_SEEN_REPLY, IPS_SRC_NAT, join
from ctobserve.render.folding import fitted
from ctobserve.render.lines import described, entry_lines
from ctobserve.render.rows import entry_rows
from tests.unit.reading import as_read
from tests.unit.samples import entry

CLOCK = Clock(monotonic_ns=1_000_000_000, wall_ns=1_700_000_000_000_000_000, jiffies=0xFFFFFF00, hz=250)
NOW = {"seen_ns": CLOCK.monotonic_ns}
NETNS = {7: "blue"}


def in_s(seconds):
    """Jiffies wrap."""
    return (CLOCK.jiffies + seconds * CLOCK.hz) % (1 << 32)


def rows(*made):
    return entry_rows(join(made), CLOCK)


def short(*made, labels=NETNS):
    return [fitted(row, None) for row in described(join(made), labels)]


def test_an_entry_is_the_contract():
    made = entry(0xA, status=IPS_CONFIRMED, timeout=in_s(29), bucket=(5, 6), chain=(1, 2), zone=3, mark=4, **NOW)
    (row,) = rows(made)
    assert row == {
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
        "zone_dir": "both",
        "helper": None,
        "owner": None,
    }
    assert [*row] == [
        *("netns", "l3", "proto", "protonum", "zone", "mark", "original", "reply"),
        *("status", "timeout_s", "tcp_state", "bucket", "chain", "master"),
        *("zone_dir", "helper", "owner"),
    ], "in this order"


def test_icmp_ipv6_tcp_gre_and_generic():
    icmp, six, tcp, gre, other = rows(
        entry(1, proto=1, sport=77, dport=0x0800),
        entry(2, src="fd00::1", dst="fd00::2"),
        entry(3, proto=6, tcp_state=3),
        entry(4, proto=47, sport=5, dport=6),
        entry(5, proto=253, sport=0, dport=0),
    )
    assert icmp["original"] == {"src": "10.0.0.1", "dst": "10.0.0.2", "type": 8, "code": 0, "id": 77}
    assert (six["l3"], six["original"]["src"]) == ("ipv6", "fd00::1")
    assert tcp["tcp_state"] == "ESTABLISHED"
    keys = {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": None, "dport": None, "srckey": 5, "dstkey": 6}
    assert gre["original"] == keys and [*gre["original"]] == [*keys]
    assert (other["proto"], other["original"]["sport"]) == ("unknown", None)
    assert other["original"].keys() == {"src", "dst", "sport", "dport"}


def test_rows_stay_in_order_whatever_protocols_are_mixed():
    made = [entry(ct, proto=(6, 1, 47, 253, 58)[ct % 5], sport=ct) for ct in range(40)]
    assert rows(*made) == [row for one in made for row in rows(one)]
    assert entry_rows(join(made)[:0], CLOCK) == []


def test_expired_entries_have_no_negative_time():
    assert rows(entry(1, status=IPS_CONFIRMED, timeout=0xFFFFF000, **NOW))[0]["timeout_s"] == 0


def test_of_a_tuple_alone_the_rest_is_unknown_and_not_zero():
    alone, zoned = rows(entry(0, has_ct=0, netns=0), entry(0, has_ct=2, zone=3))
    for row in (alone, zoned):
        assert all(row[name] is None for name in ("reply", "status", "mark", "timeout_s", "tcp_state", "master"))
        assert row["bucket"] == row["chain"] == {"original": None, "reply": None}
    assert (alone["zone"], alone["netns"], zoned["zone"]) == (None, None, 3)


def test_the_line_of_an_entry():
    status = IPS_CONFIRMED | IPS_SEEN_REPLY
    made = entry(1, proto=6, tcp_state=3, status=status, timeout=in_s(2), bucket=(5, 6), **NOW)
    _, line = entry_lines(made, CLOCK, NETNS)
    assert line.split() == ["blue", "tcp", "2", "5/6", "-/-", "10.0.0.1:1000", ">", "10.0.0.2:53", "ESTABLISHED"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "10.0.0.1:1000 > 10.0.0.2:53"),
        ({"src": "fd00::1", "dst": "fd00::2"}, "[fd00::1]:1000 > [fd00::2]:53"),
        (
            {"proto": 1, "sport": 77, "dport": 0x0800, "reply_sport": 77, "reply_dport": 0},
            "10.0.0.1 > 10.0.0.2 type 8 code 0 id 77",
        ),
        ({"proto": 253, "sport": 0, "dport": 0}, "10.0.0.1 > 10.0.0.2"),
        ({"proto": 47, "sport": 5, "dport": 6}, "10.0.0.1 > 10.0.0.2 srckey 5 dstkey 6"),
    ],
)
def test_a_tuple_reads_the_same_from_columns_and_from_json(fields, text):
    made = entry(1, **fields)
    (line,) = short(made)
    assert text in line and as_read(text) == rows(made)[0]["original"]
    assert line.startswith("blue ") and line.endswith(" UNREPLIED")


def test_nat_shows_the_reply_and_only_where_it_differs():
    status = IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_SRC_NAT
    assert short(entry(1, status=status), entry(2, status=status, reply_dport=7777), labels={}) == [
        "7 udp 10.0.0.1:1000 > 10.0.0.2:53 src_nat",
        "7 udp 10.0.0.1:1000 > 10.0.0.2:53 reply 10.0.0.2:53 > 10.0.0.1:7777 src_nat",
    ]
