"""arcsinh kernels against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cytoclust.errors import ArgumentError
from cytoclust.numerics import arcsinh as module
from cytoclust.numerics import arcsinh_kernels as kernels
from cytoclust.numerics.arcsinh import (
    arcsinh,
    compensate_arcsinh,
    inverse_arcsinh,
    unmixing_matrix,
)
from cytoclust.numerics.threads import thread_limit

TOLERANCE = 1e-6  # stated in the docstring; measured 4.2e-7


def wide_values(n: int = 40_000) -> np.ndarray:
    """Every order of magnitude of float32, both signs, and dense where the branches meet."""
    rng = np.random.default_rng(1)
    sizes = np.concatenate(
        [
            10 ** rng.uniform(-37.5, 38.5, n),
            150 * 10 ** rng.uniform(-2, 1, n),
            rng.uniform(74, 76, n),
            150 * rng.uniform(4090, 4100, n),
        ]
    )
    return (sizes * rng.choice([-1, 1], sizes.size)).astype(np.float32)


@pytest.mark.parametrize("cofactor", [1e-3, 0.5, 1.0, 5.0, 150.0, 3000.0])
def test_relative_error_over_the_whole_range(cofactor: float) -> None:
    values = wide_values()
    expected = np.arcsinh(values.astype(np.float64) / cofactor)
    normal = np.abs(expected) > np.finfo(np.float32).tiny  # below, float32 itself has fewer digits
    error = np.abs(arcsinh(values, cofactor) - expected)[normal] / np.abs(expected[normal])
    assert error.max() <= TOLERANCE
    assert normal.mean() > 0.9


def test_ieee_values() -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-45], np.float32)
    got = arcsinh(special, 150.0)
    expected = np.arcsinh(special.astype(np.float64) / 150).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got[1:7], expected[1:7], rtol=TOLERANCE)
    np.testing.assert_array_equal(np.signbit(got[1:]), np.signbit(special[1:]))


def test_interpreted_kernel_agrees_with_compiled() -> None:
    for value in (0.0, -3.0, 75.0, 1e9, -1e38):
        x, factor, offset = np.float32(value), np.float32(1 / 150), np.float32(np.log(2 / 150))
        with np.errstate(over="ignore"):  # the branch not taken may overflow
            interpreted = kernels._arcsinh_value.py_func(x, factor, offset)
        assert interpreted == pytest.approx(np.arcsinh(value / 150), rel=TOLERANCE)
    span = np.array([1.0, 2.0], np.float32)
    kernels._arcsinh_span.py_func(span, np.array([0, 0.5], np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(span, [1.0, np.arcsinh(1.0)], rtol=TOLERANCE)


def test_interpreted_tasks_agree_with_compiled() -> None:
    rng = np.random.default_rng(0)
    events = rng.normal(0, 500, (7, 3)).astype(np.float32)
    unmixing = unmixing_matrix([[1, 0.1], [0.2, 1]])
    expected = compensate_arcsinh(events, unmixing, [2, 0], cofactors=[150, np.nan, 5])
    factors, offsets = module._tiles(np.array([150, np.nan, 5]))
    got = np.empty_like(events)
    in_place = False
    columns = np.array([[2, 0, 1], [0, 1, 2]])
    kernels._copy_runs.py_func(events.ravel(), 3, got.ravel(), 3, columns, 7, 0)
    assert np.array_equal(got, events[:, [2, 0, 1]])
    compensated = events[:, [2, 0]].astype(float) @ unmixing
    np.testing.assert_allclose(expected[:, 2], np.arcsinh(compensated[:, 0] / 5), rtol=1e-5)
    np.testing.assert_allclose(expected[:, 0], np.arcsinh(compensated[:, 1] / 150), rtol=1e-5)
    assert np.array_equal(expected[:, 1], events[:, 1])
    flat = np.empty(events.size, np.float32)
    kernels.arcsinh_tasks.py_func(events.ravel(), flat, factors, offsets, in_place)
    np.testing.assert_allclose(
        flat.reshape(7, 3), arcsinh(events, [150, np.nan, 5]), rtol=TOLERANCE
    )
    back = np.empty_like(events)
    kernels.inverse_tasks.py_func(flat.reshape(7, 3), back, np.array([150, np.nan, 5]))
    np.testing.assert_allclose(back, events, rtol=1e-5)


def test_same_bits_on_any_thread_count_and_chunking() -> None:
    rng = np.random.default_rng(2)
    events = rng.normal(0, 3000, (20_011, 7)).astype(np.float32)
    widths = np.array([150, 5, np.nan, 900, 1, 300, 77.0])
    spillover = np.eye(5) + rng.uniform(0, 0.2, (5, 5)) * (1 - np.eye(5))
    unmixing = unmixing_matrix(spillover)
    columns = [6, 0, 3, 1, 5]
    whole = arcsinh(events, widths)
    fused = compensate_arcsinh(events, unmixing, columns, cofactors=widths)
    for n_jobs in (1, 2, 4):
        with thread_limit(n_jobs):
            np.testing.assert_array_equal(arcsinh(events, widths), whole)
            again = compensate_arcsinh(events, unmixing, columns, cofactors=widths)
            np.testing.assert_array_equal(again, fused)
    parts = [arcsinh(events[start : start + 777], widths) for start in range(0, 20_011, 777)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    parts = [
        compensate_arcsinh(events[start : start + 777], unmixing, columns, cofactors=widths)
        for start in range(0, 20_011, 777)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), fused)


@pytest.mark.parametrize(("n", "p"), [(20, 20), (12, 20), (45, 50)])
def test_chunks_of_whole_and_partial_blocks_have_the_same_bits(n: int, p: int) -> None:
    rng = np.random.default_rng(4)
    events = rng.normal(0, 3000, (1500, p)).astype(np.float32)
    unmixing = unmixing_matrix(np.eye(n) + rng.uniform(0, 0.05, (n, n)))
    columns = np.arange(p - n, p)
    whole = compensate_arcsinh(events, unmixing, columns, cofactors=150.0)
    parts = [
        compensate_arcsinh(events[start : start + 331], unmixing, columns, cofactors=150.0)
        for start in range(0, 1500, 331)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    linear = events.astype(np.float64)
    terms = np.abs(linear[:, columns]) @ np.abs(unmixing)  # what the stated error is relative to
    linear[:, columns] = linear[:, columns] @ unmixing
    error = np.abs(compensate_arcsinh(events, unmixing, columns) - linear)[:, columns]
    assert (error <= (n + 2) * 6e-8 * terms).all()


def test_in_place_into_out_and_from_other_layouts() -> None:
    events = np.random.default_rng(3).normal(0, 300, (1000, 3)).astype(np.float32)
    expected = arcsinh(events, 150.0)
    kept = events.copy()
    out = np.empty_like(events)
    assert arcsinh(events, 150.0, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(events, kept)
    np.testing.assert_array_equal(arcsinh(np.asfortranarray(events), 150.0), expected)
    np.testing.assert_array_equal(arcsinh(events[::2], 150.0), expected[::2])
    np.testing.assert_array_equal(arcsinh(events[:, 0].copy(), 150.0), expected[:, 0])
    assert arcsinh(events, 150.0, out=events) is events
    np.testing.assert_array_equal(events, expected)


def test_nan_cofactor_leaves_a_channel() -> None:
    events = np.array([[1e5, 1e5], [np.nan, -3]], np.float32)
    got = arcsinh(events, [np.nan, 150.0])
    np.testing.assert_array_equal(got[:, 0], events[:, 0])
    np.testing.assert_allclose(got[:, 1], np.arcsinh(events[:, 1] / 150), rtol=TOLERANCE)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (0,)])
def test_tiny_shapes(shape: tuple[int, ...]) -> None:
    events = np.ones(shape, np.float32)
    np.testing.assert_allclose(arcsinh(events, 1.0), np.arcsinh(events), rtol=TOLERANCE)
    np.testing.assert_allclose(inverse_arcsinh(events, 1.0), np.sinh(events), rtol=TOLERANCE)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 20])
def test_fused_equals_two_steps_in_float64(n: int) -> None:
    rng = np.random.default_rng(n)
    events = rng.normal(0, 2e4, (513, n + 2)).astype(np.float32)
    spillover = np.eye(n) + rng.uniform(0, 0.3 / n, (n, n)) * (1 - np.eye(n))
    columns = rng.permutation(n + 2)[:n]
    widths = np.full(n + 2, 150.0)
    linear = events.astype(np.float64)
    linear[:, columns] = linear[:, columns] @ np.linalg.inv(spillover)
    only = compensate_arcsinh(events, unmixing_matrix(spillover), columns)
    np.testing.assert_allclose(only, linear, rtol=1e-6, atol=1e-6 * np.abs(linear).max())
    fused = compensate_arcsinh(events, unmixing_matrix(spillover), columns, cofactors=widths)
    np.testing.assert_allclose(fused, np.arcsinh(linear / 150), rtol=TOLERANCE, atol=2e-6)


def test_identity_matrix_changes_nothing() -> None:
    events = np.random.default_rng(0).normal(0, 1e5, (300, 6)).astype(np.float32)
    got = compensate_arcsinh(events, unmixing_matrix(np.eye(6)), np.arange(6))
    np.testing.assert_array_equal(got, events)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (5, 2), elements=st.floats(-1e7, 1e7, width=32)), st.sampled_from([5.0, 150])
)
def test_inverse_brings_intensities_back(events: np.ndarray, cofactor: float) -> None:
    back = inverse_arcsinh(arcsinh(events, cofactor), cofactor)
    # a transformed value of up to 15 is stored with a relative error of 6e-8
    np.testing.assert_allclose(back, events, rtol=1e-5, atol=1e-6 * cofactor)


def test_inverse_leaves_untransformed_channels() -> None:
    events = np.array([[7.0, 7.0]], np.float32)
    got = inverse_arcsinh(arcsinh(events, [np.nan, 150.0]), [np.nan, 150.0])
    np.testing.assert_allclose(got, events, rtol=1e-6)


@pytest.mark.parametrize("cofactors", [0.0, -5.0, [150.0, np.inf], [1.0, 2.0, 3.0]])
def test_bad_cofactors(cofactors: float | list[float]) -> None:
    with pytest.raises(ArgumentError, match="one cofactor above 0"):
        arcsinh(np.ones((2, 2), np.float32), cofactors)


def test_bad_arrays() -> None:
    with pytest.raises(ArgumentError, match="float32 array"):
        arcsinh(np.ones(3), 1.0)
    with pytest.raises(ArgumentError, match="out must be float32"):
        arcsinh(np.ones(3, np.float32), 1.0, out=np.ones(4, np.float32))
    events = np.ones(6, np.float32)
    with pytest.raises(ArgumentError, match="overlaps"):
        arcsinh(events[1:], 1.0, out=events[:-1])
    with pytest.raises(ArgumentError, match="one distinct column"):
        compensate_arcsinh(np.ones((2, 2), np.float32), np.eye(2), [0, 0])
    with pytest.raises(ArgumentError, match="one distinct column"):
        compensate_arcsinh(np.ones((2, 2), np.float32), np.eye(2), [0, 2])


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        ([[1.0, 0.0]], "square"),
        ([[1.0, np.nan], [0.0, 1.0]], r"entry \(0, 1\) is nan"),
        ([[1.0, 1.0], [1.0, 1.0]], "invertible"),
        ([[1.0, 1.0], [1.0, 1.0 + 1e-8]], "condition number"),
    ],
)
def test_matrices_that_cannot_be_used(matrix: list[list[float]], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        unmixing_matrix(matrix)
