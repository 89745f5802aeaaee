"""Which connections a tuple, or a part of one, is of: in either direction, through NAT, in zones, and of packets about them."""

from __future__ import annotations

import pytest

from ctobserve.capture.filters import Filter
from ctobserve.documents.request import Request
from ctobserve.event import DestroyReason, DropReason, Events
from ctobserve.model import (
    Entries,
    join,
)
from tests.scripted import NETNS, ScriptedCapture
from tests.unit.recordings import in_time
from tests.unit.samples import departed, tuple_of
from tests.unit.test_why import BLUE, BOTH_NAT, ICMP, ICMPV6, asked, came, packet, tcp, udp, went, why
from tests.unit.typed import run

SIX = udp(ct=512, src="2001:db8::5", dst="2001:db8::9")
PING = udp(ct=768, proto=ICMP, sport=77, dport=8 << 8, reply_sport=77, reply_dport=0)
PING_SIX = udp(ct=1024, proto=ICMPV6, src="2001:db8::5", dst="2001:db8::9", sport=9, dport=128 << 8)


@pytest.mark.parametrize(
    ("typed", "matches"),
    [
        *(
            (typed, [BOTH_NAT])
            for typed in (
                "203.0.113.1",
                "203.0.113.1:443",
                "10.1.0.7:8443/tcp",
                "192.0.2.1:61000",
                "10.0.0.5:40000-203.0.113.1:443/tcp",
                "203.0.113.1:443-10.0.0.5:40000",
                "10.1.0.7:8443 > 192.0.2.1:61000/tcp",
                "192.0.2.1-10.1.0.7",
                ":8443",
                ":443-10.0.0.5",
            )
        ),
        *((typed, []) for typed in ("10.1.0.7:443", "10.0.0.5:443", "10.0.0.5-10.1.0.7", "203.0.113.1/udp", "0.0.0.0", ":0")),
        ("10.0.0.5", [BOTH_NAT, PING]),
        ("10.0.0.5/ICMP", [PING]),
        ("10.0.0.9-10.0.0.5", [PING]),
        *((typed, []) for typed in (":77", ":2048", "10.0.0.5:77/icmp")),
        ("2001:db8::9", [SIX, PING_SIX]),
        ("[2001:db8::9]:53", [SIX]),
        ("[2001:db8::5]:40000-[2001:db8::9]:53/udp", [SIX]),
        ("2001:db8::9/icmpv6", [PING_SIX]),
        (":53/udp", [SIX]),
        (":53-:40000", [SIX]),
        ("32.1.13.184", []),
    ],
)
@pytest.mark.parametrize("happened", [False, True])
def test_a_connection_is_found_by_any_part_of_either_tuple_in_either_direction(typed, matches, happened):
    every = join([BOTH_NAT, SIX, PING, PING_SIX])
    capture = (
        ScriptedCapture(batches=in_time(came(every)), states=BLUE) if happened else ScriptedCapture(entries=every, states=BLUE)
    )
    found = why(typed, capture)
    assert sorted(int(life.entry.entries["ct"][0]) for life in found.lives) == sorted(int(one["ct"][0]) for one in matches)
    assert found.ends == ({"lives": len(matches)} if matches else {})


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("", "neither an address nor a port"),
        ("/tcp", "neither an address nor a port"),
        ("10.0.0.5-/tcp", "neither an address nor a port"),
        ("10.0.0", "no IPv4 address in '10.0.0'"),
        ("10.0.0.0/8", "no protocol in '8'"),
        ("10.0.0.5/quic", "no protocol in 'quic'"),
        ("10.0.0.5/\u017fctp", "no protocol"),
        ("10.0.0.5:", "no port in ''"),
        ("10.0.0.5:65536", "no port in '65536'"),
        (":-1", "no port in ''"),
        (":+1", "no port in '+1'"),
        ("10.0.0.5:\u0661", "no port"),
        ("\uff11.2.3.4", "no IPv4 address"),
        ("example.org", "no IPv4 address in 'example.org'"),
        ("[10.0.0.5]:3", "no IPv6 address in '10.0.0.5'"),
        ("[2001:db8::1", "no address and port"),
        ("[fe80::1%lo]:3", "no IPv6 address"),
        ("10.0.0.1-10.0.0.2-10.0.0.3", "more than two ends"),
        ("10.0.0.1-[::1]:53", "an IPv4 and an IPv6 address"),
    ],
)
def test_a_part_of_no_connection_is_one_line_with_what_would_be_right(monkeypatch, capsys, typed, names):
    code, out, err = run(monkeypatch, capsys, "why", "--", typed)
    assert (code, out) == (2, "") and err.count("\n") == 1 and names in err
    assert "write it like 10.0.0.5, :53/udp, [2001:db8::1]:53 or 10.0.0.5:40000-10.0.0.9:443/tcp" in err


def test_no_tuple_at_all_is_one_line(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "why") == (2, "", "ctobserve: missing argument 'TUPLE'; try: ctobserve why --help\n")


def test_namespace_and_zone_narrow_it():
    every = join([udp(256), udp(512, zone=9), udp(768, netns=8)])
    happened = in_time(came(every))
    for only, connections in (
        (Filter(), 3),
        (Filter(netns=NETNS), 2),
        (Filter(zone=9), 1),
        (Filter(zone=0, netns=8), 1),
        (Filter(netns=9), 0),
    ):
        found = why("10.0.0.5", ScriptedCapture(batches=happened, states=BLUE), Request(filter=only))
        assert (found.connections, found.entries_looked_through) == (connections, connections)


def test_the_same_tuple_in_two_zones_is_two_connections():
    every = [udp(256), udp(512, zone=9)]
    found = why(
        "10.0.0.5",
        ScriptedCapture(batches=in_time(join([came(every[0]), came(every[1]), went(every[1], DestroyReason.DELETED)]))),
    )
    assert [(life.end, int(life.entry.entries["zone"][0])) for life in found.lives] == [("deleted", 9), ("lives", 0)]


def test_a_bad_packet_without_a_zone_is_of_the_only_zone_with_its_tuple_and_of_none_where_there_are_two():
    one, other, bad = udp(256, zone=3), udp(512, zone=9), packet(DropReason.INVALID, udp(), 3)
    first = why("10.0.0.5", ScriptedCapture(batches=in_time(join([came(one), bad]))))
    assert [(life.end, len(life.events)) for life in first.lives] == [("lives", 2)]
    second = why("10.0.0.5", ScriptedCapture(batches=in_time(join([came(one), came(other), bad, bad]))))
    assert [(life.end, len(life.events)) for life in second.lives] == [("invalid", 2), ("lives", 1), ("lives", 1)]


def about(inner: Entries) -> Events:
    """An ICMP error of a router about a packet of this one's."""
    router = udp(0, src="10.9.9.9", dst="10.0.0.5", proto=ICMP, sport=0, dport=3 << 8)
    return packet(DropReason.ERROR, router, 2, inner=tuple_of(inner))


def test_an_icmp_error_is_of_the_connection_that_it_is_about():
    one, other = udp(256), udp(512, sport=40001)
    capture = ScriptedCapture(batches=in_time(join([came(one), came(other), about(other), about(one), about(one)])))
    found = why("10.0.0.9", capture)
    assert [len(life.events) for life in found.lives] == [3, 2]
    assert [life.entry.entries["port"][0, 0] for life in found.lives] == [40000, 40001]
    strangers = ScriptedCapture(batches=in_time(join([about(one), about(other), about(one)])))
    assert [(life.end, len(life.events)) for life in why("10.0.0.9", strangers).lives] == [("error", 2), ("error", 1)]


def test_a_packet_from_behind_nat_is_of_the_connection_that_left():
    late = tcp("NONE", src="10.1.0.7", dst="10.0.0.5", sport=8443, dport=61000)
    happened = [went(BOTH_NAT, DestroyReason.DELETED, 1), packet(DropReason.INVALID, late, 2, left=departed(BOTH_NAT, 4))]
    for typed in ("203.0.113.1:443", "10.1.0.7"):
        assert asked(typed, ScriptedCapture(batches=in_time(join(happened)))) == ["deleted"]


def test_of_either_side_of_nat_it_says_what_became_of_which():
    assert why("10.1.0.7:8443", ScriptedCapture(entries=BOTH_NAT)).lives[0].translated == (
        "destination 203.0.113.1:443 became 10.1.0.7:8443",
        "source 10.0.0.5:40000 became 192.0.2.1:61000",
    )
    masked = udp(proto=ICMP, sport=7, dport=8 << 8, reply_sport=7, reply_dport=0, reply_dst="192.0.2.1")
    assert why("10.0.0.5", ScriptedCapture(entries=masked)).lives[0].translated == ("source 10.0.0.5 became 192.0.2.1",)
    assert why("10.0.0.5", ScriptedCapture(entries=udp())).lives[0].translated == ()
