"""Are chain lengths those of a hash that spreads well? Two tests against the Poisson distribution, without SciPy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ctobserve.model import NDArray

LEAST_CHANCE = 1e-300  # below it floating point has no room for all digits, or any
LEAST_EXPECTED = 5.0  # buckets per class: below it chi-square is no good approximation
STRETCH = 1 << 18  # buckets counted at once


class Fit(NamedTuple):
    """`dispersion` is variance over mean, 1 for a perfect hash; `chi_square_p` and `max_chain_p` are the chances to see as much.

    `mean_visited` is how many nodes a lookup of an entry that is there visits, averaged over the nodes; `expected_visited` the
    same for a perfect hash.
    """

    dispersion: float
    chi_square_p: float
    max_chain_p: float
    mean_visited: float
    expected_visited: float


def buckets_by_nodes(lengths: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How many of these buckets have so many nodes, shape (longest chain + 1,).

    A stretch at a time: to count them NumPy makes eight bytes of each length, and a table may have millions of buckets.
    """
    longest = int(lengths.max(initial=0))
    counts = np.zeros(longest + 1, np.int64)
    for first in range(0, len(lengths), STRETCH):
        counts += np.bincount(lengths[first : first + STRETCH], minlength=longest + 1)
    return counts


def fit(lengths: NDArray[np.uint16]) -> Fit | None:
    """Of the lengths of all chains; None when there are no nodes."""
    counts = buckets_by_nodes(lengths)
    nodes, buckets = int((counts * np.arange(len(counts))).sum()), len(lengths)
    if not nodes:
        return None
    mean = nodes / buckets
    sizes = np.arange(len(counts), dtype=np.float64)
    squares = float((counts * sizes**2).sum())
    expected = np.array([buckets * pmf(length, mean) for length in range(len(counts))])
    return Fit(
        dispersion=(squares / buckets - mean**2) / mean,
        chi_square_p=_chi_square(counts.astype(np.float64), expected, buckets),
        max_chain_p=min(1.0, buckets * tail(len(counts) - 1, mean)),
        mean_visited=(squares / nodes + 1) / 2,
        expected_visited=1 + mean / 2,
    )


def pmf(k: float, mean: float) -> float:
    """Probability of k nodes in a bucket; between whole numbers as the gamma function goes on."""
    return math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) if mean else float(k == 0)


def tail(k: int, mean: float) -> float:
    """Probability of k or more."""
    if k <= mean:
        return max(0.0, 1 - math.fsum(pmf(i, mean) for i in range(k)))
    terms: list[float] = []
    at = k
    while not terms or terms[-1] > terms[0] * 1e-17:
        terms.append(pmf(at, mean))
        if terms[-1] == 0:
            break
        at += 1
    return math.fsum(terms)


def _chi_square(seen: NDArray[np.float64], expected: NDArray[np.float64], buckets: int) -> float:
    """Classes with too few expected buckets are joined with their neighbours, and what lies beyond the longest with the last."""
    expected = expected.copy()
    expected[-1] += max(0.0, buckets - expected.sum())
    joined: list[list[float]] = [[0.0, 0.0]]
    for observed, wanted in zip(seen, expected, strict=True):
        joined[-1][0] += observed
        joined[-1][1] += wanted
        if joined[-1][1] >= LEAST_EXPECTED:
            joined.append([0.0, 0.0])
    rest = joined.pop()
    if joined:
        joined[-1] = [joined[-1][0] + rest[0], joined[-1][1] + rest[1]]
    free = len(joined) - 2  # one for the sum, one for the mean that was estimated
    if free < 1:
        return 1.0
    return _upper(sum((observed - wanted) ** 2 / wanted for observed, wanted in joined), free)


def _upper(chi_square: float, free: int) -> float:
    """Chance of a larger chi-square, exact for whole degrees of freedom (Abramowitz and Stegun 26.4.4 and 26.4.5).

    All terms are positive, and each is made from logarithms: nothing cancels, and all digits count down to LEAST_CHANCE.
    """
    half = chi_square / 2
    first = math.erfc(math.sqrt(half)) if free % 2 else 0.0
    return min(1.0, first + math.fsum(pmf(twice / 2, half) for twice in range(free % 2, free, 2)))
