from __future__ import annotations

from collections import Counter

import numpy as np

from ctobserve.analysis.buckets import Distribution, distribution, with_chains
from ctobserve.analysis.drops import balance
from ctobserve.analysis.verify import compare
from ctobserve.events import Kind, entries_of
from ctobserve.model import UNKNOWN_BUCKET, UNKNOWN_CHAIN
from ctobserve.table import in_bucket, lengths_of
from tests.unit.samples import record, records


def entries(*buckets: tuple[int, int]):
    return entries_of(records(*(record(Kind.WALK, 8 * i, bucket=pair) for i, pair in enumerate(buckets, 1))))


def spread(made, buckets: int, limit: int) -> Distribution:
    return distribution(lengths_of(made, buckets), limit, lambda bucket: in_bucket(made, bucket))


def test_distribution_counts_nodes_and_names_the_longest():
    found = spread(entries((0, 1), (0, 2), (3, 3), (UNKNOWN_BUCKET, 0)), 8, 2)
    assert (found.buckets, found.entries, found.nodes) == (8, 4, 7)
    assert found.histogram == {0: 4, 1: 2, 2: 1, 3: 1}
    assert sum(found.histogram.values()) == found.buckets
    assert sum(length * count for length, count in found.histogram.items()) == found.nodes
    assert [(chain.bucket, chain.length, len(chain.entries)) for chain in found.longest] == [(0, 3, 3), (3, 2, 1)]
    assert found.max_chain == 3
    assert found.load_factor == 7 / 8


def test_expected_is_poisson():
    made = entries(*((i % 1024, (i * 7) % 1024) for i in range(1024)))
    found = spread(made, 1024, 0)
    assert abs(found.expected[0] - 1024 * np.exp(-2)) < 1e-6
    assert abs(found.expected[2] - 1024 * np.exp(-2) * 2) < 1e-6


def test_distribution_of_an_empty_table():
    found = spread(entries(), 512, 5)
    assert (found.histogram, found.max_chain, found.longest, found.load_factor) == ({0: 512}, 0, [], 0)
    assert found.expected == {0: 512}


def test_chains_are_counted_over_the_whole_table():
    whole = entries((0, 1), (0, 2), (UNKNOWN_BUCKET, 0))
    assert with_chains(whole[:1], lengths_of(whole, 4))["chain"].tolist() == [[3, 1]]
    assert with_chains(whole[2:], lengths_of(whole, 4))["chain"].tolist() == [[UNKNOWN_CHAIN, 3]]


def test_balance_explains_overlapping_counters():
    kernel = Counter({"drop": 7, "insert_failed": 8, "chaintoolong": 3, "early_drop": 2, "found": 4, "invalid": 0})
    reasons = Counter({"table_full": 2, "clash": 5, "chaintoolong": 3, "early_drop": 2})
    assert balance(reasons, kernel).unaccounted == {}
    kernel["invalid"] = 6
    kernel["drop"] = 6
    assert balance(reasons, kernel).unaccounted == {"drop": -1, "invalid": 6}
    del kernel["chaintoolong"], kernel["drop"]
    assert balance(reasons, kernel).unaccounted == {"invalid": 6}, "a counter that cannot be read is unknown, not 0"


def test_tables_are_compared_by_address_and_every_identifying_field():
    ours, theirs = entries((1, 2), (3, 4)), entries((1, 2), (3, 5))
    assert compare(ours, ours).names() == set()
    assert compare(ours, theirs).names() == {(16, "bucket")}
    found = compare(ours, theirs[1:])
    assert found.names() == {(8, "only_ours"), (16, "bucket")}
    assert found.only({(8, "only_ours")}).fields == []
    assert compare(entries(), entries()).names() == set()
