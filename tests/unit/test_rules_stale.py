"""Entries that send packets where new ones would not go; and one-way traffic, which is none of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import Evidence
from ctobserve.diagnosis.verdict import Severity, Verdict
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import IPS_DST_NAT, Entries
from tests.unit.cases import RULES, stale
from tests.unit.mapped import MAPPED, SYSLOG, mapped_syslog, old_syslog, syslog, was
from tests.unit.nat import dnat, payload, ruleset, translating
from tests.unit.tables import NETNS, REPLIED, evidence, tcp

ROUTED = syslog(3, dst="10.7.7.7", dport=515)
TO_SYSLOG = "--orig-dst 10.1.0.1 --dport 514 --reply-src 10.1.0.1"


def older(made: Evidence) -> Verdict:
    found = RULES["entry_older_than_rule"](made)
    assert isinstance(found, Verdict) and found.severity is Severity.WARNING
    return found


def moved(**given) -> Evidence:
    """A client that always uses one port, whose backend moved, and three others that are answered."""
    old = tcp(1, "SYN_SENT", src="10.1.0.9", sport=797, dst="10.1.0.1", dport=2049, backend="172.17.0.9", status=MAPPED)
    new = tcp(3, src="10.1.0.9", dst="10.1.0.1", dport=2049, backend="172.17.0.2", status=REPLIED | IPS_DST_NAT, ct=[1, 2, 3])
    nfs = ruleset([payload("ip", "daddr", "10.1.0.1"), payload("tcp", "dport", 2049), dnat("172.17.0.2")])
    return evidence(np.concatenate([old, new]), before=was(old), namespaces=translating(given.get("rules", nfs)))


def test_a_client_whose_syns_keep_the_old_backend():
    found = older(moved())
    assert found.sentence.startswith(
        "1 entry for 10.1.0.1:2049/tcp in blue is older than the rules: what 10.1.0.9:797 sends still goes to 172.17.0.9:2049, "
        "and nobody answers, while new packets go to 172.17.0.2:2049 by its dnat rule (table nat, chain pre, handle 2)"
    )
    told = {key: found.evidence[key] for key in ("entries", "entries_kept", "entries_new_backend", "rule", "older_than_s")}
    assert told == {"entries": 1, "entries_kept": 1, "entries_new_backend": 3, "rule": "nat pre handle 2", "older_than_s": 5.0}
    assert found.do == (
        "conntrack -D -p tcp --orig-src 10.1.0.9 --sport 797 --orig-dst 10.1.0.1 --dport 2049 --reply-src 172.17.0.9",
    )
    assert RULES["stale_udp"](moved()) is None


def test_where_the_rules_are_not_read_other_entries_tell():
    found = older(moved(rules=Ruleset(unread="legacy iptables tables are in use, which are not read")))
    assert "while new packets go to 172.17.0.2:2049 as 3 other entries show;" in found.sentence
    assert found.evidence["rule"] is None


def test_a_rule_that_is_gone_and_one_that_redirects():
    gone = older(old_syslog(ruleset(), mapped_syslog(), syslog(0)))
    assert "while new packets are not translated, as rules are now;" in gone.sentence and gone.evidence["rule"] is None
    redirect = ruleset([payload("udp", "dport", 514), {"redirect": {"port": 5140}}])
    found = older(old_syslog(redirect, new=syslog(0)))
    assert "while new packets go to port 5140 of this host itself by its redirect rule" in found.sentence


def test_of_iptables_the_rule_is_known_and_its_target_is_that_of_others():
    target = ruleset([payload("udp", "dport", 514), {"xt": {"type": "target", "name": "DNAT"}}])
    assert "while new packets go to 172.17.0.2:514 by its dnat rule" in older(old_syslog(target)).sentence
    alone = older(old_syslog(target, new=syslog(0)))
    assert "while new packets go elsewhere by its dnat rule" in alone.sentence and alone.evidence["new_backend"] is None


def test_idle_ones_are_told_too_for_their_next_packet_goes_astray():
    assert older(old_syslog(kept=False)).sentence.endswith("in which packets kept 0 of 2 alive")


def test_few_have_a_line_each_and_many_one_for_their_backend_alone():
    assert older(old_syslog()).do == tuple(
        f"conntrack -D -p udp --orig-src 10.1.0.9 --sport {port} {TO_SYSLOG}" for port in (1024, 1025)
    )
    many = older(old_syslog(old=syslog(31)))
    assert many.do == (f"conntrack -D -p udp {TO_SYSLOG}",)
    assert many.evidence["entries"] == 31 and len(many.evidence["senders"]) == 5 and " and 26 more sends" in many.sentence


def beside_ones_that_are_right() -> Entries:
    """Senders from this host itself: the rule is for what comes by eth0."""
    return syslog(2, src="10.1.0.1", ct=[71_000, 71_001])


def test_no_line_deletes_those_that_are_right():
    old = np.concatenate([syslog(7), beside_ones_that_are_right()])
    found = older(old_syslog(old=old))
    assert found.evidence["entries"] == 7
    assert found.do[:5] == tuple(
        f"conntrack -D -p udp --orig-src 10.1.0.9 --sport {port} {TO_SYSLOG}" for port in range(1024, 1029)
    )
    assert found.do[5:] == ("# and 2 more like these, among others of this service that are right",)


def test_where_a_filter_may_hide_those_that_are_right_each_has_its_line():
    found = older(replace(old_syslog(old=syslog(7)), filtered=True))
    assert len(found.do) == 6 and all("--orig-src" in line for line in found.do[:5])


def test_lines_name_the_zone_and_ipv6_as_they_are():
    six = ruleset([payload("udp", "dport", 514), dnat("fd00:2::2")], family="ip6")
    old = syslog(1, src="fd00:1::9", dst="fd00:1::1", l3num=10, zone=7)
    assert older(old_syslog(six, old, syslog(0))).do == (
        "conntrack -D -p udp --orig-src fd00:1::9 --sport 1024 --orig-dst fd00:1::1 --dport 514 --reply-src fd00:1::1 --zone 7",
    )


def test_where_there_are_zones_a_line_names_that_of_none():
    """conntrack -D without --zone deletes equal tuples in every zone."""
    elsewhere = syslog(1, dport=99, ct=[70_000], zone=7)
    found = older(old_syslog(old=np.concatenate([syslog(1), elsewhere])))
    assert found.do == (f"conntrack -D -p udp --orig-src 10.1.0.9 --sport 1024 {TO_SYSLOG} --zone 0",)


def test_several_services_are_counted_and_the_largest_is_told():
    other = syslog(1, dport=515, ct=[80_000])
    rules_ = ruleset([payload("udp", "dport", {"range": [514, 515]}), dnat("172.17.0.2")])
    found = older(old_syslog(rules_, np.concatenate([syslog(2), other])))
    assert found.evidence["entries"] == 3 and found.sentence.endswith("; 1 such entry more to others") and len(found.do) == 3


def test_foreign_names_of_tables_and_chains_are_shown_as_they_can_be():
    made = old_syslog()
    table = SYSLOG.nat[0]
    hostile = table._replace(rules=tuple(rule._replace(table="a\x1b[2J", chain="b\nc") for rule in table.rules))
    found = older(replace(made, namespaces=translating(SYSLOG._replace(nat=(hostile,)))))
    assert "table a\\x1b[2J, chain b\\x0ac" in found.sentence and found.evidence["rule"] == "a\\x1b[2J b\\x0ac handle 2"


@pytest.mark.parametrize(
    "made",
    [
        evidence(mapped_syslog(3), before=was(mapped_syslog(3)), namespaces=translating(SYSLOG)),
        evidence(mapped_syslog(3), namespaces=translating(SYSLOG)),
        evidence(
            syslog(3, dst="10.7.7.7", dport=515), before=was(syslog(3, dst="10.7.7.7", dport=515)), namespaces=translating(SYSLOG)
        ),
        evidence(syslog(3), before=was(syslog(3)), namespaces=translating(None)),
    ],
    ids=["kept alive", "new", "routed", "rules not read"],
)
def test_one_way_traffic_that_goes_where_new_packets_go_is_healthy(made):
    found = rules.judge(made).verdicts
    assert list(found) == ["healthy"]


def test_one_way_traffic_through_nat_whose_rules_are_not_known_is_a_plain_fact():
    made = evidence(mapped_syslog(3), before=was(mapped_syslog(3)), namespaces=translating(None))
    found = RULES["stale_udp"](made)
    assert found.severity is Severity.NOTICE and found.do_only_looks == (True,), "nothing to delete"
    assert found.sentence == (
        "3 UDP entries in blue got packets and no answer, most to 10.1.0.1:514/udp by way of 172.17.0.2:514/udp, as is normal "
        "where nobody answers (syslog, statsd); whether new packets go there too is not known: its rules were not read"
    )
    assert RULES["entry_older_than_rule"](made) is None


def test_answers_elsewhere_do_not_make_one_stale_that_the_rules_would_map_the_same_way():
    made = stale()
    balanced = ruleset([payload("ip", "daddr", "10.96.0.1"), dnat({"range": ["10.9.0.1", "10.9.0.2"]})])
    assert RULES["stale_udp"](replace(made, namespaces=translating(balanced, "eth0 10.0.0.254/24"))) is None
    moved_on = ruleset([payload("ip", "daddr", "10.96.0.1"), dnat("10.9.0.2")])
    made = replace(made, namespaces=translating(moved_on, "eth0 10.0.0.254/24"))
    assert RULES["stale_udp"](made).severity is Severity.WARNING
    assert RULES["entry_older_than_rule"](made) is None, "each is spoken of once"


def test_what_is_told_is_of_the_namespace_where_it_is():
    made = old_syslog(old=syslog(3, netns=8), new=mapped_syslog(netns=8))
    green = replace(translating(SYSLOG)[NETNS], inum=8, label="green", prefix=("ip", "netns", "exec", "green"))
    found = older(replace(made, namespaces={8: green}))
    assert found.evidence["netns"] == 8 and all(line.startswith("ip netns exec green conntrack -D") for line in found.do)
