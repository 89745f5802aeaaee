"""DNAT back into the client's own network; and what only looks like it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.verdict import Severity, Verdict
from ctobserve.event import DropReason
from ctobserve.host.account import Account
from ctobserve.host.bridges import Bridge
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, Entries
from tests.unit.cases import RULES
from tests.unit.mapped import MAPPED, answered_elsewhere, hairpinned, was
from tests.unit.nat import dnat, payload, ruleset, translating
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, losses, namespace, tcp

CLIENT, DIRECT = "172.17.0.9", "172.17.0.2"


def to_dns(count: int = 3, **given) -> Entries:
    return entries(count, **({"src": CLIENT, "dst": "10.1.0.1", "backend": DIRECT, "status": MAPPED} | given))


def udp(*more: Entries) -> Evidence:
    dns = ruleset([payload("udp", "dport", 53), dnat(DIRECT)])
    return evidence(np.concatenate([to_dns(), *more]), namespaces=translating(dns))


def hairpin(made: Evidence) -> Verdict:
    found = RULES["hairpin"](made)
    assert isinstance(found, Verdict)
    return found


def test_its_evidence():
    found = hairpin(hairpinned())
    assert found.evidence == {
        "netns": NETNS,
        "entries": 6,
        "entries_elsewhere": 0,
        "proto": "tcp",
        "src": CLIENT,
        "sport": 1024,
        "dst": "10.1.0.1",
        "dport": 443,
        "backend": DIRECT,
        "backend_port": 443,
        "network": "172.17.0.0/16",
        "network_guessed": False,
        "packets": 0,
    }


def syns(count: int, **given) -> Entries:
    return tcp(count, "SYN_SENT", **({"dst": "10.1.0.1", "dport": 443, "status": MAPPED, "left_s": 100} | given))


@pytest.mark.parametrize(
    "made",
    [
        hairpinned(rows=syns(6, src=CLIENT, backend="10.1.0.77")),
        hairpinned(rows=syns(6, src=CLIENT, backend=DIRECT, status=MAPPED | IPS_SRC_NAT)),
        hairpinned(rows=tcp(6, src=CLIENT, dst="10.1.0.1", dport=443, backend=DIRECT, status=REPLIED | IPS_DST_NAT)),
        hairpinned(rows=syns(6, src=CLIENT, dst=DIRECT, status=UNREPLIED)),
        hairpinned(rows=syns(6, src="172.17.0.1", backend=DIRECT)),
        hairpinned(rows=syns(6, src=CLIENT, backend="172.17.0.1")),
    ],
    ids=["another network", "with SNAT", "answered", "without DNAT", "from the host itself", "to the host itself"],
)
def test_its_healthy_twins(made):
    assert RULES["hairpin"](made) is None


def test_an_entry_that_is_older_than_its_rule_is_no_hairpin():
    made = hairpinned()
    elsewhere = ruleset([payload("ip", "daddr", "10.1.0.1"), dnat("10.1.0.77")])
    made = replace(made, before=was(made.entries), namespaces=translating(elsewhere))
    assert RULES["hairpin"](made) is None and RULES["entry_older_than_rule"](made) is not None


def test_a_handshake_that_just_began_is_nothing_yet():
    made = hairpinned()
    made.entries["seen_ns"] = made.clock.monotonic_ns - 10**8
    assert RULES["hairpin"](made) is None
    assert hairpin(replace(made, before=made.entries)).evidence["entries"] == 6, "it was there at the start"


def test_where_the_network_is_not_ours_its_mask_is_a_guess_and_said_to_be():
    beyond = syns(6, src="10.5.0.9", backend="10.5.0.2")
    found = hairpin(hairpinned(rows=beyond))
    assert "which is in the network of the client 10.5.0.9 itself (10.5.0.0/24 if its mask is as guessed)" in found.sentence
    assert found.evidence["network_guessed"] is True
    assert RULES["hairpin"](hairpinned(rows=syns(6, src="10.5.1.9", backend="10.5.0.2"))) is None
    unread = replace(namespace(), addresses=None)
    assert hairpin(hairpinned(namespaces={NETNS: unread})).evidence["network"] == "172.17.0.0/24"


def test_ipv6():
    six = ruleset([payload("tcp", "dport", 443), dnat("fd00:1::2")], family="ip6")
    rows = syns(6, src="fd00:1::9", dst="fd00:9::1", backend="fd00:1::2", l3num=10)
    found = hairpin(hairpinned(rows=rows, namespaces=translating(six)))
    assert found.evidence["network"] == "fd00:1::/64"
    assert found.do[2].startswith("nft add rule inet hairpin post ip6 saddr fd00:1::/64 ip6 daddr fd00:1::2 tcp dport 443 ")


def test_of_udp_nobody_knows_whether_it_expects_answers_unless_others_get_them():
    alone = hairpin(udp())
    assert alone.severity is Severity.NOTICE and alone.sentence.endswith(", unless this is traffic that nobody answers")
    others = to_dns(1, src="10.1.0.77", ct=[9000], status=REPLIED | IPS_DST_NAT)
    found = hairpin(udp(others))
    assert found.severity is Severity.WARNING and found.evidence["proto"] == "udp" and "unless" not in found.sentence
    assert RULES["hairpin"](hairpinned()).severity is Severity.WARNING, "of TCP everybody does"


def test_clients_elsewhere_are_none_of_it():
    made = hairpinned()
    both = replace(made, entries=np.concatenate([made.entries, answered_elsewhere(ct=[9000])]))
    assert hairpin(both).evidence["entries"] == 6


def test_each_client_has_a_line_of_its_own():
    rows = syns(9, src=[f"172.17.0.{20 + at // 2}" for at in range(9)], backend=DIRECT)
    deleting = [line for line in hairpin(hairpinned(rows=rows)).do if "conntrack" in line]
    assert len(deleting) == 5 and deleting[0].endswith("--orig-src 172.17.0.20 --reply-src 172.17.0.2 --reply-dst 172.17.0.20")


def past(count: int = 6, flags: int = 0x12, **columns) -> Evidence:
    """The client's own namespace is seen as well, and finds the server's answers INVALID."""
    answers = tcp(count, src=DIRECT, dst=CLIENT, netns=8, sport=443)
    answers["port"][:, 1] = np.arange(count) + 1024
    lost = losses(answers, DropReason.INVALID, tcp_flags=flags, **columns)
    return replace(hairpinned(losses=lost), drops={8: Counter(invalid=count)})


def test_answers_past_us_that_are_invalid_elsewhere_are_explained():
    made = past()
    assert hairpin(made).evidence["packets"] == 6 and hairpin(made).explains.rows.all()
    assert set(rules.judge(made).verdicts) == {"hairpin"}, "no asymmetric routing, and nothing is unexplained"
    other = past()
    other.losses["entry"]["port"][:, 1] += 100
    assert hairpin(other).evidence["packets"] == 0
    assert RULES["asymmetric_routing"](other).severity is Severity.WARNING


@pytest.mark.parametrize(
    ("bridge", "silent"),
    [
        (Bridge("br0", 2, ("172.17.0.1/16",), frozenset({2})), True),
        (Bridge("br0", 2, ("172.17.0.1/16",), by_option=frozenset({2})), True),
        (Bridge("br0", 2, (), frozenset({2})), True),
        (Bridge("br0", 2, ("172.17.0.1/16",), frozenset({10})), False),
        (Bridge("br1", 2, ("172.18.0.1/16",), frozenset({2})), False),
    ],
    ids=["by sysctl", "by option", "without an address", "of IPv6 alone", "of another network"],
)
def test_what_a_bridge_passes_through_ip_hooks_is_translated_back(bridge, silent):
    """As on hosts of containers, where a server that is down answers nobody."""
    here = replace(hairpinned().namespaces[NETNS], account=Account(6, bridges=(bridge,)))
    assert (RULES["hairpin"](hairpinned(namespaces={NETNS: here})) is None) is silent


def test_a_guess_is_none_beside_a_bridge_that_passes_through_ip_hooks():
    bridge = Bridge("br1", 2, ("172.18.0.1/16",), frozenset({2}))
    beyond = hairpinned(rows=syns(6, src="10.5.0.9", backend="10.5.0.2"))
    here = replace(beyond.namespaces[NETNS], account=Account(6, bridges=(bridge,)))
    assert RULES["hairpin"](beyond) is not None
    assert RULES["hairpin"](replace(beyond, namespaces={NETNS: here})) is None
