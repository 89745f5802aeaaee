"""When all is well, when nobody can say so, and what is said then."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.evidence import RESOLVED, NamespaceEvidence
from ctobserve.diagnosis.verdict import Severity
from ctobserve.host.account import Account
from ctobserve.host.queues import Queue
from tests.unit.cases import PEACE, capped, counting, full, outside, stray
from tests.unit.tables import NETNS, entries, evidence, losses, namespace

LOCKED = NamespaceEvidence(NETNS, "locked")


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
        (evidence(namespaces={}, narrowed=True), "no network namespace could be read"),
        (evidence(namespaces={NETNS: LOCKED}, inserts={NETNS: 9}), "no network namespace could be read"),
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
    of_packets = {"asymmetric_routing", "entry_gone", "untranslated", "late_packets", "icmp_refused", "bad_checksum"}
    assert blind == {"table_full", "lost_otherwise", "unexplained", "healthy"} | of_packets
    assert "table_full" in rules.judge(full(drops={"table_full": 1}, filtered=True, blind_to_losses=True)).verdicts


def test_nothing_is_healthy_where_more_was_lost_than_was_kept():
    found = rules.judge(capped(outside(5), "invalid", 9))
    assert {name: one.severity for name, one in found.verdicts.items()} == dict.fromkeys(
        ("invalid_window", "unexplained"), Severity.NOTICE
    )
    assert found.not_judged["healthy"] == "too much came at once: of 4 packets lost or INVALID only the reason was kept"
    saved = evidence(entries(2), losses=losses(entries(2), RESOLVED), drops={"clash_resolved": 9})
    assert set(rules.judge(saved).verdicts) == {"clash_race", "healthy"}, "what cost no packet is none to judge"


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
    other = NamespaceEvidence(99, "99", listed=5, cap=10_000)
    hidden = replace(
        PEACE, entries=np.concatenate([PEACE.entries, entries(5, netns=99)]), namespaces={**PEACE.namespaces, 99: other}
    )
    assert "995 entries in 2 namespaces (1 of them could not be read), blue is" in sentence(hidden)


def test_one_that_nobody_can_enter_has_its_entries_and_the_first_ones_limit():
    """Up to 6.12 it is the limit of all; later none may have more."""
    rows = np.concatenate([entries(4), entries(9_500, netns=99)])
    closed = NamespaceEvidence(99, "99", listed=9_500, cap=10_000)
    found = rules.judge(evidence(rows, namespaces={NETNS: namespace(nf_conntrack_count=4), 99: closed})).verdicts
    assert found["table_filling"].sentence.startswith("the table of 99 is 95 % full, 9500 of 10000 entries")
    few = replace(closed, listed=9)
    quiet = evidence(np.concatenate([entries(4), entries(9, netns=99)]), namespaces={NETNS: namespace(), 99: few})
    assert "healthy" in rules.judge(quiet).verdicts
    unknown = replace(quiet, namespaces={NETNS: namespace(), 99: replace(few, cap=None)})
    judged = rules.judge(unknown)
    assert "healthy" not in judged.verdicts
    assert judged.not_judged["healthy"] == "the limit (nf_conntrack_max) of 1 namespace with entries is not known"


def test_the_first_namespaces_limit_caps_a_larger_one():
    """Since nf_conntrack_max is each namespace's own: nf_conntrack_max() takes the smaller."""
    own = replace(namespace(init=False, nf_conntrack_max=1_000_000, nf_conntrack_count=127), cap=128)
    assert (own.own_limit, own.limit) == (1_000_000, 128)
    found = rules.judge(evidence(entries(127), namespaces={NETNS: own})).verdicts
    assert found["table_filling"].sentence.startswith("the table of blue is 99 % full, 127 of 128 entries")


def test_losses_that_nobody_counted_are_not_taken_for_none():
    silent = replace(PEACE, namespaces={NETNS: replace(PEACE.namespaces[NETNS], counters=None)})
    lacking = "the kernel's counters could not be read in any namespace"
    judged = rules.judge(silent)
    assert "healthy" not in judged.verdicts and judged.not_judged["unseen"] == lacking
    assert judged.not_judged["healthy"] == f"losses that nobody saw would look like none: {lacking}"
    assert "at the end" in rules.judge(replace(silent, uncounted="at the end nobody did")).not_judged["healthy"]
    assert "healthy" in rules.judge(replace(silent, filtered=True)).verdicts, "which says that others are not judged"
    stale = replace(PEACE, filtered=True, uncounted="at the end nobody did")
    assert "healthy" not in rules.judge(stale).verdicts, "its limits are as old as that reading"


@pytest.mark.parametrize(("waiting", "healthy"), [(999, True), (1000, False)])
def test_a_reader_that_may_hang_is_no_health(waiting, healthy):
    account = Account(20_000, queues=(Queue(3, 815, waiting, 815, "suricata"),))
    held = replace(PEACE.namespaces[NETNS], account=account, listed=20_000, unlisted_before=0)
    judged = rules.judge(replace(PEACE, namespaces={NETNS: held}))
    assert ("healthy" in judged.verdicts) == healthy
    assert healthy or judged.not_judged["healthy"].startswith("1000 packets wait in NFQUEUE 3 of blue for a verdict")


def test_what_no_program_hangs_on_is_not_taken_for_silent():
    """Of a packet that a helper drops the kernel counts nothing."""
    judged = rules.judge(replace(PEACE, not_attached=("nf_ct_helper_log", "nf_conntrack_icmpv6_error")))
    assert "healthy" not in judged.verdicts
    assert judged.not_judged["healthy"] == "not attached, so not seen: nf_ct_helper_log"
    beside = replace(PEACE, not_attached=("ctnetlink_conntrack_event", "nf_conntrack_icmpv6_error"))
    assert "healthy" in rules.judge(beside).verdicts


def test_invalid_packets_that_nobody_looked_for_are_counted_all_the_same():
    for count, healthy in ((9, True), (10, False)):
        judged = rules.judge(replace(counting(PEACE, invalid=count), invalid=False))
        assert ("healthy" in judged.verdicts) == healthy
    assert judged.not_judged["healthy"] == "the kernel counted 10 INVALID packets, and nobody looked for these (--no-invalid)"


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


def test_no_health_in_no_time_or_where_counters_were_not_to_be_had():
    calm = evidence(entries(4))
    assert set(rules.judge(counting(calm)).verdicts) == {"healthy"}
    assert "too short" in rules.judge(counting(replace(calm, duration_s=0.0))).not_judged["healthy"]
    rows = np.concatenate([entries(4), entries(2, netns=8)])
    other = namespace(8, "green", False, nf_conntrack_count=2)
    two = counting(evidence(rows, namespaces={NETNS: namespace(nf_conntrack_count=4), 8: other}))
    two = replace(two, namespaces={NETNS: two.namespaces[NETNS], 8: replace(other, counters=None)})
    assert rules.judge(two).not_judged["unseen"] == "the kernel's counters of 1 namespace with entries could not be compared"
