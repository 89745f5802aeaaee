"""How a connection ended, in one sentence: every end there is, live and from a recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.watch import Stretch
from ctobserve.commands.sought import parse
from ctobserve.documents.request import Request
from ctobserve.documents.why import WhyDocument, collect
from ctobserve.event import HAS_TEXT, NO_DIRECTION, NO_EVENTS, DestroyReason, DropReason, Events, Kind
from ctobserve.model import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_FIXED_TIMEOUT,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    TCP_STATES,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    Entries,
    join,
)
from ctobserve.render.jsonout import plain
from tests import scripted
from tests.scripted import CLOCK, FIDELITY, NETNS, NO_ENTRIES, ScriptedCapture
from tests.unit.recordings import DURATION_S, in_time, record, replay
from tests.unit.samples import departed, entry, tuple_of

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
