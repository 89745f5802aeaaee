"""Refused ICMP errors: about what, why that has no entry, and when it is a black hole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity
from ctobserve.event import DestroyReason, DropReason
from ctobserve.host.invalid_rules import Refusing
from ctobserve.host.ruleset import Notrack, Ruleset
from ctobserve.model import GRE, ICMP
from tests.unit.cases import REFUSING, RULES, icmp_errors
from tests.unit.samples import departed
from tests.unit.tables import NETNS, entries, evidence, losses, tcp

JUDGE = RULES["icmp_refused"]
UNREACHABLE, PORT, EXCEEDED = 3, 3, 11


def changing(found) -> list[str]:
    return [line for line, looks in zip(found.do, found.do_only_looks, strict=True) if not looks]


def test_numbers_of_what_was_refused():
    numbers = JUDGE(icmp_errors()).evidence
    assert (numbers["packets"], numbers["too_big"], numbers["too_big_again"], numbers["inner_connections"]) == (9, 9, 9, 1)
    assert (numbers["inner_proto"], numbers["inner_src"], numbers["inner_dst"]) == ("tcp", "10.0.0.1", "10.0.0.2")
    assert (numbers["inner_sport"], numbers["inner_dport"], numbers["src"]) == (1024, 53, "10.0.0.9")
    assert numbers["left_reason"] is None


@pytest.mark.parametrize(
    ("made", "severity", "words"),
    [
        (icmp_errors(2), Severity.WARNING, "2 fragmentation needed"),
        (icmp_errors(1), Severity.NOTICE, "1 fragmentation needed"),
        (icmp_errors(9, about=tcp(9)), Severity.NOTICE, "of 9 connections without an entry"),
        (icmp_errors(10, about=tcp(10)), Severity.WARNING, "of 10 connections without an entry"),
        (icmp_errors(9, UNREACHABLE, PORT), Severity.NOTICE, "9 destination unreachable (code 3)"),
        (icmp_errors(10, UNREACHABLE, PORT), Severity.WARNING, "10 destination unreachable (code 3)"),
        (icmp_errors(10, EXCEEDED, 0), Severity.WARNING, "10 time exceeded (code 0)"),
        (icmp_errors(2, 2, 0, six=True), Severity.WARNING, "2 packet too big"),
        (icmp_errors(2, 1, 4, six=True), Severity.NOTICE, "2 destination unreachable (code 4)"),
        (icmp_errors(2, 42, 0), Severity.NOTICE, "2 type 42 (code 0)"),
    ],
)
def test_who_is_told_again_did_not_hear_it(made, severity, words):
    found = JUDGE(made)
    assert found.severity is severity and words in found.sentence
    assert ("black hole" in found.sentence) == (found.evidence["too_big_again"] >= 2)
    assert "unexplained" not in rules.judge(made).verdicts


def test_an_error_without_inner_tuple_stays_unexplained():
    made = evidence(losses=losses(entries(3, proto=ICMP, dport=0x2A00), DropReason.ERROR), drops={"error": 3})
    assert JUDGE(made) is None and "unexplained" in rules.judge(made).verdicts


def test_why_what_it_is_about_has_no_entry():
    rows = np.repeat(tcp(1), 9)
    left = departed(rows, DestroyReason.TIMEOUT, 3)
    assert "9 had one that left: 9 timeout in ESTABLISHED" in JUDGE(icmp_errors(left=left)).sentence
    assert JUDGE(icmp_errors(left=left)).evidence["left_state"] == "ESTABLISHED"
    left["at_ns"][4:] = 0
    mixed = JUDGE(icmp_errors(left=left)).sentence
    assert "4 had one that left: 4 timeout in ESTABLISHED" in mixed and "; 5 had none while this was watched" in mixed
    assert "they had none while this was watched (notrack, another way out, or older" in JUDGE(icmp_errors()).sentence
    notrack = Ruleset(2, 0, 1, notracks=(Notrack("ip", "raw", "out", 3, False),))
    assert "(a notrack rule in ip raw out may keep them out of the table)" in JUDGE(icmp_errors(ruleset=notrack)).sentence
    tunnel = JUDGE(icmp_errors(about=entries(9, proto=GRE, sport=0, dport=0)))
    assert "(they are GRE, and who sent them may be tracked inside alone)" in tunnel.sentence
    assert tunnel.evidence["inner_dport"] is None


def test_an_error_that_is_sent_to_neither_end_of_its_entry_says_so():
    found = JUDGE(icmp_errors(text=b"outer daddr %pI4 != inner %pI4"))
    assert (
        found.sentence.partition(": ")[2].count("9 have one, of which neither end has the address that the error was sent to")
        == 1
    )
    assert "none while" not in found.sentence


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        (icmp_errors(ruleset=Ruleset(refusing=(REFUSING,))), ["inet filter input icmp type destination-unreachable accept"]),
        (
            icmp_errors(2, 2, 0, six=True, ruleset=Ruleset(refusing=(REFUSING,))),
            ["inet filter input icmpv6 type packet-too-big accept"],
        ),
        (
            icmp_errors(ruleset=Ruleset(refusing=(Refusing("ip", "f", "in", 9, None, False),))),
            ["ip f in icmp type destination-unreachable accept"],
        ),
        (icmp_errors(ruleset=Ruleset(refusing=(Refusing("ip6", "f", "in", 9, "input", True),))), []),
        (icmp_errors(ruleset=Ruleset(refusing=(Refusing("ip", "f", "out", 9, "output", True),))), []),
        (icmp_errors(ruleset=Ruleset(refusing=(Refusing("ip", "f", "in", 0, "input", False),))), []),
        (icmp_errors(), []),
        (replace(icmp_errors(), namespaces={}), []),
    ],
    ids=["IPv4", "IPv6", "jumped to", "of IPv6 alone", "on output", "a policy", "none", "unread"],
)
def test_errors_are_let_pass_before_the_rule_that_drops_them(made, lines):
    assert changing(JUDGE(made)) == [f"nft 'insert rule {line}'" for line in lines]


@pytest.mark.parametrize(
    ("ruleset", "words"),
    [
        (Ruleset(refusing=(REFUSING,)), "a path MTU black hole: inet filter input drops what is INVALID"),
        (Ruleset(refusing=(REFUSING._replace(every_invalid=False),)), "inet filter input may drop what is INVALID"),
        (Ruleset(refusing=(REFUSING._replace(hook="output"),)), "no rule here drops what is INVALID"),
        (Ruleset(3, 1, 1), "no rule here drops what is INVALID"),
        (Ruleset(unread="no nft"), "if a rule drops what is INVALID"),
    ],
)
def test_why_nobody_hears_it_say_the_rules(ruleset, words):
    assert words in JUDGE(icmp_errors(ruleset=ruleset)).sentence


def test_two_rules_of_one_chain_take_one_line():
    twice = Ruleset(refusing=(REFUSING, REFUSING._replace(handle=9)))
    assert len(changing(JUDGE(icmp_errors(ruleset=twice)))) == 1


def test_a_chain_whose_name_nft_would_not_read_as_one_is_a_remark():
    odd = Ruleset(refusing=(REFUSING._replace(chain="in; flush ruleset"),))
    (line,) = changing(JUDGE(icmp_errors(ruleset=odd)))
    assert line.startswith("# ") and "flush" not in line


def test_errors_of_another_namespace_are_counted_beside_the_most():
    made = icmp_errors()
    made.losses["entry"]["netns"][7:] = 8
    found = JUDGE(replace(made, drops={NETNS: {"error": 7}, 8: {"error": 2}}))
    assert (found.evidence["packets"], found.evidence["packets_elsewhere"]) == (7, 2) and found.explains.rows.all()


def test_who_is_told_again_is_named_though_others_have_more():
    others = icmp_errors(5, 11, 0, about=tcp(5)).losses
    made = icmp_errors(3)
    made.losses["entry"]["netns"] = 8
    both = replace(made, losses=np.concatenate([others, made.losses]), drops={NETNS: {"error": 5}, 8: {"error": 3}})
    found = JUDGE(both)
    assert found.severity is Severity.WARNING and found.evidence["netns"] == 8
    assert (found.evidence["packets"], found.evidence["packets_elsewhere"], found.evidence["too_big_again"]) == (3, 5, 3)


def test_rules_of_the_other_address_family_drop_none_of_these():
    six = Ruleset(refusing=(Refusing("ip6", "f", "in", 9, "input", True), Refusing("bridge", "f", "in", 9, "input", True)))
    assert "no rule here drops what is INVALID" in JUDGE(icmp_errors(ruleset=six)).sentence
    assert "ip6 f in drops what is INVALID" in JUDGE(icmp_errors(9, 2, 0, six=True, ruleset=six)).sentence


def test_several_kinds_of_errors_have_a_line_each():
    """What is one set to nft is all of ICMP to iptables-save."""
    kinds = icmp_errors(9).losses
    kinds["entry"]["port"][4:, 1] = 11 << 8
    made = replace(icmp_errors(ruleset=Ruleset(refusing=(REFUSING,))), losses=kinds)
    assert [line.split(" type ")[1] for line in changing(JUDGE(made))] == [
        "destination-unreachable accept'",
        "time-exceeded accept'",
    ]


@pytest.mark.parametrize("kind", [4, 5])
def test_nobody_is_told_to_accept_redirects(kind):
    """About packets that nobody sent: whoever forges them would choose our routes."""
    found = JUDGE(icmp_errors(12, kind, 0, ruleset=Ruleset(refusing=(REFUSING,))))
    assert found.severity is Severity.WARNING and changing(found) == []
