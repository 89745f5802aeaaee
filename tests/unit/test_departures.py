"""A packet is joined with the entry that its connection had: by either tuple, its inverse, or the one inside an ICMP error."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ctobserve.capture.correlator import Correlator
from ctobserve.capture.decoder import Decoder
from ctobserve.capture.departures import Departures
from ctobserve.capture.records import RecordKind
from ctobserve.event import NO_DIRECTION, DestroyReason, DropReason, Events, Kind
from ctobserve.model import GRE, ICMP, IPS_SRC_NAT, TCP, join
from tests.scripted import events
from tests.unit.samples import entry, record, records, tuple_of
from tests.unit.test_decoder import AT, SYMBOLS

NAT = {"src": "192.168.0.5", "dst": "192.0.2.9", "sport": 4000, "dport": 443} | {
    **{"reply_dst": "203.0.113.1", "reply_dport": 61_000, "proto": TCP, "status": IPS_SRC_NAT, "tcp_state": 5}
}
SIX = {"src": "fd00::1", "dst": "fd00::2", "proto": TCP}
PING = {"proto": ICMP, "sport": 77, "dport": 0x0800, "reply_sport": 77, "reply_dport": 0}


def gone(*entries, at_s=1.0, reason=DestroyReason.TIMEOUT, **more) -> Events:
    return events(Kind.DESTROY, join(entries), at_s=at_s, reason=reason, **more)


def packet(at_s=2.0, inner=None, **tuple_) -> Events:
    made = events(Kind.DROP, entry(0, has_ct=0, **tuple_), at_s=at_s, reason=DropReason.INVALID, direction=NO_DIRECTION)
    if inner is not None:
        made["inner"] = tuple_of(entry(0, **inner))
    return made


def after(*departed: Events) -> Departures:
    made = Departures()
    for batch in departed:
        made.add(batch)
    return made


def whose(departures: Departures, *packets: Events) -> list[int]:
    """The original source port of each packet's entry, 0 where none is known."""
    return departures.of(join(packets))["original"]["port"][:, 0].tolist()


def test_what_is_known_of_the_entry_that_left():
    (left,) = after(gone(entry(1, **NAT), reason=DestroyReason.DELETED, pid=7, comm=b"conntrack")).of(
        packet(src="192.168.0.5", dst="192.0.2.9", sport=4000, dport=443, proto=TCP)
    )
    assert left["original"] == tuple_of(entry(1, **NAT))[0]
    assert (left["reason"], left["tcp_state"], left["pid"], left["comm"]) == (DestroyReason.DELETED, 5, 7, b"conntrack")
    assert left["status"] == IPS_SRC_NAT
    assert left["at_ns"] == gone(entry(1))["entry"]["seen_ns"][0]


@pytest.mark.parametrize(
    "tuple_",
    [
        {"src": "192.168.0.5", "sport": 4000, "dst": "192.0.2.9", "dport": 443},
        {"src": "192.0.2.9", "sport": 443, "dst": "203.0.113.1", "dport": 61_000},
        {"src": "203.0.113.1", "sport": 61_000, "dst": "192.0.2.9", "dport": 443},
        {"src": "192.0.2.9", "sport": 443, "dst": "192.168.0.5", "dport": 4000},
    ],
    ids=["the client's", "the server's, before NAT", "its answer's", "the server's, after NAT"],
)
def test_a_packet_of_a_connection_behind_nat_is_known_by_each_of_its_tuples(tuple_):
    departures = after(gone(entry(1, **NAT)))
    assert whose(departures, packet(proto=TCP, **tuple_)) == [4000]
    assert whose(departures, packet(proto=17, **tuple_)) == [0], "another protocol"
    assert whose(departures, packet(proto=TCP, netns=8, **tuple_)) == [0], "another namespace"
    for name, other in (("sport", 9), ("dport", 9), ("src", "10.9.9.9"), ("dst", "10.9.9.9")):
        assert whose(departures, packet(proto=TCP, **tuple_ | {name: other})) == [0], name


def test_ports_of_the_two_ends_are_not_exchanged():
    departures = after(gone(entry(1, src="10.0.0.1", dst="10.0.0.2", sport=5, dport=6)))
    assert whose(departures, packet(src="10.0.0.1", dst="10.0.0.2", sport=6, dport=5)) == [0]


def test_ipv6_pings_and_protocols_without_ports():
    departures = after(gone(entry(1, sport=9, **SIX), entry(2, **PING), entry(3, proto=GRE, sport=0, dport=7)))
    assert whose(departures, packet(sport=9, **SIX)) == [9]
    assert whose(departures, packet(src="10.0.0.2", dst="10.0.0.1", proto=ICMP, sport=77, dport=0)) == [77]
    assert whose(departures, packet(src="10.0.0.2", dst="10.0.0.1", proto=ICMP, sport=78, dport=0)) == [0]
    assert departures.of(packet(proto=GRE, sport=0, dport=0))["at_ns"] != 0


def test_an_icmp_error_is_joined_by_the_packet_that_it_is_about():
    about = {"src": "203.0.113.1", "sport": 61_000, "dst": "192.0.2.9", "dport": 443, "proto": TCP}
    error = {"src": "198.51.100.1", "dst": "203.0.113.1", "proto": ICMP, "sport": 0, "dport": 0x0304}
    departures = after(gone(entry(1, **NAT)))
    assert whose(departures, packet(inner=about, **error)) == [4000]
    assert whose(departures, packet(inner=about | {"dport": 80}, **error)) == [0]


def test_the_last_entry_counts_and_none_that_left_later():
    departures = after(gone(entry(1), at_s=1.0), gone(entry(2), at_s=1.5, reason=DestroyReason.FLUSHED))
    assert departures.of(packet(at_s=2.0))["reason"].tolist() == [DestroyReason.FLUSHED]
    assert whose(departures, packet(at_s=1.2)) == [0]
    assert whose(departures, packet(at_s=1.5)) == [1000]


def test_what_comes_after_a_question_is_found_by_the_next():
    departures = after(gone(entry(1, sport=5)))
    assert whose(departures, packet(sport=5), packet(sport=6)) == [5, 0]
    departures.add(gone(entry(2, sport=6)))
    assert whose(departures, packet(sport=5), packet(sport=6)) == [5, 6]
    assert whose(Departures(), packet(sport=5)) == [0]


def test_the_newest_are_remembered_and_never_more_than_two_halves():
    departures = Departures(half=100)
    choose = random.Random(3)
    left: list[int] = []
    while len(left) < 1000:
        ports = range(len(left) + 1, len(left) + 1 + choose.randrange(1, 90))
        departures.add(gone(*(entry(port, sport=port) for port in ports)))
        left += ports
        asked = left[-250:]
        found = whose(departures, *(packet(sport=port) for port in asked))
        known = [port for port in found if port]
        assert known == asked[len(asked) - len(known) :], "the newest, without a gap"
        assert min(len(left), 100) <= len(known) <= 200
    departures.add(gone(*(entry(port, sport=port) for port in range(2000, 2350))))
    assert whose(departures, *(packet(sport=port) for port in (1999, 2249, 2349))) == [0, 2249, 2349]


def test_those_with_one_key_are_told_apart_by_their_tuples(monkeypatch):
    monkeypatch.setattr("ctobserve.capture.departures._keys", lambda netns, *_: np.full(len(netns), 5, np.uint64))
    departures = after(gone(entry(1, sport=5), entry(2, sport=6)))
    assert whose(departures, packet(sport=6), packet(sport=5)) == [6, 0], "the last has the key; of the other nothing is said"


def told(late: bool, *made: np.void) -> Events:
    return Correlator(lives=False, late=late).complete(Decoder(SYMBOLS).decode(records(*made)))


def test_a_stream_joins_what_it_tells_only_for_who_asks():
    invalid = {"has_ct": 0, "reason": DropReason.INVALID}
    made = (
        record(RecordKind.DROP, 0, ts=5, **invalid),
        record(RecordKind.DESTROY, 1, ts=10, caller=AT["nf_ct_gc_expired.part.0"]),
        record(RecordKind.FREE, 2, ts=11, sport=7),
        record(RecordKind.DROP, 0, ts=20, **invalid),
        record(RecordKind.DROP, 0, ts=20, **invalid | {"sport": 7}),
        record(RecordKind.DROP, 0, ts=20, **invalid | {"reason": DropReason.TABLE_FULL}),
    )
    events_ = told(True, *made)
    assert events_["left"]["at_ns"].tolist() == [0, 0, 0, 10, 0, 0]
    assert events_["left"]["reason"][3] == DestroyReason.TIMEOUT
    assert not told(False, *made)["left"]["at_ns"].any()
