"""All rules alike: silent where nothing is wrong, and what each says where something is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Unjudged, Verdict
from ctobserve.host.ruleset import Ruleset
from tests.unit.cases import CASES, PEACE, RULES, counting, full, unknown_buckets, with_rules
from tests.unit.tables import NETNS, UNREPLIED, entries, evidence, lengths, many, namespace, tcp


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


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("table_filling", evidence(namespaces={})),
        ("table_filling", replace(PEACE, entries=entries(9, netns=99))),
        ("chain_too_long", unknown_buckets()),
        ("chain_skew", unknown_buckets()),
        ("few_buckets", unknown_buckets()),
        ("source_share", evidence(entries(200), namespaces={})),
        ("unseen", evidence(namespaces={NETNS: replace(namespace(), counters=None)})),
        ("unseen", replace(counting(drop=3), filtered=True)),
        ("entry_gone", replace(PEACE, invalid=False)),
        ("idle_established", replace(PEACE, entries=entries(9, netns=99))),
        ("netns_limit", replace(PEACE, entries=entries(9, netns=99))),
        ("events_off", replace(PEACE, entries=entries(9, netns=99))),
        ("acct_off", replace(PEACE, entries=entries(9, netns=99))),
        ("invalid_window", replace(PEACE, invalid=False)),
        ("asymmetric_routing", replace(PEACE, invalid=False)),
        ("netns_share", replace(PEACE, narrowed=True)),
        ("idle_established", evidence(tcp(200), namespaces={})),
        ("netns_limit", evidence(namespaces={})),
        ("events_off", evidence(namespaces={})),
        ("acct_off", evidence(namespaces={})),
        ("tracking_unneeded", with_rules(Ruleset(unread="there is no nft to list the rules"))),
        ("entries_unlisted", replace(PEACE, events_lost=1, damaged=1)),
        ("nothing_tracked", replace(PEACE, events_lost=1, damaged=1)),
        ("expect_full", replace(PEACE, expected=None)),
        ("helper_missing", replace(PEACE, expected=None)),
    ],
)
def test_a_rule_that_lacks_its_data_says_so(name, made):
    assert isinstance(RULES[name](made), Unjudged)


@pytest.mark.parametrize("name", CASES)
def test_every_loss_is_explained_or_warned_of(name):
    """Whatever a rule is told of losses, it or the last rule speaks of each: their sum is the sum of all."""
    made, *_ = CASES[name]
    found = [rule(made) for known, rule in RULES.items() if known != "unexplained"]
    left = made.without([finding.explains for finding in found if isinstance(finding, Verdict)])
    rest = sum(reasons.total() - reasons["clash_resolved"] for reasons in left.drops.values())
    last = RULES["unexplained"](left)
    assert rest == (last.evidence["packets"] + last.evidence["packets_not_kept"] if last else 0)
    assert len(left.losses) <= rest + sum(reasons["clash_resolved"] for reasons in left.drops.values())


def test_the_most_severe_comes_first_and_nothing_is_healthy_beside_it():
    found = rules.judge(
        replace(full(drops={"table_full": 23}), namespaces={NETNS: namespace(nf_conntrack_acct=0, nf_conntrack_count=14)})
    )
    assert list(found.verdicts) == ["table_full", "acct_off"]


def test_a_million_entries_are_judged():
    rows = np.tile(np.concatenate([tcp(700, src=many(700)), entries(300, status=UNREPLIED, src=many(300))]), 1000)
    rows["ct"] = np.arange(len(rows)) * 256
    rows["port"][:, 0] = np.arange(len(rows)) % 60_000
    blue = namespace(nf_conntrack_count=10**6)
    made = evidence(rows, lengths=lengths(2_000_000, 1 << 20), namespaces={NETNS: blue})
    assert "table_filling" in rules.judge(made).verdicts
