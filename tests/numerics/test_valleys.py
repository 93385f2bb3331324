"""Histograms of one marker, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoclust.numerics.valleys import N_BINS, concave_majorant, count_values, upper_hull


@given(
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([0.0, 0.25, 3.0]),
)
def test_counts_are_those_of_numpy_bit_for_bit(n: int, seed: int, dtype: str, grid: float) -> None:
    values = np.random.default_rng(seed).normal(0, 2, n)
    if grid:
        values = np.round(values / grid) * grid  # ties, also on the edges of bins
    values = values.astype(dtype)
    data = values.astype(np.float64)
    low, high = np.quantile(data, [2e-4, 1 - 2e-4])
    high = max(high, np.sort(data)[max(n - 10, 0)])
    margin = 0.02 * (high - low) if high > low else 0.5
    counts, edges = np.histogram(data, bins=N_BINS, range=(low - margin, high + margin))
    found = count_values(values)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_array_equal(found.centers, (edges[:-1] + edges[1:]) / 2)


def test_given_limits_include_the_last_edge_and_leave_out_what_lies_beyond() -> None:
    found = count_values(np.array([-1.0, 0.0, 0.5, 4.0, 4.1]), limits=(0.0, 4.0))
    assert found.n_events == 3
    assert found.counts[[0, 50, -1]].tolist() == [1, 1, 1]


def test_values_that_are_not_finite_are_not_counted() -> None:
    assert count_values(np.array([np.nan, np.inf, -np.inf, 1.0], dtype=np.float32)).n_events == 1
    assert count_values(np.array([np.nan])).n_events == 0


@pytest.mark.parametrize("kernel", [upper_hull, upper_hull.py_func])
def test_hull_has_the_corners_that_no_chord_passes_above(kernel) -> None:
    x, y = np.arange(6.0), np.array([0.0, 3.0, 1.0, 4.0, 4.5, 0.0])
    assert kernel(x, y).tolist() == [0, 1, 4, 5]
    majorant, corners = concave_majorant(x, y)
    assert (majorant >= y).all()
    assert (np.diff(majorant, 2) <= 1e-12).all()
    np.testing.assert_array_equal(majorant[corners], y[corners])
