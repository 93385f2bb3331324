"""Valleys of a density."""

from __future__ import annotations

import numpy as np
import pytest

from cytoclust.numerics.density import find_valleys


@pytest.mark.parametrize("n", [50, 500, 50_000])
@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential", "lognormal"])
def test_one_population_has_no_valley(n: int, draw: str) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = {
            "normal": rng.normal(0, 1, n),
            "uniform": rng.uniform(0, 4, n),
            "exponential": rng.exponential(1, n),
            "lognormal": rng.lognormal(0, 0.5, n),
        }[draw]
        assert find_valleys(values, 0.2) == []


def test_three_populations_have_two_valleys_in_order() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.normal(0, 1, 3000), rng.normal(8, 1, 500), rng.normal(16, 1, 1000)]
    )
    first, second = find_valleys(values, 0.4)
    assert 2.5 < first.cut < 6
    assert 10.5 < second.cut < 13.5
    assert first.left < first.cut < first.right
    assert first.share_below == pytest.approx(3000 / 4500, abs=0.01)
    assert second.share_above == pytest.approx(1000 / 4500, abs=0.01)
    assert first.depth < 0.1


def test_order_of_events_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 1, 900), rng.normal(6, 1, 300)])
    assert find_valleys(values, 0.3) == find_valleys(rng.permutation(values), 0.3)


def test_shallow_dent_counts_only_if_asked_for() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1, 50_000), rng.normal(2.6, 1, 50_000)])
    assert find_valleys(values, 0.2, deepest=0.5) == []
    assert len(find_valleys(values, 0.2, deepest=0.9)) == 1


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(1), np.zeros(1000), np.arange(3.0)])
def test_nothing_to_see(values: np.ndarray) -> None:
    assert find_valleys(values, 0.2) == []
