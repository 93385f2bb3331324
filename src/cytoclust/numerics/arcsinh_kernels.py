"""Kernels of arcsinh and compensation: each owns its rows, so that threads change no bit."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, prange

from cytoclust.numerics.vectors import EVENTS, SUMS, mix_events

__all__ = ["ROWS_PER_BLOCK", "arcsinh_tasks", "fused_tasks", "inverse_tasks"]

f4 = np.float32
i4 = np.int32

TILES_PER_TASK: Final = 64
ROWS_PER_BLOCK: Final = 128  # events of 20 channels twice, and their constants: fits in L1
BLOCKS_PER_TASK: Final = 32
LARGEST: Final = f4(np.finfo(f4).max)
LN2: Final = f4(np.log(2))


@njit(cache=True)
def _as_bits(value):  # type: ignore[no-untyped-def]
    return np.float32(value).view(np.int32)


@njit(cache=True)
def _as_value(bits):  # type: ignore[no-untyped-def]
    return np.int32(bits).view(np.float32)


@njit(cache=True, fastmath={"contract"})  # fused multiply-add only: IEEE values stay what they are
def _arcsinh_value(x, factor, offset):  # type: ignore[no-untyped-def]
    r"""Return sign(x) log(a + sqrt(a^2 + 1)) for a = \\|x\\| factor, without a branch or a division.

    `offset` is log(2 / cofactor); it takes over where a overflows. Both polynomials are minimax
    fits (Lawson) with absolute errors below 7e-8 and 3e-8.
    """
    size = abs(x)
    a = size * factor
    z = a * a
    small = f4(2.0122535407e-02)
    small = small * z - f4(4.2699581484e-02)
    small = small * z + f4(7.4847618334e-02)
    small = small * z - f4(1.6666288253e-01)
    small = small * z * a + a
    overflow = a > LARGEST
    near = f4(0.5) * (a + np.sqrt(z + f4(1)))
    far = size if overflow else a
    t = far if a > f4(4096) else near
    bits = _as_bits(t)
    exponent = i4(i4(bits - i4(0x3F3504F3)) >> i4(23))
    f = _as_value(i4(bits - i4(exponent << i4(23)))) - f4(1)
    square = f * f
    p = f4(-1.0224462335e-01)
    p = p * f + f4(1.6141265276e-01)
    p = p * f - f4(1.7166861771e-01)
    p = p * f + f4(1.9910225509e-01)
    p = p * f - f4(2.4980576033e-01)
    p = p * f + f4(3.3334691418e-01)
    log = f * square * p - f4(0.5) * square + f
    large = log + (f4(exponent) * LN2 + (offset if overflow else LN2))
    result = small if a < f4(0.5) else large
    result = result if size <= LARGEST else size
    return np.copysign(result, x)


@njit(cache=True, fastmath={"contract"})
def _arcsinh_span(values, factors, offsets):  # type: ignore[no-untyped-def]
    """Transform contiguous values in place; a factor of 0 leaves a value as it is."""
    # one array, read and written: with two that overlap LLVM falls back to the scalar loop
    for i in range(values.size):
        transformed = _arcsinh_value(values[i], factors[i], offsets[i])
        values[i] = values[i] if factors[i] == f4(0) else transformed


@njit(cache=True, parallel=True)
def arcsinh_tasks(values, out, factors, offsets, in_place):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Transform flat values of whole events; factors and offsets repeat the channels of some events."""
    width = factors.size
    task = width * TILES_PER_TASK
    for k in prange((values.size + task - 1) // task):
        for start in range(k * task, min((k + 1) * task, values.size), width):
            stop = min(start + width, values.size)
            if not in_place:
                out[start:stop] = values[start:stop]
            _arcsinh_span(out[start:stop], factors[: stop - start], offsets[: stop - start])


@njit(cache=True)
def _unmix(x, unmixing, n_mixed, y):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write y = x @ unmixing for a block of events; the order of the sums is the same for each.

    Columns from the last on: what a vector writes beyond an event is overwritten by the next.
    """
    width, lanes = len(x) // (ROWS_PER_BLOCK + SUMS), unmixing.shape[1]
    weights = unmixing.reshape(-1)
    for first in range(0, ROWS_PER_BLOCK, EVENTS):
        for column in range(lanes - SUMS, -1, -SUMS):
            mix_events(x, first * width, width, n_mixed, weights, lanes, column, y)


@njit(cache=True)
def _copy_runs(source, source_width, target, target_width, runs, n_rows, first):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Copy runs of columns (from, to, how many) between flat rows; only those from column `first` on."""
    for i in range(len(runs)):
        a, b, length = runs[i]
        if b < first:
            continue
        whole = length == source_width == target_width
        size = length * n_rows if whole else length
        for row in range(1 if whole else n_rows):
            read = source[row * source_width + a : row * source_width + a + size]
            written = target[row * target_width + b : row * target_width + b + size]
            for j in range(size):
                written[j] = read[j]


@njit(cache=True)
def _fuse_block(block, runs, back, n_mixed, unmixing, factors, offsets, x, y):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Compensate the first `n_mixed` of the touched columns and transform all of them."""
    n_rows, n_columns = block.shape
    flat, width = block.reshape(-1), len(x) // (ROWS_PER_BLOCK + SUMS)
    if n_mixed:
        _copy_runs(flat, n_columns, x, width, runs, n_rows, 0)
        _unmix(x, unmixing, n_mixed, y)
    _copy_runs(flat, n_columns, y, width, runs, n_rows, n_mixed)
    n_values = n_rows * width
    _arcsinh_span(y[:n_values], factors[:n_values], offsets[:n_values])
    _copy_runs(y, width, flat, n_columns, back, n_rows, 0)


@njit(cache=True, parallel=True)
def fused_tasks(values, out, runs, n_mixed, unmixing, factors, offsets, in_place):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Compensate the first `n_mixed` touched columns and transform all of them, block by block.

    `runs` (n_runs, 3) lists columns that stand side by side: first column, its place among the touched ones,
    how many; none holds columns of both kinds. `unmixing` has rows padded to a multiple of 32; factors and offsets repeat over a block.
    """
    n_rows, back = values.shape[0], runs[:, np.array([1, 0, 2])].copy()
    task_rows = ROWS_PER_BLOCK * BLOCKS_PER_TASK
    for task in prange((n_rows + task_rows - 1) // task_rows):
        width = len(factors) // ROWS_PER_BLOCK
        x = np.zeros(width * (ROWS_PER_BLOCK + SUMS), f4)
        y = np.zeros(width * (ROWS_PER_BLOCK + SUMS), f4)
        for start in range(task * task_rows, min(n_rows, (task + 1) * task_rows), ROWS_PER_BLOCK):
            stop = min(start + ROWS_PER_BLOCK, n_rows)
            if not in_place:
                out[start:stop] = values[start:stop]
            _fuse_block(out[start:stop], runs, back, n_mixed, unmixing, factors, offsets, x, y)


@njit(cache=True, parallel=True)
def inverse_tasks(values, out, cofactors):  # type: ignore[no-untyped-def]
    """Write sinh(y) x cofactor."""
    for task in prange((values.shape[0] + ROWS_PER_BLOCK - 1) // ROWS_PER_BLOCK):
        start = task * ROWS_PER_BLOCK
        for row in range(start, min(start + ROWS_PER_BLOCK, values.shape[0])):
            for j in range(values.shape[1]):
                value = values[row, j]
                if cofactors[j] == cofactors[j]:
                    value = f4(np.sinh(np.float64(value)) * cofactors[j])
                out[row, j] = value
