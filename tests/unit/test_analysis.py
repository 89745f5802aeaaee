from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from ctobserve.analysis import poisson
from ctobserve.analysis.buckets import Distribution, distribution
from ctobserve.analysis.chains import with_chains
from ctobserve.analysis.drops import balance
from ctobserve.analysis.lookup import what_if
from ctobserve.analysis.verify import compare
from ctobserve.capture.records import RecordKind, entries_of
from ctobserve.capture.table import in_bucket, lengths_of
from ctobserve.model import UNKNOWN_BUCKET, UNKNOWN_CHAIN
from tests.unit.samples import record, records

# Chances of a larger chi-square: mpmath 1.4.1, gammainc(df / 2, x / 2, inf, regularized=True) to 50 digits; SciPy 1's chi2.sf
# agrees to 13. Below 1e-300 they stand as 0.
CHI_SQUARES = (0.01, 1, 3.84, 10, 40, 100, 300, 700, 1200, 2000)
CHANCES = {
    1: (
        0.920344325446,
        0.317310507863,
        5.00435212487e-2,
        1.565402258e-3,
        2.53962858947e-10,
        1.52397060483e-23,
        3.29436238331e-67,
        2.99022697512e-154,
        6.09956881481e-263,
        0,
    ),
    2: (
        0.995012479193,
        0.606530659713,
        0.14660696213,
        6.73794699909e-3,
        2.06115362244e-9,
        1.92874984796e-22,
        7.17509597316e-66,
        9.92959039626e-153,
        2.650396553e-261,
        0,
    ),
    3: (
        0.999734834941,
        0.801251956901,
        0.279267617119,
        1.8566135463e-2,
        1.06550903343e-8,
        1.55415943139e-21,
        9.94875834633e-65,
        2.09913085342e-151,
        7.33167159155e-260,
        0,
    ),
    4: (
        0.999987541589,
        0.909795989569,
        0.428092329421,
        4.04276819945e-2,
        4.32842260712e-8,
        9.83662422462e-21,
        1.08343949195e-63,
        3.48528622909e-150,
        1.59288832836e-258,
        0,
    ),
    5: (
        0.999999469973,
        0.962565773247,
        0.572674459832,
        7.52352461465e-2,
        1.49336790005e-7,
        5.28514836094e-20,
        1.0015302306e-62,
        4.91198610357e-149,
        2.93756048069e-257,
        0,
    ),
    8: (
        0.999999999974,
        0.998248377444,
        0.871262891682,
        0.265025915297,
        3.20371978048e-6,
        4.26915920514e-18,
        4.1177947541e-60,
        7.1566870738e-146,
        9.5892940176e-254,
        0,
    ),
    13: (
        1.0,
        0.999996165265,
        0.992777278558,
        0.693934367981,
        1.38235485612e-4,
        1.65902608071e-15,
        2.40558563737e-56,
        3.44306269971e-141,
        1.76976635732e-248,
        0,
    ),
    20: (
        1.0,
        0.999999999829,
        0.999966795316,
        0.968171942694,
        4.99541230831e-3,
        1.25960845917e-12,
        8.08284962978e-52,
        2.21340534042e-135,
        7.47242725734e-242,
        0,
    ),
    31: (
        1.0,
        1.0,
        0.999999999214,
        0.999874118477,
        0.129040349129,
        3.46437024494e-9,
        8.47481086488e-46,
        2.39553416415e-127,
        1.5569494204e-232,
        0,
    ),
    50: (
        1.0,
        1.0,
        1.0,
        0.99999999984,
        0.843227378174,
        3.45493138298e-5,
        2.31413641651e-37,
        1.96160584659e-115,
        2.10830123036e-218,
        0,
    ),
    77: (1.0, 1.0, 1.0, 1.0, 0.999845888134, 4.02244611647e-2, 4.52619101514e-28, 3.3215083729e-101, 5.06710709972e-201, 0),
    100: (1.0, 1.0, 1.0, 1.0, 0.999999987541, 0.481191684528, 7.41210085732e-22, 8.65823086132e-91, 6.39068038368e-188, 0),
    151: (1.0, 1.0, 1.0, 1.0, 1.0, 0.999535710522, 6.47205562411e-12, 1.50372215744e-71, 9.92392846405e-163, 0),
    200: (1.0, 1.0, 1.0, 1.0, 1.0, 0.99999999968, 5.92454033548e-6, 1.07990089573e-56, 3.70189475019e-142, 6.03582752963e-294),
}
# Of k or more in a Poisson distribution of this mean: mpmath, gammainc(k, 0, mean, regularized=True).
TAILS = {
    (3, 2): 0.3233235838169,
    (60, 2): 1.938678163061e-65,
    (12, 0.01): 2.068494040293e-33,
    (40, 0.001): 1.224422298235e-168,
    (500, 400): 8.109381078799e-7,
    (1000, 1200): 0.9999999987118,
    (1200, 1000): 4.684203855872e-10,
    (30500, 30000): 0.002008163838711,
}


def entries(*buckets: tuple[int, int]):
    return entries_of(records(*(record(RecordKind.WALK, 8 * i, bucket=pair) for i, pair in enumerate(buckets, 1))))


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


@pytest.mark.parametrize("free", CHANCES)
def test_the_tail_of_chi_square_is_the_one_of_the_tables(free):
    for chi_square, chance in zip(CHI_SQUARES, CHANCES[free], strict=True):
        assert poisson._upper(chi_square, free) == pytest.approx(chance, rel=1e-9, abs=1e-300)


def test_the_tail_of_chi_square_is_a_chance_for_all_degrees():
    """Falls with the value, rises with the degrees, and with two more of them by exactly the term between them."""
    for free in range(1, 201):
        found = [poisson._upper(chi_square, free) for chi_square in range(0, 2001, 25)]
        more = [poisson._upper(chi_square, free + 2) for chi_square in range(0, 2001, 25)]
        assert found[0] == 1 and min(found) >= 0
        assert all(after <= before * (1 + 1e-12) for before, after in pairwise(found))
        terms = [poisson.pmf(free / 2, chi_square / 2) for chi_square in range(0, 2001, 25)]
        assert more == pytest.approx([low + term for low, term in zip(found, terms, strict=True)], rel=1e-9)
    assert poisson._upper(1e9, 3) == 0 and poisson._upper(1e5, 200_000) == 1


@pytest.mark.parametrize("at", TAILS)
def test_the_tail_of_poisson_is_the_one_of_the_tables(at):
    assert poisson.tail(*at) == pytest.approx(TAILS[at], rel=1e-10)


def test_the_longest_chain_to_be_expected_of_very_few_buckets():
    assert what_if(4, 1).worst >= 4
    assert what_if(4_000_000, 512).worst == pytest.approx(7812.5 + 3 * 88, abs=30)
    assert [what_if(nodes, 4096).worst for nodes in (0, 1, 4096, 40_960)] == [0, 0, 6, 23]
