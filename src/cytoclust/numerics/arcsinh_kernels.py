"""Kernels of arcsinh and compensation: each owns its rows, so that threads change no bit."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, prange

__all__ = ["arcsinh_tasks", "fused_tasks", "inverse_tasks"]

f4 = np.float32
i4 = np.int32

TILES_PER_TASK: Final = 64
ROWS_PER_BLOCK: Final = 256
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


@njit(cache=True, fastmath={"contract"})
def _unmix(x, unmixing, y):  # type: ignore[no-untyped-def]
    """Write y = x @ unmixing for events that stand column after column, 128 values each.

    Four columns in and four out at a time: sums stay in registers and loads are shared. The order
    of the sums is the same for every event.
    """
    n = len(unmixing)
    for j in range(0, n, 4):
        four = y[j * 128 : (j + 4) * 128]
        four[:] = f4(0)
        for i in range(0, n, 4):
            a = x[i * 128 : (i + 1) * 128]
            b = x[(i + 1) * 128 : (i + 2) * 128]
            c = x[(i + 2) * 128 : (i + 3) * 128]
            d = x[(i + 3) * 128 : (i + 4) * 128]
            u0, u1, u2, u3 = unmixing[i], unmixing[i + 1], unmixing[i + 2], unmixing[i + 3]
            a0, b0, c0, d0 = u0[j], u1[j], u2[j], u3[j]
            a1, b1, c1, d1 = u0[j + 1], u1[j + 1], u2[j + 1], u3[j + 1]
            a2, b2, c2, d2 = u0[j + 2], u1[j + 2], u2[j + 2], u3[j + 2]
            a3, b3, c3, d3 = u0[j + 3], u1[j + 3], u2[j + 3], u3[j + 3]
            for r in range(128):
                four[r] = (((four[r] + a0 * a[r]) + b0 * b[r]) + c0 * c[r]) + d0 * d[r]
                four[128 + r] = (((four[128 + r] + a1 * a[r]) + b1 * b[r]) + c1 * c[r]) + d1 * d[r]
                four[256 + r] = (((four[256 + r] + a2 * a[r]) + b2 * b[r]) + c2 * c[r]) + d2 * d[r]
                four[384 + r] = (((four[384 + r] + a3 * a[r]) + b3 * b[r]) + c3 * c[r]) + d3 * d[r]


@njit(cache=True, fastmath={"contract"})
def _arcsinh_column(column, factor, offset):  # type: ignore[no-untyped-def]
    for r in range(128):
        column[r] = _arcsinh_value(column[r], factor, offset)


@njit(cache=True)
def _fuse_block(block, touched, n_mixed, unmixing, factors, offsets, x, y):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Compensate the first `n_mixed` of the touched columns and transform all, up to 128 rows."""
    n_rows = len(block)
    for k in range(n_mixed):
        place, column = touched[k], x[k * 128 : k * 128 + n_rows]
        for r in range(n_rows):
            column[r] = block[r, place]
    if n_mixed:
        _unmix(x, unmixing, y)
    for k in range(n_mixed, len(touched)):
        place, column = touched[k], y[k * 128 : k * 128 + n_rows]
        for r in range(n_rows):
            column[r] = block[r, place]
    for k in range(len(touched)):
        if factors[k] != f4(0):
            _arcsinh_column(y[k * 128 : (k + 1) * 128], factors[k], offsets[k])
    for k in range(len(touched)):
        place, column = touched[k], y[k * 128 : k * 128 + n_rows]
        for r in range(n_rows):
            block[r, place] = column[r]


@njit(cache=True, parallel=True)
def fused_tasks(values, out, touched, n_mixed, unmixing, factors, offsets, in_place):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Compensate the first `n_mixed` touched columns and transform all of them, block by block."""
    n_rows = values.shape[0]
    task_rows = 128 * BLOCKS_PER_TASK
    for task in prange((n_rows + task_rows - 1) // task_rows):
        x = np.zeros((len(touched) + 4) * 128, f4)
        y = np.zeros((len(touched) + 4) * 128, f4)
        for start in range(task * task_rows, min(n_rows, (task + 1) * task_rows), 128):
            stop = min(start + 128, n_rows)
            if not in_place:
                out[start:stop] = values[start:stop]
            _fuse_block(out[start:stop], touched, n_mixed, unmixing, factors, offsets, x, y)


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
