"""Many small weighted regressions at once: one design, one response per row, missing values allowed.

Observations of one block (a donor) are either equally correlated or have a mean of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowFit", "fit_rows"]

Floats = NDArray[np.float64]
CHUNK = 256  # rows held at once: (CHUNK, n_samples, n_columns) doubles
NULL = 1e-9  # relative eigenvalue below which a direction of the design is not there


@dataclass(frozen=True)
class RowFit:
    """What `fit_rows` returns; K rows, p columns of the design.

    Attributes
    ----------
    coefficients
        (K, p); minimum-norm where the design has less than full rank.
    covariance
        (K, p, p), to be multiplied with the residual variance.
    span
        (K, p, p) projector: the contrast c is estimable if ``c @ span == c``.
    df_residual
        (K,) residual degrees of freedom.
    sigma
        (K,) residual standard deviation; NaN without residual degrees of freedom.
    residuals
        (K, n) residuals on the scale of the response, after block means if blocks are fixed.
    leverage
        (K, n) diagonal of the weighted hat matrix, block means included.
    """

    coefficients: Floats
    covariance: Floats
    span: Floats
    df_residual: Floats
    sigma: Floats
    residuals: Floats
    leverage: Floats


def fit_rows(
    responses: Floats,
    design: Floats,
    *,
    weights: Floats | None = None,
    blocks: NDArray[np.int64] | None = None,
    correlation: float = 0.0,
    fixed: bool = False,
) -> RowFit:
    """Regress every row of `responses` on `design`.

    Parameters
    ----------
    responses
        (K, n); NaN is left out of its row.
    design
        (n, p).
    weights
        (K, n) inverse variances up to a factor of the row; None for equal ones.
    blocks
        (n,) codes 0..B-1 of the blocks; None for independent observations.
    correlation
        Correlation of two observations of a block.
    fixed
        Give each block a mean of its own in place of the correlation.

    Returns
    -------
    RowFit
        Coefficients and what is needed to test contrasts of them.
    """
    parts = []
    for start in range(0, max(len(responses), 1), CHUNK):
        rows = slice(start, start + CHUNK)
        chosen = None if weights is None else weights[rows]
        parts.append(
            _fit_chunk(responses[rows], design, chosen, blocking=(blocks, correlation, fixed))
        )
    return RowFit(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _fit_chunk(
    responses: Floats,
    design: Floats,
    weights: Floats | None,
    *,
    blocking: tuple[NDArray[np.int64] | None, float, bool],
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats]:
    """Fit one chunk of rows; returns the fields of `RowFit` in order."""
    blocks, correlation, fixed = blocking
    present = np.isfinite(responses)
    roots = present * (1.0 if weights is None else np.sqrt(np.where(present, weights, 0.0)))
    y = np.where(present, responses, 0.0) * roots
    X = design[None] * roots[:, :, None]
    spent = np.zeros(len(y))
    taken = np.zeros_like(y)  # leverage that the block means take
    if blocks is not None and fixed:
        y, X, spent, taken = _sweep_means(y, X, roots=roots, blocks=blocks)
    elif blocks is not None and correlation != 0.0:
        y, X = _whiten(y, X, present, blocking=(blocks, correlation))
    gram = X.transpose(0, 2, 1) @ X
    scale = np.sqrt(np.maximum(np.einsum("kpp->kp", gram), 1e-300))
    values, vectors = np.linalg.eigh(gram / (scale[:, :, None] * scale[:, None, :]))
    kept = values > NULL * np.maximum(values[:, -1:], 1.0)
    inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
    covariance = (vectors * inverse[:, None, :]) @ vectors.transpose(0, 2, 1)
    covariance /= scale[:, :, None] * scale[:, None, :]
    coefficients = np.einsum("kpq,kq->kp", covariance, np.einsum("knp,kn->kp", X, y))
    errors = y - np.einsum("knp,kp->kn", X, coefficients)
    df = present.sum(axis=1) - kept.sum(axis=1) - spent
    squares = np.einsum("kn,kn->k", errors, errors)
    sigma = np.sqrt(np.divide(squares, df, out=np.full(len(y), np.nan), where=df > 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        residuals = np.where(present, errors / roots, np.nan)
    leverage = taken + np.einsum("knp,kpq,knq->kn", X, covariance, X)
    span = covariance @ gram
    return coefficients, covariance, span, df.astype(np.float64), sigma, residuals, leverage


def _indicator(blocks: NDArray[np.int64]) -> Floats:
    """Return the (n, B) matrix that is 1 where a sample belongs to a block."""
    return (blocks[:, None] == np.arange(blocks.max() + 1)).astype(np.float64)


def _sweep_means(
    y: Floats, X: Floats, *, roots: Floats, blocks: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Take the weighted mean of each block out of response and design."""
    Z = _indicator(blocks)
    mass = (roots**2) @ Z  # (K, B)
    share = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)
    means_y = ((y * roots) @ Z) * share
    means_X = np.einsum("knp,kn,nb->kbp", X, roots, Z, optimize=True) * share[:, :, None]
    y = y - roots * means_y[:, blocks]
    X = X - roots[:, :, None] * means_X[:, blocks]
    return y, X, (mass > 0).sum(axis=1).astype(np.float64), roots**2 * share[:, blocks]


def _whiten(
    y: Floats, X: Floats, present: NDArray[np.bool_], *, blocking: tuple[NDArray[np.int64], float]
) -> tuple[Floats, Floats]:
    """Make equally correlated observations independent with variance 1 (symmetric square root)."""
    blocks, correlation = blocking
    Z = _indicator(blocks)
    sizes = np.maximum(present @ Z, 1.0)
    ratio = (1 - correlation) / (1 - correlation + sizes * correlation)
    shift = ((1 - np.sqrt(ratio)) / sizes)[:, blocks] * present
    sums_y = (y @ Z)[:, blocks]
    sums_X = np.einsum("knp,nb->kbp", X, Z, optimize=True)[:, blocks]
    factor = 1 / np.sqrt(1 - correlation)
    return factor * (y - shift * sums_y), factor * (X - shift[:, :, None] * sums_X)
