"""The chains of the hash as two pictures: how many are how long beside those of a perfect hash, and where the long ones are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctobserve.analysis.hash_cells import by_length, cells
from ctobserve.analysis.lookup import KERNEL_LIMIT, verdict
from ctobserve.capture.table import Lengths
from ctobserve.documents.base import doc
from ctobserve.model import NDArray

ROWS, COLUMNS = 16, 64


@dataclass(frozen=True)
class HashCells:
    """The buckets in their order, divided into cells: rows of `columns`, from left to right and down.

    Each list has a number for each cell. Of B buckets in N cells the first B mod N have B div N + 1, the others one less.
    """

    columns: int = doc("cells in a row")
    longest: tuple[int, ...] = doc("nodes in the longest chain of each cell: as many buckets, give or take one, in order")
    worst: tuple[int, ...] = doc("the bucket of that chain")
    nodes: tuple[int, ...] = doc("nodes in all chains of each cell")


@dataclass(frozen=True)
class ChainsPicture:
    """The hash, which all network namespaces share, as it is drawn."""

    buckets: int = doc("size of the hash")
    nodes: int = doc("in all chains: an entry has one per direction")
    load_factor: float = doc("nodes per bucket")
    max_chain: int = doc("nodes in the longest chain")
    chain_limit_from: int | None = doc("from so many nodes on the kernel may refuse new entries; null: it never does")
    verdict: str = doc("the spread in one sentence")
    histogram: Mapping[str, int] = doc("nodes -> buckets with so many")
    expected: Mapping[str, float] = doc("the same as a perfect hash would give it")
    cells: HashCells = doc("the hash as a picture")


def cells_of(lengths: NDArray[Any]) -> HashCells:
    """Of the lengths of all chains."""
    found = cells(lengths, ROWS, COLUMNS)
    return HashCells(found.columns, *(tuple(column.tolist()) for column in (found.longest, found.worst, found.nodes)))


def picture_of(lengths: Lengths, limits_chains: bool | None) -> ChainsPicture:
    """Of all chains; `limits_chains` as in Host."""
    counts, buckets = by_length(lengths.of_bucket), len(lengths.of_bucket)
    return ChainsPicture(
        buckets=buckets,
        nodes=lengths.nodes,
        load_factor=lengths.nodes / buckets,
        max_chain=counts[-1].nodes,
        chain_limit_from=KERNEL_LIMIT if limits_chains else None,
        verdict=verdict(lengths.of_bucket),
        histogram={str(one.nodes): one.buckets for one in counts},
        expected={str(one.nodes): round(one.perfect, 3) for one in counts},
        cells=cells_of(lengths.of_bucket),
    )
