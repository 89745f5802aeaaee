"""Every rule: silent where nothing is wrong, and what it says where something is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.analysis.poisson import fit, tail
from ctobserve.capture.records import FLAG_ENTRY, DropReason
from ctobserve.capture.table import Lengths
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import RESOLVED, Space
from ctobserve.diagnosis.rules import chains
from ctobserve.diagnosis.verdict import Severity, Unjudged, Verdict
from ctobserve.host.ruleset import Ruleset, parse
from ctobserve.model import IPS_DST_NAT, IPS_SRC_NAT, NF_HOOKS
from tests.unit.tables import CLOCK, NETNS, REPLIED, UNREPLIED, entries, evidence, joined, lengths, losses, many, space, tcp

RULES = {rule.id: rule.judge for rule in rules.RULES}
BLUE = ("ip", "netns", "exec", "blue")
QUIET = {"drop": 0, "insert_failed": 0, "early_drop": 0, "chaintoolong": 0, "invalid": 0, "error": 0}
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


def capped(lost, reason: str, whole: int, **given):
    """More packets than are kept with their headers."""
    return evidence(losses=lost, drops={reason: whole}, **given)


def outside(count: int):
    return losses(tcp(count, sport=5), DropReason.INVALID, FLAG_ENTRY, tcp_flags=0x10, text=OUTSIDE)


def bad(count: int, tcp_flags: int = 0x10, reason: DropReason = DropReason.INVALID, text: bytes = b"bad checksum", **given):
    """Packets that no rule but the last one knows: 30 with a bad checksum, refused ICMP errors, stray RST, copies."""
    rows = tcp(count) if reason is DropReason.INVALID else entries(count)
    lost = losses(rows, reason, tcp_flags=tcp_flags, text=text)
    return evidence(losses=lost, drops={reason.name.lower(): count}, **given)


def counting(evidence_=None, **gained: int):
    """Where the kernel's counters gained that much."""
    made = evidence(entries(4)) if evidence_ is None else evidence_
    return replace(made, spaces={NETNS: replace(space(nf_conntrack_count=4), counters=QUIET | gained)})


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
        NETNS: space(init=False, prefix=BLUE, nf_conntrack_max=100, nf_conntrack_count=60),
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
    "entry_gone": (stray(0x10, hook="output"), Severity.WARNING, "11 packets that blue itself sent"),
    "unexplained": (bad(30), Severity.WARNING, "30 packets lost or INVALID in 5.0 s (6.0 per s) that no other verdict explains"),
    "unseen": (counting(drop=3), Severity.WARNING, "counted losses in blue that were not seen, at least 3: drop 3"),
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
    spaces={NETNS: replace(space(nf_conntrack_count=990), ruleset=Ruleset(5, 1, 2), counters=QUIET)},
)


def unknown_buckets():
    return evidence(entries(9), lengths=Lengths(np.zeros(512, np.uint16), 0, 0))


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


def test_an_empty_table_is_neither_healthy_nor_ill():
    found = rules.judge(counting(evidence()))
    assert not found.verdicts
    assert set(found.not_judged) == {"tracking_unneeded", "healthy"}
    assert found.not_judged["healthy"] == "nothing was tracked: no entry and no loss was there to judge"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (evidence(spaces={}, narrowed=True), "no network namespace could be read"),
        (evidence(spaces={NETNS: Space(NETNS, "locked")}, inserts={NETNS: 9}), "no network namespace could be read"),
        (evidence(inserts={NETNS: 9}, filtered=True), "nothing passed the filter: no entry and no loss was there to judge"),
        (evidence(drops={"clash_resolved": 0}), "nothing was tracked: no entry and no loss was there to judge"),
    ],
)
def test_judging_nothing_is_not_judged(made, why):
    found = rules.judge(made)
    assert not found.verdicts and found.not_judged["healthy"] == why


def test_a_filter_hides_losses_and_healthy_says_so():
    sentence = rules.judge(replace(PEACE, filtered=True)).verdicts["healthy"].sentence
    assert sentence.startswith("990 entries that pass the filter in 1 namespace, blue is the fullest")
    assert "; no packet that passes the filter was lost or INVALID (others are not judged) and no entry evicted" in sentence
    spared = rules.judge(replace(PEACE, filtered=True, invalid=False)).verdicts["healthy"].sentence
    assert "was lost (INVALID ones were not looked for; others are not judged) and no entry" in spared
    few = replace(PEACE, filtered=True, losses=outside(3), drops={NETNS: Counter(invalid=3)})
    explained = "; 3 packets that pass the filter INVALID, which the notices explain (others are not judged), and no entry"
    assert explained in rules.judge(few).verdicts["healthy"].sentence


def test_where_the_filter_lets_no_loss_pass_none_is_judged():
    """As --mark and --state do with packets that have no entry."""
    found = rules.judge(replace(PEACE, filtered=True, blind_to_losses=True))
    assert not found.verdicts
    blind = {
        name
        for name, why in found.not_judged.items()
        if why == "the filter asks for what is not known of a packet without an entry"
    }
    assert blind == {"table_full", "asymmetric_routing", "entry_gone", "lost_otherwise", "unexplained", "healthy"}
    assert "table_full" in rules.judge(full(drops={"table_full": 1}, filtered=True, blind_to_losses=True)).verdicts


@pytest.mark.parametrize(
    ("made", "name", "words", "packets"),
    [
        (
            capped(outside(50), "invalid", 200),
            "invalid_window",
            "50 packets of 1 connection were INVALID among the 50 kept of 200 packets (invalid) in 5.0 s (40.0 per s) for being",
            50,
        ),
        (
            capped(stray(0x10, 50).losses, "invalid", 200),
            "asymmetric_routing",
            "50 packets from the middle of unknown connections; the packets among the 50 kept of 200 packets (invalid)",
            50,
        ),
        (
            capped(stray(0x10, 50, "output").losses, "invalid", 200),
            "entry_gone",
            "sent on TCP connections were INVALID among the 50 kept of 200 packets (invalid) in 5.0 s (40.0 per s): their",
            50,
        ),
        (
            capped(losses(entries(3), DropReason.CLASH), "clash", 200),
            "clash_race",
            "among the 3 kept of 200 packets (clash) in 5.0 s (40.0 per s), most for 10.0.0.2:53/udp: 3 lost, 0 given",
            3,
        ),
        (
            replace(nat_clash(), drops={NETNS: Counter(clash=200)}),
            "snat_ports",
            "5 packets of new connections lost among the 5 kept of 200 packets (clash) in 5.0 s (40.0 per s) as 10.1.0.1 to",
            5,
        ),
    ],
)
def test_what_is_told_of_the_packets_kept_is_not_told_of_all(made, name, words, packets):
    """Rows are kept of the first packets of each reason; the rest is only counted."""
    found = rules.judge(made)
    numbers = found.verdicts[name].evidence
    assert words in found.verdicts[name].sentence
    assert numbers["packets_not_kept"] == 200 - packets
    assert name == "asymmetric_routing" or (numbers["packets"], numbers["packets_per_s"]) == (packets, None)
    rest = found.verdicts["unexplained"]
    assert rest.severity is Severity.NOTICE and "no other verdict" not in rest.sentence
    (reason,), unkept = made.drops[NETNS], 200 - packets
    assert rest.sentence == (
        f"of {unkept} packets lost or INVALID in 5.0 s ({unkept / 5} per s) only the reason was kept, most in blue: "
        f"{unkept} {reason}; whether other verdicts explain them cannot be told"
    )
    assert rest.evidence["packets_not_kept"] == unkept


def test_where_all_were_kept_the_rate_is_that_of_all():
    for made, name in ((CASES[name][0], name) for name in ("invalid_window", "entry_gone", "clash_race", "snat_ports")):
        numbers = RULES[name](made).evidence
        assert numbers["packets_per_s"] == numbers["packets"] / 5 and numbers["packets_not_kept"] == 0
        assert "kept" not in RULES[name](made).sentence


def test_nothing_is_healthy_where_more_was_lost_than_was_kept():
    found = rules.judge(capped(outside(5), "invalid", 9))
    assert {name: one.severity for name, one in found.verdicts.items()} == dict.fromkeys(
        ("invalid_window", "unexplained"), Severity.NOTICE
    )
    assert found.not_judged["healthy"] == "too much came at once: of 4 packets lost or INVALID only the reason was kept"
    saved = evidence(entries(2), losses=losses(entries(2), RESOLVED), drops={"clash_resolved": 9})
    assert set(rules.judge(saved).verdicts) == {"clash_race", "healthy"}, "what cost no packet is none to judge"


def test_what_is_built_in_may_use_entries_without_rules():
    found = RULES["tracking_unneeded"](with_rules(Ruleset(3, 2, 0, built_in=("openvswitch", "ip_vs"))))
    assert found.sentence.endswith(", unless openvswitch or ip_vs, built into this kernel, is in use: that was not asked")
    assert found.evidence["built_in"] == ["openvswitch", "ip_vs"]


@pytest.mark.parametrize("seen", [{"inserts": {NETNS: 1}}, {"before": entries(1)}])
def test_what_came_and_went_was_there_to_judge(seen):
    assert list(rules.judge(evidence(**seen)).verdicts) == ["healthy"]


def test_healthy_says_what_was_looked_at():
    def sentence(made):
        return rules.judge(made).verdicts["healthy"].sentence

    assert "; no packet lost or INVALID and no entry evicted in 5.0 s" in sentence(PEACE)
    assert "; no packet lost (INVALID ones were not looked for) and no" in sentence(replace(PEACE, invalid=False))
    few = counting(replace(PEACE, losses=outside(3), drops={NETNS: Counter(invalid=3)}), invalid=3)
    assert "; 3 packets INVALID, which the notices explain, and no entry evicted" in sentence(few)
    assert sentence(few).endswith("; worth knowing: 1 notice")
    hidden = replace(PEACE, entries=np.concatenate([PEACE.entries, entries(5, netns=99)]))
    assert "995 entries in 2 namespaces (1 of them could not be read), blue is" in sentence(hidden)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (bad(30), "30 invalid; 30 invalid tcp ACK at prerouting (bad checksum); 30 come from 10.0.0.1, 30 go to 10.0.0.2;"),
        (bad(12, 0x04, text=b""), "12 invalid tcp RST at prerouting; 12 come"),
        (bad(1, 0x04, text=b""), "1 packet lost or INVALID"),
        (bad(9, 0, DropReason.ERROR, b"icmp type, code"), "9 error; 9 error udp at prerouting (icmp type, code); 9 come"),
        (bad(5, 0, DropReason.CONFIRMED, b""), "5 confirmed; 5 confirmed udp; 5 come"),
        (bad(5, 0, DropReason.CONFIRMED, b""), "; the first is 10.0.0.1:1024 > 10.0.0.2:53"),
        (evidence(losses=losses(entries(2), 99), drops={"reason_99": 2}), "most in blue: 2 reason_99; 2 reason_99 udp"),
        (bad(3, text=b"\x1b[2J\xff"), "(\\x1b[2J\\xff)"),
    ],
)
def test_what_no_rule_explains_is_a_warning_that_says_what_it_is(made, words):
    found = rules.judge(made).verdicts
    assert "healthy" not in found and found["unexplained"].severity is Severity.WARNING
    assert words in found["unexplained"].sentence


def test_an_unexplained_icmp_packet_has_no_ports():
    rows = entries(2, proto=1, dport=0x0301)
    found = RULES["unexplained"](evidence(losses=losses(rows, DropReason.ERROR), drops={"error": 2}))
    assert found.evidence["first_dport"] is None and "the first is 10.0.0.1 > 10.0.0.2" in found.sentence


def test_the_first_unexplained_packet_is_the_earliest():
    made = bad(3)
    made.losses.entries["seen_ns"] = 30, 10, 20
    assert RULES["unexplained"](made).evidence["first_sport"] == 1025, "rows come by reason, not by time"


def test_the_unexplained_are_what_the_others_leave():
    lost = joined(outside(10), bad(4).losses, nat_clash().losses, losses(entries(2), RESOLVED), losses(entries(3), 6))
    made = evidence(
        losses=lost, drops={"invalid": 15, "clash": 5, "clash_resolved": 2, "confirmed": 3, "table_full": 8, "dying": 1}
    )
    found = rules.judge(made).verdicts
    assert {"invalid_window", "snat_ports", "table_full", "lost_otherwise", "clash_race", "unexplained"} <= found.keys()
    numbers = found["unexplained"].evidence
    # Of one INVALID packet the header was not kept.
    assert {
        name: numbers[name] for name in ("packets", "packets_per_s", "invalid", "confirmed", "packets_not_kept", "kinds")
    } == {
        **{"packets": 7, "packets_per_s": None, "invalid": 4, "confirmed": 3},
        **{"packets_not_kept": 1, "kinds": 2},
    }
    assert found["unexplained"].sentence.endswith("; of 1 packet more only the reason was kept: 1 invalid")
    assert (numbers["reason"], numbers["kernel_says"], numbers["tcp_flags"], numbers["hook"]) == (
        *("invalid", "bad checksum"),
        *("ACK", "prerouting"),
    )


@pytest.mark.parametrize("name", CASES)
def test_every_loss_is_explained_or_warned_of(name):
    """Whatever a rule is told of losses, it or the last rule speaks of each: their sum is the sum of all."""
    made, *_ = CASES[name]
    found = [rule(made) for known, rule in RULES.items() if known != "unexplained"]
    left = made.without([finding.explains for finding in found if isinstance(finding, Verdict)])
    rest = sum(reasons.total() - reasons["clash_resolved"] for reasons in left.drops.values())
    last = RULES["unexplained"](left)
    assert rest == (last.evidence["packets"] + last.evidence["packets_not_kept"] if last else 0)
    assert len(left.losses.entries) <= rest + sum(reasons["clash_resolved"] for reasons in left.drops.values())


def test_few_of_a_known_kind_are_a_notice_beside_health():
    for made, name, packets in (
        (evidence(losses=outside(9), drops={"invalid": 9}), "invalid_window", 9),
        (stray(0x12, 4), "asymmetric_routing", 4),
        (stray(0x10, 1), "asymmetric_routing", 1),
        (stray(0x12, 9, "output"), "entry_gone", 9),
    ):
        found = rules.judge(made).verdicts
        assert set(found) == {name, "healthy"} and found[name].severity is Severity.NOTICE
        assert f"{packets} " in found[name].sentence
        assert found["healthy"].evidence["packets_lost"] == packets


def test_many_packets_of_a_known_kind_are_no_health():
    for many_of in (capped(outside(10), "invalid", 10), stray(0x12, 5), stray(0x12, 10, "output"), stray(0x10, 5000, "output")):
        judged = rules.judge(many_of)
        assert "healthy" not in judged.verdicts
    answers = rules.judge(stray(0x12, 5000, "output"))
    assert answers.verdicts["entry_gone"].severity is Severity.NOTICE, "they end by themselves"
    assert "5000 packets were INVALID" in answers.not_judged["healthy"]
    assert rules.judge(stray(0x10, 10, "output")).verdicts["entry_gone"].severity is Severity.WARNING


def test_a_broken_segment_is_no_sign_of_asymmetric_routing():
    assert RULES["asymmetric_routing"](bad(30)) is None
    assert RULES["asymmetric_routing"](bad(30, text=b"invalid new")).severity is Severity.WARNING


def test_what_the_kernel_counted_and_nobody_saw():
    judge = RULES["unseen"]
    assert judge(counting(drop=5, insert_failed=5)).evidence["insert_failed_unseen"] == 5
    seen = counting(evidence(entries(4), drops={"clash": 5, "invalid": 2}, destroys={"early_drop": 3, "tcp_reuse": 1}))
    assert judge(counting(seen, drop=5, insert_failed=5, invalid=2, early_drop=3)) is None
    assert judge(counting(seen, drop=5, insert_failed=5, invalid=4, early_drop=3)).evidence["invalid_unseen"] == 1
    assert judge(counting(seen, clash_resolve=9)) is None, "no packet was lost"
    assert judge(counting(evidence(invalid=False), invalid=9, error=9)) is None, "nobody looked for them"
    busy = evidence(drops={"table_full": 9_990})
    assert judge(counting(busy, drop=10_000)) is None, "what lies between two readings on a busy host"
    assert judge(counting(busy, drop=11_000)).evidence["drop_unseen"] == 1010
    assert "healthy" not in rules.judge(counting(drop=1)).verdicts


def test_no_health_in_no_time_or_where_counters_were_not_to_be_had():
    calm = evidence(entries(4))
    assert set(rules.judge(counting(calm)).verdicts) == {"healthy"}
    assert "too short" in rules.judge(counting(replace(calm, duration_s=0.0))).not_judged["healthy"]
    rows = np.concatenate([entries(4), entries(2, netns=8)])
    other = space(8, "green", False, nf_conntrack_count=2)
    two = counting(evidence(rows, spaces={NETNS: space(nf_conntrack_count=4), 8: other}))
    two = replace(two, spaces={NETNS: two.spaces[NETNS], 8: replace(other, counters=None)})
    assert rules.judge(two).not_judged["unseen"] == "the kernel's counters of 1 namespace with entries could not be compared"


def test_what_reopened_connections_may_explain_is_told_and_not_taken_for_certain():
    """From Linux 5.17 on a SYN that reopens a connection does not count as INVALID; before it does."""
    judged = rules.judge(counting(evidence(entries(4), destroys={"tcp_reuse": 500}), invalid=500))
    found = judged.verdicts
    assert set(found) == {"unseen"} and found["unseen"].severity is Severity.NOTICE
    assert judged.not_judged["healthy"] == "the kernel counted losses that were not seen"
    assert "counted 500 INVALID packets in blue that nobody saw; 500 SYNs reopened" in found["unseen"].sentence
    assert (found["unseen"].evidence["invalid_unseen"], found["unseen"].evidence["tcp_reuse"]) == (500, 500)
    assert found["unseen"].evidence.keys() == RULES["unseen"](counting(drop=5)).evidence.keys()
    one = evidence(entries(4), losses=outside(2), drops={"invalid": 2}, destroys={"tcp_reuse": 1})
    assert RULES["unseen"](counting(one, invalid=2)) is None
    assert RULES["unseen"](counting(one, invalid=3)).severity is Severity.NOTICE
    assert RULES["unseen"](counting(one, invalid=4)).severity is Severity.WARNING, "more than the SYN explains"


def test_what_lost_records_may_explain_is_a_notice():
    found = rules.judge(counting(evidence(events_lost=7), drop=3)).verdicts
    assert found["unseen"].severity is Severity.NOTICE and found["unseen"].evidence["drop_unseen"] == 3
    assert "records_lost" in found and "healthy" not in found


def test_the_gravest_comes_first_and_nothing_is_healthy_beside_it():
    found = rules.judge(
        replace(full(drops={"table_full": 23}), spaces={NETNS: space(nf_conntrack_acct=0, nf_conntrack_count=14)})
    )
    assert list(found.verdicts) == ["table_full", "acct_off"]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("table_filling", evidence(spaces={})),
        ("table_filling", replace(PEACE, entries=entries(9, netns=99))),
        ("chain_too_long", unknown_buckets()),
        ("chain_skew", unknown_buckets()),
        ("few_buckets", unknown_buckets()),
        ("source_share", evidence(entries(200), spaces={})),
        ("unseen", evidence()),
        ("unseen", replace(counting(drop=3), filtered=True)),
        ("entry_gone", replace(PEACE, invalid=False)),
        ("idle_established", replace(PEACE, entries=entries(9, netns=99))),
        ("netns_limit", replace(PEACE, entries=entries(9, netns=99))),
        ("events_off", replace(PEACE, entries=entries(9, netns=99))),
        ("acct_off", replace(PEACE, entries=entries(9, netns=99))),
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


def test_the_odds_of_what_cannot_be():
    assert [chains._odds(chance) for chance in (2e-7, 2.54e-10, 1e-299)] == ["5e+06", "4e+09", "1e+299"]
    assert [chains._odds(chance) for chance in (1e-301, 5e-324, 0.0)] == ["more than 1e+300"] * 3, "1 / 5e-324 is inf"


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
    assert RULES["entry_gone"](stray(0x12)) is None and RULES["entry_gone"](stray(0x04, hook="output")) is None
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
    assert parse({"nftables": [{"set": {"stmt": [{"ct count": {"val": 5}}]}}, {"set": {}}]}) == Ruleset(0, 0, 1)


def test_a_million_entries_are_judged():
    rows = np.tile(np.concatenate([tcp(700, src=many(700)), entries(300, status=UNREPLIED, src=many(300))]), 1000)
    rows["ct"] = np.arange(len(rows)) * 256
    rows["port"][:, 0] = np.arange(len(rows)) % 60_000
    made = evidence(rows, lengths=lengths(2_000_000, 1 << 20), spaces={NETNS: space(nf_conntrack_count=10**6)}, clock=CLOCK)
    assert "table_filling" in rules.judge(made).verdicts
