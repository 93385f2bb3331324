"""Empirical Bayes moderation of residual variances over many rows (Smyth 2004)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

__all__ = ["moderate_variances"]

Floats = NDArray[np.float64]


def moderate_variances(
    variances: Floats, df: Floats, *, trend: Floats | None = None
) -> tuple[Floats, Floats]:
    """Shrink residual variances to a common value, or to a smooth trend.

    Parameters
    ----------
    variances, df
        (K,) residual variances and their degrees of freedom; rows without either (NaN, 0) take no
        part and come back as the prior.
    trend
        (K,) covariate of the trend (mean level of the row); None for a common prior.

    Returns
    -------
    posterior : (K,) moderated variances
    df_total : (K,) degrees of freedom, at most the pooled ones

    Notes
    -----
    The prior is a scaled F distribution fitted by moments of log variances; with a trend, on a
    natural cubic spline.

    References
    ----------
    Smyth 2004, doi:10.2202/1544-6115.1027.
    """
    usable = np.isfinite(variances) & (variances > -1e-15) & (df > 1e-15)
    df = np.where(usable, df, 0.0)
    prior = np.full(len(variances), np.nan)
    df_prior = 0.0
    if usable.sum() > 1:
        covariate = None if trend is None else trend[usable]
        prior[usable], df_prior = _fit_prior(variances[usable], df[usable], covariate)
    elif usable.any():
        prior[usable] = variances[usable]
    if usable.any() and not usable.all():
        prior[~usable] = prior[usable].mean()
    sample = np.where(usable, variances, 0.0)
    if np.isinf(df_prior):
        posterior = prior.copy()
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            posterior = (df * sample + df_prior * prior) / (df + df_prior)
    return posterior, np.minimum(df + df_prior, df.sum())


def _fit_prior(variances: Floats, df: Floats, covariate: Floats | None) -> tuple[Floats, float]:
    """Fit scale (K,) and degrees of freedom of the prior."""
    centre = np.median(variances)
    floor = 1e-5 * (centre if centre > 0 else 1.0)
    values = np.maximum(variances, floor)
    logs = np.log(values) - digamma(df / 2) + np.log(df / 2)
    if covariate is None:
        mean = np.full(len(logs), logs.mean())
        spread = float(np.sum((logs - mean) ** 2) / (len(logs) - 1))
    else:
        basis = _natural_spline(covariate)
        rank = int(np.linalg.matrix_rank(basis))
        mean = basis @ np.linalg.lstsq(basis, logs, rcond=None)[0]
        spread = float(np.sum((logs - mean) ** 2) / max(len(logs) - rank, 1))
    excess = spread - float(np.mean(polygamma(1, df / 2)))
    if excess <= 0:
        return (np.full(len(logs), values.mean()) if covariate is None else np.exp(mean)), np.inf
    df_prior = 2 * _inverse_trigamma(excess)
    return np.exp(mean + digamma(df_prior / 2) - np.log(df_prior / 2)), df_prior


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method on 1 / trigamma, which is convex."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def _natural_spline(x: Floats) -> Floats:
    """Natural cubic spline basis with intercept; more knots the more rows there are."""
    n = len(x)
    columns = min(1 + (n >= 3) + (n >= 6) + (n >= 30), len(np.unique(x)))
    spread = x.max() - x.min()
    scaled = (x - x.min()) / (spread if spread > 0 else 1.0)
    if columns < 3:
        return np.vander(scaled, columns, increasing=True)
    inner = np.quantile(scaled, np.arange(1, columns - 1) / (columns - 1))
    knots = np.concatenate([[0.0], inner, [1.0]])

    def bend(knot: float) -> Floats:
        cubes = np.maximum(scaled - knot, 0) ** 3 - np.maximum(scaled - knots[-1], 0) ** 3
        return cubes / (knots[-1] - knot)

    last = bend(knots[-2])
    curves = [bend(knot) - last for knot in knots[:-2]]
    return np.column_stack([np.ones(n), scaled, *curves])
