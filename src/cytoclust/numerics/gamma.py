"""Two variance components from squared independent quantities: gamma regression, identity link."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["fit_components"]

Floats = NDArray[np.float64]


@njit(cache=True)
def _deviance(squares, slopes, counts, a, b):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Deviance up to a constant; infinite outside the range of means above zero."""
    total = 0.0
    for i in range(squares.size):
        if counts[i] > 0:
            mean = a + b * slopes[i]
            if mean < 0:
                return np.inf
            if mean < 1e-15 and squares[i] < 1e-15:
                continue
            if mean == 0:
                return np.inf
            total += 2 * counts[i] * ((squares[i] - mean) / mean + np.log(mean))
    return total


@njit(cache=True)
def _start(squares, slopes, counts):  # type: ignore[no-untyped-def]
    """Least squares, or a constant where that gives a negative mean; last value: is it a fit."""
    n = counts.sum()
    mx = (counts * slopes).sum() / n
    my = (counts * squares).sum() / n
    sxx = (counts * (slopes - mx) ** 2).sum()
    if sxx <= 1e-15 * (n - 1):
        return my, 0.0, False
    b = (counts * (slopes - mx) * (squares - my)).sum() / sxx
    a = my - b * mx
    if n <= 2 or ((slopes > 1e-15) * counts).sum() <= 1:
        return a, b, False
    for i in range(squares.size):
        if counts[i] > 0 and a + b * slopes[i] < 0:
            return my, 0.0, True
    return a, b, True


@njit(cache=True)
def _fit_one(squares, slopes, counts, rounds):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Fisher scoring with Levenberg damping; the deviance never rises."""
    a, b, refine = _start(squares, slopes, counts)
    if not refine or squares.max() <= 0:
        return a, b
    deviance = _deviance(squares, slopes, counts, a, b)
    damping = 0.0
    for iteration in range(rounds + 1):
        top = 0.0
        for i in range(squares.size):
            if counts[i] > 0:
                top = max(top, (a + b * slopes[i]) ** 2)
        h00 = h01 = h11 = g0 = g1 = 0.0
        for i in range(squares.size):
            if counts[i] > 0:
                mean = a + b * slopes[i]
                weight = counts[i] / max(mean * mean, top / 1e3)
                h00 += weight
                h01 += weight * slopes[i]
                h11 += weight * slopes[i] ** 2
                g0 += weight * (squares[i] - mean)
                g1 += weight * (squares[i] - mean) * slopes[i]
        largest = max(h00, h11)
        if iteration == 0:
            damping = (h00 + h11) / 4
        a_old, b_old, before, tries = a, b, deviance, 0
        gain = 0.0
        while True:
            tries += 1
            det = (h00 + damping) * (h11 + damping) - h01 * h01
            step_a = ((h11 + damping) * g0 - h01 * g1) / det
            step_b = ((h00 + damping) * g1 - h01 * g0) / det
            a, b = a_old + step_a, b_old + step_b
            gain = g0 * step_a + g1 * step_b
            deviance = _deviance(squares, slopes, counts, a, b)
            if deviance <= before:
                break
            if damping / largest > 1e15:
                return a_old, b_old
            damping *= 2
        if tries == 1:
            damping /= 10
        if gain < 1e-6:
            break
    return a, b


@njit(cache=True)
def _fit_all(squares, slopes, counts, rounds, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    for k in range(squares.shape[0]):
        out[k, 0], out[k, 1] = _fit_one(squares[k], slopes[k], counts[k], rounds)


def fit_components(
    squares: Floats, slopes: Floats, counts: Floats | None = None, *, rounds: int = 20
) -> Floats:
    """Fit ``E[square] = a + b * slope`` for every row, squares being scaled chi-square with 1 d.f.

    Parameters
    ----------
    squares, slopes
        (K, m) squared quantities and their loading on the second component.
    counts
        (K, m) how many quantities an entry stands for (their squares averaged); 0 leaves it out.
    rounds
        Scoring steps at most.

    Returns
    -------
    (K, 2) array
        a and b. b may be negative, a + b * slope is not.
    """
    given = np.ones_like(squares) if counts is None else counts
    out = np.empty((len(squares), 2))
    arrays = (np.ascontiguousarray(array, dtype=np.float64) for array in (squares, slopes, given))
    _fit_all(*arrays, rounds, out)
    return out
