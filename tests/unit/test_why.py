"""The life of a connection: whose it is, from either side, how it ended, in one sentence, live and from a recording."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ctobserve.analysis.connections import Connections
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.commands.sought import parse
from ctobserve.documents.request import Request
from ctobserve.documents.why import WhyDocument, collect
from ctobserve.event import HAS_TEXT, NO_DIRECTION, NO_EVENTS, DestroyReason, DropReason, Events, Kind
from ctobserve.host.dump import HELPED
from ctobserve.model import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_EXPECTED,
    IPS_FIXED_TIMEOUT,
    IPS_HELPER,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    TCP_STATES,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    Entries,
    join,
)
from ctobserve.render.jsonout import plain
from ctobserve.render.why import why_lines
from tests import scripted
from tests.scripted import CLOCK, FIDELITY, NETNS, NO_ENTRIES, ScriptedCapture
from tests.unit.recordings import DURATION_S, in_time, record, replay
from tests.unit.samples import departed, entry, tuple_of
from tests.unit.typed import run

ANSWERED = IPS_CONFIRMED | IPS_SEEN_REPLY
UDP, TCP, ICMP, ICMPV6 = 17, 6, 1, 58
TIMEOUTS = {"nf_conntrack_udp_timeout": 30, "nf_conntrack_udp_timeout_stream": 120, "nf_conntrack_tcp_timeout_time_wait": 120}
BLUE = {NETNS: NamespaceState(NETNS, "blue", init=True, sysctls=TIMEOUTS)}


def until(seconds: float) -> int:
    """The end of an entry that so long after the start would expire, in jiffies."""
    return round(CLOCK.jiffies + seconds * CLOCK.hz)


def udp(ct: int = 256, left_s: float = 30, **more: Any) -> Entries:
    """An entry of UDP 10.0.0.5:40000 > 10.0.0.9:53 in buckets 3 and 5, not answered."""
    given = {"src": "10.0.0.5", "dst": "10.0.0.9", "sport": 40000, "status": IPS_CONFIRMED, "bucket": (3, 5), "chain": (1, 2)}
    return entry(ct, **given | {"timeout": until(left_s)} | more)


def tcp(state: str, ct: int = 256, left_s: float = 431_999, **more: Any) -> Entries:
    """The same of TCP to port 443, answered."""
    return udp(ct, left_s, proto=TCP, tcp_state=TCP_STATES.index(state), **{"status": ANSWERED, "dport": 443} | more)


def packet(reason: DropReason, of: Entries, at_s: float = 1, **more: Any) -> Events:
    """A packet of this tuple that was lost, of which there is no entry."""
    alone = of.copy()
    alone["has_ct"], alone["ct"] = (2 if reason in (DropReason.TABLE_FULL, DropReason.NO_MEMORY) else 0), 0
    alone["bucket"], alone["chain"], alone["status"] = UNKNOWN_BUCKET, UNKNOWN_CHAIN, 0
    return scripted.events(Kind.DROP, alone, at_s=at_s, reason=reason, **{"direction": NO_DIRECTION} | more)


def refused(reason: DropReason, of: Entries, at_s: float = 1, **more: Any) -> list[Events]:
    """An entry that was refused when it came to confirm, and freed."""
    new = of.copy()
    new["status"] = 0
    detail = reason.name.lower().encode()
    return [
        scripted.events(Kind.DROP, new, at_s=at_s, reason=reason, **more),
        scripted.events(Kind.DESTROY, new, at_s=at_s, reason=DestroyReason.UNCONFIRMED, detail=detail),
    ]


def came(of: Entries, at_s: float = 1) -> Events:
    return scripted.events(Kind.INSERT, of, at_s=at_s)


def changed(of: Entries, at_s: float = 2, changes: int = 1 << 3) -> Events:
    return scripted.events(Kind.UPDATE, of, at_s=at_s, changes=changes)


def went(of: Entries, reason: DestroyReason, at_s: float = 3, **more: Any) -> Events:
    return scripted.events(Kind.DESTROY, of, at_s=at_s, reason=reason, **more)


@dataclass(frozen=True)
class Case:
    """What happens, and what is said of it by who asks for `asked`."""

    end: str
    sentence: str
    happens: list[Events] = field(default_factory=list)
    entries: Entries = field(default_factory=lambda: NO_ENTRIES)
    asked: str = "10.0.0.5"
    more: dict[str, Any] = field(default_factory=dict)

    def capture(self) -> ScriptedCapture:
        return ScriptedCapture(
            batches=in_time(join([NO_EVENTS, *self.happens])), entries=self.entries, **{"states": BLUE} | self.more
        )


LOSSY = FIDELITY._replace(lost={"insert": 1})
LIVING = tcp("ESTABLISHED", status=ANSWERED | IPS_ASSURED)
BEFORE = udp(left_s=2)
NC = {"pid": 4711, "comm": b"nc\x1b[2J"}
WINNER, LOSER = udp(256), udp(512)
INVALID_WORDS = {"has": HAS_TEXT, "text": b"SEQ is over the upper bound \n", "hook": 0}
ENDINGS = {
    "established": Case("lives", "It lives: ESTABLISHED, assured, 431,994 s left.", entries=LIVING),
    "unanswered": Case(
        "lives", "It lives: udp state UNREPLIED, 25 s left, no answer from 10.0.0.9:53 was ever seen.", [came(udp())]
    ),
    "offloaded": Case(
        "lives", "It lives: a flow table has its packets, and keeps it alive.", entries=udp(status=ANSWERED | IPS_OFFLOAD)
    ),
    "expired": Case(
        "lives",
        "It lives: udp state REPLIED, expired and about to be removed.",
        entries=udp(left_s=2, status=ANSWERED),
    ),
    "living with losses": Case(
        "lives",
        "It lives: ESTABLISHED, assured, 431,994 s left; 1 packet of it INVALID: SEQ is over the upper bound.",
        [scripted.events(Kind.DROP, LIVING, at_s=1, reason=DropReason.INVALID, **INVALID_WORDS)],
        LIVING,
    ),
    "won a clash": Case(
        "lives",
        "It lives: udp state UNREPLIED, 25 s left, no answer from 10.0.0.9:53 was ever seen; 1 packet of it refused (clash 1).",
        [came(WINNER), *refused(DropReason.CLASH, LOSER)],
    ),
    "timed out, first packet": Case(
        "timeout",
        "It timed out: no packet for 2 s in udp state UNREPLIED, no answer from 10.0.0.9:53 was ever seen.",
        [came(udp(left_s=3)), went(udp(left_s=3), DestroyReason.TIMEOUT, 4)],
    ),
    "timed out, by the sysctl": Case(
        "timeout",
        "It timed out: no packet for 30 s (nf_conntrack_udp_timeout) in udp state UNREPLIED, "
        "no answer from 10.0.0.9:53 was ever seen.",
        [went(BEFORE, DestroyReason.TIMEOUT)],
        BEFORE,
    ),
    "timed out, not by the sysctl": Case(
        "timeout",
        "It timed out in udp state UNREPLIED, no answer from 10.0.0.9:53 was ever seen.",
        [came(udp(left_s=90), 2), went(udp(left_s=3), DestroyReason.TIMEOUT)],
    ),
    "timed out, TCP": Case(
        "timeout",
        "It timed out (reaped by a netlink dump): no packet for 120 s (nf_conntrack_tcp_timeout_time_wait) in TIME_WAIT.",
        [went(tcp("TIME_WAIT", left_s=2), DestroyReason.TIMEOUT, detail=b"reaped by a netlink dump")],
        tcp("TIME_WAIT", left_s=2),
    ),
    "timed out, fixed": Case(
        "timeout",
        "It timed out in udp state REPLIED: its timeout was fixed, and no packet put it off.",
        [went(udp(status=ANSWERED | IPS_FIXED_TIMEOUT), DestroyReason.TIMEOUT)],
    ),
    "evicted": Case(
        "early_drop",
        "It was evicted to make room for 10.0.0.7:1234 > 10.0.0.9:443/tcp in the full table.",
        [
            came(udp()),
            went(
                udp(),
                DestroyReason.EARLY_DROP,
                evictor=tuple_of(tcp("SYN_SENT", src="10.0.0.7", sport=1234)),
            ),
        ],
    ),
    "evicted, for whom not seen": Case(
        "early_drop",
        "It was evicted to make room for another, which was not seen, in the full table.",
        [went(udp(), DestroyReason.EARLY_DROP)],
    ),
    "evicted by gc": Case(
        "gc_early_drop",
        "It was evicted by the gc worker, as the table was nearly full.",
        [went(udp(), DestroyReason.GC_EARLY_DROP)],
    ),
    "deleted": Case("deleted", "It was deleted by nc\\x1b[2J[4711].", [went(udp(), DestroyReason.DELETED, portid=9, **NC)]),
    "deleted, by a port": Case("deleted", "It was deleted by netlink port 9.", [went(udp(), DestroyReason.DELETED, portid=9)]),
    "flushed": Case("flushed", "It was flushed, by whom is not known.", [went(udp(), DestroyReason.FLUSHED)]),
    "used again": Case(
        "tcp_reuse",
        "A new connection took its tuple: it was over, in TIME_WAIT.",
        [went(tcp("TIME_WAIT"), DestroyReason.TCP_REUSE)],
    ),
    "namespace": Case("netns_exit", "It went with its network namespace.", [went(udp(), DestroyReason.NETNS_EXIT)]),
    "ipvs": Case("ipvs", "It went with its IPVS connection.", [went(udp(), DestroyReason.IPVS)]),
    "other": Case(
        "other",
        "It left in SYN_SENT: TCP RST before any reply.",
        [went(tcp("SYN_SENT"), DestroyReason.OTHER, detail=b"TCP RST before any reply")],
    ),
    "other, by somebody": Case(
        "other", "It left in CLOSE, why is not known, by nc\\x1b[2J[4711].", [went(tcp("CLOSE"), DestroyReason.OTHER, **NC)]
    ),
    "table full": Case(
        "table_full",
        "It was refused: the table was full, and nothing was found that could be evicted; 3 packets of it were.",
        [packet(DropReason.TABLE_FULL, tcp("NONE"), at_s) for at_s in (1, 2, 4)],
    ),
    "no memory": Case(
        "no_memory", "It was refused: the kernel had no memory for an entry.", [packet(DropReason.NO_MEMORY, udp())]
    ),
    "lost a clash": Case("clash", "It was refused: another entry had its tuple already.", refused(DropReason.CLASH, udp())),
    "chain too long": Case(
        "chaintoolong",
        "It was refused: a chain that it had to enter was too long (71 nodes).",
        refused(DropReason.CHAINTOOLONG, udp(chain=(71, 3))),
    ),
    "dying": Case("dying", "It was refused: its entry was deleted before it was in the table.", refused(DropReason.DYING, udp())),
    "confirmed": Case(
        "confirmed", "It was refused: another copy of its packet was there first.", refused(DropReason.CONFIRMED, udp())
    ),
    "helper": Case(
        "helper",
        "It was refused: its helper dropped the packet: cannot add expectation.",
        refused(DropReason.HELPER, udp(), has=HAS_TEXT, text=b"cannot add expectation"),
    ),
    "refused, and the drop not seen": Case(
        "chaintoolong",
        "It was refused: a chain that it had to enter was too long.",
        refused(DropReason.CHAINTOOLONG, udp())[1:],
    ),
    "invalid": Case(
        "invalid",
        "It has no entry: 2 packets of it INVALID, the last: most like no_start.",
        [packet(DropReason.INVALID, tcp("NONE"), at_s) for at_s in (1, 4)],
    ),
    "late": Case(
        "error",
        "It has no entry: 1 packet of it INVALID: most like late; its entry left 1.0 s before "
        "(deleted in ESTABLISHED by nc\\x1b[2J[4711]).",
        [
            packet(
                DropReason.ERROR,
                tcp("NONE"),
                left=departed(tcp("ESTABLISHED"), DestroyReason.DELETED, TCP_STATES.index("ESTABLISHED"), **NC),
            )
        ],
    ),
    "died on the way": Case(
        "unconfirmed",
        "It died before it was in the table: a rule, routing or a queue took its packet, not conntrack.",
        [went(udp(), DestroyReason.UNCONFIRMED)],
    ),
    "clash resolved": Case(
        "unconfirmed",
        "It lost a clash, and its packet went on with the entry that won: nothing is lost.",
        [went(udp(), DestroyReason.UNCONFIRMED, 1, detail=b"clash_resolved")],
    ),
    "unseen": Case(
        "unseen",
        "It is in the table no more, and how it left was not seen: 3 events lost or forgotten.",
        [came(udp()), came(udp(src="10.0.0.77"), 2)],
        more={"told": FIDELITY._replace(lost={"destroy": 3})},
    ),
    "refused, then let in": Case(
        "lives",
        "It lives: SYN_SENT, 115 s left, no answer from 10.0.0.9:443 was ever seen; 2 packets of it refused (table_full 2).",
        [
            *(packet(DropReason.TABLE_FULL, tcp("NONE"), at_s) for at_s in (1, 2)),
            came(tcp("SYN_SENT", left_s=120, status=IPS_CONFIRMED), 4),
        ],
    ),
    "late packets": Case(
        "deleted",
        "It was deleted by nc\\x1b[2J[4711]; since then 1 packet of it INVALID: most like no_start.",
        [came(tcp("NONE")), went(tcp("CLOSE"), DestroyReason.DELETED, 2, **NC), packet(DropReason.INVALID, tcp("NONE"), 4)],
    ),
}


ALL = Request()


def why(typed: str, capture: ScriptedCapture, request: Request = ALL) -> WhyDocument:
    capture.follow()
    return collect(capture, request, Stretch(DURATION_S), parse(typed), True)


def of(found: WhyDocument) -> Any:
    """Without who says it."""
    said = plain(found)
    said.pop("meta")
    return said


@pytest.mark.parametrize("name", ENDINGS)
def test_every_end_is_one_sentence(name):
    case = ENDINGS[name]
    found = why(case.asked, case.capture())
    (life,) = found.lives
    assert (life.end, life.sentence) == (case.end, case.sentence)
    assert (found.connections, found.ends) == (1, {case.end: 1})


@pytest.mark.parametrize("name", ENDINGS)
def test_a_recording_tells_the_same(tmp_path, name):
    case = ENDINGS[name]
    said = of(why(case.asked, case.capture()))
    record(case.capture(), tmp_path / "one", keyframe_s=60)
    assert of(collect(replay(tmp_path / "one"), Request(), Stretch(), parse(case.asked), True)) == said


def test_of_what_died_before_the_table_nothing_is_claimed_that_was_not_looked_for():
    died = in_time(went(udp(), DestroyReason.UNCONFIRMED))
    begins = "It died before it was in the table"
    for told, invalid, says in (
        (FIDELITY, False, ": a rule, routing or a queue took its packet, unless that was INVALID, which was not looked for."),
        (LOSSY, True, ", and why was not seen: 1 event lost or forgotten."),
    ):
        capture = ScriptedCapture(batches=died, told=told)
        capture.follow()
        (life,) = collect(capture, ALL, Stretch(DURATION_S), parse("10.0.0.5"), invalid).lives
        assert life.sentence == begins + says


def test_every_reason_has_its_case():
    ends = {case.end for case in ENDINGS.values()}
    reasons = {reason.name.lower() for kind in (DropReason, DestroyReason) for reason in kind}
    assert ends == reasons | {"lives", "unseen"}


def asked(typed: str, capture: ScriptedCapture, **request: Any) -> list[str]:
    """How those ended that are told."""
    return [life.end for life in why(typed, capture, Request(**request)).lives]


# Who asks 10.0.0.5 > 203.0.113.1:443 was translated to 10.1.0.7:8443, and its source to 192.0.2.1:61000.
BOTH_NAT = tcp(
    "ESTABLISHED",
    dst="203.0.113.1",
    reply_src="10.1.0.7",
    reply_sport=8443,
    reply_dst="192.0.2.1",
    reply_dport=61000,
)
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


BORN_NS = CLOCK.monotonic_ns - 10**9


@pytest.mark.parametrize(
    ("happened", "entries", "told", "before"),
    [
        ([came(udp())], NO_ENTRIES, FIDELITY, False),
        ([packet(DropReason.INVALID, udp())], NO_ENTRIES, FIDELITY, False),
        ([], udp(), FIDELITY, True),
        ([], udp(), LOSSY, True),
        ([changed(udp())], udp(), LOSSY, True),
        ([scripted.events(Kind.DROP, udp(has_ct=2), at_s=1, reason=DropReason.INVALID)], udp(), LOSSY, True),
        ([went(udp(), DestroyReason.DELETED)], udp(), LOSSY, True),
        ([went(udp(), DestroyReason.DELETED)], NO_ENTRIES, FIDELITY, True),
        ([went(udp(), DestroyReason.DELETED)], NO_ENTRIES, LOSSY, None),
        ([went(udp(), DestroyReason.DELETED, born_ns=BORN_NS)], NO_ENTRIES, LOSSY, True),
        ([went(udp(), DestroyReason.DELETED, born_ns=CLOCK.monotonic_ns + 1)], NO_ENTRIES, LOSSY, False),
        ([changed(udp(sport=7))], udp(), LOSSY, None),
    ],
)
def test_whether_it_was_there_before_is_said_as_far_as_it_is_known(happened, entries, told, before):
    capture = ScriptedCapture(batches=in_time(join([NO_EVENTS, *happened])), entries=entries, told=told)
    assert why("10.0.0.5", capture).lives[0].before is before


def test_times_are_those_of_allocation_insert_and_end():
    happened = join(
        [came(udp(), 1), scripted.events(Kind.CONFIRM, udp(), at_s=1, since_alloc_ns=10**8), went(udp(), DestroyReason.DELETED)]
    )
    (life,) = why("10.0.0.5", ScriptedCapture(batches=in_time(happened))).lives
    times = life.allocated, life.inserted, life.ended
    assert times == tuple(f"2023-11-14T22:13:{second:012.9f}Z" for second in (20.9, 21, 23))
    (life,) = why("10.0.0.5", ScriptedCapture(batches=in_time(went(udp(), DestroyReason.DELETED, born_ns=BORN_NS)))).lives
    assert (life.allocated, life.inserted) == (None, "2023-11-14T22:13:19.000000000Z")


def test_what_a_tracker_refuses_to_begin_with_comes_after_the_connection_that_left():
    temporary = udp(512, status=0)
    refusal = [went(temporary, DestroyReason.UNCONFIRMED, 3), packet(DropReason.INVALID, udp(), 3)]
    gone = [came(udp()), went(udp(), DestroyReason.DELETED, 2, **NC)]
    (life,) = why("10.0.0.5", ScriptedCapture(batches=in_time(join([*gone, *refusal, *refusal])))).lives
    assert (life.end, len(life.events)) == ("deleted", 6)
    assert (
        life.sentence == "It was deleted by nc\\x1b[2J[4711]; since then 2 packets of it INVALID, the last: most like no_start."
    )
    (life,) = why("10.0.0.5", ScriptedCapture(batches=in_time(join([*refusal, *refusal])))).lives
    assert (life.end, len(life.events)) == ("invalid", 4)
    on_the_way = [*gone, refusal[0], packet(DropReason.INVALID, udp(), 4.5)]
    assert asked("10.0.0.5", ScriptedCapture(batches=in_time(join(on_the_way)))) == ["invalid", "deleted"]


def test_an_address_that_is_used_again_is_another_connection():
    one, other = udp(256), udp(256, sport=40001)
    happened = [came(one), went(one, DestroyReason.DELETED, 2), came(other, 3)]
    assert asked("10.0.0.5", ScriptedCapture(batches=in_time(join(happened)))) == ["deleted", "lives"]
    unseen = ScriptedCapture(batches=in_time(join([came(one), came(other, 3)])), told=LOSSY)
    assert asked("10.0.0.5", unseen) == ["unseen", "lives"]
    freed = ScriptedCapture(batches=in_time(join([came(one), went(other, DestroyReason.UNCONFIRMED)])), told=LOSSY)
    assert asked("10.0.0.5", freed) == ["unconfirmed", "unseen"]
    changed_to = ScriptedCapture(batches=in_time(join([came(one), changed(other)])), told=LOSSY)
    assert asked("10.0.0.5", changed_to)[0] == "unseen"


def test_a_packet_with_the_reply_tuple_of_another_connection_is_not_of_it():
    lost = refused(DropReason.CLASH, udp(512, src="10.0.0.5", sport=1, reply_dport=40000))
    mirrored = packet(DropReason.TABLE_FULL, udp(0), 2)
    assert asked("10.0.0.5", ScriptedCapture(batches=in_time(join([*lost, mirrored])))) == ["table_full", "clash"]


def test_a_tuple_that_is_used_again_much_later_is_another_connection():
    attempts = [packet(DropReason.TABLE_FULL, udp(), at_s) for at_s in (1, 60, 131)]
    found = Connections(parse("10.0.0.5"), Filter(), NO_ENTRIES, CLOCK.monotonic_ns)
    for batch in attempts:
        found.add(batch)
    assert [len(one.events) for one in found.told(NO_ENTRIES, 0, 9).connections] == [1, 2]


def test_the_most_telling_comes_first_and_of_each_sort_the_latest():
    dead = [went(udp(ct, sport=ct), DestroyReason.DELETED, at_s) for ct, at_s in ((1, 3), (2, 4), (3, 2))]
    living = [came(udp(ct, sport=ct), at_s) for ct, at_s in ((4, 3), (5, 4))]
    bad = [came(udp(6, sport=6), 0.1), packet(DropReason.INVALID, udp(sport=6), 0.2)]
    capture = ScriptedCapture(batches=in_time(join([*bad, *dead, *living])), entries=join([udp(7, sport=8), udp(8, sport=7)]))
    found = why("10.0.0.5", capture)
    assert [int(life.entry.entries["port"][0, 0]) for life in found.lives] == [2, 1, 3, 6, 5, 4, 7, 8]
    assert found.answer.startswith(
        "8 connections matched 10.0.0.5: 5 live on, 3 deleted; 1 packet refused or INVALID (invalid 1); "
    )
    few = why("10.0.0.5", ScriptedCapture(entries=join([udp(ct, sport=99 - ct) for ct in range(30)])), Request(limit=2))
    assert [int(life.entry.entries["port"][0, 0]) for life in few.lives] == [70, 71] and few.connections == 30
    assert len(why("10.0.0.5", ScriptedCapture(entries=join([udp(ct, sport=ct) for ct in range(1, 31)]))).lives) == 20


def test_what_is_forgotten_is_counted_and_nothing_is_claimed_of_it():
    found = Connections(parse("10.0.0.5"), Filter(), NO_ENTRIES, CLOCK.monotonic_ns, half=50)
    every = join([udp(ct, sport=ct) for ct in range(1, 301)])
    found.add(packet(DropReason.TABLE_FULL, udp(sport=7), 0.5))
    for at in range(0, 300, 10):
        found.add(came(every[at : at + 10], 1))
    for at in range(0, 290, 29):
        found.add(went(every[at : at + 29], DestroyReason.TIMEOUT, 2))
    told = found.told(every[290:], 0, 20)
    assert told.ends["timeout"] == 290 and told.ends["lives"] == 10 and told.packets == {"table_full": 1}
    kept = sum(len(one.events) for one in told.connections)
    assert kept <= 101 and told.forgotten == 591 - kept
    assert {one.before for one in told.connections if one.end == "timeout"} == {None}
    assert next(one.end for one in told.connections if one.end != "timeout") == "table_full"


def test_a_flood_in_one_batch_stays_bounded():
    found = Connections(parse("10.0.0.5"), Filter(), NO_ENTRIES, CLOCK.monotonic_ns, half=50)
    found.add(packet(DropReason.INVALID, udp().repeat(1000)))
    told = found.told(NO_ENTRIES, 0, 20)
    (one,) = told.connections
    assert len(one.events) == 100 and told.forgotten == 900 and told.packets == {"invalid": 1000}


def test_of_a_long_life_the_beginning_and_the_end_are_told():
    happened = join([came(udp()), *(changed(udp(), 2 + at / 100) for at in range(60)), went(udp(), DestroyReason.DELETED, 4)])
    capture = ScriptedCapture(batches=in_time(happened))
    found = why("10.0.0.5", capture)
    (life,) = found.lives
    assert (len(life.events), life.events_left_out) == (40, 22)
    kinds = life.events.events["kind"].tolist()
    assert (kinds[0], kinds[-1], kinds.count(Kind.UPDATE)) == (Kind.INSERT, Kind.DESTROY, 38)
    lines = list(why_lines(found))
    assert lines.count("  ... 22 more events ...") == 1 and len([line for line in lines if "changes=reply" in line]) == 38


def test_nothing_matched_says_what_was_looked_through():
    found = why("192.0.2.99", ScriptedCapture(batches=in_time(came(udp())), entries=udp(512, sport=9)))
    assert found.answer == (
        "Nothing matched 192.0.2.99: looked through 1 event since 2023-11-14T22:13:20Z (none lost) and 2 entries."
    )
    lossy = why("192.0.2.99", ScriptedCapture(entries=udp(), told=LOSSY))
    assert "0 events since 2023-11-14T22:13:20Z (1 record lost, so that something may be missing) and 1 entry." in lossy.answer
    assert (lossy.connections, lossy.lives, lossy.ends) == (0, (), {})


def test_its_entry_is_as_the_kernel_has_it_now_unless_an_event_knows_better():
    old, now = udp(left_s=10), udp(left_s=200, status=ANSWERED, mark=7)
    (life,) = why("10.0.0.5", ScriptedCapture(entries=old, kernel=now)).lives
    assert life.sentence == "It lives: udp state REPLIED, 195 s left." and life.entry.entries["mark"][0] == 7
    (life,) = why("10.0.0.5", ScriptedCapture(entries=old, kernel=now, touched=(256,))).lives
    assert life.sentence.startswith("It lives: udp state UNREPLIED, 5 s left")


def test_in_the_middle_of_a_recording_only_what_is_known_of_its_end_is_said(tmp_path):
    record(ScriptedCapture(entries=udp(left_s=100)), tmp_path / "one", keyframe_s=60)
    middle = replay(tmp_path / "one", None, CLOCK.monotonic_ns + 3 * 10**9)
    (life,) = collect(middle, Request(), Stretch(), parse("10.0.0.5"), True).lives
    assert life.sentence.startswith("It lives: udp state UNREPLIED, at least 97 s left, ")


def test_helper_and_master_are_named():
    control, data = (
        tcp("ESTABLISHED", 256, status=ANSWERED | IPS_HELPER),
        tcp("ESTABLISHED", 512, sport=9, master=256, status=ANSWERED | IPS_EXPECTED),
    )
    helped = np.zeros(1, HELPED)
    for name in ("l3num", "protonum"):
        helped[name] = control[name]
    helped["addr"], helped["port"], helped["helper"] = control["addr"], control["port"], b"ftp"
    capture = ScriptedCapture(entries=join([control, data]), with_helper={NETNS: helped}, states=BLUE)
    text = "\n".join(why_lines(why("10.0.0.5", capture)))
    assert "helper=ftp" in text and "master 10.0.0.5:40000 > 10.0.0.9:443" in text


def test_as_text_a_life_is_told_in_order():
    end = went(BOTH_NAT, DestroyReason.DELETED, 3, **NC)
    late = packet(DropReason.INVALID, tcp("NONE", src="10.1.0.7", dst="192.0.2.1", sport=8443, dport=61000), 4)
    happened = join([came(BOTH_NAT), changed(BOTH_NAT, 2), end, late])
    found = why("10.1.0.7", ScriptedCapture(batches=in_time(happened), states=BLUE))
    assert "\n".join(why_lines(found, 98)).split("\n") == [
        "1 connection matched 10.1.0.7: 1 deleted; 1 packet refused or INVALID (invalid 1); looked through",
        "  4 events since 2023-11-14T22:13:20Z (none lost) and 0 entries.",
        "",
        "blue tcp 10.0.0.5:40000 > 203.0.113.1:443 reply 10.1.0.7:8443 > 192.0.2.1:61000",
        "  It was deleted by nc\\x1b[2J[4711]; since then 1 packet of it INVALID: most like no_start.",
        "  NAT: destination 203.0.113.1:443 became 10.1.0.7:8443",
        "  NAT: source 10.0.0.5:40000 became 192.0.2.1:61000",
        "  22:13:21.000 insert   ESTABLISHED left=431998s bucket=3/5 chain=1/2",
        "  22:13:22.000 update   changes=reply ESTABLISHED left=431997s bucket=3/5 chain=1/2",
        "  22:13:23.000 destroy  reason=deleted ESTABLISHED left=431996s bucket=3/5 chain=1/2 cpu=0",
        "          by nc\\x1b[2J[4711]",
        "  22:13:24.000 drop    tcp 10.1.0.7:8443 > 192.0.2.1:61000 reason=invalid like=no_start",
        "          hook=prerouting cpu=0",
    ]


def test_as_text_what_lives_ends_with_its_entry():
    entries = join([LIVING, udp(512)])
    found = why("10.0.0.5", ScriptedCapture(entries=entries, states=BLUE), Request(limit=1))
    assert list(why_lines(found)) == [
        "2 connections matched 10.0.0.5: 2 live on; looked through 0 events since 2023-11-14T22:13:20Z",
        "  (none lost) and 2 entries.",
        "",
        "blue tcp 10.0.0.5:40000 > 10.0.0.9:443",
        "  It lives: ESTABLISHED, assured, 431,994 s left.",
        "  there before the observation",
        "  now ESTABLISHED,ASSURED left=431994s bucket=3/5 chain=2/2",
        "",
        "... and 1 more (--limit)",
    ]


def test_as_text_it_says_when_it_was_allocated_and_inserted_and_what_is_not_known():
    happened = join([came(udp()), scripted.events(Kind.CONFIRM, udp(), at_s=1, since_alloc_ns=10**8)])
    lines = list(why_lines(why("10.0.0.5", ScriptedCapture(batches=in_time(happened), states=BLUE))))
    assert "  allocated 2023-11-14T22:13:20.900000000Z" in lines
    gone = ScriptedCapture(batches=in_time(went(udp(), DestroyReason.DELETED, born_ns=BORN_NS)), states=BLUE)
    lines = list(why_lines(why("10.0.0.5", gone)))
    assert {"  there before the observation", "  inserted 2023-11-14T22:13:19.000000000Z"} <= set(lines)
    lossy = ScriptedCapture(batches=in_time(went(udp(), DestroyReason.DELETED)), states=BLUE, told=LOSSY)
    assert "  whether it was there before the observation is not known" in list(why_lines(why("10.0.0.5", lossy)))


def test_a_clash_that_was_resolved_is_told_of_the_connection_that_won_it():
    freed = went(LOSER, DestroyReason.UNCONFIRMED, 1.1, detail=b"clash_resolved")
    lost = [freed, scripted.events(Kind.RESOLVED, WINNER, at_s=1.1)]
    found = why("10.0.0.5", ScriptedCapture(batches=in_time(join([came(WINNER), *lost])), states=BLUE))
    (life,) = found.lives
    assert life.sentence == "It lives: udp state UNREPLIED, 25 s left, no answer from 10.0.0.9:53 was ever seen."
    assert [row["event"] for row in plain(life.events)] == ["insert", "destroy"]
    assert any("reason=unconfirmed" in line and "(clash_resolved)" in line for line in why_lines(found))


def test_an_entry_that_lost_a_clash_and_enters_by_its_reply_alone_is_one_of_its_own():
    alone = udp(512, reply_dport=40001, reply_only=1)
    happened = [
        came(WINNER),
        scripted.events(Kind.RESOLVED, alone, at_s=1.1),
        came(alone, 1.1),
        went(alone, DestroyReason.TIMEOUT),
    ]
    assert asked("10.0.0.5", ScriptedCapture(batches=in_time(join(happened)))) == ["timeout", "lives"]


def test_a_clash_is_of_the_winner_also_where_its_insert_was_not_seen():
    happened = join([scripted.events(Kind.RESOLVED, WINNER, at_s=1), went(WINNER, DestroyReason.DELETED)])
    (life,) = why("10.0.0.5", ScriptedCapture(batches=in_time(happened), entries=WINNER)).lives
    assert (life.end, life.before) == ("deleted", True)


def test_names_and_words_of_others_are_shown_escaped():
    evil = {"pid": 1, "comm": b"\x1b]0;x\x07", "text": b"\x1b[2J", "has": HAS_TEXT}
    happened = join([went(udp(), DestroyReason.OTHER, 2, **evil), packet(DropReason.INVALID, udp(), 3, **evil)])
    found = why("10.0.0.5", ScriptedCapture(batches=in_time(happened), states=BLUE))
    assert "\x1b" not in "\n".join(why_lines(found)) and "\\u001b" not in json.dumps(plain(found))
