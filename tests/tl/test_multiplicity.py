"""Tests along a hierarchy: by hand, without a tree, and the error rate by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cytoclust.tl.multiplicity import benjamini_hochberg, simes, tree_adjusted


def test_without_inner_nodes_it_is_benjamini_hochberg() -> None:
    p = np.random.default_rng(0).uniform(size=30) ** 2
    found = tree_adjusted(p, [-1] * 30)
    expected = benjamini_hochberg(p)
    assert (found >= expected).all()
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_a_branch_by_hand() -> None:
    """Two lineages; in the first, its own test and two children."""
    p = np.array([0.5, 0.9, 0.001, 0.8, 0.7])  # roots 0 and 1; 2 and 3 below 0, 4 below 1
    parents = [-1, -1, 0, 0, 1]
    group = simes(np.array([0.5, 0.001, 0.8])), simes(np.array([0.9, 0.7]))
    root = benjamini_hochberg(np.array(group))
    assert root[0] == pytest.approx(0.006)
    # level q needs root[0] <= q, then 0.001 * 3 <= q * 1/2 while one of two roots is rejected
    assert tree_adjusted(p, parents)[2] == pytest.approx(0.006, rel=0.01)
    assert tree_adjusted(p, parents)[3] > 0.5


def test_missing_tests_stay_missing() -> None:
    found = tree_adjusted(np.array([np.nan, 0.001, np.nan]), [-1, 0, 0])
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] < 0.01


def test_false_discoveries_are_controlled() -> None:
    rng = np.random.default_rng(1)
    parents = [-1] * 4 + list(np.repeat(np.arange(4), 6))
    rates = []
    for _ in range(300):
        z = rng.normal(size=28)
        z[4:8] += 3.5  # four children of the first root
        p = 2 * stats.norm.sf(np.abs(z))
        hit = tree_adjusted(p, parents) <= 0.05
        null = np.ones(28, dtype=bool)
        null[4:8] = False
        rates.append((hit & null).sum() / max(hit.sum(), 1))
    assert np.mean(rates) < 0.07
