"""Chances of chains in a hash that spreads well."""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.poisson import fit, tail
from tests.unit.cases import long_chain
from tests.unit.tables import lengths


def test_poisson():
    assert abs(tail(0, 2.0) - 1) < 1e-12
    assert abs(tail(3, 2.0) - (1 - np.exp(-2) * 5)) < 1e-12
    assert 0 < tail(60, 2.0) < 1e-50
    for load in (100, 4096, 40_000):
        found = fit(lengths(load, seed=load).of_bucket)
        assert found.chi_square_p > 1e-3 and found.max_chain_p > 1e-3 and 0.9 < found.dispersion < 1.1
    assert fit(np.zeros(8, np.uint16)) is None
    assert fit(long_chain(40).of_bucket).max_chain_p < 1e-20
