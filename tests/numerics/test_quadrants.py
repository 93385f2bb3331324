"""Cuts of one marker on both sides of another."""

from __future__ import annotations

import numpy as np
import pytest

from cytoclust.numerics.mixtures import Baseline, count_values, split_marker
from cytoclust.numerics.quadrants import split_sides
from cytoclust.numerics.references import Reference

LEVELS = Baseline(0.0, 6.0)


def drawn(
    groups: list[tuple[int, float, float, bool]], *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values and side of normal groups (events, mean, spread, upper side)."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(mean, sd, n) for n, mean, sd, _ in groups])
    return values, np.repeat([g[3] for g in groups], [g[0] for g in groups])


@pytest.mark.parametrize("seed", range(4))
def test_dim_positives_on_one_side_get_the_cut_between_them_and_their_negatives(seed: int) -> None:
    # equal normals are parted best in their middle: 1.5 on one side, 3.5 on the other
    values, upper = drawn(
        [(3000, 0, 0.5, False), (900, 3, 0.5, False), (5000, 1, 0.5, True), (5000, 6, 0.5, True)],
        seed=seed,
    )
    pooled = split_marker(count_values(values), baseline=LEVELS, expected=True)
    assert pooled.cut > 3.5, "the deepest valley of all events lies above the dim positives"
    low, high = split_sides(values, upper, pooled=pooled, reference=Reference(), baseline=LEVELS)
    assert low.cut == pytest.approx(1.5, abs=0.4)
    assert high.cut == pytest.approx(3.5, abs=0.6)
    dim = slice(3000, 3900)
    assert np.mean(values[dim] > low.cut) > 0.97 > np.mean(values[dim] > pooled.cut) + 0.5


def test_a_side_without_a_dent_keeps_the_pooled_cut() -> None:
    values, upper = drawn(
        [(3000, 0, 0.5, False), (3000, 0, 0.5, True), (3000, 6, 0.5, True)], seed=1
    )
    pooled = split_marker(count_values(values), baseline=LEVELS, expected=True)
    low, _ = split_sides(values, upper, pooled=pooled, reference=Reference(), baseline=LEVELS)
    assert low is pooled


def test_an_empty_side_keeps_the_pooled_cut() -> None:
    values, _ = drawn([(3000, 0, 0.5, True), (3000, 6, 0.5, True)], seed=2)
    upper = np.ones(len(values), dtype=bool)
    pooled = split_marker(count_values(values), baseline=LEVELS, expected=True)
    low, high = split_sides(values, upper, pooled=pooled, reference=Reference(), baseline=LEVELS)
    assert low is pooled
    assert high.cut == pytest.approx(3.0, abs=0.6)
