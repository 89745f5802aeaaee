"""The hash as a picture: a few hundred cells, each a stretch of buckets, whatever the number of buckets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctobserve.analysis.poisson import buckets_by_nodes, pmf
from ctobserve.model import NDArray


class Cells(NamedTuple):
    """Row after row, in the order of buckets; each array of shape (cells,), which are fewer than rows * columns of few buckets.

    Cell i stands for buckets first[i] to first[i] + width[i] - 1: together all, each once, and no two widths differ by more
    than one. `longest` is the number of nodes in its longest chain, `worst` the first bucket with such a chain, `nodes` are
    those of all its chains.
    """

    columns: int
    first: NDArray[np.int64]
    width: NDArray[np.int64]
    longest: NDArray[np.int64]
    worst: NDArray[np.int64]
    nodes: NDArray[np.int64]


class ChainCount(NamedTuple):
    """So many buckets have chains of so many nodes; a perfect hash would make `perfect` of them (Poisson)."""

    nodes: int
    buckets: int
    perfect: float


def cells(lengths: NDArray[np.uint16], rows: int, columns: int) -> Cells:
    """Of the lengths of all chains, at least one, shape (buckets,)."""
    buckets = len(lengths)
    count = min(rows * columns, buckets)
    usual, more = divmod(buckets, count)
    at = np.arange(count)
    first = at * usual + np.minimum(at, more)
    width = np.full(count, usual)
    width[:more] += 1
    # Cells of one width are the rows of an array, without a copy of millions of lengths.
    wider, others = np.split(lengths, [more * (usual + 1)])
    rows_of = wider.reshape(more, usual + 1), others.reshape(count - more, usual)
    worst = first + np.concatenate([part.argmax(axis=1) for part in rows_of])
    nodes = np.concatenate([part.sum(axis=1, dtype=np.int64) for part in rows_of])
    return Cells(columns, first, width, lengths[worst].astype(np.int64), worst, nodes)


def by_length(lengths: NDArray[np.uint16]) -> list[ChainCount]:
    """From empty buckets to the longest chain, each number of nodes once."""
    counts = buckets_by_nodes(lengths)
    buckets = len(lengths)
    load = int((counts * np.arange(len(counts))).sum()) / buckets
    return [ChainCount(nodes, int(count), buckets * pmf(nodes, load)) for nodes, count in enumerate(counts)]
