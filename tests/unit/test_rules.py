"""Every rule: silent where nothing is wrong, and what it says where something is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve import rules
from ctobserve.analysis.poisson import fit, tail
from ctobserve.events import FLAG_ENTRY, DropReason
from ctobserve.evidence import RESOLVED
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, NF_HOOKS
from ctobserve.ruleset import Ruleset, parse
from ctobserve.table import Lengths
from ctobserve.verdict import Severity, Unjudged, Verdict
from tests.unit.tables import CLOCK, NETNS, REPLIED, UNREPLIED, entries, evidence, lengths, losses, many, space, tcp

RULES = {rule.id: rule.judge for rule in rules.RULES}
OUTSIDE = b"SEQ is over upper bound (over the window of the receiver)"


def long_chain(longest: int) -> Lengths:
    made = lengths(4000)
    made.of_bucket[99] = longest
    return made


def full(**more):
    return evidence(tcp(14), spaces={NETNS: space(nf_conntrack_count=14, nf_conntrack_max=14)}, **more)


def counted(count: int, limit: int, **more):
    return evidence(entries(count), spaces={NETNS: space(nf_conntrack_count=count, nf_conntrack_max=limit)}, **more)


def dns_race():
    return evidence(entries(4), losses=losses(entries(3), DropReason.CLASH), drops={"clash": 3, "clash_resolved": 2})


def nat_clash():
    rows = entries(6, nat=("10.1.0.1", 7777), status=UNREPLIED | IPS_SRC_NAT)
    return evidence(rows[:1], losses=losses(rows[1:], DropReason.CLASH), drops={"clash": 5})


def many_mapped():
    rows = entries(60_000, nat=("10.1.0.1", np.arange(60_000) + 1024), status=REPLIED | IPS_SRC_NAT)
    return evidence(rows, spaces={NETNS: space(nf_conntrack_count=60_000, nf_conntrack_max=1 << 20)})


def stray(tcp_flags: int, count: int = 11, hook: str = "prerouting"):
    lost = losses(tcp(count), DropReason.INVALID, hook=NF_HOOKS.index(hook), tcp_flags=tcp_flags)
    return evidence(losses=lost, drops={"invalid": count})


def outside(count: int):
    return losses(tcp(count, sport=5), DropReason.INVALID, FLAG_ENTRY, tcp_flags=0x10, text=OUTSIDE)


def opening_acks():
    rows = tcp(1, "SYN_SENT", status=UNREPLIED)
    lost = losses(np.repeat(rows, 6), DropReason.INVALID, FLAG_ENTRY, tcp_flags=0x10)
    return evidence(rows, losses=lost, drops={"invalid": 6})


def crowded_namespaces():
    rows = np.concatenate([entries(3000, src=many(3000)), entries(500, netns=8, src=many(500))])
    return evidence(rows, spaces={NETNS: space(nf_conntrack_count=3000), 8: space(8, "green", False, nf_conntrack_count=500)})


def stale(elsewhere: bool = True):
    old = entries(3, backend="10.9.0.1", dst="10.96.0.1", status=UNREPLIED | IPS_DST_NAT)
    new = entries(9, ct=np.arange(9) + 90_000, backend="10.9.0.2", dst="10.96.0.1", status=REPLIED | IPS_DST_NAT)
    before = old.copy()
    before["timeout"] -= 250
    return evidence(np.concatenate([old, new]) if elsewhere else old, before=before)


def lower_limit():
    spaces = {
        1: space(1, "init", nf_conntrack_count=5),
        NETNS: space(init=False, prefix="ip netns exec blue ", nf_conntrack_max=100, nf_conntrack_count=60),
    }
    return evidence(spaces=spaces)


def with_rules(ruleset: Ruleset):
    return evidence(entries(200), spaces={NETNS: replace(space(nf_conntrack_count=200), ruleset=ruleset)})


CASES = {
    "table_full": (
        full(drops={"table_full": 23}),
        Severity.CRITICAL,
        "23 packets of new connections refused in 5.0 s (4.6 per s)",
    ),
    "table_filling": (
        counted(6000, 10_000, inserts={NETNS: 500}),
        Severity.WARNING,
        "60 % full, 6000 of 10000 entries, and grows by 100.0 entries per s: full in 40.0 s",
    ),
    "early_drop": (
        full(destroys={"early_drop": 5, "gc_early_drop": 2, "timeout": 9}),
        Severity.WARNING,
        "7 living entries evicted in 5.0 s (1.4 per s), 5 by early drop",
    ),
    "chain_too_long": (evidence(lengths=long_chain(43)), Severity.WARNING, "longest hash chain has 43 nodes"),
    "chain_skew": (
        evidence(lengths=Lengths(np.repeat([0, 4], 2048).astype(np.uint16), 4096, 0)),
        Severity.WARNING,
        "a lookup visits 2.5 nodes instead of 2.0",
    ),
    "few_buckets": (evidence(lengths=lengths(5000, 512)), Severity.WARNING, "5000 nodes lie in only 512 buckets, 9.8 in each"),
    "clash_race": (dns_race(), Severity.WARNING, "3 lost, 2 given to the winner's entry; this is the resolver that waits 5 s"),
    "snat_ports": (nat_clash(), Severity.CRITICAL, "5 packets of new connections lost"),
    "invalid_window": (
        evidence(losses=outside(11), drops={"invalid": 11}),
        Severity.WARNING,
        "11 packets of 1 connection were INVALID",
    ),
    "asymmetric_routing": (stray(0x12), Severity.WARNING, "11 SYN+ACK without a SYN before"),
    "scan": (
        evidence(entries(101, dport=range(1, 102), status=UNREPLIED)),
        Severity.WARNING,
        "101 entries (100 % of its table) to 1 address and 101 ports",
    ),
    "syn_flood": (
        evidence(tcp(60, "SYN_RECV", src=many(60), dport=443, status=UNREPLIED | 2)),
        Severity.WARNING,
        "10.0.0.2:443/tcp gets SYNs that nobody completes: 60 half-open entries from 60 sources",
    ),
    "source_share": (
        evidence(np.concatenate([tcp(3000), entries(1000, src=many(1000))])),
        Severity.WARNING,
        "10.0.0.1 holds 3000 of the 4000 entries of blue (75 %), 30 % of its limit of 10000",
    ),
    "netns_share": (crowded_namespaces(), Severity.WARNING, "blue holds 3000 of the 3500 entries of all 2 namespaces (86 %)"),
    "idle_established": (
        evidence(np.concatenate([tcp(3000, left_s=172_800, src=many(3000)), tcp(100)])),
        Severity.WARNING,
        "3000 ESTABLISHED entries (97 % of its table) that saw no packet for a day, half of them for 3.0 days",
    ),
    "stale_udp": (stale(), Severity.WARNING, "3 old UDP entries in blue kept alive by unanswered packets"),
    "netns_limit": (lower_limit(), Severity.WARNING, "blue may have 100 entries, fewer than the 10000 of the first"),
    "records_lost": (evidence(events_lost=17, events_seen=83), Severity.WARNING, "17 records of 100 found the ring full"),
    "lost_otherwise": (evidence(drops={"no_memory": 3, "dying": 1}), Severity.CRITICAL, "4 packets lost"),
    "notrack_loopback": (
        evidence(entries(150, src="127.0.0.1", dst="127.0.0.5")),
        Severity.NOTICE,
        "150 of the 150 entries of blue (100 %) are traffic with itself",
    ),
    "notrack_service": (evidence(entries(150)), Severity.NOTICE, "150 of the 150 entries of blue (100 %) are UDP to port 53"),
    "events_off": (
        evidence(entries(9), spaces={NETNS: space(nf_conntrack_events=0)}),
        Severity.NOTICE,
        "nf_conntrack_events is 0 in blue, with 9 entries",
    ),
    "acct_off": (
        evidence(entries(9), spaces={NETNS: space(nf_conntrack_acct=0)}),
        Severity.NOTICE,
        "nf_conntrack_acct is 0 in blue, with 9 entries",
    ),
    "tracking_unneeded": (
        with_rules(Ruleset(3, 2, 0)),
        Severity.NOTICE,
        "tracks 200 connections and none of its 3 firewall rules",
    ),
}
# A busy day: many sources, answered, in a table with room, chains as they should be.
PEACE = evidence(
    np.concatenate([tcp(900, src=many(900), dport=443), entries(90, src=many(90))]),
    inserts={NETNS: 400},
    destroys={"timeout": 390},
    drops={"invalid": 3},
    losses=outside(3),
    spaces={NETNS: replace(space(nf_conntrack_count=990), ruleset=Ruleset(5, 1, 2))},
)


def test_every_rule_is_tried():
    assert set(CASES) == set(RULES)
    assert all(name.isidentifier() and name == name.lower() for name in RULES)


@pytest.mark.parametrize("name", CASES)
def test_fires(name):
    made, severity, words = CASES[name]
    found = RULES[name](made)
    assert isinstance(found, Verdict) and found.severity is severity
    assert words in found.sentence
    assert found.evidence and found.sentence[-1] != "." and "\n" not in found.sentence
    assert found.do
    units = [key for key, value in found.evidence.items() if isinstance(value, float)]
    for key in units:
        assert key.endswith(("_per_s", "_s", "_p")) or "share" in key or key.startswith(("load", "nodes", "variance")), key


@pytest.mark.parametrize("name", RULES)
def test_silent_in_peace(name):
    assert RULES[name](PEACE) is None


def test_peace_is_healthy_and_says_so_with_numbers():
    found = rules.judge(PEACE)
    assert list(found.verdicts) == ["healthy"] and found.not_judged == {}
    assert found.verdicts["healthy"].sentence.startswith(
        "990 entries in 1 namespace, blue is the fullest with 990 of 10000 (9.9 %)"
    )


def test_an_empty_table_is_healthy():
    found = rules.judge(evidence(duration_s=0.0))
    assert list(found.verdicts) == ["healthy"]
    assert set(found.not_judged) == {"tracking_unneeded"}


def test_the_gravest_comes_first_and_nothing_is_healthy_beside_it():
    found = rules.judge(
        replace(full(drops={"table_full": 23}), spaces={NETNS: space(nf_conntrack_acct=0, nf_conntrack_count=14)})
    )
    assert list(found.verdicts) == ["table_full", "acct_off"]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("table_filling", evidence(spaces={})),
        ("invalid_window", replace(PEACE, invalid=False)),
        ("asymmetric_routing", replace(PEACE, invalid=False)),
        ("netns_share", replace(PEACE, narrowed=True)),
        ("idle_established", evidence(tcp(200), spaces={})),
        ("netns_limit", evidence(spaces={})),
        ("events_off", evidence(spaces={})),
        ("acct_off", evidence(spaces={})),
        ("tracking_unneeded", with_rules(Ruleset(unread="there is no nft to list the rules"))),
    ],
)
def test_a_rule_that_lacks_its_data_says_so(name, made):
    assert isinstance(RULES[name](made), Unjudged)


def test_no_limit_is_no_fullness():
    unlimited = evidence(entries(9), spaces={NETNS: space(nf_conntrack_count=9, nf_conntrack_max=0)})
    assert isinstance(RULES["table_filling"](unlimited), Unjudged)


def test_full_and_evicting_tables_are_not_called_filling():
    assert RULES["table_filling"](counted(90, 100)) is not None
    assert RULES["table_filling"](counted(90, 100, drops={"table_full": 1})) is None
    assert RULES["table_filling"](counted(90, 100, destroys={"early_drop": 1})) is None
    assert RULES["table_filling"](counted(90, 100)).evidence["time_to_full_s"] is None


def test_chain_drops_are_critical():
    found = RULES["chain_too_long"](evidence(lengths=long_chain(66), drops={"chaintoolong": 5}))
    assert found.severity is Severity.CRITICAL and found.evidence["packets"] == 5


def test_resolved_clashes_are_worth_a_notice():
    found = RULES["clash_race"](evidence(losses=losses(entries(2), RESOLVED), drops={"clash_resolved": 2}))
    assert found.severity is Severity.NOTICE and found.evidence["dport"] == 53


def test_a_nat_clash_is_no_race_and_a_race_no_port_shortage():
    assert RULES["clash_race"](nat_clash()) is None
    assert RULES["snat_ports"](dns_race()) is None


def test_a_race_of_masqueraded_packets_is_a_race():
    rows = entries(5, nat=("10.1.0.1", np.arange(5) + 7000), status=UNREPLIED | IPS_SRC_NAT)
    made = evidence(rows, losses=losses(rows[:3], DropReason.CLASH), drops={"clash": 3})
    assert RULES["snat_ports"](made) is None
    assert RULES["clash_race"](made).evidence["packets"] == 3


def test_ports_nearly_used_up():
    found = RULES["snat_ports"](many_mapped())
    assert found.severity is Severity.WARNING and found.evidence["connections"] == 60_000
    assert found.evidence["share_of_ports"] == round(60_000 / 64_512, 4)


def test_other_signs_of_one_direction():
    assert RULES["asymmetric_routing"](stray(0x12, hook="output")) is None, "the SYN came here; its entry was deleted"
    assert RULES["asymmetric_routing"](stray(0x04)) is None, "stray RST come after the end of any connection"
    assert RULES["asymmetric_routing"](stray(0x10)).evidence["mid_stream_without_entry"] == 11
    assert RULES["asymmetric_routing"](opening_acks()).evidence["ack_after_unanswered_syn"] == 6
    assert RULES["asymmetric_routing"](evidence(tcp(10, status=UNREPLIED))).evidence["entries_one_way"] == 10


def test_old_udp_without_comparison_is_a_notice_and_idle_ones_are_nothing():
    assert RULES["stale_udp"](stale(elsewhere=False)).severity is Severity.NOTICE
    quiet = stale()
    assert RULES["stale_udp"](replace(quiet, before=quiet.entries)) is None


def test_a_limit_not_yet_felt_is_a_notice():
    made = lower_limit()
    made.spaces[NETNS].sysctls["nf_conntrack_count"] = 9
    assert RULES["netns_limit"](made).severity is Severity.NOTICE


def test_lines_to_paste_work_in_the_namespace_they_speak_of():
    assert RULES["netns_limit"](lower_limit()).do == ("ip netns exec blue sysctl -w net.netfilter.nf_conntrack_max=10000",)


def test_poisson():
    assert abs(tail(0, 2.0) - 1) < 1e-12
    assert abs(tail(3, 2.0) - (1 - np.exp(-2) * 5)) < 1e-12
    assert 0 < tail(60, 2.0) < 1e-50
    for load in (100, 4096, 40_000):
        found = fit(lengths(load, seed=load).of_bucket)
        assert found.chi_square_p > 1e-3 and found.max_chain_p > 1e-3 and 0.9 < found.dispersion < 1.1
    assert fit(np.zeros(8, np.uint16)) is None
    assert fit(long_chain(40).of_bucket).max_chain_p < 1e-20


def test_which_rules_need_conntrack():
    def listed(*expr, **chain):
        return parse({"nftables": [{"chain": chain}, {"rule": {"expr": list(expr)}}]})

    match = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}
    assert listed({"accept": None}, type="nat") == Ruleset(1, 1, 0)
    assert listed({"notrack": None}) == Ruleset(1, 0, 0)
    assert listed(match).needing == listed({"masquerade": None}).needing == 1
    assert listed({"xt": {"type": "match", "name": "conntrack"}}).needing == listed({"xt": None}).needing == 1
    assert listed({"xt": {"type": "match", "name": "comment"}}).needing == 0
    assert parse({"nftables": [{"ct helper": {"name": "ftp"}}]}).needing == 1


def test_a_million_entries_are_judged():
    rows = np.tile(np.concatenate([tcp(700, src=many(700)), entries(300, status=UNREPLIED, src=many(300))]), 1000)
    rows["ct"] = np.arange(len(rows)) * 256
    rows["port"][:, 0] = np.arange(len(rows)) % 60_000
    made = evidence(rows, lengths=lengths(2_000_000, 1 << 20), spaces={NETNS: space(nf_conntrack_count=10**6)}, clock=CLOCK)
    assert "table_filling" in rules.judge(made).verdicts
