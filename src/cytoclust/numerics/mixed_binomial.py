"""Binomial mixed models of many rows: Laplace approximation, one design, nested random effects.

Every sample has a deviation ``v = block + inner block + its own``; the deviations of one block are
integrated out together, which equals the usual approximation over all random effects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from cytoclust.numerics.laplace import add_block
from cytoclust.numerics.mixed import Groups, estimable_rows, full_rank
from cytoclust.numerics.small import invert, times

__all__ = ["BinomialFit", "fit_binomial"]

Floats = NDArray[np.float64]
ROUNDS = 200  # quasi-Newton steps at most
DECREMENT = 1e-9  # twice the log-likelihood still to be gained at which a fit is finished
SINGULAR = 1e-3  # standard deviation below which a random effect is not there


@dataclass(frozen=True)
class BinomialFit:
    """Estimates of J contrasts for K rows on the natural log-odds scale.

    Attributes
    ----------
    estimate, std_error
        (K, J).
    deviations
        (K, 3) standard deviations of block, inner block and sample effects; NaN where not in the
        model.
    log_likelihood
        (K,) Laplace log-likelihood, less that of a model with a share for every sample.
    converged
        (K,) whether the optimiser reached the maximum.
    """

    estimate: Floats
    std_error: Floats
    deviations: Floats
    log_likelihood: Floats
    converged: NDArray[np.bool_]

    @property
    def singular(self) -> NDArray[np.bool_]:
        """Rows with a random effect of no variance."""
        return np.asarray((self.deviations < SINGULAR).any(axis=1))


@njit(cache=True)
def _evaluate(x, cells, trials, offset, X, starts, inner, active, a, gradient, information):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    """Laplace log-likelihood at `x` = coefficients and standard deviations, with gradient."""
    p = X.shape[1]
    fixed = offset + times(X, x[:p])
    sds = x[p:] * active
    gradient[:] = 0.0
    information[:] = 0.0
    value = 0.0
    for b in range(len(starts) - 1):
        here = slice(starts[b], starts[b + 1])
        value += add_block(
            cells[here], trials[here], fixed[here], X[here], inner[here], sds, a[here],
            gradient, information,
        )  # fmt: skip
    for k in range(3):
        if not active[k]:
            gradient[p + k] = 0.0
            information[p + k, :] = 0.0
            information[:, p + k] = 0.0
            information[p + k, p + k] = 1.0
    return value


@njit(cache=True)
def _inverse(information):  # type: ignore[no-untyped-def]
    """Inverse of the information with a floor under its diagonal."""
    size = len(information)
    scale, scaled, found = np.empty(size), np.empty((size, size)), np.empty((size, size))
    for i in range(size):
        scale[i] = np.sqrt(max(information[i, i], 1e-8))
    for i in range(size):
        for j in range(size):
            scaled[i, j] = information[i, j] / (scale[i] * scale[j])
        scaled[i, i] += 1e-7
    invert(scaled, found)
    for i in range(size):
        for j in range(size):
            found[i, j] /= scale[i] * scale[j]
    return found


@njit(cache=True)
def _metric(information, gradient, x, p):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Inverse of the information, with the curvature that a vanishing deviation has.

    Near 0 the likelihood depends on the squared deviation: its curvature is slope over deviation,
    while the expected information goes to 0.
    """
    size = len(x)
    raised = information.copy()
    for k in range(p, size):
        raised[k, k] = max(raised[k, k], abs(gradient[k]) / max(abs(x[k]), 1e-8))
    return _inverse(raised)


@njit(cache=True)
def _start(cells, trials, offset, X, active):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Least squares of empirical log odds, the residual variance spread over the random effects."""
    n, p = X.shape
    gram, cross, z = np.zeros((p, p)), np.zeros(p), np.zeros(n)
    n_given = 0
    for i in range(n):
        if trials[i] <= 0:
            continue
        n_given += 1
        z[i] = np.log((cells[i] + 0.5) / (trials[i] - cells[i] + 0.5)) - offset[i]
        for q in range(p):
            cross[q] += X[i, q] * z[i]
            for r in range(p):
                gram[q, r] += X[i, q] * X[i, r]
    for q in range(p):
        gram[q, q] += 1e-8
    inverse = np.empty((p, p))
    invert(gram, inverse)
    x = np.zeros(p + 3)
    x[:p] = times(inverse, cross)
    fitted, square = times(X, x[:p]), 0.0
    for i in range(n):
        if trials[i] > 0:
            square += (z[i] - fitted[i]) ** 2
    x[p:] = np.sqrt(max(square / max(n_given - p, 1), 0.01) / active.sum()) * active
    return x


@njit(cache=True)
def _update(H, moved, turned):  # type: ignore[no-untyped-def]
    """Correct the inverse curvature by one step (BFGS); False where the step tells nothing."""
    curvature = (moved * turned).sum()
    if curvature <= 1e-12:
        return False
    Hy = times(H, turned)
    factor = (1 + (turned * Hy).sum() / curvature) / curvature
    for i in range(len(moved)):
        for j in range(len(moved)):
            H[i, j] += (
                factor * moved[i] * moved[j] - (Hy[i] * moved[j] + moved[i] * Hy[j]) / curvature
            )
    return True


@njit(cache=True)
def _fit_one(cells, trials, offset, X, starts, inner, active, rounds):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Maximise by BFGS from the expected information; (x, covariance of coefficients, value, done)."""
    n, p = X.shape
    size = p + 3
    x = _start(cells, trials, offset, X, active)
    a, a_new = np.zeros(n), np.zeros(n)
    gradient, information = np.zeros(size), np.zeros((size, size))
    new_gradient = np.zeros(size)
    value = _evaluate(
        x, cells, trials, offset, X, starts, inner, active, a, gradient, information
    )  # fmt: skip
    H = _metric(information, gradient, x, p)
    done, fresh = False, True
    for _ in range(rounds):
        step = times(H, gradient)
        decrement = (gradient * step).sum()
        if decrement < DECREMENT:
            if fresh:
                done = True
                break
            H, fresh = _metric(information, gradient, x, p), True
            continue
        longest = np.abs(step).max()
        scale = min(1.0, 3.0 / longest)
        accepted = False
        while scale > 1e-10:
            a_new[:] = a
            trial = x + scale * step
            new_value = _evaluate(
                trial, cells, trials, offset, X, starts, inner, active, a_new, new_gradient,
                information,
            )  # fmt: skip
            if new_value >= value + 1e-4 * scale * decrement - 1e-11 * abs(value):
                accepted = True
                break
            scale *= 0.4
        if not accepted:
            if fresh:
                done = decrement < 1e-4
                break
            H, fresh = _metric(information, gradient, x, p), True
            continue
        if _update(H, trial - x, gradient - new_gradient):
            fresh = False
        x[:] = trial
        a[:] = a_new
        gradient[:] = new_gradient
        value = new_value
    value = _evaluate(
        x, cells, trials, offset, X, starts, inner, active, a, gradient, information
    )  # fmt: skip
    return x, _inverse(information[:p, :p].copy()), value, done


@njit(cache=True, parallel=True)
def _fit_all(cells, trials, offset, X, starts, inner, active, rounds, x, covariance, values, done):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    for k in prange(len(cells)):
        found, cov, value, finished = _fit_one(
            cells[k], trials[k], offset[k], X, starts, inner, active, rounds
        )
        x[k] = found
        covariance[k] = cov
        values[k] = value
        done[k] = finished


def fit_binomial(
    cells: Floats,
    trials: Floats,
    design: Floats,
    *,
    contrasts: Floats,
    blocks: NDArray[np.int64] | None,
    inner: NDArray[np.int64] | None = None,
    offset: Floats | None = None,
) -> BinomialFit:
    """Fit log odds of every row with normal block, inner block and sample effects.

    Parameters
    ----------
    cells, trials
        (K, n) cells of the population and of all; 0 trials leave a sample out of the row.
    design
        (n, p).
    contrasts
        (p, J), estimable on the whole design.
    blocks, inner
        (n,) codes of blocks (donors) and of blocks within them (donor in a compartment), or None.
    offset
        (K, n) or (n,) added to the log odds: the logarithm of size factors.

    Returns
    -------
    BinomialFit
        NaN in rows that lack the samples for a contrast.

    Notes
    -----
    Coefficients and standard deviations maximise the Laplace approximation together; standard errors
    are those of the weighted regression at the modes.

    References
    ----------
    Bates, Maechler, Bolker and Walker 2015, doi:10.18637/jss.v067.i01.
    """
    groups = Groups.make(design.shape[0], blocks, inner)
    X, C = full_rank(design, contrasts)
    shape = cells.shape
    shift = np.broadcast_to(0.0 if offset is None else offset, shape)
    present = np.isfinite(trials) & (trials > 0) & np.isfinite(shift)
    K, p = len(cells), X.shape[1]
    x, covariance = np.zeros((K, p + 3)), np.zeros((K, p, p))
    values, done = np.zeros(K), np.zeros(K, dtype=np.bool_)
    rows = [
        np.ascontiguousarray(np.where(present, array, 0.0)[:, groups.order], dtype=np.float64)
        for array in (cells, trials, shift)
    ]
    _fit_all(
        *rows, np.ascontiguousarray(X[groups.order]), groups.starts, groups.inner, groups.active,
        ROUNDS, x, covariance, values, done,
    )  # fmt: skip
    std_error = np.sqrt(np.maximum(np.einsum("pj,kpq,qj->kj", C, covariance, C), 0.0))
    allowed = estimable_rows(present, X, C)
    estimate = np.where(allowed, x[:, :p] @ C, np.nan)
    deviations = np.where(groups.active > 0, np.abs(x[:, p:]), np.nan)
    return BinomialFit(estimate, np.where(allowed, std_error, np.nan), deviations, values, done)
