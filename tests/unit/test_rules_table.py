"""Limits, chains, and entries that need not be there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctobserve.diagnosis.rules import chains
from ctobserve.diagnosis.verdict import Severity, Unjudged
from ctobserve.host.ruleset import Ruleset
from tests.unit.cases import BLUE, RULES, counted, long_chain, lower_limit, stale, with_rules
from tests.unit.tables import NETNS, entries, evidence, namespace, tcp


def test_no_limit_is_no_fullness():
    unlimited = evidence(entries(9), namespaces={NETNS: namespace(nf_conntrack_count=9, nf_conntrack_max=0)})
    assert isinstance(RULES["table_filling"](unlimited), Unjudged)


def test_full_and_evicting_tables_are_not_called_filling():
    assert RULES["table_filling"](counted(90, 100)) is not None
    assert RULES["table_filling"](counted(90, 100, drops={"table_full": 1})) is None
    assert RULES["table_filling"](counted(90, 100, destroys={"early_drop": 1})) is None
    assert RULES["table_filling"](counted(90, 100)).evidence["time_to_full_s"] is None


@pytest.mark.parametrize("rule", ["table_full", "early_drop"])
@pytest.mark.parametrize(
    ("own", "first", "here"),
    [
        (97, 10_000, [True]),
        (6000, 10_000, [False, True]),
        (10_000, 10_000, [False]),
        (97, 0, [True]),
    ],
    ids=["room below the first's", "more than the first's", "the first's", "the first has none"],
)
def test_more_room_for_one_namespace_lowers_no_limit_of_another(rule, own, first, here):
    around = {
        1: namespace(1, "init", nf_conntrack_max=first),
        NETNS: namespace(init=False, prefix=BLUE, nf_conntrack_max=own, nf_conntrack_count=own),
    }
    found = RULES[rule](evidence(tcp(9), namespaces=around, drops={"table_full": 3}, destroys={"early_drop": 3}))
    set_to = [line for line in found.do if "nf_conntrack_max=" in line]
    assert [line.startswith("ip netns exec blue ") for line in set_to] == here
    assert all(int(line.split("=")[1]) > own for line in set_to)


def test_the_odds_of_what_cannot_be():
    assert [chains._odds(chance) for chance in (2e-7, 2.54e-10, 1e-299)] == ["5e+06", "4e+09", "1e+299"]
    assert [chains._odds(chance) for chance in (1e-301, 5e-324, 0.0)] == ["more than 1e+300"] * 3, "1 / 5e-324 is inf"


def test_chain_drops_are_critical():
    found = RULES["chain_too_long"](evidence(lengths=long_chain(66), drops={"chaintoolong": 5}))
    assert found.severity is Severity.CRITICAL and found.evidence["packets"] == 5


def test_old_udp_without_comparison_is_a_notice_and_idle_ones_are_nothing():
    assert RULES["stale_udp"](stale(elsewhere=False)).severity is Severity.NOTICE
    quiet = stale()
    assert RULES["stale_udp"](replace(quiet, before=quiet.entries)) is None


def test_a_limit_not_yet_felt_is_a_notice():
    made = lower_limit()
    made.namespaces[NETNS].sysctls["nf_conntrack_count"] = 9
    assert RULES["netns_limit"](made).severity is Severity.NOTICE


def test_lines_to_paste_work_in_the_namespace_they_speak_of():
    assert RULES["netns_limit"](lower_limit()).do == ("ip netns exec blue sysctl -w net.netfilter.nf_conntrack_max=10000",)


def test_what_is_built_in_may_use_entries_without_rules():
    found = RULES["tracking_unneeded"](with_rules(Ruleset(3, 2, 0, built_in=("openvswitch", "ip_vs"))))
    assert found.sentence.endswith(", unless openvswitch or ip_vs, built into this kernel, is in use: that was not asked")
    assert found.evidence["built_in"] == ["openvswitch", "ip_vs"]


@pytest.mark.parametrize(
    ("limit", "lines"),
    [
        (None, ["nsenter --net=/proc/1/ns/net sysctl net.netfilter.nf_conntrack_max"]),
        (
            100,
            [
                "nsenter --net=/proc/1/ns/net sysctl net.netfilter.nf_conntrack_max",
                "# where that is less than 256, set it to 256",
            ],
        ),
    ],
)
def test_no_line_lowers_a_limit_that_nobody_knows(limit, lines):
    """As in a recording of which the settings are missing, or of a namespace that nobody may enter."""
    blue = namespace(init=False, prefix=BLUE, nf_conntrack_max=limit, nf_conntrack_count=None)
    found = RULES["table_full"](evidence(tcp(14), namespaces={NETNS: blue}, init=None, drops={"table_full": 3}))
    assert list(found.do) == lines


@pytest.mark.parametrize(("limit", "wanted"), [(1, 2), (7, 16), (8, 16), (9, 32), (1 << 64, 1 << 65)])
def test_room_for_twice_what_there_is_is_a_power_of_two_however_much_it_is(limit, wanted):
    found = RULES["table_full"](counted(1, limit, drops={"table_full": 1}))
    assert f"sysctl -w net.netfilter.nf_conntrack_max={wanted}" in found.do
