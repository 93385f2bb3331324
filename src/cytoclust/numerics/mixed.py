"""Linear mixed models of many rows by restricted maximum likelihood, Satterthwaite's d.f."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from cytoclust.numerics.rows import fit_rows
from cytoclust.numerics.small import invert, times

__all__ = ["Groups", "LinearFit", "fit_linear", "full_rank"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Samples sorted so that those of one block lie together.

    Attributes
    ----------
    order
        (n,) positions of the sorted samples.
    starts
        (B + 1,) where each block starts in the sorted samples.
    inner
        (n,) codes of the inner blocks of the sorted samples.
    active
        (3,) whether block, inner block and sample effects are in the model.
    """

    order: Codes
    starts: Codes
    inner: Codes
    active: Floats

    @classmethod
    def make(cls, n: int, blocks: Codes | None, inner: Codes | None) -> Groups:
        """Sort by block, or let every sample be its own where there are none."""
        codes = np.arange(n) if blocks is None else np.asarray(blocks)
        order = np.argsort(codes, kind="stable").astype(np.int64)
        edges = np.flatnonzero(np.diff(codes[order])) + 1
        starts = np.concatenate([[0], edges, [n]]).astype(np.int64)
        within = np.zeros(n, np.int64) if inner is None else np.asarray(inner, np.int64)
        active = np.array([blocks is not None, inner is not None, True], dtype=np.float64)
        return cls(order, starts, within[order], active)


def full_rank(design: Floats, contrasts: Floats) -> tuple[Floats, Floats]:
    """Return a design of full column rank with the same span, and the contrasts in its terms.

    Contrasts that `design` cannot estimate come back as something that can; leave them out before.
    """
    left, values, right = np.linalg.svd(design, full_matrices=False)
    kept = values > 1e-9 * values[0]
    if kept.all():
        return design, contrasts
    scale = np.sqrt(len(design))
    return left[:, kept] * scale, (right[kept] @ contrasts) * (scale / values[kept])[:, None]


@dataclass(frozen=True)
class LinearFit:
    """Estimates of J contrasts for K rows; arrays (K, J), standard deviations (K, 3).

    `deviations` are those of block, inner block and residual; NaN where not in the model.
    """

    estimate: Floats
    std_error: Floats
    df: Floats
    deviations: Floats

    @property
    def singular(self) -> NDArray[np.bool_]:
        """Rows with a random effect of no variance."""
        limit = SINGULAR * self.deviations[:, 2:]
        return np.asarray((self.deviations[:, :2] < limit).any(axis=1))


SINGULAR = 1e-3  # of the residual deviation
ROUNDS = 100  # scoring steps at most
DECREMENT = 1e-10  # gain in log-likelihood at which a fit is finished
STEP = 1e-4  # of the residual deviation, for the second derivatives


@njit(cache=True)
def _block_inverse(s, present, inner, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write the inverse covariance of a block's present samples (0 elsewhere); its log determinant."""
    n = len(present)
    at = np.empty(n, np.int64)
    m = 0
    for i in range(n):
        if present[i]:
            at[m] = i
            m += 1
    out[:n, :n] = 0.0
    V, inverse = np.empty((m, m)), np.empty((m, m))
    for i in range(m):
        for j in range(m):
            V[i, j] = s[0] ** 2
            if inner[at[i]] == inner[at[j]]:
                V[i, j] += s[1] ** 2
        V[i, i] += s[2] ** 2
    log_det = invert(V, inverse)
    for i in range(m):
        for j in range(m):
            out[at[i], at[j]] = inverse[i, j]
    return log_det


@njit(cache=True)
def _coefficients(s, y, X, present, starts, inner, inverses):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Generalised least squares: coefficients, covariance, deviance; `inverses` (n, size) is filled."""
    p = X.shape[1]
    gram, cross, square, log_det = np.zeros((p, p)), np.zeros(p), 0.0, 0.0
    for b in range(len(starts) - 1):
        first, n = starts[b], starts[b + 1] - starts[b]
        here = slice(first, starts[b + 1])
        Vi = inverses[here]
        log_det += _block_inverse(s, present[here], inner[here], Vi)
        for i in range(n):
            for j in range(n):
                weight = Vi[i, j]
                if weight == 0.0:
                    continue
                square += y[first + i] * weight * y[first + j]
                for q in range(p):
                    left = X[first + i, q] * weight
                    cross[q] += left * y[first + j]
                    for r in range(p):
                        gram[q, r] += left * X[first + j, r]
    scale, covariance = np.empty(p), np.empty((p, p))
    for i in range(p):
        scale[i] = np.sqrt(max(gram[i, i], 1e-12))
        log_det += 2 * np.log(scale[i])
    for i in range(p):
        for j in range(p):
            gram[i, j] /= scale[i] * scale[j]
        gram[i, i] += 1e-10
    log_det += invert(gram, covariance)
    for i in range(p):
        for j in range(p):
            covariance[i, j] /= scale[i] * scale[j]
    beta = times(covariance, cross)
    return beta, covariance, log_det + square - (beta * cross).sum()


@njit(cache=True)
def _slopes(s, y, X, starts, inner, inverses, beta, covariance, gradient, middle):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0917
    """Fill in derivatives by `s`: `gradient` (3,) of the deviance, `middle` of the information."""
    p = X.shape[1]
    gradient[:] = 0.0
    middle[:] = 0.0
    residual = y - times(X, beta)
    for b in range(len(starts) - 1):
        first, n = starts[b], starts[b + 1] - starts[b]
        VX, Vr = np.zeros((n, p)), np.zeros(n)
        for i in range(n):
            for j in range(n):
                weight = inverses[first + i, j]
                Vr[i] += weight * residual[first + j]
                for q in range(p):
                    VX[i, q] += weight * X[first + j, q]
        for i in range(n):
            for j in range(n):
                for k in range(3):
                    if (k == 1 and inner[first + i] != inner[first + j]) or (k == 2 and i != j):
                        continue
                    gradient[k] += 2 * s[k] * (inverses[first + i, j] - Vr[i] * Vr[j])
                    for q in range(p):
                        for r in range(p):
                            middle[k, q, r] += 2 * s[k] * VX[i, q] * VX[j, r]
    for k in range(3):
        for q in range(p):
            for r in range(p):
                gradient[k] -= covariance[q, r] * middle[k, q, r]


@njit(cache=True)
def _hessian(s, y, X, present, starts, inner, active, inverses):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Second derivatives of the deviance, by central differences of the gradient."""
    p = X.shape[1]
    side, middle = np.zeros((2, 3)), np.zeros((3, p, p))
    found = np.eye(3)
    step = STEP * max(abs(s[2]), 1e-8)
    for k in range(3):
        if not active[k]:
            continue
        for which in range(2):
            moved = s.copy()
            moved[k] += step * (1 - 2 * which)
            beta, covariance, _ = _coefficients(moved, y, X, present, starts, inner, inverses)
            _slopes(
                moved, y, X, starts, inner, inverses, beta, covariance, side[which], middle
            )  # fmt: skip
        for m in range(3):
            if active[m]:
                found[k, m] = (side[0, m] - side[1, m]) / (2 * step)
    return (found + found.T) / 2


@njit(cache=True)
def _downhill(H, gradient):  # type: ignore[no-untyped-def]
    """Newton step, with as much added to the diagonal as makes the curvature positive."""
    largest = 0.0
    for k in range(3):
        largest = max(largest, abs(H[k, k]))
    added = 0.0
    inverse = np.empty((3, 3))
    while True:
        damped = H.copy()
        for k in range(3):
            damped[k, k] += added
        if not np.isnan(invert(damped, inverse)) and np.abs(inverse).max() < 1e4 / largest:
            return -times(inverse, gradient)
        added = max(2 * added, 1e-3 * largest)


@njit(cache=True)
def _fit_one(y, X, present, starts, inner, active, out_cov, out_middle):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Minimise the deviance by damped Newton steps; (s, coefficients, second derivatives)."""
    size = 1
    for b in range(len(starts) - 1):
        size = max(size, starts[b + 1] - starts[b])
    inverses = np.zeros((len(y), size))
    gradient = np.zeros(3)
    s = active * np.sqrt(1.0 / active.sum())  # responses come with residual deviation 1
    beta, covariance, value = _coefficients(s, y, X, present, starts, inner, inverses)
    trial = s.copy()
    for _ in range(ROUNDS):
        _slopes(s, y, X, starts, inner, inverses, beta, covariance, gradient, out_middle)
        gradient *= active
        H = _hessian(s, y, X, present, starts, inner, active, inverses)
        step = _downhill(H, gradient)
        gain = -(step * gradient).sum()
        if gain < DECREMENT:
            break
        scale = min(1.0, 0.5 / np.abs(step).max())
        better = value + 1.0
        while scale > 1e-9:
            trial = s + scale * step
            if abs(trial[2]) > 1e-6:
                beta, covariance, better = _coefficients(
                    trial, y, X, present, starts, inner, inverses
                )  # fmt: skip
                if better <= value - 1e-4 * scale * gain + 1e-12 * abs(value):
                    break
            scale *= 0.4
        if scale <= 1e-9:
            break
        s, value = trial, better
    beta, covariance, value = _coefficients(s, y, X, present, starts, inner, inverses)
    _slopes(s, y, X, starts, inner, inverses, beta, covariance, gradient, out_middle)
    out_cov[:] = covariance
    return s, beta, _hessian(s, y, X, present, starts, inner, active, inverses)


@njit(cache=True, parallel=True)
def _fit_all(y, X, present, starts, inner, active, out_s, out_beta, out_cov, out_middle, out_hess):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    for k in prange(len(y)):
        s, beta, hessian = _fit_one(
            y[k], X, present[k], starts, inner, active, out_cov[k], out_middle[k]
        )
        out_s[k] = np.abs(s)
        out_beta[k] = beta
        out_hess[k] = hessian


def fit_linear(
    responses: Floats,
    design: Floats,
    *,
    contrasts: Floats,
    blocks: Codes | None,
    inner: Codes | None = None,
) -> LinearFit:
    """Test contrasts for every row with random block effects.

    Parameters
    ----------
    responses
        (K, n), NaN where missing.
    design
        (n, p).
    contrasts
        (p, J), estimable on the whole design.
    blocks, inner
        (n,) codes of blocks (donors) and of blocks within them, or None.

    Returns
    -------
    LinearFit
        NaN in rows that lack the samples for a contrast, or residual degrees of freedom.

    Notes
    -----
    Restricted maximum likelihood over standard deviations. Degrees of freedom are Satterthwaite's:
    twice the squared variance of the contrast over the variance of that variance.

    References
    ----------
    Kuznetsova, Brockhoff and Christensen 2017, doi:10.18637/jss.v082.i13.
    """
    groups = Groups.make(design.shape[0], blocks, inner)
    X, C = full_rank(design, contrasts)
    X, y = np.ascontiguousarray(X[groups.order]), responses[:, groups.order]
    present = np.isfinite(y)
    usable = present.sum(axis=1) > X.shape[1]
    rest = fit_rows(y, X).sigma
    usable &= np.isfinite(rest) & (rest > 1e-10 * (1 + np.abs(np.nan_to_num(y)).max(axis=1)))
    scale = np.where(usable, rest, 1.0)
    filled = np.where(present, y, 0.0) / scale[:, None]
    K, p = len(y), X.shape[1]
    s, beta, cov = np.zeros((K, 3)), np.zeros((K, p)), np.zeros((K, p, p))
    middle, hessian = np.zeros((K, 3, p, p)), np.zeros((K, 3, 3))
    at = np.flatnonzero(usable)
    parts = [np.ascontiguousarray(out[at]) for out in (s, beta, cov, middle, hessian)]
    rows = (np.ascontiguousarray(filled[at]), X, np.ascontiguousarray(present[at]))
    _fit_all(*rows, groups.starts, groups.inner, groups.active, *parts)
    for out, part in zip((s, beta, cov, middle, hessian), parts, strict=True):
        out[at] = part
    variance = np.einsum("pj,kpq,qj->kj", C, cov, C)
    loaded = cov @ C
    slope = np.einsum("kpj,kmpq,kqj->kmj", loaded, middle, loaded)
    uncertain = np.einsum("kmj,kml,klj->kj", slope, _pseudo_inverse(hessian), slope) * 2
    df = np.divide(
        2 * variance**2, uncertain, out=np.full(variance.shape, np.nan), where=uncertain > 0
    )
    allowed = usable[:, None] & estimable_rows(present, X, C)
    values = (beta @ C * scale[:, None], np.sqrt(variance) * scale[:, None], df)
    estimate, std_error, df = (np.where(allowed, value, np.nan) for value in values)
    deviations = np.where(groups.active > 0, s * scale[:, None], np.nan)
    return LinearFit(estimate, std_error, df, deviations)


def estimable_rows(
    present: NDArray[np.bool_], design: Floats, contrasts: Floats
) -> NDArray[np.bool_]:
    """Which contrasts (K, J) the samples present in each row (K, n) can estimate."""
    patterns, where = np.unique(present, axis=0, return_inverse=True)
    span = fit_rows(np.where(patterns, 0.0, np.nan), design).span
    lost = np.abs(span.transpose(0, 2, 1) @ contrasts - contrasts).max(axis=1) > 1e-6
    return np.asarray(~lost[where.ravel()])


def _pseudo_inverse(hessian: Floats) -> Floats:
    """Inverse on the directions with positive curvature; (K, 3, 3)."""
    values, vectors = np.linalg.eigh(hessian)
    kept = values > 1e-8 * np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-300)
    inverse = np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    return np.asarray((vectors * inverse[:, None, :]) @ vectors.transpose(0, 2, 1))
