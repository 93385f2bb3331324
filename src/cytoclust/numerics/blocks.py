"""Marker medians over samples: fixed block means, estimated precision, moderated contrasts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytoclust.numerics.gamma import fit_components
from cytoclust.numerics.moderation import moderate_variances
from cytoclust.numerics.rows import RowFit, fit_rows
from cytoclust.numerics.voom import ContrastFit

__all__ = ["estimable", "fit_medians", "moderated_contrasts", "precision_weights"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
ENOUGH = 30  # residuals that a marker's own precision needs; below, all markers are pooled


def fit_medians(
    medians: Floats,
    cells: Floats,
    design: Floats,
    *,
    contrasts: Floats,
    blocks: Codes | None,
    groups: Codes,
) -> ContrastFit:
    """Test contrasts of medians for every row, each block with a mean of its own.

    Parameters
    ----------
    medians
        (K, n), NaN where there are too few cells.
    cells
        (K, n) cells behind each median.
    design
        (n, p).
    contrasts
        (p, J).
    blocks
        (n,) donor codes 0..B-1, or None.
    groups
        (K,) codes of rows that share their precision (the marker).

    Returns
    -------
    ContrastFit
        (K, J) differences; NaN where a row's own samples do not allow the contrast.
    """
    weights = precision_weights(medians, cells, design, blocks=blocks, groups=groups)
    fit = fit_rows(medians, design, weights=weights, blocks=blocks, fixed=blocks is not None)
    return moderated_contrasts(fit, contrasts)


def precision_weights(
    medians: Floats, cells: Floats, design: Floats, *, blocks: Codes | None, groups: Codes
) -> Floats:
    """Weights 1 / (tau2 + s2 / cells) with tau2 and s2 estimated from an unweighted fit; (K, n).

    The expected square of a residual is linear in tau2 and s2; what each sample's variance adds to
    the residuals of its neighbours is known from the design. Both are fitted to the squares (gamma
    errors), pooled over the rows of a group. Cell counts themselves as weights would claim that a
    median of 50,000 cells is 1,000 times as certain as one of 50, although samples differ for other
    reasons.
    """
    plain = fit_rows(medians, design, blocks=blocks, fixed=blocks is not None)
    present = np.isfinite(medians) & (cells > 0)
    inverse = np.where(present, 1 / np.where(present, cells, 1.0), 0.0)
    squares, slopes = np.zeros_like(cells), np.zeros_like(cells)
    patterns, where = np.unique(present, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        rows = np.flatnonzero(where.ravel() == i)
        at = np.flatnonzero(pattern)
        spread = _residual_squares(design[at], None if blocks is None else blocks[at])
        own = spread.sum(axis=1)  # 1 - leverage
        free = own > 1e-6
        cell = np.ix_(rows, at[free])
        squares[cell] = plain.residuals[cell] ** 2 / own[free]
        slopes[cell] = inverse[np.ix_(rows, at)] @ (spread[free] / own[free, None]).T
    pooled = _components(squares, slopes) or (1.0, 0.0)
    weights = np.ones_like(cells)
    for group in np.unique(groups):
        chosen = groups == group
        tau2, s2 = _components(squares[chosen], slopes[chosen]) or pooled
        weights[chosen] = 1 / (tau2 + s2 / np.maximum(cells[chosen], 1.0))
    return weights


def _residual_squares(design: Floats, blocks: Codes | None) -> Floats:
    """Squared entries (n, n) of the matrix that turns observations into residuals."""
    columns = design
    if blocks is not None:
        columns = np.column_stack([design, blocks[:, None] == np.unique(blocks)])
    left, values, _ = np.linalg.svd(columns.astype(np.float64), full_matrices=False)
    left = left[:, values > 1e-9 * max(values[0], 1.0)] if len(values) else left
    return np.asarray((np.eye(len(design)) - left @ left.T) ** 2)


def _components(squares: Floats, slopes: Floats) -> tuple[float, float] | None:
    """(tau2, s2) of a group, or None where they cannot be told; neither is below zero."""
    given = squares > 0
    if given.sum() < ENOUGH:
        return None
    y, x = squares[given], slopes[given]
    scale = y.mean()
    tau2, s2 = fit_components((y / scale)[None], x[None], rounds=50)[0] * scale
    if not np.isfinite([tau2, s2]).all():
        return None
    if s2 <= 0:
        return 1.0, 0.0
    return max(float(tau2), 0.01 * float(s2 * np.median(x))), float(s2)


def moderated_contrasts(
    fit: RowFit, contrasts: Floats, *, trend: Floats | None = None
) -> ContrastFit:
    """Contrasts with moderated standard errors; `trend` = (K,) mean level of a trended prior."""
    unscaled = np.einsum("pj,kpq,qj->kj", contrasts, fit.covariance, contrasts, optimize=True)
    allowed = np.abs(fit.span.transpose(0, 2, 1) @ contrasts - contrasts).max(axis=1) < 1e-6
    allowed &= (fit.df_residual > 0)[:, None]
    variances, df = moderate_variances(fit.sigma**2, fit.df_residual, trend=trend)
    std_error = np.sqrt(np.maximum(unscaled, 0.0) * variances[:, None])
    estimate = np.where(allowed, fit.coefficients @ contrasts, np.nan)
    std_error = np.where(allowed, std_error, np.nan)
    return ContrastFit(estimate, std_error, np.broadcast_to(df[:, None], estimate.shape))


def estimable(design: Floats, contrasts: Floats, blocks: Codes | None) -> tuple[Floats, float]:
    """Which contrasts (J,) fixed block means leave estimable, and the residual degrees of freedom."""
    fit = fit_rows(np.zeros((1, len(design))), design, blocks=blocks, fixed=blocks is not None)
    lost = np.abs(fit.span[0].T @ contrasts - contrasts).max(axis=0)
    return np.asarray(lost < 1e-6, dtype=np.float64), float(fit.df_residual[0])
