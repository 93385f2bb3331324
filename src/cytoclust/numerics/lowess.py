"""Robust locally weighted regression (Cleveland 1979), as voom needs it for its trend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lowess"]

Floats = NDArray[np.float64]
ROUNDS = 3  # robustness iterations
SKIP = 0.01  # of the range of x: points nearer than this to the last fit are interpolated


def lowess(x: Floats, y: Floats, *, span: float = 0.5) -> tuple[Floats, Floats]:
    """Smooth `y` over `x` with tricube weights and local lines.

    Parameters
    ----------
    x, y
        (n,) points in any order, finite.
    span
        Fraction of the points that each local line uses.

    Returns
    -------
    x, fitted : (n,) both, sorted by x

    References
    ----------
    Cleveland 1979, doi:10.1080/01621459.1979.10481038.
    """
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    n = len(x)
    if n < 2:
        return x, y.copy()
    size = max(2, min(n, int(span * n + 1e-7)))
    robust = np.ones(n)
    fitted = y.copy()
    for iteration in range(ROUNDS + 1):
        fitted = _smooth(x, y, size=size, robust=robust)
        if iteration == ROUNDS:
            break
        errors = np.abs(y - fitted)
        limit = 6 * np.median(errors)
        exact = errors.max() <= 1e-10 * np.abs(y).max()  # rounding must not choose the weights
        if exact or limit < 1e-7 * errors.mean():
            break
        ratio = errors / limit if limit > 0 else np.zeros(n)
        robust = np.where(ratio <= 0.001, 1.0, np.where(ratio <= 0.999, (1 - ratio**2) ** 2, 0.0))
    return x, fitted


def _smooth(x: Floats, y: Floats, *, size: int, robust: Floats) -> Floats:
    """Fit a local line at spaced points and interpolate between them."""
    n = len(x)
    width = x[-1] - x[0]
    fitted = np.zeros(n)
    left, last, point = 0, -1, 0
    while True:
        while left + size < n and x[point] - x[left] > x[left + size] - x[point]:
            left += 1
        fitted[point] = _local_line(x, y, window=(point, left, left + size), robust=robust)
        if last < point - 1:
            between = slice(last + 1, point)
            share = (x[between] - x[last]) / (x[point] - x[last])
            fitted[between] = share * fitted[point] + (1 - share) * fitted[last]
        last = point
        cut = x[last] + SKIP * width
        point = last + 1
        while point < n and x[point] <= cut:
            if x[point] == x[last]:
                fitted[point] = fitted[last]
                last = point
            point += 1
        point = max(last + 1, point - 1)
        if last >= n - 1:
            return fitted


def _local_line(x: Floats, y: Floats, *, window: tuple[int, int, int], robust: Floats) -> float:
    """Weighted line through the points near ``x[point]``, at that point."""
    point, left, right = window
    centre = x[point]
    reach = max(centre - x[left], x[right - 1] - centre)
    stop = int(np.searchsorted(x, centre + 0.999 * reach, side="right"))
    near = slice(left, max(stop, point + 1))
    distance = np.abs(x[near] - centre)
    weights = np.where(
        distance <= 0.001 * reach, 1.0, (1 - (distance / (reach or 1.0)) ** 3) ** 3
    ) * (distance <= 0.999 * reach)
    weights = weights * robust[near]
    total = weights.sum()
    if total <= 0:
        return float(y[point])
    weights /= total
    if reach > 0:
        mean = float(np.sum(weights * x[near]))
        spread = float(np.sum(weights * (x[near] - mean) ** 2))
        if np.sqrt(spread) > 0.001 * (x[-1] - x[0]):
            weights = weights * (1 + (centre - mean) / spread * (x[near] - mean))
    return float(np.sum(weights * y[near]))
