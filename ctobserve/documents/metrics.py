"""What is exported, as data: numbers of one instant, by network namespace and of the whole host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.lookup import lookup
from ctobserve.capture.table import Lengths

# Nodes; at 50 (KERNEL_LIMIT) the kernel may begin to refuse.
BOUNDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 49, 64, 128, 256)


@dataclass(frozen=True)
class NetnsMetrics:
    """Of one network namespace, or of all that have no series of their own; None is what could not be read, or nobody."""

    netns: str
    entries: int | None
    limit: int | None
    inserts: int
    destroys: Mapping[str, int]
    drops: Mapping[str, int]
    early_drops: int
    clashes_resolved: int
    owner: str | None = None


@dataclass(frozen=True)
class ChainMetrics:
    """The chains of the hash as a pass found them; times in seconds, `at` since 1970.

    `at_most`: for each of BOUNDS how many buckets have no more nodes. `cost` is the mean of nodes that the look-up of a live
    entry visits, None without entries.
    """

    at: float
    took: float
    buckets: int
    nodes: int
    at_most: tuple[int, ...]
    longest: int
    cost: float | None


@dataclass(frozen=True)
class Metrics:
    """All of them. `attach` is None where nothing is counted now, `records_lost` where no recorder runs here.

    `unaccounted`: by the kernel's counter how much more it moved than what was counted explains. `verified` is when the two were
    last found equal, seconds since 1970; None: never yet.
    """

    version: str
    kernel: str
    machine: str
    attach: str | None
    buckets: int | None
    spaces: tuple[NetnsMetrics, ...]
    chains: ChainMetrics | None
    missed: int
    records_lost: int | None
    unaccounted: Mapping[str, int]
    verified: float | None


def chains_of(lengths: Lengths, at: float, took: float) -> ChainMetrics:
    """Of the lengths of all chains."""
    found = lookup(lengths.of_bucket)
    counts = np.bincount(lengths.of_bucket, minlength=BOUNDS[-1] + 1)
    return ChainMetrics(
        at=at,
        took=took,
        buckets=found.buckets,
        nodes=lengths.nodes,
        at_most=tuple(np.cumsum(counts)[list(BOUNDS)].tolist()),
        longest=found.worst,
        cost=found.known_mean,
    )
