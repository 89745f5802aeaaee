"""Losses that were not all kept, that no other rule explains, or that only the kernel counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import RESOLVED
from ctobserve.diagnosis.verdict import Severity
from ctobserve.event import DropReason
from ctobserve.model import join
from tests.unit.cases import CASES, RULES, bad, capped, counting, nat_clash, outside, stray
from tests.unit.tables import NETNS, entries, evidence, losses


@pytest.mark.parametrize(
    ("made", "name", "words", "packets"),
    [
        (
            capped(outside(50), "invalid", 200),
            "invalid_window",
            "50 packets of 1 connection were INVALID among the 50 kept of 200 packets (invalid) in 5.0 s (40.0 per s) for being",
            50,
        ),
        (
            capped(stray(0x10, 50).losses, "invalid", 200),
            "asymmetric_routing",
            "50 packets from the middle of unknown connections; the packets among the 50 kept of 200 packets (invalid)",
            50,
        ),
        (
            capped(stray(0x10, 50, "output").losses, "invalid", 200),
            "entry_gone",
            "sent on TCP connections were INVALID among the 50 kept of 200 packets (invalid) in 5.0 s (40.0 per s): their",
            50,
        ),
        (
            capped(losses(entries(3), DropReason.CLASH), "clash", 200),
            "clash_race",
            "among the 3 kept of 200 packets (clash) in 5.0 s (40.0 per s), most for 10.0.0.2:53/udp: 3 lost, 0 given",
            3,
        ),
        (
            replace(nat_clash(), drops={NETNS: Counter(clash=200)}),
            "snat_ports",
            "5 packets of new connections lost among the 5 kept of 200 packets (clash) in 5.0 s (40.0 per s) as 10.1.0.1 to",
            5,
        ),
    ],
)
def test_what_is_said_of_the_packets_kept_is_not_said_of_all(made, name, words, packets):
    """Rows are kept of the first packets of each reason; the rest is only counted."""
    found = rules.judge(made)
    numbers = found.verdicts[name].evidence
    assert words in found.verdicts[name].sentence
    assert numbers["packets_not_kept"] == 200 - packets
    assert name == "asymmetric_routing" or (numbers["packets"], numbers["packets_per_s"]) == (packets, None)
    rest = found.verdicts["unexplained"]
    assert rest.severity is Severity.NOTICE and "no other verdict" not in rest.sentence
    (reason,), unkept = made.drops[NETNS], 200 - packets
    assert rest.sentence == (
        f"of {unkept} packets lost or INVALID in 5.0 s ({unkept / 5} per s) only the reason was kept, most in blue: "
        f"{unkept} {reason}; whether other verdicts explain them cannot be told"
    )
    assert rest.evidence["packets_not_kept"] == unkept


def test_where_all_were_kept_the_rate_is_that_of_all():
    for made, name in ((CASES[name][0], name) for name in ("invalid_window", "entry_gone", "clash_race", "snat_ports")):
        numbers = RULES[name](made).evidence
        assert numbers["packets_per_s"] == numbers["packets"] / 5 and numbers["packets_not_kept"] == 0
        assert "kept" not in RULES[name](made).sentence


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            bad(30),
            "30 invalid; 30 invalid tcp ACK at prerouting (invalid tcp flag combination); "
            "30 come from 10.0.0.1, 30 go to 10.0.0.2;",
        ),
        (bad(12, 0x04, text=b""), "12 invalid tcp RST at prerouting; 12 come"),
        (bad(1, 0x04, text=b""), "1 packet lost or INVALID"),
        (bad(9, 0, DropReason.ERROR, b"icmp type, code"), "9 error; 9 error udp at prerouting (icmp type, code); 9 come"),
        (bad(5, 0, DropReason.CONFIRMED, b""), "5 confirmed; 5 confirmed udp; 5 come"),
        (bad(5, 0, DropReason.CONFIRMED, b""), "; the first is 10.0.0.1:1024 > 10.0.0.2:53"),
        (evidence(losses=losses(entries(2), 99), drops={"reason_99": 2}), "most in blue: 2 reason_99; 2 reason_99 udp"),
        (bad(3, text=b"\x1b[2J\xff"), "(\\x1b[2J\\xff)"),
    ],
)
def test_what_no_rule_explains_is_a_warning_that_says_what_it_is(made, words):
    found = rules.judge(made).verdicts
    assert "healthy" not in found and found["unexplained"].severity is Severity.WARNING
    assert words in found["unexplained"].sentence


@pytest.mark.parametrize(
    ("devices", "words", "device", "count"),
    [
        ([b"eth0"] * 4, "4 go to 10.0.0.2, by eth0; the first", "eth0", 1),
        ([b"eth0", b"eth1", b"", b"eth1"], "4 go to 10.0.0.2, by eth1 and 1 other device; the first", "eth1", 2),
        ([b"\x1b[2J"] * 4, r"by \x1b[2J; the first", r"\x1b[2J", 1),
        ([b""] * 4, "4 go to 10.0.0.2; the first", None, 0),
    ],
)
def test_unexplained_packets_have_the_device_that_most_came_by(devices, words, device, count):
    made = bad(4)
    made.losses["device"] = devices
    found = RULES["unexplained"](made)
    assert words in found.sentence and (found.evidence["device"], found.evidence["devices"]) == (device, count)


def test_an_unexplained_icmp_packet_has_no_ports():
    rows = entries(2, proto=1, dport=0x0301)
    found = RULES["unexplained"](evidence(losses=losses(rows, DropReason.ERROR), drops={"error": 2}))
    assert found.evidence["first_dport"] is None and "the first is 10.0.0.1 > 10.0.0.2" in found.sentence


def test_the_first_unexplained_packet_is_the_earliest():
    made = bad(3)
    made.losses["entry"]["seen_ns"] = 30, 10, 20
    assert RULES["unexplained"](made).evidence["first_sport"] == 1025, "rows come by reason, not by time"


def test_the_unexplained_are_what_the_others_leave():
    lost = join([outside(10), bad(4).losses, nat_clash().losses, losses(entries(2), RESOLVED), losses(entries(3), 6)])
    made = evidence(
        losses=lost, drops={"invalid": 15, "clash": 5, "clash_resolved": 2, "confirmed": 3, "table_full": 8, "dying": 1}
    )
    found = rules.judge(made).verdicts
    assert {"invalid_window", "table_full", "lost_otherwise", "clash_race", "unexplained"} <= found.keys()
    numbers = found["unexplained"].evidence
    # Of one INVALID packet the header was not kept.
    assert {
        name: numbers[name] for name in ("packets", "packets_per_s", "invalid", "confirmed", "packets_not_kept", "kinds")
    } == {
        **{"packets": 7, "packets_per_s": None, "invalid": 4, "confirmed": 3},
        **{"packets_not_kept": 1, "kinds": 2},
    }
    assert found["unexplained"].sentence.endswith("; of 1 packet more only the reason was kept: 1 invalid")
    assert (numbers["reason"], numbers["kernel_says"], numbers["tcp_flags"], numbers["hook"]) == (
        *("invalid", "invalid tcp flag combination"),
        *("ACK", "prerouting"),
    )


def test_what_the_kernel_counted_and_nobody_saw():
    judge = RULES["unseen"]
    assert judge(counting(drop=5, insert_failed=5)).evidence["insert_failed_unseen"] == 5
    seen = counting(evidence(entries(4), drops={"clash": 5, "invalid": 2}, destroys={"early_drop": 3, "tcp_reuse": 1}))
    assert judge(counting(seen, drop=5, insert_failed=5, invalid=2, early_drop=3)) is None
    assert judge(counting(seen, drop=5, insert_failed=5, invalid=4, early_drop=3)).evidence["invalid_unseen"] == 1
    assert judge(counting(seen, clash_resolve=9)) is None, "no packet was lost"
    assert judge(counting(evidence(invalid=False), invalid=9, error=9)) is None, "nobody looked for them"
    busy = evidence(drops={"table_full": 9_990})
    assert judge(counting(busy, drop=10_000)) is None, "what lies between two readings on a busy host"
    assert judge(counting(busy, drop=11_000)).evidence["drop_unseen"] == 1010
    assert "healthy" not in rules.judge(counting(drop=1)).verdicts


def test_what_reopened_connections_may_explain_is_said_and_not_taken_for_certain():
    """From Linux 5.17 on a SYN that reopens a connection does not count as INVALID; before it does."""
    judged = rules.judge(counting(evidence(entries(4), destroys={"tcp_reuse": 500}), invalid=500))
    found = judged.verdicts
    assert set(found) == {"unseen"} and found["unseen"].severity is Severity.NOTICE
    assert judged.not_judged["healthy"] == "the kernel counted losses that were not seen"
    assert "counted 500 INVALID packets in blue that nobody saw; 500 SYNs reopened" in found["unseen"].sentence
    assert (found["unseen"].evidence["invalid_unseen"], found["unseen"].evidence["tcp_reuse"]) == (500, 500)
    assert found["unseen"].evidence.keys() == RULES["unseen"](counting(drop=5)).evidence.keys()
    one = evidence(entries(4), losses=outside(2), drops={"invalid": 2}, destroys={"tcp_reuse": 1})
    assert RULES["unseen"](counting(one, invalid=2)) is None
    assert RULES["unseen"](counting(one, invalid=3)).severity is Severity.NOTICE
    assert RULES["unseen"](counting(one, invalid=4)).severity is Severity.WARNING, "more than the SYN explains"


def test_what_lost_records_may_explain_is_a_notice():
    found = rules.judge(counting(evidence(events_lost=7), drop=3)).verdicts
    assert found["unseen"].severity is Severity.NOTICE and found["unseen"].evidence["drop_unseen"] == 3
    assert "records_lost" in found and "healthy" not in found


@pytest.mark.parametrize(
    ("lost", "damaged", "says", "looks"),
    [(17, 0, "incomplete: 17 records of 100 found", 1), (9, 9, "incomplete: 9 rows of the recording or more cannot be read", 0)],
)
def test_what_cannot_be_read_of_a_recording_found_no_ring_full(lost, damaged, says, looks):
    found = RULES["records_lost"](evidence(events_lost=lost, damaged=damaged, events_seen=83))
    assert says in found.sentence and len(found.do) == looks
    assert ("0 records of 83 found the ring full" in found.sentence) == bool(damaged)


def test_seconds_in_which_probes_were_off_are_no_records_that_found_the_ring_full():
    found = RULES["records_lost"](evidence(events_lost=9, probes_off_s=2, events_seen=83))
    assert "incomplete: probes were switched off for about 2 seconds, 7 records of 90 found the ring full" in found.sentence
    assert found.evidence["probes_off_s"] == 2
    assert found.do == ("sysctl kernel.ftrace_enabled", "ctobserve report --ring-mib 256")
    assert RULES["records_lost"](evidence(events_lost=2, probes_off_s=2)).do == (found.do[0],)
