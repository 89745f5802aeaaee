"""Expectations and helpers: what is a case, its neighbours, and the healthy twins."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.capture.capture import Expected
from ctobserve.capture.read_via import ReadVia
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity, Unjudged, Verdict
from ctobserve.event import DropReason
from ctobserve.host.helpers import HELPERS
from ctobserve.model import GRE, IPS_DST_NAT, IPS_EXPECTED, IPS_HELPER, IPS_SRC_NAT
from tests.unit.cases import HELPED, RULES, expectations, expecting, unhelped
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, losses, namespace, tcp

FULL, MISSING = RULES["expect_full"], RULES["helper_missing"]
SIX = {"l3num": 10, "src": "fd00::1", "dst": "fd00::2"}


def said(found) -> Verdict:
    assert isinstance(found, Verdict)
    return found


def test_a_full_table_that_nobody_asked_more_of_is_a_warning():
    found = said(FULL(expecting(expectations(3, masters=2))))
    assert found.severity is Severity.WARNING and found.evidence["packets"] == 0
    assert (
        found.evidence | {"masters": 2, "expectations_of_master": 2, "expectations": 3, "expectations_limit": 3} == found.evidence
    )
    assert "the next connection that a helper reads of cannot be expected" in found.sentence
    assert "2 masters, most of 10.0.0.1:5000 > 10.0.0.2:21/tcp" in found.sentence


@pytest.mark.parametrize("count", [0, 1, 2])
def test_below_the_limit_nothing_is_wrong(count):
    assert FULL(expecting(expectations(count))) is None


def test_a_limit_that_only_the_first_namespace_shows_is_everybodys():
    made = expecting(expectations(3))
    mute = {NETNS: namespace(init=False, nf_conntrack_count=9)}
    assert FULL(replace(made, namespaces=mute, init=namespace(1, "init", nf_conntrack_expect_max=3))) is not None
    assert FULL(replace(made, namespaces=mute, init=namespace(1, "init", nf_conntrack_expect_max=4))) is None
    assert FULL(replace(made, namespaces=mute, init=None)) is None, "an unknown limit is no limit"


def test_each_namespace_has_a_count_of_its_own():
    rows = expectations(4).rows
    rows["netns"][2:] = 8
    around = {NETNS: namespace(nf_conntrack_expect_max=3), 8: namespace(8, "green", nf_conntrack_expect_max=3)}
    assert FULL(evidence(expected=Expected(rows, ReadVia.NETLINK, HELPED), namespaces=around)) is None


def test_whose_expectations_proc_lists_is_not_guessed():
    rows = expectations(3, netns=0, has_master=False).rows
    found = FULL(expecting(Expected(rows, ReadVia.PROC, HELPED)))
    assert isinstance(found, Unjudged) and "nf_conntrack_netlink" in found.why


def test_what_is_refused_is_explained_and_what_helpers_drop_otherwise_is_not():
    made = expecting(expectations(3), refused=5)
    assert "unexplained" not in rules.judge(made).verdicts
    mangled = np.concatenate([made.losses, losses(tcp(2), DropReason.HELPER, text=b"cannot mangle packet")])
    found = rules.judge(replace(made, losses=mangled, drops={NETNS: Counter(helper=7)}))
    left = found.verdicts["unexplained"]
    assert (left.evidence["packets"], left.evidence["helper"], left.evidence["kernel_says"]) == (2, 2, "cannot mangle packet")
    assert "2 helper" in left.sentence


def test_packets_that_were_refused_while_there_is_room_are_left_unexplained():
    found = rules.judge(expecting(expectations(2), refused=5)).verdicts
    assert "expect_full" not in found and found["unexplained"].evidence["kernel_says"] == "cannot add expectation"


@pytest.mark.parametrize(
    ("helper", "class_", "count", "fires"),
    [
        (b"irc", 0, 8, True),
        (b"irc", 0, 7, False),
        (b"irc-7000", 0, 8, True),
        (b"sip", 1, 4, True),
        (b"sip", 3, 2, True),
        (b"sip", 0, 1, False),
        (b"ftp", 0, 1, False),
        (b"sip", 7, 9, False),
        (b"nobody's", 0, 99, False),
        (b"", 0, 99, False),
    ],
)
def test_a_master_with_all_that_its_helper_allows_unless_that_is_one(helper, class_, count, fires):
    found = FULL(expecting(expectations(count, helper=helper, **{"class": class_}), limit=1000))
    assert bool(found) is fires
    if fires:
        assert said(found).severity is Severity.NOTICE and f"waits for {count} connections" in said(found).sentence
        assert said(found).evidence["expectations_of_master"] == said(found).evidence["expectations_limit"] == count


def test_masters_of_their_own_have_room_of_their_own():
    assert FULL(expecting(expectations(8, masters=2, helper=b"irc"), limit=1000)) is None


def data(src="10.0.0.2", dst="10.0.0.1", sport=20, dport=7000, state="SYN_SENT", **given):
    return tcp(1, state, src=src, dst=dst, sport=sport, dport=dport, ct=90_000, **({"status": UNREPLIED} | given))


def with_data(row, control=None, **given):
    control = tcp(1, sport=5000, dport=21) if control is None else control
    return unhelped(np.concatenate([control, row]), entries(0), **given)


def test_a_data_connection_that_gets_no_answer_is_harm_and_one_that_does_is_none():
    assert said(MISSING(with_data(data()))).severity is Severity.WARNING
    passive = data("10.0.0.1", "10.0.0.2", 6000, 40000)
    assert said(MISSING(with_data(passive))).evidence["data_dport"] == 40000
    for harmless in (
        data(state="ESTABLISHED", status=REPLIED),
        data(status=UNREPLIED | IPS_EXPECTED),
        data(dport=22),
        data(src="10.0.0.9"),
        data(dst="10.0.0.9"),
        data(netns=8),
        data("10.0.0.1", "10.0.0.2", 6000, 21),
        entries(1, src="10.0.0.2", dst="10.0.0.1", sport=20, dport=7000, status=UNREPLIED, ct=90_000),
    ):
        found = said(MISSING(with_data(harmless)))
        assert found.severity is Severity.NOTICE and found.evidence["data_connections"] == 0
        assert "data_dst" not in found.evidence


def test_a_rule_that_drops_it_again_and_again_is_one_connection():
    again = np.repeat(tcp(1, "NONE", src="10.0.0.2", dst="10.0.0.1", sport=20, dport=7000, status=0), 3)
    assert said(MISSING(unhelped(died=again))).evidence["data_connections"] == 1


def test_behind_nat_the_server_calls_the_address_that_it_knows():
    masked = tcp(1, sport=5000, dport=21, nat=("192.0.2.1", 5000), status=REPLIED | IPS_SRC_NAT)
    forwarded = tcp(1, sport=5000, dport=21, dst="192.0.2.9", backend="10.0.0.2", status=REPLIED | IPS_DST_NAT)
    assert said(MISSING(with_data(data(dst="192.0.2.1"), masked))).severity is Severity.WARNING
    assert said(MISSING(with_data(data(), masked))).severity is Severity.NOTICE, "nobody knows it by that address"
    assert said(MISSING(with_data(data(), forwarded))).severity is Severity.WARNING
    assert said(MISSING(with_data(data("10.0.0.1", "192.0.2.9", 6000, 40000), forwarded))).severity is Severity.WARNING


def test_by_ipv6_too():
    control = tcp(1, sport=5000, dport=21, **SIX)
    found = said(MISSING(with_data(data("fd00::2", "fd00::1", l3num=10), control)))
    assert found.severity is Severity.WARNING and "[fd00::1]:5000 > [fd00::2]:21/tcp" in found.sentence


@pytest.mark.parametrize(
    "control",
    [
        tcp(1, sport=5000, dport=21, status=REPLIED | IPS_HELPER),
        tcp(1, sport=5000, dport=21, status=REPLIED | IPS_EXPECTED),
        tcp(1, "SYN_SENT", sport=5000, dport=21, status=UNREPLIED),
        tcp(1, "TIME_WAIT", sport=5000, dport=21),
        tcp(1, sport=21, dport=5000),
        entries(1, dport=21),
        tcp(1, sport=5000, dport=6667, reply_only=1),
        tcp(1, sport=5000, dport=6566),  # sane: not in this kernel
    ],
)
def test_who_has_a_helper_or_needs_none_is_not_spoken_of(control):
    assert MISSING(unhelped(control)) is None


def test_without_its_module_there_is_nothing_that_a_rule_could_assign():
    assert MISSING(evidence(tcp(1, sport=5000, dport=21))) is None


def test_older_kernels_that_assign_by_port_need_no_rule():
    for value, fires in ((1, False), (0, True)):
        around = {NETNS: namespace(nf_conntrack_count=1, nf_conntrack_helper=value)}
        assert bool(MISSING(unhelped(namespaces=around))) is fires


def test_udp_and_gre():
    sip = entries(1, sport=5060, dport=5060)
    media = entries(1, src="10.0.0.2", dst="10.0.0.1", sport=16384, dport=16386, status=UNREPLIED, ct=90_000)
    assert (
        said(MISSING(with_data(media, sip))).evidence | {"helper_name": "sip", "proto": "udp"}
        == said(MISSING(with_data(media, sip))).evidence
    )
    alone = said(MISSING(with_data(media, sip)))
    assert alone.severity is Severity.NOTICE and alone.sentence.endswith(", which of UDP may be as it should")
    dropped = media.copy()
    dropped["status"] = 0
    assert said(MISSING(unhelped(sip, died=dropped))).severity is Severity.WARNING
    pptp = tcp(1, sport=5000, dport=1723)
    tunnel = entries(1, proto=GRE, src="10.0.0.2", dst="10.0.0.1", sport=0, dport=7, status=UNREPLIED, ct=90_000)
    found = said(MISSING(with_data(tunnel, pptp)))
    assert (found.severity, found.evidence["helper_name"]) == (Severity.WARNING, "pptp") and "10.0.0.1/gre" in found.sentence


def test_tftp_answers_from_another_port_to_the_one_that_asked():
    asked = entries(1, sport=5000, dport=69, status=UNREPLIED)
    block = {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 40000, "status": UNREPLIED, "ct": 90_000}
    assert said(MISSING(with_data(entries(1, dport=5000, **block), asked))).severity is Severity.WARNING
    assert said(MISSING(with_data(entries(1, dport=5001, **block), asked))).severity is Severity.NOTICE


def test_snmp_is_spoken_of_only_as_broadcast():
    polled = entries(9, dport=161)
    assert MISSING(unhelped(polled)) is None
    shouted = entries(1, sport=5000, dst="10.0.0.255", dport=161, status=UNREPLIED)
    answer = entries(1, src="10.0.0.7", dst="10.0.0.1", sport=161, dport=5000, status=UNREPLIED, ct=90_000)
    assert said(MISSING(with_data(answer, shouted))).severity is Severity.WARNING


def test_the_one_with_harm_comes_before_the_one_with_more():
    many, one = entries(50, dport=5060), tcp(1, sport=5000, dport=21)
    found = said(MISSING(with_data(np.concatenate([many, data()]), one)))
    assert (found.evidence["helper_name"], found.evidence["entries"], found.evidence["entries_elsewhere"]) == ("ftp", 1, 50)


@pytest.mark.parametrize("helper", HELPERS, ids=lambda helper: f"{helper.name}-{helper.protonum}")
def test_the_object_of_every_helper_has_a_name_that_nft_takes(helper):
    control = entries(1, proto=helper.protonum, sport=5000, dport=helper.port, dst="10.0.0.255", tcp_state=3)
    only = Expected(expectations(0).rows, ReadVia.NETLINK, frozenset({helper.name}))
    lines = said(MISSING(replace(unhelped(control, entries(0)), expected=only))).do
    (made,) = [line for line in lines if "add ct helper" in line]
    assert made.split("assigned ")[1].split(" {")[0].replace("_", "").isalnum() and f'type "{helper.name}"' in made
