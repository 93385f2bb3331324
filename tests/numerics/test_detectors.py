"""Where detectors end, from all events at once or block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoclust.numerics.detectors import (
    join_ends,
    observe_end,
    pile_at_end,
    pile_up,
    upper_end,
    upper_limit,
)


def test_declared_range_is_the_limit() -> None:
    values = np.append(np.random.default_rng(0).uniform(0, 1e5, 1000), 262143.0).astype(np.float32)
    limit = upper_limit(values, 262144.0)
    assert limit.value == 262143.0
    assert limit.reason == "declared range"


def test_range_that_events_exceed_is_not_believed() -> None:
    values = np.random.default_rng(0).uniform(0, 1e5, 1000).astype(np.float32)
    limit = upper_limit(values, 1024.0)
    assert np.isnan(limit.value)
    assert "exceed the declared range" in limit.reason


def test_pile_below_the_declared_range_is_the_limit() -> None:
    values = np.minimum(np.random.default_rng(0).lognormal(10, 1, 5000), 1e5).astype(np.float32)
    assert upper_limit(values, 262144.0).value == np.float32(1e5)
    assert upper_limit(values, np.nan).reason == "pile-up of events"


def test_pile_at_the_lower_end() -> None:
    values = np.maximum(np.random.default_rng(0).normal(100, 50, 5000), 0).astype(np.float32)
    assert pile_at_end(values, lower=True).value == 0.0


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).poisson(3, 5000),
        np.random.default_rng(0).integers(0, 1024, 5000),
        np.random.default_rng(0).normal(0, 1, 5000),
        np.ones(100),
        np.zeros(0),
        np.full(10, np.nan),
    ],
)
def test_no_pile_without_saturation(values: np.ndarray) -> None:
    assert np.isnan(pile_at_end(values.astype(np.float32)).value)


@given(
    seed=st.integers(0, 1000),
    cuts=st.sets(st.integers(0, 3000), max_size=6),
    saturated=st.integers(0, 300),
    lower=st.booleans(),
)
def test_blocks_show_what_all_events_show(
    seed: int, cuts: set[int], saturated: int, *, lower: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 400, 3000).astype(np.float32)
    values[rng.integers(0, 3000, saturated)] = np.float32(-1 if lower else 500)
    values[rng.integers(0, 3000, 20)] = np.nan
    parts = np.split(values, sorted(cuts))
    whole = observe_end(values, 450.0, lower=lower)
    joined = join_ends([observe_end(part, 450.0, lower=lower) for part in parts])
    np.testing.assert_array_equal(joined.below, whole.below)
    assert (joined.n_events, joined.n_finite, joined.n_beyond, joined.ties) == (
        whole.n_events, whole.n_finite, whole.n_beyond, whole.ties,
    )  # fmt: skip
    assert repr(pile_up(joined, lower=lower)) == repr(pile_up(whole, lower=lower))
    assert repr(upper_end(joined, 450.0)) == repr(upper_end(whole, 450.0))


def test_the_nearest_values_are_those_of_a_full_sort() -> None:
    values = np.random.default_rng(0).lognormal(8, 1, 100_000).astype(np.float32)
    values[:2000] = values.max()
    end = observe_end(values)
    expected = np.sort(values[values < values.max()])[-1000:]
    np.testing.assert_array_equal(end.below, expected)
    assert end.ties == np.count_nonzero(values == values.max())
