"""Unanswered entries beside what new packets get: by the rules, by other entries, and where neither can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.analysis.groups import divide
from ctobserve.diagnosis import mappings as module
from ctobserve.diagnosis.by_rules import Judged, NewMapping
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.rules import judge
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import IPS_DST_NAT, IPS_EXPECTED, Entries
from tests.unit.mapped import MAPPED, SYSLOG, mapped_syslog, old_syslog, syslog, was
from tests.unit.nat import dnat, meta, payload, ruleset, translating
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, namespace, tcp

SIX = ruleset([payload("udp", "dport", 514), dnat("fd00:2::2")], family="ip6")
DNAT_514 = [payload("udp", "dport", 514), dnat("172.17.0.2")]


def of(rows: Entries, rules: Ruleset | None = SYSLOG, before: Entries | None = None, others: Entries | None = None) -> NewMapping:
    """What the first group of these gets; they were there at the start, the others came since."""
    whole = rows if others is None else np.concatenate([rows, others])
    made = evidence(whole, before=was(rows) if before is None else before, namespaces=translating(rules))
    return made.mappings.expected[made.mappings.groups.labels[0]]


def judged(*given, **more) -> Judged:
    return of(*given, **more).judged


def test_an_entry_without_nat_where_a_rule_translates_now():
    found = of(syslog())
    assert (found.judged, found.address, found.port, found.others, found.why) == (Judged.OTHER, "172.17.0.2", 514, 0, "")
    assert found.rule is not None and (found.rule.table, found.rule.chain, found.rule.handle) == ("nat", "pre", 2)
    assert of(syslog(), others=mapped_syslog(3)).others == 3


def test_one_that_has_the_mapping_of_new_packets_is_the_same_however_long_nobody_answers():
    assert judged(mapped_syslog(3)) is Judged.SAME
    assert judged(syslog(), ruleset(hook="prerouting")) is Judged.SAME, "no rule, no NAT"
    assert judged(syslog(dst="10.1.0.1", dport=515)) is Judged.SAME, "the rule is for another port"


BY_PORT = {"key": {"payload": {"protocol": "udp", "field": "dport"}}, "data": {"set": [[53, "172.17.0.2"]]}}


def test_a_rule_with_a_map_is_for_those_that_are_in_it():
    by_port = ruleset([dnat({"map": BY_PORT})])
    assert judged(syslog(), by_port) is Judged.SAME
    assert judged(syslog(dport=53), by_port) is Judged.OTHER
    assert judged(syslog(), ruleset([dnat({"map": BY_PORT | {"data": "@named"}})])) is Judged.UNKNOWN


def test_devices_in_a_named_set_are_not_known():
    rules = ruleset([meta("iifname", "@wan"), *DNAT_514])
    assert judged(mapped_syslog(), rules) is judged(syslog(), rules) is Judged.UNKNOWN


@pytest.mark.parametrize(
    ("rows", "rules"),
    [
        (syslog(backend="172.17.0.3", status=MAPPED), SYSLOG),
        (tcp(2, "SYN_SENT", src="10.1.0.9", dst="10.1.0.1", dport=514, backend="172.17.0.3", status=MAPPED),
         ruleset([payload("tcp", "dport", 514), dnat("172.17.0.2")])),
        (syslog(src="fd00:1::9", dst="fd00:1::1", l3num=10), SIX),
        (syslog(backend="172.17.0.2", status=MAPPED), ruleset()),
        (syslog(dst="10.7.7.7"), ruleset([payload("ip", "daddr", "10.7.7.7"), dnat("172.17.0.2")])),
        (syslog(), ruleset([payload("udp", "dport", 514), {"redirect": {"port": 5140}}])),
        (syslog(), ruleset([payload("udp", "dport", 514), {"xt": {"type": "target", "name": "DNAT"}}])),
    ],
    ids=["other target", "tcp", "ipv6", "rule gone", "routed", "redirect", "iptables-nft"],
)  # fmt: skip
def test_neighbours_that_are_mapped_otherwise(rows, rules):
    assert judged(rows, rules) is Judged.OTHER


@pytest.mark.parametrize(
    ("rows", "rules", "why"),
    [
        (syslog(), None, "its rules were not read"),
        (syslog(), Ruleset(unread="legacy iptables tables are in use, which are not read"), "legacy iptables"),
        (syslog(), ruleset([meta("mark", 5), *DNAT_514]), "conditions that are not known"),
        (syslog(src="192.0.2.9"), SYSLOG, "conditions that are not known"),
        (mapped_syslog(), ruleset([payload("udp", "dport", 514), {"xt": {"type": "target", "name": "DNAT"}}]), "conditions"),
        (mapped_syslog(), ruleset()._replace(built_in=("openvswitch",)), "conditions"),
        (syslog(), ruleset([payload("udp", "dport", 514), {"drop": None}]), "conditions"),
    ],
)
def test_what_cannot_be_known_is_said(rows, rules, why):
    found = of(rows, rules)
    assert found.judged is Judged.UNKNOWN and why in found.why


def test_without_its_addresses_nobody_knows_which_hook_a_packet_meets():
    blue = replace(namespace(), ruleset=SYSLOG)
    found = evidence(syslog(), before=was(syslog()), namespaces={NETNS: blue}).mappings
    assert [one.why for one in found.expected] == ["its addresses were not read"]


def test_what_the_host_itself_sends_meets_the_rules_of_output():
    assert judged(syslog(src="10.1.0.1")) is Judged.SAME
    out = ruleset(DNAT_514, hook="output")
    assert judged(syslog(src="10.1.0.1"), out) is Judged.OTHER and judged(syslog(), out) is Judged.SAME


def test_a_balancer_may_give_any_of_its_targets():
    balanced = ruleset([payload("udp", "dport", 514), dnat({"range": ["172.17.0.2", "172.17.0.4"]})])
    assert judged(mapped_syslog(backend="172.17.0.3"), balanced) is Judged.SAME
    gone = of(mapped_syslog(backend="172.17.0.9"), balanced)
    assert (gone.judged, gone.address) == (Judged.OTHER, None)


def test_answered_entries_and_those_that_a_helper_expected_are_not_asked():
    rows = np.concatenate([syslog(status=REPLIED), syslog(status=UNREPLIED | IPS_EXPECTED), tcp(3), entries(1, proto=1)])
    assert not len(evidence(rows, namespaces=translating(SYSLOG)).mappings.rows)


def test_new_entries_that_are_mapped_as_the_old_ones_prove_that_the_rules_were_misread():
    found = of(syslog(), others=syslog(1, ct=[7], sport=[9]))
    assert found.judged is Judged.UNKNOWN and "whatever its rules seem to say" in found.why


def answered(count: int = 9, **given) -> Entries:
    return mapped_syslog(count, status=REPLIED | IPS_DST_NAT, **given)


def test_where_the_rules_are_not_known_answers_elsewhere_tell():
    dead = syslog(backend="172.17.0.9", status=MAPPED)
    found = of(dead, None, others=answered())
    assert (found.judged, found.rule, found.address, found.port, found.others) == (Judged.OTHER, None, "172.17.0.2", 514, 9)
    assert judged(dead, None) is Judged.UNKNOWN, "nobody to compare with"
    assert judged(dead, None, others=mapped_syslog(9)) is Judged.UNKNOWN, "nobody is answered"
    assert judged(dead, None, was(dead, kept=False), answered()) is Judged.UNKNOWN, "no packet comes"
    still = np.concatenate([answered(), syslog(1, ct=[7], sport=[9], backend="172.17.0.9", status=MAPPED)])
    assert judged(dead, None, others=still) is Judged.UNKNOWN, "new ones get it, too"
    alive = np.concatenate([answered(), answered(1, ct=[7], sport=[9], backend="172.17.0.9")])
    assert judged(dead, None, others=alive) is Judged.UNKNOWN, "it answers somebody"


def test_where_the_rules_are_not_known_new_neighbours_with_nat_tell_of_one_without():
    assert judged(syslog(), None, others=mapped_syslog()) is Judged.OTHER
    assert judged(syslog(), None, others=mapped_syslog(src="10.1.7.9")) is Judged.UNKNOWN, "others may come by another device"
    before = was(np.concatenate([syslog(), mapped_syslog()]))
    assert judged(syslog(), None, before, mapped_syslog()) is Judged.UNKNOWN, "the rule may have come or gone"
    maybe = ruleset([{"xt": {"type": "match", "name": "addrtype"}}, *DNAT_514])
    assert judged(syslog(), maybe, before, mapped_syslog()) is Judged.OTHER, "there is a rule that translates"


def test_another_zone_or_namespace_is_another_service():
    dead = syslog(backend="172.17.0.9", status=MAPPED)
    assert judged(dead, None, others=answered(zone=7)) is Judged.UNKNOWN
    assert judged(dead, None, others=answered(netns=8)) is Judged.UNKNOWN


def test_what_packets_kept_alive():
    def kept(made: Evidence) -> list[bool]:
        return made.mappings.kept.tolist()

    assert kept(old_syslog()) == [True, True, False] and kept(old_syslog(kept=False)) == [False] * 3
    assert old_syslog().mappings.old.tolist() == [True, True, False]
    reused = old_syslog()
    reused.before["port"][:, 0] += 1
    assert kept(reused) == [False] * 3, "the address is another entry's now"


@pytest.mark.parametrize(("name", "bound"), [("MOST", 3), ("WALKED", 3)])
def test_of_very_many_groups_those_that_packets_keep_alive_are_compared(monkeypatch, name, bound):
    """By groups, and by the rules that each is held against, which is one here."""
    monkeypatch.setattr(module, name, bound)
    rows = np.concatenate([syslog(7, src=[f"10.1.0.{at}" for at in range(20, 27)]), syslog(1, ct=[77_000], src="10.1.0.9")])
    found = evidence(rows, before=was(rows[7:]), namespaces=translating(SYSLOG)).mappings
    kept = found.expected[int(found.groups.labels[7])]
    assert len(found.expected) == 8 and "new entries are mapped as the old ones" in kept.why
    assert sum("too many of such groups" in one.why for one in found.expected) == 5


@pytest.mark.parametrize("dst", ["239.255.255.250", "255.255.255.255", "172.17.255.255", "10.1.0.255"])
def test_multicast_and_broadcast_of_neighbours_do_not_leave_so_that_no_rule_lets_them_leave_otherwise(dst):
    """As a host of containers or virtual machines has them, whose networks are masqueraded."""
    masquerading = ruleset([payload("ip", "saddr", {"prefix": {"addr": "172.17.0.0", "len": 16}}), {"masquerade": None}],
                           hook="postrouting")  # fmt: skip
    rows = syslog(src="172.17.0.9", dst=dst, dport=1900)
    made = evidence(rows, before=was(rows), namespaces=translating(masquerading))
    assert not made.mappings.leaves_otherwise.any() and list(judge(made).verdicts) == ["healthy"]
    elsewhere = syslog(src="172.17.0.9", dst="10.1.0.250", dport=1900)
    assert evidence(elsewhere, before=was(elsewhere), namespaces=translating(masquerading)).mappings.leaves_otherwise.all()


def test_where_others_go_is_the_backend_of_most_that_is_not_its_own():
    def beside(*backends: tuple[str, int]) -> Entries:
        rows = [answered(count, ct=np.arange(count) + 1000 * at, backend=one) for at, (one, count) in enumerate(backends, 90)]
        return np.concatenate(rows)

    rows = syslog(backend="172.17.0.3", status=MAPPED)
    gone = of(rows, None, others=beside(("172.17.0.4", 2), ("172.17.0.5", 7), ("172.17.0.6", 3)))
    assert (gone.address, gone.others) == ("172.17.0.5", 7)
    larger = np.concatenate([beside(("172.17.0.4", 2)), syslog(9, dport=515, backend="172.17.0.9", status=MAPPED)])
    assert of(rows, None, others=larger).address == "172.17.0.4", "of the same service"


def test_however_many_backends_there_are_the_table_is_gone_through_as_often(monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(module, "divide", lambda rows, by: asked.append(len(rows)) or divide(rows, by))
    moved = ruleset([payload("udp", "dport", 514), dnat("172.18.0.1")])
    for backends in (1, 50):
        rows = syslog(50, backend=[f"172.17.0.{1 + at % backends}" for at in range(50)], status=MAPPED)
        assert judged(rows, moved, others=mapped_syslog(3)) is Judged.OTHER
    assert len(asked) == 10 and max(asked) < 200
