"""INVALID packets whose connection had an entry that left: late, untranslated, or a host's own; and what is none of that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity, Verdict
from ctobserve.event import ORIGINAL, DestroyReason, DropReason
from ctobserve.host.invalid_rules import Refusing
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import ICMP, IPS_DST_NAT, IPS_SRC_NAT, NF_HOOKS, SCTP, TCP_STATES, join
from tests.scripted import CLOCK
from tests.unit.cases import RULES, late, stray
from tests.unit.samples import departed
from tests.unit.tables import NETNS, REPLIED, entries, evidence, losses, namespace, tcp

LATE, LEAK, GONE, ASYMMETRIC = (RULES[name] for name in ("late_packets", "untranslated", "entry_gone", "asymmetric_routing"))
OUTPUT, SNAT = NF_HOOKS.index("output"), IPS_SRC_NAT
ENDED = CLOCK.monotonic_ns - 2 * NS_PER_S
SIX = {"src": "fd00::1", "dst": "fd00::2", "l3num": 10}


def closing_state(name: str) -> int:
    return TCP_STATES.index(name)


def of_left(rows, **left):
    """What is known of these entries, which timed out two seconds ago."""
    return departed(rows, **{"reason": DestroyReason.TIMEOUT, "tcp_state": rows["tcp_state"], "at_ns": ENDED} | left)


def said(made, name):
    found = RULES[name](made)
    assert isinstance(found, Verdict)
    return found


def test_numbers_of_late_packets():
    found = LATE(late())
    numbers = found.evidence
    assert {
        name: numbers[name] for name in ("packets", "connections", "connections_cut_off", "rst", "left_reason", "left_state")
    } == {
        **{"packets": 7, "connections": 7, "connections_cut_off": 7, "rst": 0},
        **{"left_reason": "timeout", "left_state": "CLOSE_WAIT"},
    }
    assert (numbers["left_timeout"], numbers["left_timeout_s"]) == ("nf_conntrack_tcp_timeout_close_wait", 1)
    assert (numbers["left_before_s"], numbers["left_packets"], numbers["left_by"]) == (2.0, 7, None)
    assert (numbers["src"], numbers["dst"], numbers["sport"], numbers["dport"]) == ("10.0.0.1", "10.0.0.2", 1024, 53)


@pytest.mark.parametrize(
    ("made", "severity"),
    [
        (late(5), Severity.WARNING),
        (late(4), Severity.NOTICE),
        (late(9, tcp_flags=0x14), Severity.NOTICE),
        (late(9, "TIME_WAIT"), Severity.NOTICE),
        (late(9, "CLOSE"), Severity.NOTICE),
        (late(9, "LAST_ACK"), Severity.NOTICE),
        (late(9, "TIME_WAIT", left={"reason": DestroyReason.FLUSHED}), Severity.WARNING),
        (late(9, left={"reason": DestroyReason.TCP_REUSE}), Severity.NOTICE),
        (late(9, "FIN_WAIT"), Severity.WARNING),
        (late(9, "ESTABLISHED"), Severity.WARNING),
    ],
    ids=["5", "4", "resets", "TIME_WAIT", "CLOSE", "LAST_ACK", "flushed", "reopened", "FIN_WAIT", "ESTABLISHED"],
)
def test_what_comes_after_the_end_is_normal_and_what_was_open_is_not(made, severity):
    assert LATE(made).severity is severity
    assert "asymmetric_routing" not in rules.judge(made).verdicts and "unexplained" not in rules.judge(made).verdicts


def test_many_packets_of_one_connection_warn_too():
    rows = np.repeat(tcp(1, "CLOSE_WAIT"), 10)
    made = evidence(losses=losses(rows, DropReason.INVALID, tcp_flags=0x10, left=of_left(rows)), drops={"invalid": 10})
    found = LATE(made)
    assert found.severity is Severity.WARNING and found.evidence["connections"] == 1
    nine = replace(made, losses=made.losses[:9], drops={NETNS: {"invalid": 9}})
    assert LATE(nine).severity is Severity.NOTICE


@pytest.mark.parametrize("rows", [tcp(6, **SIX), entries(6, proto=SCTP), entries(6, proto=ICMP, dport=0, sport=7)])
def test_other_protocols_and_families_have_a_past_too(rows):
    lost = losses(rows, DropReason.INVALID, left=of_left(rows, reason=DestroyReason.DELETED))
    found = LATE(evidence(losses=lost, drops={"invalid": 6}))
    assert found.evidence["left_reason"] == "deleted" and "6 deleted" in found.sentence


@pytest.mark.parametrize(
    ("state", "value", "line"),
    [
        ("CLOSE_WAIT", 1, "nf_conntrack_tcp_timeout_close_wait=3600"),
        ("FIN_WAIT", 120, "nf_conntrack_tcp_timeout_fin_wait=3600"),
        ("CLOSE_WAIT", 7200, "nf_conntrack_tcp_timeout_close_wait=14400"),
        ("ESTABLISHED", 3, "nf_conntrack_tcp_timeout_established=432000"),
        ("ESTABLISHED", 432_000, "nf_conntrack_tcp_timeout_established=864000"),
        ("TIME_WAIT", 1, None),
    ],
)
def test_the_timeout_is_raised_to_what_it_should_be(state, value, line):
    made = late(7, state, left={"reason": DestroyReason.TIMEOUT})
    here = namespace(**{f"nf_conntrack_tcp_timeout_{state.lower()}": value})
    found = LATE(replace(made, namespaces={NETNS: here}))
    changing = [one for one, looks in zip(found.do, found.do_only_looks, strict=True) if not looks]
    assert changing == ([] if line is None else [f"sysctl -w net.netfilter.{line}"])


def test_a_timeout_that_could_not_be_read_is_not_named():
    made = late()
    found = LATE(replace(made, namespaces={}))
    assert " is " not in found.sentence.partition("CLOSE_WAIT")[2].partition(";")[0]
    assert found.evidence["left_timeout_s"] is None and all(found.do_only_looks)


def test_an_entry_that_leaves_as_its_packet_comes_left_right_before():
    made = late(left={"at_ns": CLOCK.monotonic_ns - 10_000_000})
    found = LATE(made)
    assert "(1.4 per s), right after their entries had left" in found.sentence and found.evidence["left_before_s"] == 0.01


def test_who_deleted_them_is_named_with_no_escape():
    made = late(left={"reason": DestroyReason.DELETED, "pid": 9, "comm": b"\x1b[2J"})
    found = LATE(made)
    assert "7 deleted by \\x1b[2J" in found.sentence and found.evidence["left_by"] == "\\x1b[2J"


def test_many_ways_to_leave_are_the_commonest_and_a_number():
    ways = [late(count, state) for count, state in ((6, "CLOSE_WAIT"), (5, "FIN_WAIT"), (2, "ESTABLISHED"), (1, "SYN_RECV"))]
    lost = join([made.losses for made in ways])
    found = LATE(evidence(losses=lost, drops={"invalid": 14}))
    assert ": 6 timeout in CLOSE_WAIT, 5 timeout in FIN_WAIT, 2 timeout in ESTABLISHED and 1 other way" in found.sentence


def test_packets_of_another_namespace_are_counted_beside_the_most():
    made = late(7)
    made.losses["entry"]["netns"][5:] = 8
    found = LATE(replace(made, drops={NETNS: {"invalid": 5}, 8: {"invalid": 2}}))
    assert (found.evidence["packets"], found.evidence["packets_elsewhere"]) == (5, 2)
    assert "2.0 s after their entries had left, and 2 more in other namespaces" in found.sentence
    assert found.explains.rows.all()


def test_where_nothing_is_known_of_the_past_nothing_is_late():
    assert LATE(stray(0x10)) is None and LEAK(stray(0x10)) is None
    assert ASYMMETRIC(stray(0x10)).severity is Severity.WARNING


def test_asymmetric_routing_is_only_what_has_no_past():
    """The same packets: of four nothing is known, the others' entries left."""
    made = late(11, tcp_flags=0x10)
    made.losses["left"]["at_ns"][:4] = 0
    verdicts = rules.judge(made).verdicts
    assert verdicts["asymmetric_routing"].severity is Severity.NOTICE
    assert verdicts["asymmetric_routing"].evidence["mid_stream_without_entry"] == 4
    assert verdicts["late_packets"].evidence["packets"] == 7


def test_a_host_that_sends_on_connections_which_somebody_deleted_says_who_did():
    by = {"reason": DestroyReason.DELETED, "pid": 77, "comm": b"conntrack"}
    made = late(11, "ESTABLISHED", tcp_flags=0x18, left=by, hook=OUTPUT)
    found = GONE(made)
    assert found.severity is Severity.WARNING and "their entries are gone, 11 deleted by conntrack;" in found.sentence
    assert (found.evidence["left_reason"], found.evidence["left_by"]) == ("deleted", "conntrack")
    assert LATE(made) is None, "said once"
    assert "as after conntrack -D or a flush" in GONE(stray(0x10, hook="output")).sentence


def test_a_reset_that_the_host_answers_with_is_late_not_the_hosts_own():
    made = late(9, tcp_flags=0x04, hook=OUTPUT)
    assert GONE(made) is None and LATE(made).severity is Severity.NOTICE


def leak(count: int = 13, nat: int = SNAT, refusing=(), unread=None, **columns):
    return late(
        count,
        "ESTABLISHED",
        nat=nat,
        ruleset=Ruleset(2, 1, 1, refusing=tuple(refusing), unread=unread),
        tcp_flags=0x04,
        **columns,
    )


def test_numbers_of_what_leaves_untranslated():
    found = LEAK(leak())
    numbers = found.evidence
    assert (numbers["packets"], numbers["connections"], numbers["packets_without_past"], numbers["hook"]) == (
        13,
        13,
        0,
        "prerouting",
    )
    assert (numbers["src"], numbers["left_reason"], numbers["left_state"]) == ("10.0.0.1", "timeout", "ESTABLISHED")
    assert "entries of 13 connections had left before: 13 timeout in ESTABLISHED" in found.sentence
    assert LATE(leak()) is None and "unexplained" not in rules.judge(leak()).verdicts


ALL_IN, ALL_FORWARD = (Refusing("ip", "filter", chain, 4, chain, True) for chain in ("input", "forward"))
JUMPED = Refusing("ip", "filter", "common", 4, None, True)
SOME, POLICY = Refusing("ip", "filter", "forward", 4, "forward", False), Refusing("ip", "filter", "forward", 0, "forward", False)


@pytest.mark.parametrize(
    ("refusing", "severity", "words"),
    [
        ([], Severity.WARNING, "no rule drops what is INVALID"),
        ([ALL_IN], Severity.WARNING, "no rule drops what is INVALID"),
        ([JUMPED], Severity.NOTICE, "cannot be told, as ip filter common may drop some"),
        ([SOME], Severity.NOTICE, "cannot be told, as ip filter forward may drop some"),
        ([POLICY], Severity.NOTICE, "cannot be told, as ip filter forward may drop some"),
    ],
)
def test_whether_they_leave_say_the_rules(refusing, severity, words):
    found = LEAK(leak(refusing=refusing))
    assert found.severity is severity and words in found.sentence


def test_what_a_rule_drops_on_its_way_is_late_and_leaks_nothing():
    made = leak(refusing=[POLICY, ALL_FORWARD])
    assert LEAK(made) is None
    assert LATE(made).severity is Severity.NOTICE and "unexplained" not in rules.judge(made).verdicts


@pytest.mark.parametrize(
    "elsewhere",
    [
        Refusing("ip6", "filter", "forward", 4, "forward", True),
        Refusing("bridge", "filter", "forward", 4, "forward", True),
        Refusing("ip", "filter", "output", 4, "output", True),
        Refusing("ip6", "filter", "forward", 0, "forward", False),
    ],
    ids=["of IPv6", "of a bridge", "of what the host sends", "a policy of IPv6"],
)
def test_a_rule_that_these_packets_do_not_meet_stops_none(elsewhere):
    assert LEAK(leak(refusing=[elsewhere])).severity is Severity.WARNING


def test_what_the_host_sends_meets_its_rules_of_output():
    sent = Refusing("inet", "filter", "output", 4, "output", True)
    assert LEAK(leak(refusing=[sent], hook=OUTPUT)) is None
    assert LEAK(leak(refusing=[ALL_FORWARD], hook=OUTPUT)).severity is Severity.WARNING


def test_where_it_is_certain_that_they_leave_comes_before_where_more_may():
    made, certain = leak(13, refusing=[SOME]), leak(7)
    certain.losses["entry"]["netns"] = 8
    here = {**made.namespaces, 8: replace(certain.namespaces[NETNS], inum=8)}
    drops = {NETNS: {"invalid": 13}, 8: {"invalid": 7}}
    found = LEAK(replace(made, losses=np.concatenate([made.losses, certain.losses]), namespaces=here, drops=drops))
    assert found.severity is Severity.WARNING
    assert (found.evidence["netns"], found.evidence["packets"], found.evidence["packets_elsewhere"]) == (8, 7, 13)


def test_connections_that_are_cut_off_are_named_though_resets_elsewhere_are_more():
    resets, cut_off = late(20, tcp_flags=0x04), late(7)
    cut_off.losses["entry"]["netns"] = 8
    drops = {NETNS: {"invalid": 20}, 8: {"invalid": 7}}
    found = LATE(replace(resets, losses=np.concatenate([resets.losses, cut_off.losses]), drops=drops))
    assert found.severity is Severity.WARNING
    assert (found.evidence["netns"], found.evidence["packets"], found.evidence["packets_elsewhere"]) == (8, 7, 20)


@pytest.mark.parametrize("made", [leak(unread="there is no nft to list the rules"), replace(leak(), namespaces={})])
def test_rules_that_could_not_be_read_are_not_guessed(made):
    found = LEAK(made)
    assert found.severity is Severity.NOTICE and "the rules could not be read" in found.sentence


def test_few_are_normal():
    assert LEAK(leak(4)).severity is Severity.NOTICE and LEAK(leak(5)).severity is Severity.WARNING


@pytest.mark.parametrize("state", ["CLOSE", "TIME_WAIT", "LAST_ACK"])
def test_what_still_comes_of_connections_that_are_over_is_normal_behind_any_nat(state):
    found = LEAK(late(9, state, tcp_flags=0x04, nat=SNAT))
    assert found.severity is Severity.NOTICE and found.sentence.endswith("the last of connections that are over, are normal")
    assert LEAK(late(9, "FIN_WAIT", tcp_flags=0x04, nat=SNAT)).severity is Severity.WARNING


def test_only_the_direction_whose_source_is_translated_leaks():
    """SNAT changes the source of the original, DNAT of the reply; the others' packets are as they should be."""
    assert LEAK(leak(nat=0)) is None, "no NAT"
    assert LEAK(leak(nat=IPS_DST_NAT)) is None, "the client's own packets"
    made = leak(nat=IPS_DST_NAT)
    packets = made.losses["entry"]
    packets["addr"][:, 1], packets["port"][:, 1] = packets["addr"][:, 0], packets["port"][:, 0]
    packets["addr"][:, 0, :4], packets["port"][:, 0] = (192, 168, 0, 2), 8080
    found = LEAK(made)
    assert found.severity is Severity.WARNING and "with the source 192.168.0.2:" in found.sentence
    made.losses["left"]["status"] = REPLIED | SNAT
    assert LEAK(made) is None, "of SNAT the answers keep their source"


def test_a_source_that_others_entries_translate_leaks_without_a_past():
    made = leak()
    made.losses["left"] = np.zeros(len(made.losses), made.losses["left"].dtype)
    assert LEAK(made) is None
    other = tcp(1, sport=9, status=REPLIED | SNAT)
    known = replace(made, entries=other)
    found = LEAK(known)
    assert found.evidence["packets_without_past"] == 13 and "of 13 no entry was seen to leave" in found.sentence
    assert found.evidence["left_reason"] is None
    assert LEAK(replace(made, before=other)).severity is Severity.WARNING, "at the start is as good"
    assert LEAK(replace(made, entries=tcp(1, sport=9, status=REPLIED))) is None, "one without NAT"
    assert LEAK(replace(made, entries=tcp(1, dst="10.0.0.9", status=REPLIED | SNAT))) is None, "to elsewhere"
    assert LEAK(replace(made, entries=tcp(1, netns=8, status=REPLIED | SNAT))) is None, "in another namespace"


def test_packets_of_a_known_entry_are_not_untranslated():
    assert LEAK(leak(direction=ORIGINAL)) is None


def test_ipv6_leaks_like_ipv4():
    rows = tcp(6, "ESTABLISHED", status=REPLIED | SNAT, **SIX)
    lost = losses(rows, DropReason.INVALID, tcp_flags=0x04, left=of_left(rows))
    here = {NETNS: replace(namespace(), ruleset=Ruleset(1, 1, 1))}
    found = LEAK(evidence(losses=lost, drops={"invalid": 6}, namespaces=here))
    assert found.severity is Severity.WARNING and "with the source fd00::1" in found.sentence


def test_what_the_host_itself_sends_is_dropped_where_it_leaves():
    found = LEAK(leak(hook=OUTPUT))
    assert found.do[3].endswith("'add chain inet invalid_out sent { type filter hook output priority filter; }'")
