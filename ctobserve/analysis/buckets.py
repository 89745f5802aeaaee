"""How are the entries spread over the hash buckets?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.hash_cells import by_length
from ctobserve.analysis.lookup import Lookup, choices, longest_by_part, lookup, verdict
from ctobserve.analysis.poisson import buckets_by_nodes
from ctobserve.capture.table import Lengths
from ctobserve.model import Entries, NDArray


class Chain(NamedTuple):
    """One bucket, its number of nodes, and the entries that have a node in it."""

    bucket: int
    length: int
    entries: Entries


class Distribution(NamedTuple):
    """Chain lengths over all buckets. `nodes` counts an entry once per direction in the table.

    `histogram[k]` = buckets with k nodes; `expected[k]` = how many a perfect hash would give (Poisson at this load factor).
    """

    buckets: int
    entries: int
    nodes: int
    histogram: dict[int, int]
    expected: dict[int, float]
    longest: list[Chain]
    verdict: str
    lookup: Lookup
    what_if: list[Lookup]
    longest_by_part: list[int]

    @property
    def load_factor(self) -> float:
        """Nodes per bucket."""
        return self.nodes / self.buckets

    @property
    def max_chain(self) -> int:
        """Nodes in the longest chain."""
        return max(self.histogram)


def distribution(lengths: Lengths, limit: int, entries_in: Callable[[int], Entries]) -> Distribution:
    """Of all chains, which all namespaces share; `entries_in` is asked who is in each of the `limit` longest."""
    buckets, nodes = len(lengths.of_bucket), lengths.nodes
    counts = by_length(lengths.of_bucket)
    longest = [Chain(bucket, int(lengths.of_bucket[bucket]), entries_in(bucket)) for bucket in _top(lengths.of_bucket, limit)]
    return Distribution(
        buckets,
        lengths.entries,
        nodes,
        {one.nodes: one.buckets for one in counts},
        {one.nodes: one.perfect for one in counts},
        longest,
        verdict(lengths.of_bucket),
        lookup(lengths.of_bucket),
        choices(nodes, buckets),
        longest_by_part(lengths.of_bucket),
    )


def _top(of_bucket: NDArray[np.uint16], limit: int) -> list[int]:
    """Buckets of the longest chains, longest first, the lowest number first among equals; no empty ones."""
    at_least = np.cumsum(buckets_by_nodes(of_bucket)[::-1])[::-1]  # buckets with so many nodes or more
    enough = int(np.count_nonzero(at_least >= limit)) - 1
    long = np.flatnonzero(of_bucket >= max(enough, 1))
    order = np.argsort(-of_bucket[long].astype(np.int32), kind="stable")[:limit]
    return [int(bucket) for bucket in long[order]]
