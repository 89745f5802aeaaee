"""How are the entries spread over the hash buckets?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ctobserve.model import UNKNOWN_BUCKET, Entries


@dataclass(frozen=True)
class Chain:
    """One bucket, its number of nodes, and the entries that have a node in it."""

    bucket: int
    length: int
    entries: Entries


@dataclass(frozen=True)
class Distribution:
    """Chain lengths over all buckets. `nodes` counts an entry once per direction in the table.

    `histogram[k]` = buckets with k nodes; `expected[k]` = how many a perfect hash would give (Poisson at this load factor).
    """

    buckets: int
    entries: int
    nodes: int
    histogram: dict[int, int]
    expected: dict[int, float]
    longest: list[Chain]

    @property
    def load_factor(self) -> float:
        """Nodes per bucket."""
        return self.nodes / self.buckets

    @property
    def max_chain(self) -> int:
        """Nodes in the longest chain."""
        return max(self.histogram)


def distribution(entries: Entries, buckets: int, limit: int) -> Distribution:
    """Of all these entries, with the `limit` longest chains; `entries` must be whole tables, the hash is shared by all netns."""
    numbers = entries["bucket"].ravel()
    numbers = numbers[numbers != UNKNOWN_BUCKET]
    lengths = np.bincount(numbers, minlength=buckets)
    counts = np.bincount(lengths)
    top = np.argsort(-lengths, kind="stable")[:limit]
    longest = [
        Chain(int(bucket), int(lengths[bucket]), entries[(entries["bucket"] == bucket).any(axis=1)])
        for bucket in top
        if lengths[bucket]
    ]
    load = len(numbers) / buckets
    return Distribution(
        buckets,
        len(entries),
        len(numbers),
        {length: int(n) for length, n in enumerate(counts)},
        {length: buckets * _poisson(length, load) for length in range(len(counts))},
        longest,
    )


def with_chains(entries: Entries, all_entries: Entries, buckets: int) -> Entries:
    """These entries with the chain lengths of their buckets filled in, counted over the whole table."""
    numbers = all_entries["bucket"].ravel()
    lengths = np.bincount(numbers[numbers != UNKNOWN_BUCKET], minlength=buckets)
    filled = entries.copy()
    known = filled["bucket"] != UNKNOWN_BUCKET
    filled["chain"][known] = lengths[filled["bucket"][known]]
    return filled


def _poisson(k: int, mean: float) -> float:
    return math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) if mean else float(k == 0)
