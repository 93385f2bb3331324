"""arcsinh and compensation of an event matrix, fused and in place, and where the arcsinh bends.

Kernels own blocks of rows, so that serial and parallel runs agree bit for bit, and a chunk of a
larger store gives what the whole would give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit, prange

from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["arcsinh", "compensate_arcsinh", "inverse_arcsinh", "unmixing_matrix"]

f4 = np.float32
i4 = np.int32

TILE_VALUES: Final = 1024  # values per vector loop: values, factors and offsets together fit in L1
TILES_PER_TASK: Final = 64
ROWS_PER_BLOCK: Final = 256
LARGEST: Final = f4(np.finfo(f4).max)
LN2: Final = f4(np.log(2))
LARGEST_CONDITION: Final = 1e6  # float32 events have seven digits


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
def _arcsinh_tasks(values, out, factors, offsets, in_place):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    width = factors.size
    task = width * TILES_PER_TASK
    for k in prange((values.size + task - 1) // task):
        for start in range(k * task, min((k + 1) * task, values.size), width):
            stop = min(start + width, values.size)
            if not in_place:
                out[start:stop] = values[start:stop]
            _arcsinh_span(out[start:stop], factors[: stop - start], offsets[: stop - start])


@njit(cache=True)
def _unmix_block(block, columns, unmixing, measured, total):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Replace `columns` of a block of rows by measured @ unmixing, summed in float64."""
    n_rows, n = block.shape[0], columns.size
    first = columns[0]
    adjacent = columns[n - 1] - first == n - 1 and np.all(np.diff(columns) == 1)
    if adjacent:
        measured[:n_rows] = block[:, first : first + n]
    else:
        for r in range(n_rows):
            for k in range(n):
                measured[r, k] = block[r, columns[k]]
    # always the same shape, so that BLAS takes the same way for every block and every chunk
    np.dot(measured, unmixing, total)
    if adjacent:
        block[:, first : first + n] = total[:n_rows]
    else:
        for r in range(n_rows):
            for k in range(n):
                block[r, columns[k]] = f4(total[r, k])


@njit(cache=True, parallel=True)
def _fused_tasks(values, out, columns, unmixing, factors, offsets, in_place):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    n_rows = values.shape[0]
    for task in prange((n_rows + ROWS_PER_BLOCK - 1) // ROWS_PER_BLOCK):
        start = task * ROWS_PER_BLOCK
        stop = min(start + ROWS_PER_BLOCK, n_rows)
        if not in_place:
            out[start:stop] = values[start:stop]
        if columns.size:
            measured = np.zeros((ROWS_PER_BLOCK, columns.size), np.float64)
            total = np.empty((ROWS_PER_BLOCK, columns.size), np.float64)
            _unmix_block(out[start:stop], columns, unmixing, measured, total)
        if factors.size:
            flat = out[start:stop].ravel()
            for first in range(0, flat.size, factors.size):
                last = min(first + factors.size, flat.size)
                _arcsinh_span(flat[first:last], factors[: last - first], offsets[: last - first])


@njit(cache=True, parallel=True)
def _inverse_tasks(values, out, cofactors):  # type: ignore[no-untyped-def]
    for task in prange((values.shape[0] + ROWS_PER_BLOCK - 1) // ROWS_PER_BLOCK):
        start = task * ROWS_PER_BLOCK
        for row in range(start, min(start + ROWS_PER_BLOCK, values.shape[0])):
            for j in range(values.shape[1]):
                value = values[row, j]
                if cofactors[j] == cofactors[j]:
                    value = f4(np.sinh(np.float64(value)) * cofactors[j])
                out[row, j] = value


def arcsinh(
    values: NDArray[np.float32], cofactors: ArrayLike, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Transform events to arcsinh(x / cofactor).

    Parameters
    ----------
    values
        Linear intensities, float32, (n_events, n_channels) or (n_events,).
    cofactors
        Width of the linear region per channel, in intensity units, (n_channels,) or one number;
        NaN leaves a channel as it is.
    out
        Where to write, float32, C-order, of the same shape; `values` itself transforms in place.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    ArgumentError
        A cofactor is not above zero, or shapes or types do not fit.

    Notes
    -----
    Relative error at most 1e-6 against float64 over the whole range of float32; NaN, infinities and
    the sign of zero as IEEE and NumPy treat them. Linear in events; the same bits on any number of
    threads (set by ``numba.set_num_threads`` or `cytoclust.numerics.threads.thread_limit`).

    Examples
    --------
    >>> import numpy as np
    >>> arcsinh(np.array([[0.0, 5.0]], np.float32), [150.0, 5.0]).round(4).tolist()
    [[0.0, 0.8813999891281128]]
    """
    matrix, result, in_place = _prepared(values, out)
    widths = _cofactor_array(cofactors, matrix.shape[1])
    if matrix.size:
        factors, offsets = _tiles(widths)
        _arcsinh_tasks(matrix.reshape(-1), result.reshape(-1), factors, offsets, in_place)
    return result.reshape(values.shape) if out is None else out


def compensate_arcsinh(
    values: NDArray[np.float32],
    unmixing: ArrayLike,
    columns: ArrayLike,
    *,
    cofactors: ArrayLike | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compensate and transform events in one pass, without a temporary of their size.

    Parameters
    ----------
    values
        Linear intensities, float32, (n_events, n_channels).
    unmixing
        Inverse of the spillover matrix (`unmixing_matrix`), (n, n).
    columns
        Where the n channels of the matrix stand in `values`, (n,).
    cofactors
        As for `arcsinh`; None compensates only.
    out
        Where to write; `values` itself works in place.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    ArgumentError
        Shapes, types or cofactors do not fit.

    Notes
    -----
    Sums are taken in float64 in a fixed order. Blocks of 256 events stay in cache between both
    steps; the same bits on any number of threads and for any chunking of the events.

    Examples
    --------
    >>> import numpy as np
    >>> spillover = np.array([[1.0, 0.1], [0.0, 1.0]])
    >>> events = np.array([[100.0, 10.0]], np.float32)
    >>> compensate_arcsinh(events, unmixing_matrix(spillover), [0, 1]).tolist()
    [[100.0, 0.0]]
    """
    matrix, result, in_place = _prepared(values, out)
    places = np.ascontiguousarray(columns, dtype=np.int64)
    inverse = np.ascontiguousarray(unmixing, dtype=np.float64)
    wrong_shape = inverse.shape != (places.size, places.size)
    if wrong_shape or np.unique(places).size != places.size or _outside(places, matrix.shape[1]):
        msg = (
            f"expected a square matrix and one distinct column of values for each of its rows; got "
            f"shape {inverse.shape} and columns {places.tolist()} of {matrix.shape[1]}. Match the "
            "matrix to the channels by name first."
        )
        raise ArgumentError(msg)
    factors, offsets = np.zeros(0, f4), np.zeros(0, f4)
    if cofactors is not None:
        factors, offsets = _tiles(_cofactor_array(cofactors, matrix.shape[1]))
    _fused_tasks(matrix, result, places, inverse, factors, offsets, in_place)
    return result.reshape(values.shape) if out is None else out


def inverse_arcsinh(
    values: NDArray[np.float32], cofactors: ArrayLike, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    r"""Return sinh(y) x cofactor: the linear intensities behind transformed values.

    Parameters
    ----------
    values
        Transformed values, float32, (n_events, n_channels) or (n_events,).
    cofactors
        The cofactors that were used; NaN leaves a channel as it is.
    out
        Where to write; `values` itself works in place.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    ArgumentError
        A cofactor is not above zero, or shapes or types do not fit.

    Notes
    -----
    Computed in float64 and exact up to the rounding of the stored values: a transformed value y
    carries a relative error of about \\|y\\| x 6e-8, and so does the intensity.

    Examples
    --------
    >>> import numpy as np
    >>> inverse_arcsinh(arcsinh(np.array([300.0], np.float32), 150.0), 150.0).round(2).tolist()
    [300.0]
    """
    matrix, result, _ = _prepared(values, out)
    _inverse_tasks(matrix, result, _cofactor_array(cofactors, matrix.shape[1]))
    return result.reshape(values.shape) if out is None else out


def unmixing_matrix(spillover: ArrayLike) -> NDArray[np.float64]:
    """Invert a spillover matrix (rows are fluorochromes, columns channels).

    Parameters
    ----------
    spillover
        Square matrix, (n, n); entry (i, j) is what fluorochrome i gives in channel j relative to
        its own channel.

    Returns
    -------
    ndarray
        Its inverse, float64; events @ inverse are compensated.

    Raises
    ------
    ArgumentError
        The matrix is not square, holds values that are not finite, or its condition number exceeds
        1e6, so that events of seven digits would turn into noise.

    Examples
    --------
    >>> unmixing_matrix([[1.0, 0.5], [0.0, 1.0]]).tolist()
    [[1.0, -0.5], [0.0, 1.0]]
    """
    matrix = np.asarray(spillover, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        msg = f"a spillover matrix must be square; got shape {matrix.shape}."
        raise ArgumentError(msg)
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        row, column = (int(place) for place in bad[0])
        msg = (
            f"a spillover matrix must hold finite numbers; entry ({row}, {column}) is "
            f"{matrix[row, column]}."
        )
        raise ArgumentError(msg)
    condition = float(np.linalg.cond(matrix)) if matrix.size else 1.0
    if not condition <= LARGEST_CONDITION:
        msg = (
            f"a spillover matrix must be invertible; its condition number is {condition:.3g}, the "
            f"most that float32 events bear is {LARGEST_CONDITION:.0e}."
        )
        raise ArgumentError(msg)
    return np.asarray(np.linalg.inv(matrix) + 0.0)


def _outside(places: NDArray[np.int64], n: int) -> bool:
    return bool(places.size) and bool(places.min() < 0 or places.max() >= n)


def _prepared(
    values: NDArray[Any], out: NDArray[Any] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """Check types; return (n, p) views to read and write, and whether they are the same."""
    if values.dtype != f4 or values.ndim not in {1, 2}:
        msg = f"events must be a float32 array of 1 or 2 dimensions; got {values.dtype}, {values.ndim}."
        raise ArgumentError(msg)
    shape = values.shape if values.ndim == 2 else (values.size, 1)
    target = np.empty(values.shape, f4) if out is None else out
    if target.dtype != f4 or target.shape != values.shape or not target.flags.c_contiguous:
        msg = f"out must be float32, C-order and of shape {values.shape}; got {target.dtype}, {target.shape}."
        raise ArgumentError(msg)
    in_place = target is values or (
        target.ctypes.data == values.ctypes.data and target.strides == values.strides
    )
    if not in_place and np.may_share_memory(target, values):
        msg = (
            "out overlaps the events without being them; give the events themselves or a new array."
        )
        raise ArgumentError(msg)
    source = values if in_place else np.ascontiguousarray(values)
    return source.reshape(shape), target.reshape(shape), in_place


def _cofactor_array(cofactors: ArrayLike, n_channels: int) -> NDArray[np.float64]:
    widths = np.asarray(cofactors, dtype=np.float64)
    if widths.ndim == 0:
        widths = np.full(n_channels, float(widths))
    if widths.shape != (n_channels,) or bool(np.any(widths <= 0)) or bool(np.isinf(widths).any()):
        msg = (
            f"expected one cofactor above 0 (or NaN: leave as it is) for each of {n_channels} "
            f"channels; got {widths.tolist()}."
        )
        raise ArgumentError(msg)
    return np.ascontiguousarray(widths)


def _tiles(cofactors: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Repeat 1 / cofactor (0 for NaN) and log(2 / cofactor) over whole events, for long loops."""
    untouched = np.isnan(cofactors)
    safe = np.where(untouched, 1.0, cofactors)
    repeats = max(1, TILE_VALUES // max(cofactors.size, 1))
    factors = np.tile(np.where(untouched, 0.0, 1.0 / safe).astype(f4), repeats)
    return factors, np.tile((np.log(2.0) - np.log(safe)).astype(f4), repeats)
