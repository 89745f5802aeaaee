"""Limits, chains, and entries that need not be there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.rules import chains
from ctobserve.diagnosis.verdict import Severity, Unjudged
from ctobserve.event import DestroyReason, Kind
from ctobserve.host.account import Account
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import SCTP
from tests.scripted import events
from tests.unit.cases import BLUE, RULES, counted, long_chain, lower_limit, removed, stale, with_rules
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, lengths, many, namespace, tcp


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


def test_who_has_a_limit_of_its_own_like_the_first_ones_gets_both_lines():
    """From 7.x on it starts with the first one's value, and stays behind when that alone is raised."""
    own = namespace(init=False, prefix=BLUE, nf_conntrack_max=10_000, nf_conntrack_count=10_000)
    around = {1: namespace(1, "init", nf_conntrack_max=10_000), NETNS: replace(own, limits_itself=True, cap=10_000)}
    found = RULES["table_full"](evidence(tcp(9), namespaces=around, drops={"table_full": 3}))
    limit = "sysctl -w net.netfilter.nf_conntrack_max=32768"
    assert [line for line in found.do if "nf_conntrack_max=" in line] == [limit, f"ip netns exec blue {limit}"]


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


@pytest.mark.parametrize(
    ("count", "growth", "severity"),
    [
        (51_000, 2_000, Severity.WARNING),  # full within ten minutes
        (51_000, 100, None),
        (30_000, 25_000, None),  # at once, but less than half full: a burst may be over
    ],
)
def test_from_half_on_a_rise_warns(count, growth, severity):
    found = RULES["table_filling"](counted(count, 65_536, inserts={NETNS: growth}))
    assert (found and found.severity) == severity


@pytest.mark.parametrize(
    ("count", "limit", "came", "left", "healthy"),
    [
        (780_000, 1_000_000, 1_500, 0, False),  # full in 12 minutes
        (780_000, 1_000_000, 50_000, 48_500, True),  # which so many that come and go bring about by chance
        (700_000, 1_000_000, 300, 0, True),  # in more than an hour
        (30_000, 65_536, 25_000, 0, False),  # less than half full: in seconds
        (30_000, 65_536, 3_000, 0, True),  # in a minute, as after any start of traffic
        (450_000, 1_000_000, 45_000, 0, False),  # in a minute, of a large table
        (1_000, 65_536, 100, 0, True),
        (60, 1_009, 55, 0, True),  # few, in a small table
        (250, 1_009, 205, 0, False),
    ],
)
def test_where_a_table_is_soon_full_nobody_says_that_all_is_well(count, limit, came, left, healthy):
    space = replace(namespace(nf_conntrack_count=count, nf_conntrack_max=limit), account=Account(count), listed=count)
    made = evidence(entries(9), namespaces={NETNS: space}, inserts={NETNS: came}, destroys={"timeout": left})
    judged = rules.judge(made)
    assert ("healthy" in judged.verdicts) == healthy and "table_filling" not in judged.verdicts
    assert healthy or judged.not_judged["healthy"].endswith("if it went on as in these 5.0 s; watch longer (--duration 60)")


def test_the_one_that_is_full_first_is_spoken_of():
    spaces = {
        inum: replace(namespace(inum, label, inum == 7, nf_conntrack_count=count, nf_conntrack_max=10_000), listed=count)
        for inum, label, count in ((7, "init", 9_000), (8, "shop", 8_500))
    }
    found = RULES["table_filling"](evidence(entries(9), namespaces=spaces, inserts={8: 2_500}))
    assert found.sentence.startswith("the table of shop is 85 % full, 8500 of 10000 entries, and grows by 500.0 entries per s")
    assert found.sentence.endswith("; 1 namespace more like it")


def test_entries_in_no_chain_fill_a_table_as_well():
    space = replace(namespace(nf_conntrack_count=200_000, nf_conntrack_max=262_144), account=Account(200_000))
    rising = replace(space, listed=175_000, unlisted_before=0)
    assert RULES["table_filling"](evidence(entries(9), namespaces={NETNS: rising})).evidence["growth_per_s"] == 5_000
    assert RULES["table_filling"](evidence(entries(9), namespaces={NETNS: replace(rising, unlisted_before=25_000)})) is None


@pytest.mark.parametrize(
    ("made", "severity"),
    [
        (removed(0, 1_000, 50_000), Severity.WARNING),
        (removed(0, 999, 50_000), Severity.NOTICE),
        (removed(5), Severity.WARNING),
        (removed(0, 5, 45), Severity.WARNING),
        (removed(0, 5, 46), Severity.NOTICE),  # fewer than a tenth of what was there
        (removed(4), Severity.NOTICE),
        (removed(0), None),
    ],
)
def test_entries_that_somebody_took_out_are_spoken_of(made, severity):
    found = RULES["entries_deleted"](made)
    assert (found and found.severity) == severity
    nobody = replace(made, removed=made.removed[:0])
    assert severity is None or RULES["entries_deleted"](nobody).evidence["removed_by"] is None


def test_the_namespace_that_lost_most_of_what_it_had_is_spoken_of():
    made = removed(0, 500, 20_000)
    spaces = {**made.namespaces, 8: namespace(8, "shop", init=False, nf_conntrack_count=0)}
    found = RULES["entries_deleted"](replace(made, namespaces=spaces, destroys={**made.destroys, 8: Counter(flushed=300)}))
    assert found.severity is Severity.WARNING and found.sentence.startswith("300 living entries of shop (100 %)")
    assert found.evidence["removed_elsewhere"] == 500


def test_connections_that_had_ended_lose_nothing():
    gone = events(Kind.DESTROY, tcp(80, "TIME_WAIT"), reason=DestroyReason.DELETED, comm=b"conntrack", pid=9)
    made = evidence(entries(300), removed=gone, destroys={"deleted": 80})
    assert RULES["entries_deleted"](made).severity is Severity.NOTICE
    assert RULES["entries_deleted"](replace(made, removed=gone[:0])).severity is Severity.WARNING, "nobody knows what they were"


def with_backends(*of):
    """A service in front of these, of which the third answers nobody."""
    rows = entries(90, src=many(90), dst="10.96.0.1", dport=443, backend=[of[i % len(of)] for i in range(90)], status=REPLIED)
    rows["status"][[of[i % len(of)] == "10.9.0.3" for i in range(90)]] = UNREPLIED
    return rows


def test_a_backend_that_answers_nobody_is_named():
    found = RULES["unanswered"](evidence(with_backends("10.9.0.1", "10.9.0.2", "10.9.0.3")))
    assert found.sentence.startswith(
        "10.9.0.3:443/udp, to which those for 10.96.0.1:443/udp are sent, answers nobody: 30 of the 30"
    )
    assert found.do == ("ctobserve list --state UNREPLIED --reply-src 10.9.0.3 --limit 20",)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (entries(20, status=UNREPLIED), True),
        (entries(19, status=UNREPLIED), False),
        (np.concatenate([entries(27, status=UNREPLIED), entries(3, sport=7)]), True),
        (np.concatenate([entries(26, status=UNREPLIED), entries(3, sport=7)]), False),
        (tcp(40, "SYN_SENT", status=UNREPLIED, dport=443), True),
        (entries(40, status=UNREPLIED, dport=514), False),
        (entries(40, status=UNREPLIED, dst="224.0.0.251", dport=5353), False),
        (entries(40, status=UNREPLIED, dst="255.255.255.255", dport=1900), False),
        (entries(40, status=UNREPLIED, dport=4789), False),
        (entries(40, status=UNREPLIED, dst=many(40)), False),
        (entries(40, status=UNREPLIED, proto=SCTP, dport=36412), True),
        (with_backends("10.9.0.1", "10.9.0.2", "10.9.0.3"), True),
        (with_backends("10.9.0.1", "10.9.0.2"), False),
        (with_backends(*["10.9.0.3"] * 9), True),
        (entries(200, status=UNREPLIED, dst=many(200), src=many(5) * 40, dport=443), True),
        (np.concatenate([entries(200, status=UNREPLIED, dst=many(200), src=many(5) * 40), tcp(201)]), False),
        (entries(80, status=UNREPLIED, dst=many(80), src=many(5) * 16, dport=443), False),
    ],
    ids=["20", "19", "nearly all", "a tenth has one", "tcp", "syslog", "multicast", "broadcast", "tunnel", "as many services",
        "sctp",
        "a dead backend", "no dead one", "each is dead", "an uplink", "half", "few"],
)  # fmt: skip
def test_a_service_that_answers_nobody_is_no_health(rows, told):
    judged = rules.judge(evidence(rows, lengths=lengths(2 * len(rows))))
    assert ("unanswered" in judged.verdicts) == told
    assert ("healthy" in judged.verdicts) != told


def test_where_rules_ask_for_state_nobody_is_told_to_untrack_a_service():
    """Its answers are not `established` then, and are dropped."""
    for rules_, words in (
        (Ruleset(12, 1, 9), "# 9 rules ask for state: let port 53 pass"),
        (Ruleset(unread="there is no nft"), "# rules that nobody read may ask for state"),
        (None, "# rules that nobody read may ask for state"),
    ):
        found = RULES["notrack_service"](evidence(entries(150), namespaces={NETNS: replace(namespace(), ruleset=rules_)}))
        assert len(found.do) == 2 and found.do[0].endswith("nft list ruleset") and found.do[1].startswith(words)


def test_a_connection_whose_data_is_not_acknowledged_was_not_idle_for_days():
    """tcp_packet() leaves it 300 s at most."""
    assert RULES["idle_established"](evidence(tcp(200, left_s=300))) is None
    assert RULES["idle_established"](evidence(tcp(200, left_s=301))).evidence["idle_max_s"] > 4 * 86_400


def test_what_a_filter_hides_is_not_counted_as_none():
    whole = counted(100, 100, drops={"table_full": 5})
    assert "of them assured" in RULES["table_full"](whole).sentence
    found = RULES["table_full"](replace(whole, filtered=True))
    assert "assured" not in found.sentence and found.evidence["entries_assured"] is None
    assert RULES["table_full"](replace(whole, uncounted="read earlier")).evidence["limit"] is None
