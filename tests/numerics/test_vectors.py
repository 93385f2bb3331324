"""Vector kernels against NumPy."""

import numpy as np
import pytest
from numba import njit  # noqa: TID251, kernels are called from kernels

from cytoclust.numerics import search
from cytoclust.numerics.vectors import (
    EVENTS,
    ROWS,
    SUMS,
    exact_distances,
    lowest_bit,
    mix_events,
    screen_rows,
)


@njit
def screen(queries, places, limits, block, start, stride, halves, first):  # type: ignore[no-untyped-def]
    return screen_rows(queries, places, limits, block, start, stride, halves, first)


@njit
def measure(queries, place, block, start, stride, out):  # type: ignore[no-untyped-def]
    exact_distances(queries, place, block, start, stride, out)


@njit
def first_bit(mask):  # type: ignore[no-untyped-def]
    return lowest_bit(np.uint32(mask))


@pytest.mark.parametrize("width", [4, 8, 20, 36])
@pytest.mark.parametrize("first", [0, 3])
def test_screen_marks_the_rows_below_each_limit(width: int, first: int) -> None:
    rng = np.random.default_rng(width)
    queries = rng.normal(size=(6, width)).astype(np.float32)
    rows = rng.normal(size=(40, width)).astype(np.float32)
    halves = (0.5 * (rows.astype(float) ** 2).sum(axis=1)).astype(np.float32)
    places = (5, 0, 0, 2)
    wanted = halves.astype(float) - queries[list(places)].astype(float) @ rows.T.astype(float)
    limits = tuple(np.float32(value) for value in (0.25, np.inf, -np.inf, wanted[3, first + 7]))
    block = np.ascontiguousarray(rows.T).reshape(-1)
    masks = screen(queries, places, limits, block, first, 40, halves, first)
    for mask, values, limit in zip(masks, wanted[:, first : first + ROWS], limits, strict=True):
        marked = np.array([mask >> j & 1 for j in range(ROWS)], dtype=bool)
        clear = np.abs(values - limit) > 1e-4  # single precision decides nearer ones
        assert np.array_equal(marked[clear], (values <= limit)[clear])
    assert masks[1] == 2**ROWS - 1
    assert masks[2] == 0


@pytest.mark.parametrize("width", [4, 20, 36])
def test_exact_distances_have_the_bits_of_a_fixed_order_of_sums(width: int) -> None:
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(3, width)).astype(np.float32)
    rows = rng.normal(size=(ROWS, width)).astype(np.float32)
    out = np.empty(ROWS, np.float32)
    measure(queries, 2, np.ascontiguousarray(rows.T).reshape(-1), 0, ROWS, out)
    wanted = np.zeros(ROWS, np.float32)
    for base in range(0, width, 4):
        a, b, c, d = ((queries[2, base + i] - rows[:, base + i]) ** 2 for i in range(4))
        wanted += (a + b) + (c + d)
    assert out.tobytes() == wanted.tobytes()


@njit
def mix(x, start, stride, n, weights, lanes, column, out):  # type: ignore[no-untyped-def]
    mix_events(x, start, stride, n, weights, lanes, column, out)


@pytest.mark.parametrize(("n", "width"), [(1, 1), (5, 7), (20, 20), (40, 41)])
def test_mixed_events_are_weighted_sums_and_later_events_overwrite(n: int, width: int) -> None:
    rng = np.random.default_rng(n)
    lanes = -(-n // SUMS) * SUMS
    x = rng.normal(size=(8, width)).astype(np.float32)
    weights = np.zeros((n, lanes), np.float32)
    weights[:, :n] = rng.normal(size=(n, n))
    out = np.zeros(8 * width + SUMS, np.float32)
    for first in (0, EVENTS):
        for column in range(lanes - SUMS, -1, -SUMS):
            mix(x.ravel(), first * width, width, n, weights.ravel(), lanes, column, out)
    got = out[: 8 * width].reshape(8, width)[:, :n]
    np.testing.assert_allclose(got, x[:, :n] @ weights[:, :n], rtol=1e-4, atol=1e-5)


def test_lowest_bit() -> None:
    assert [first_bit(mask) for mask in (1, 6, 1 << 31, 0)] == [0, 1, 31, 32]


def test_rows_of_groups_stand_in_order() -> None:
    groups = np.array([2, 0, 2, 1, 0])
    order, starts = search.order_by_group(groups, 4)
    assert order.tolist() == [1, 4, 3, 0, 2]
    assert starts.tolist() == [0, 2, 3, 5, 5]
