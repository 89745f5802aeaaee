"""What does a lookup cost with these chains, and what would another number of buckets make of it?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctobserve.analysis.hash_cells import cells
from ctobserve.analysis.poisson import Fit, buckets_by_nodes, fit, tail
from ctobserve.model import NDArray

# Nodes. Kernels since 5.15 refuse an entry whose chain has at least 50 or 52 nodes plus a random number; older ones none.
KERNEL_LIMIT = 50
IMPROBABLE = 1e-6  # chance under which a perfect hash is not believed: once in years of daily reports
UNEQUAL = 1.2  # variance over mean, 1 for a perfect hash: less costs nobody anything
PARTS = 64


class Lookup(NamedTuple):
    """Nodes that a lookup visits: of a known tuple and of a new one, in the mean and at worst. Mean None without nodes."""

    buckets: int
    load_factor: float
    known_mean: float | None
    new_mean: float
    worst: int


def lookup(lengths: NDArray[np.uint16]) -> Lookup:
    """With the chains as they are (nf_conntrack_find_get: from the head of a chain to the node, or to its end)."""
    counts, buckets = buckets_by_nodes(lengths), len(lengths)
    sizes = np.arange(len(counts))
    nodes = int((counts * sizes).sum())
    visited = int((counts * (sizes * (sizes + 1) // 2)).sum())
    return Lookup(buckets, nodes / buckets, visited / nodes if nodes else None, nodes / buckets, len(counts) - 1)


def what_if(nodes: int, buckets: int) -> Lookup:
    """With so many buckets and a hash that spreads well; `worst` is the longest chain to be expected in one of all buckets."""
    mean = nodes / buckets
    worst = int(mean)  # about half of all chains are as long
    while nodes and buckets * tail(worst + 1, mean) >= 1:
        worst += 1
    return Lookup(buckets, mean, 1 + mean / 2 if nodes else None, mean, worst)


def choices(nodes: int, buckets: int) -> list[Lookup]:
    """Half, twice and four times the present number of buckets."""
    return [what_if(nodes, max(1, int(buckets * factor))) for factor in (0.5, 2, 4)]


def uneven(found: Fit) -> bool:
    """Whether chance is no explanation, and the difference large enough to cost something."""
    return found.dispersion >= UNEQUAL and min(found.chi_square_p, found.max_chain_p) <= IMPROBABLE


def verdict(lengths: NDArray[np.uint16]) -> str:
    """The spread in one sentence."""
    found = fit(lengths)
    if found is None:
        return "no entries: nothing to spread"
    numbers = f"variance/mean {found.dispersion:.2f}, chi-square p {found.chi_square_p:.2g}"
    if uneven(found):
        return f"uneven: a lookup visits {found.mean_visited:.2f} nodes, not {found.expected_visited:.2f}; {numbers}"
    return f"even, as by a perfect hash: {numbers}, longest chain p {found.max_chain_p:.2g}"


def longest_by_part(lengths: NDArray[np.uint16], parts: int = PARTS) -> list[int]:
    """The longest chain in each of so many equal parts of the table, in the order of buckets."""
    return [int(longest) for longest in cells(lengths, 1, parts).longest]
