"""The table's accounts: counted and listed, timeouts and defaults, where nothing is tracked, and what is bridged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity, Unjudged
from ctobserve.host.account import Account
from ctobserve.host.bridges import Bridge
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.queues import Queue
from ctobserve.host.ruleset import Notrack, Ruleset
from ctobserve.model import ICMP, IPS_DST_NAT, IPS_OFFLOAD, IPS_SRC_NAT, UDP
from tests.unit.cases import BRIDGE, NAT_AND_NOTRACK, RULES, bridged, held_back, piled, silent
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, many, namespace, tcp

WARNING, NOTICE = Severity.WARNING, Severity.NOTICE


def said(name, made):
    """Severity and sentence of what this rule finds; None where it is silent."""
    found = RULES[name](made)
    return found and (found.severity, found.sentence)


def test_what_holds_entries_is_named_as_far_as_it_can_be_known():
    found = RULES["entries_unlisted"](held_back())
    assert "in NFQUEUE 0 97 packets wait for a verdict of hold_queue[815]" in found.sentence
    assert (found.evidence["entries_unlisted"], found.evidence["entries_listed"], found.evidence["limit"]) == (97, 0, 97)
    stranger = RULES["entries_unlisted"](held_back(queues=(Queue(3, 99, 1), Queue(4, 77, 41))))
    assert "in NFQUEUE 4 41 packets wait for a verdict of the reader with port id 77, of an unknown process" in stranger.sentence
    assert stranger.do[-1].startswith("# end the reader of queue 4") and stranger.evidence["reader_pid"] is None
    for nobody in ((), (Queue(0, 815, 0),)):
        unknown = RULES["entries_unlisted"](held_back(queues=nobody))
        assert "no packet waits in an NFQUEUE here, so what holds them cannot be told" in unknown.sentence
        assert all(unknown.do_only_looks) and "conntrack -L dying" in unknown.do[0]


def test_a_reader_that_keeps_up_is_not_blamed_nor_ended():
    """As of an intrusion prevention system, of which some packets wait at any time."""
    found = RULES["entries_unlisted"](held_back(queues=(Queue(0, 815, 24, 815, "suricata"),)))
    assert "only 24 packets wait in an NFQUEUE here, so what holds them cannot be told" in found.sentence
    assert all(found.do_only_looks) and found.evidence["reader_pid"] is None
    blamed = RULES["entries_unlisted"](held_back(queues=(Queue(0, 815, 25, 815, "suricata"),)))
    assert blamed.do[-1] == "kill 815"


@pytest.mark.parametrize(
    ("before", "words"),
    [(97, "as before this observation (97)"), (0, "0 of them before this observation"), (None, "since when is not known")],
)
def test_since_when_entries_are_in_no_chain(before, words):
    assert f"are in no hash chain, {words}:" in RULES["entries_unlisted"](held_back(before=before)).sentence


@pytest.mark.parametrize(
    ("count", "listed", "limit", "severity"),
    [
        (97, 88, 97, None),
        (97, 87, 97, WARNING),
        (1000, 901, 1000, None),
        (1000, 900, 1000, WARNING),
        (60, 30, 10_000, NOTICE),
        (60, 30, 0, NOTICE),
        (97, 97, 97, None),
        (97, 99, 97, None),
    ],
)
def test_a_few_packets_under_way_hold_entries_at_any_time(count, listed, limit, severity):
    found = said("entries_unlisted", held_back(count, listed, limit=limit))
    assert (found and found[0]) == severity


def test_entries_that_could_not_be_read_are_not_taken_for_held_ones():
    assert isinstance(RULES["entries_unlisted"](replace(held_back(), unread=1)), Unjudged)
    assert RULES["entries_unlisted"](evidence(namespaces={NETNS: namespace(nf_conntrack_count=97)})) is None, "nobody counted"


def test_a_table_full_of_held_entries_is_not_made_larger():
    refused = held_back(drops={"table_full": 30})
    full = RULES["table_full"](refused)
    assert "it counts 97 of 97 entries, and 97 of them (100 %) are in no hash chain" in full.sentence
    assert "assured" not in full.sentence and not [line for line in full.do if "nf_conntrack_max" in line]
    assert full.do == RULES["entries_unlisted"](refused).do[:3] and all(full.do_only_looks), "one verdict ends the reader"
    assert not [line for line in RULES["table_filling"](held_back()).do if "nf_conntrack_max" in line]
    few = RULES["table_full"](held_back(97, 80, drops={"table_full": 30}))
    assert "nfnetlink_queue" in few.do[0] and few.do[-1] == "sysctl -w net.netfilter.nf_conntrack_max=256", "it comes last"
    evicting = RULES["early_drop"](held_back(97, 80, destroys={"early_drop": 3}))
    assert "nfnetlink_queue" in evicting.do[0] and evicting.do[-1] == "sysctl -w net.netfilter.nf_conntrack_max=194"


def test_a_refusal_makes_held_entries_a_warning_whatever_the_limit():
    assert said("entries_unlisted", held_back(60, 30, limit=10_000, drops={"table_full": 1}))[0] is WARNING


@pytest.mark.parametrize("state", ["CLOSE_WAIT", "FIN_WAIT", "TIME_WAIT", "LAST_ACK", "SYN_SENT", "SYN_RECV", "CLOSE"])
def test_a_timeout_above_the_default_is_named_with_what_the_default_would_have_freed(state):
    severity, sentence = said("state_piles_up", piled(state))
    default = {"CLOSE_WAIT": 60, "SYN_RECV": 60, "LAST_ACK": 30, "CLOSE": 10}.get(state, 120)
    assert severity is WARNING and f"are in {state}" in sentence
    assert sentence.endswith(
        f": nf_conntrack_tcp_timeout_{state.lower()} is 3600 s, not the kernel's {default} s, "
        "which would have freed 170 of them by now"
    )


def test_who_began_them_and_where_they_go():
    pile = tcp(120, "CLOSE_WAIT", left_s=3590, src=["10.0.0.7"] * 70 + many(50), dport=[443] * 100 + [80] * 20)
    blue = namespace(nf_conntrack_count=120, nf_conntrack_max=400, nf_conntrack_tcp_timeout_close_wait=3600)
    found = RULES["state_piles_up"](evidence(pile, namespaces={NETNS: blue}))
    assert "70 of them from 10.0.0.7 and 100 to 10.0.0.2:443/tcp" in found.sentence
    assert "would have freed 0 of them" in found.sentence, "none is idle for a minute yet"
    assert (found.evidence["sources"], found.evidence["states"]) == (51, ["CLOSE_WAIT 120"])
    assert (found.evidence["timeout_s"], found.evidence["timeout_default_s"]) == (3600, 60)


@pytest.mark.parametrize(
    ("made", "severity"),
    [
        (piled(limit=10_000), NOTICE),
        (piled(count=99), None),
        (piled("SYN_SENT", left_s=3599), None),
        (piled("CLOSE", timeout_s=10, left_s=5), None),
        (piled(timeout_s=60, left_s=50), WARNING),
        (piled("FIN_WAIT", timeout_s=120, left_s=50), WARNING),
        (piled("LAST_ACK", timeout_s=20, left_s=10), WARNING),
        (piled("TIME_WAIT", timeout_s=120, left_s=100), NOTICE),
        (piled("TIME_WAIT", timeout_s=120, left_s=100, limit=10_000), None),
        (piled(timeout_s=60, left_s=50, limit=10_000), None),
        (piled(timeout_s=60, left_s=50, limit=0), None),
        (piled(limit=0), NOTICE),
        (piled("ESTABLISHED", timeout_s=500_000), None),
    ],
)
def test_many_of_one_state_are_a_busy_day_unless_they_fill_the_table_or_a_timeout_is_raised(made, severity):
    found = said("state_piles_up", made)
    assert (found and found[0]) == severity


def test_an_application_that_does_not_close():
    found = RULES["state_piles_up"](piled(timeout_s=60, left_s=50))
    assert "the application at the other does not" in found.sentence and all(found.do_only_looks)
    done = RULES["state_piles_up"](piled("TIME_WAIT", timeout_s=120, left_s=100))
    assert "application" not in done.sentence and done.do[-1].endswith("nf_conntrack_tcp_timeout_time_wait=30")


@pytest.mark.parametrize(
    ("proto", "status", "sysctl", "default"),
    [
        (UDP, UNREPLIED, "nf_conntrack_udp_timeout", 30),
        (UDP, REPLIED, "nf_conntrack_udp_timeout_stream", 120),
        (ICMP, UNREPLIED, "nf_conntrack_icmp_timeout", 30),
        (89, UNREPLIED, "nf_conntrack_generic_timeout", 600),
    ],
)
@pytest.mark.parametrize("ends", [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])
def test_the_kind_is_any_timeout_of_any_protocol(proto, status, sysctl, default, ends):
    src, dst = ends
    old = entries(150, proto=proto, status=status, left_s=100, src=src, dst=dst, l3num=10 if ":" in src else 2)
    blue = namespace(nf_conntrack_count=150, nf_conntrack_max=500, **{sysctl: 3600})
    severity, sentence = said("state_piles_up", evidence(old, namespaces={NETNS: blue}))
    assert severity is WARNING and f"{sysctl} is 3600 s, not the kernel's {default} s" in sentence and src in sentence
    fresh = entries(150, proto=proto, status=status, left_s=3600)
    assert said("state_piles_up", evidence(fresh, namespaces={NETNS: blue})) is None, "none is idle: nothing would be freed"
    offloaded = old.copy()
    offloaded["status"] |= IPS_OFFLOAD
    assert said("state_piles_up", evidence(offloaded, namespaces={NETNS: blue})) is None, "the flow table keeps them"


def test_a_timeout_that_could_not_be_read_is_not_judged():
    assert isinstance(RULES["state_piles_up"](evidence(tcp(200, "CLOSE_WAIT"))), Unjudged)


V6_ONLY = Ruleset(2, 0, 2, families=frozenset({"ip6"}))
SOME = NAT_AND_NOTRACK._replace(notracks=(Notrack("ip", "raw", "out", 4, False),))


@pytest.mark.parametrize(
    ("made", "severity", "words"),
    [
        (silent(), WARNING, "because a notrack rule in inet untracked pre takes every packet out before"),
        (silent(v4=0, v6=12), NOTICE, "because its rules ask for it in ip only, and what passed was IPv6"),
        (silent(v4=9), NOTICE, "a notrack rule in inet untracked pre takes every packet"),
        (silent(SOME), NOTICE, "takes some packets, which may be all that passed, out before"),
        (silent(Ruleset()), NOTICE, "because no rule is there that asks for a connection's state, a helper or NAT"),
        (silent(Ruleset(3)), NOTICE, "because none of its 3 firewall rules asks for"),
        (silent(Ruleset(3, built_in=("ip_vs",))), NOTICE, "(unless ip_vs, built into this kernel, is in use)"),
        (silent(V6_ONLY), NOTICE, "its rules ask for it in ip6 only, and what passed was IPv4"),
        (silent(V6_ONLY, v4=3, v6=11), NOTICE, "because of what cannot be known: 2 rules and 0 NAT chains ask for it"),
        (silent(V6_ONLY, v4=500, v6=3), NOTICE, "because of what cannot be known"),
        (
            silent(V6_ONLY, v4=0),
            NOTICE,
            "0 IP packets passed in 5.0 s: no entry is there, none came and none left, because nothing",
        ),
        (silent(Ruleset(unread="nft could not be run")), NOTICE, "because of what cannot be known: nft could not be run"),
    ],
)
def test_why_nothing_is_tracked(made, severity, words):
    found = said("nothing_tracked", made)
    assert found[0] is severity and words in found[1]
    judged = rules.judge(made)
    assert "healthy" not in judged.verdicts and "nothing_tracked" in judged.verdicts


def with_blue(**changed):
    made = silent()
    return replace(made, namespaces={NETNS: replace(made.namespaces[NETNS], **changed)})


@pytest.mark.parametrize(
    "made",
    [
        replace(silent(), inserts={NETNS: 1}),
        replace(silent(), destroys={NETNS: {"timeout": 1}}),
        replace(silent(), drops={NETNS: {"invalid": 1}}),
        replace(silent(), entries=entries(1)),
        with_blue(account=Account(1)),
        with_blue(listed=1),
        with_blue(ruleset=None),
    ],
)
def test_where_anything_is_tracked_the_rule_is_silent(made):
    assert RULES["nothing_tracked"](made) is None


@pytest.mark.parametrize(("passed", "told"), [((0, 0), False), ((1, 0), True), ((0, 1), True), (None, True)])
def test_one_through_which_nothing_goes_is_named_only_where_nobody_has_entries(passed, told):
    alone = with_blue(passed=passed and IpPackets(*passed))
    beside = replace(alone, namespaces={**alone.namespaces, 8: namespace(8, nf_conntrack_count=3)}, entries=entries(3, netns=8))
    assert RULES["nothing_tracked"](alone) is not None
    assert (RULES["nothing_tracked"](beside) is not None) is told


def test_a_namespace_that_is_not_looked_at_is_named_where_that_is_a_reason_to_warn():
    """As a router's whose NAT does nothing, seen from the host: but not a container's without rules."""
    assert said("nothing_tracked", replace(silent(), asked=99))[0] is WARNING
    assert RULES["nothing_tracked"](replace(silent(Ruleset(0, 0, 0)), asked=99)) is None
    assert said("nothing_tracked", silent(Ruleset(0, 0, 0)))[0] is NOTICE
    quiet = replace(silent().namespaces[NETNS], inum=1, label="init", ruleset=Ruleset(0, 0, 0))
    both = replace(silent(), asked=1, namespaces={1: quiet, **silent().namespaces})
    assert said("nothing_tracked", both)[0] is WARNING, "the graver one"


def test_what_nobody_counted_is_not_taken_for_nothing():
    """As at an instant of a recording between two readings."""
    made = silent()
    unknown = {NETNS: replace(made.namespaces[NETNS], account=Account())}
    assert RULES["nothing_tracked"](replace(made, namespaces=unknown)) is None


def test_packets_that_nobody_counted_are_not_said_to_be_none():
    sentence = said("nothing_tracked", with_blue(passed=None))[1]
    assert "how many packets passed is not known" in sentence
    assert RULES["nothing_tracked"](with_blue(passed=None)).evidence["packets_passed"] is None


@pytest.mark.parametrize("name", ["a b", "t; flush ruleset", "-f", "", "t\x1b", "x" * 70 + "..."])
def test_a_rule_in_a_chain_of_a_hostile_name_is_not_pasted(name):
    hostile = NAT_AND_NOTRACK._replace(notracks=(Notrack("inet", name, "pre", 4, True),))
    found = RULES["nothing_tracked"](silent(hostile))
    assert found.severity is WARNING
    assert [line for line in found.do if not line.startswith("#")] == ["nft -a list ruleset"]


def zoned():
    rows = entries(2, sport=[7, 7])
    rows["zone"] = [1, 2]
    return rows


V6 = {"src": "fd00::2", "dst": "fd00::3", "l3num": 10}


@pytest.mark.parametrize(
    ("made", "severity"),
    [
        (bridged(), WARNING),
        (bridged(entries(12)), NOTICE),
        (bridged(tcp(12)), NOTICE),
        (bridged(entries(9)), None),
        (bridged(entries(1, status=REPLIED | IPS_DST_NAT)), WARNING),
        (bridged(zoned()), WARNING),
        (bridged(entries(12, **V6)), None),
        (bridged(entries(12, **V6), BRIDGE._replace(by_sysctl=frozenset({2, 10}))), NOTICE),
        (bridged(entries(12, **V6), BRIDGE._replace(by_sysctl=frozenset(), by_option=frozenset({10}))), NOTICE),
        (bridged(entries(12, dst="10.0.1.2", status=REPLIED | IPS_SRC_NAT)), None),
        (bridged(entries(12, src="10.0.1.2", status=REPLIED | IPS_DST_NAT)), None),
        (bridged(entries(12, dst="10.0.0.254")), None),
        (bridged(entries(12, dst="10.96.0.1", backend="10.0.0.2", status=REPLIED | IPS_DST_NAT)), None),
        (bridged(entries(0)), None),
    ],
    ids=range(14),
)
def test_bridged_are_entries_within_the_network_of_a_bridge(made, severity):
    found = said("tracked_twice", made)
    assert (found and found[0]) == severity


def test_what_nat_does_to_bridged_packets_and_what_is_there_twice():
    assert "NAT changes 1 of them, here so that replies go to 10.0.0.254" in said("tracked_twice", bridged())[1]
    assert "such as udp 10.0.0.1:7 to 10.0.0.2:53" in said("tracked_twice", bridged())[1]
    assert said("tracked_twice", bridged(zoned()))[1].endswith("; 1 entry is there twice, in different zones")


def test_an_option_of_the_bridge_is_switched_off_where_it_is_on():
    own = BRIDGE._replace(by_sysctl=frozenset(), by_option=frozenset({10}))
    found = RULES["tracked_twice"](bridged(entries(12, **V6), own))
    assert "as nf_call_ip6tables of bridge br0 is 1" in found.sentence
    assert found.do[-1] == "ip link set dev br0 type bridge nf_call_ip6tables 0"
    both = RULES["tracked_twice"](bridged(entries(12, **V6), own._replace(by_sysctl=frozenset({10}))))
    assert both.do[-2:] == ("sysctl -w net.bridge.bridge-nf-call-ip6tables=0", found.do[-1])


def test_of_a_bridge_without_an_address_it_is_not_known_which_entries_are_its_own():
    found = RULES["tracked_twice"](bridged(entries(12), Bridge("br1", 2, (), frozenset({2}))))
    assert isinstance(found, Unjudged) and "br1 in blue" in found.why


def test_a_million_entries_are_bridged_and_piled_up():
    rows = np.tile(tcp(1000, "CLOSE_WAIT", left_s=1800), 1000)
    rows["port"][:, 0] = np.arange(len(rows)) % 60_000
    blue = namespace(nf_conntrack_count=len(rows), nf_conntrack_tcp_timeout_close_wait=3600)
    made = evidence(rows, namespaces={NETNS: replace(blue, account=Account(len(rows), bridges=(BRIDGE,)), listed=len(rows))})
    assert RULES["tracked_twice"](made).evidence["entries"] == RULES["state_piles_up"](made).evidence["entries_freed"] == 10**6
