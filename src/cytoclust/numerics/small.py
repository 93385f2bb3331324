"""Small dense matrices inside compiled loops, without calls into BLAS: same bits on any thread."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["invert", "times"]


@njit(cache=True)
def invert(A, out):  # type: ignore[no-untyped-def]
    """Write the inverse of a positive definite matrix to `out`; its log determinant, NaN if it is not.

    The lower triangle of `A` is overwritten by its Cholesky factor.
    """
    n = len(A)
    log_det = 0.0
    for i in range(n):
        for j in range(i + 1):
            total = A[i, j]
            for k in range(j):
                total -= A[i, k] * A[j, k]
            if i != j:
                A[i, j] = total / A[j, j]
                continue
            if not total > 0:
                return np.nan
            A[i, i] = np.sqrt(total)
            log_det += 2 * np.log(A[i, i])
    for c in range(n):
        for i in range(n):
            total = 1.0 if i == c else 0.0
            for k in range(c, i):
                total -= A[i, k] * out[k, c]
            out[i, c] = total / A[i, i] if i >= c else 0.0
        for i in range(n - 1, -1, -1):
            total = out[i, c]
            for k in range(i + 1, n):
                total -= A[k, i] * out[k, c]
            out[i, c] = total / A[i, i]
    return log_det


@njit(cache=True)
def times(A, x):  # type: ignore[no-untyped-def]
    """Matrix times vector."""
    out = np.zeros(A.shape[0])
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[i] += A[i, j] * x[j]
    return out
