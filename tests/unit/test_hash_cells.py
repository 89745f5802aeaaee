"""The hash as cells: each bucket in one of them, and the worst of each can be named."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.analysis.hash_cells import by_length, cells


@pytest.mark.parametrize("buckets", [1, 2, 7, 63, 64, 65, 512, 1000, 65_536, 1_000_003])
def test_each_bucket_is_in_one_cell(buckets):
    lengths = np.random.default_rng(buckets).poisson(1.5, buckets).astype(np.uint16)
    found = cells(lengths, 8, 64)
    assert found.columns == 64 and len(found.first) == min(512, buckets)
    assert found.first[0] == 0 and int(found.width.sum()) == buckets
    assert (found.first[1:] == (found.first + found.width)[:-1]).all()
    assert found.width.max() - found.width.min() <= 1 <= found.width.min()
    assert int(found.nodes.sum()) == int(lengths.sum())
    for at, (first, width) in enumerate(zip(found.first, found.width, strict=True)):
        part = lengths[first : first + width]
        assert (found.longest[at], found.worst[at], found.nodes[at]) == (part.max(), first + part.argmax(), part.sum())


def test_the_longest_of_all_is_the_worst_of_its_cell():
    lengths = np.zeros(1000, np.uint16)
    lengths[[700, 701]] = 600
    found = cells(lengths, 1, 10)
    assert found.longest.tolist() == [0, 0, 0, 0, 0, 0, 0, 600, 0, 0] and found.worst[7] == 700 and found.nodes[7] == 1200


def test_chains_by_length_beside_those_of_a_perfect_hash():
    found = by_length(np.array([0, 0, 1, 3], np.uint16))
    assert [(one.nodes, one.buckets) for one in found] == [(0, 2), (1, 1), (2, 0), (3, 1)]
    assert [round(one.perfect, 3) for one in found] == [1.472, 1.472, 0.736, 0.245]
    assert by_length(np.zeros(3, np.uint16)) == [(0, 3, 3.0)]
