"""What is told of a connection's life: whether it was there before, in which order, how much of it, in which words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctobserve.analysis.connections import Connections
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.commands.sought import parse
from ctobserve.documents.request import Request
from ctobserve.documents.why import collect
from ctobserve.event import HAS_TEXT, NO_EVENTS, DestroyReason, DropReason, Events, Kind
from ctobserve.host.dump import HELPED
from ctobserve.model import (
    IPS_EXPECTED,
    IPS_HELPER,
    Entries,
    join,
)
from ctobserve.render.jsonout import plain
from ctobserve.render.why import why_lines
from tests import scripted
from tests.scripted import CLOCK, FIDELITY, NETNS, NO_ENTRIES, ScriptedCapture
from tests.unit.recordings import in_time, record, replay
from tests.unit.test_why import (
    ANSWERED,
    BLUE,
    BOTH_NAT,
    LIVING,
    LOSER,
    LOSSY,
    NC,
    WINNER,
    asked,
    came,
    packet,
    refused,
    tcp,
    udp,
    went,
    why,
)


def changed(of: Entries, at_s: float = 2, changes: int = 1 << 3) -> Events:
    return scripted.events(Kind.UPDATE, of, at_s=at_s, changes=changes)


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
