"""Abundance of many populations over samples: size factors, voom, block correlation, contrasts.

The method of limma-voom (Law 2014) with one correlation for the samples of a donor (Smyth 2005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cytoclust.numerics.gamma import fit_components
from cytoclust.numerics.lowess import lowess
from cytoclust.numerics.moderation import moderate_variances
from cytoclust.numerics.rows import RowFit, fit_rows

__all__ = [
    "ContrastFit",
    "block_correlation",
    "fit_abundance",
    "fit_values",
    "log_abundance",
    "reference_rows",
    "size_factors",
    "tmm_factors",
    "trimmed_mean",
    "welch_difference",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
SPAN = 0.5


@dataclass(frozen=True)
class ContrastFit:
    """Estimates of J contrasts for K rows, on the log2 scale; arrays (K, J)."""

    estimate: Floats
    std_error: Floats
    df: Floats

    @property
    def statistic(self) -> Floats:
        """Moderated t."""
        return self.estimate / self.std_error

    @property
    def p_value(self) -> Floats:
        """Two-sided p."""
        return np.asarray(2 * stats.t.sf(np.abs(self.statistic), self.df), dtype=np.float64)


def trimmed_mean(values: Floats, trim: float) -> Floats:
    """Mean over the first axis without the `trim` smallest and largest fractions."""
    n = len(values)
    cut = int(np.floor(n * trim))
    return np.asarray(np.sort(values, axis=0)[cut : n - cut].mean(axis=0), dtype=np.float64)


def reference_rows(counts: Floats, min_cells: float = 3) -> NDArray[np.bool_]:
    """Rows with at least `min_cells` cells in more than half of the samples."""
    return np.asarray((counts >= min_cells).mean(axis=1) > 0.5)


def size_factors(counts: Floats, totals: Floats, steady: NDArray[np.bool_] | None = None) -> Floats:
    """Trimmed log-ratio size factors: what the unchanged populations say about each sample.

    Parameters
    ----------
    counts
        (K, n) cells.
    totals
        (n,) cells of each sample, above 0.
    steady
        (K,) populations that may serve as reference; by default all.

    Returns
    -------
    (n,) array
        Factors with geometric mean 1; ``totals * factors`` is the library size. All 1 where no
        population reaches 3 cells in more than half of the samples.
    """
    rows = reference_rows(counts)
    used = counts[rows if steady is None else rows & steady]
    if not len(used):
        return np.ones(counts.shape[1])
    logs = np.log(used + 0.5)
    factors = np.exp(trimmed_mean(logs - logs.mean(axis=1, keepdims=True), 0.2)) / totals
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float64)


def tmm_factors(counts: Floats, totals: Floats) -> Floats:
    """Trimmed mean of M-values: size factors from weighted log ratios to one reference sample.

    Parameters
    ----------
    counts, totals
        As in `size_factors`.

    Returns
    -------
    (n,) array
        Factors with geometric mean 1.

    References
    ----------
    Robinson and Oshlack 2010, doi:10.1186/gb-2010-11-3-r25.
    """
    rows = counts[(counts > 0).any(axis=1)]
    upper = np.quantile(rows / totals, 0.75, axis=0)
    if np.median(upper) < 1e-20:
        reference = int(np.argmax(np.sqrt(rows).sum(axis=0)))
    else:
        reference = int(np.argmin(np.abs(upper - upper.mean())))
    against = rows[:, reference] / totals[reference]
    factors = np.ones(counts.shape[1])
    for i in range(len(factors)):
        share = rows[:, i] / totals[i]
        both = (share > 0) & (against > 0)
        ratio = np.log2(share[both] / against[both])
        if not len(ratio) or np.abs(ratio).max() < 1e-6:
            continue
        level = (np.log2(share[both]) + np.log2(against[both])) / 2
        variance = (1 - share[both]) / rows[both, i] + (1 - against[both]) / rows[both, reference]
        kept = _middle(ratio, 0.3) & _middle(level, 0.05)
        mean = (ratio[kept] / variance[kept]).sum() / (1 / variance[kept]).sum()
        factors[i] = 2.0**mean if np.isfinite(mean) else 1.0
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float64)


def _middle(values: Floats, trim: float) -> NDArray[np.bool_]:
    """Values whose rank lies outside the trimmed tails."""
    rank = stats.rankdata(values)
    low = np.floor(len(values) * trim) + 1
    return np.asarray((rank >= low) & (rank <= len(values) + 1 - low))


def block_correlation(
    responses: Floats, design: Floats, weights: Floats | None, *, blocks: Codes
) -> float:
    """Consensus correlation of two samples of one block (trimmed mean of Fisher's z over rows).

    Parameters
    ----------
    responses
        (K, n), NaN where missing.
    design
        (n, p).
    weights
        (K, n) or None.
    blocks
        (n,) codes 0..B-1.

    Returns
    -------
    float
        0 where it cannot be estimated: blocks of one sample, or already in the design.

    Notes
    -----
    Each row's two variance components are restricted maximum likelihood estimates: the part of the
    response that the design leaves over is rotated into independent pieces whose squares have means
    ``residual + block * d``.

    References
    ----------
    Smyth, Michaud and Scott 2005, doi:10.1093/bioinformatics/bti270.
    """
    sizes = np.bincount(blocks)
    if sizes.max() < 2:
        return 0.0
    present = np.isfinite(responses)
    roots = present * (1.0 if weights is None else np.sqrt(np.where(present, weights, 0.0)))
    squares, slopes, counts, enough = _independent_squares(
        np.where(present, responses, 0.0) * roots,
        design[None] * roots[:, :, None],
        present,
        blocks=blocks,
    )
    if not enough.any():
        return 0.0
    components = fit_components(squares[enough], slopes[enough], counts[enough])
    total = components.sum(axis=1)
    rho = components[total != 0, 1] / total[total != 0]
    if not len(rho):
        return 0.0
    rho = np.clip(rho, 1 / (1 - sizes.max()) + 0.01, 0.99)
    return float(np.tanh(trimmed_mean(np.arctanh(rho), 0.15)))


def _independent_squares(
    y: Floats, X: Floats, present: NDArray[np.bool_], *, blocks: Codes
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Squares, block loadings and multiplicities per row, and which rows can say something.

    Pieces without loading are kept as one entry with their mean square.
    """
    Z = (blocks[:, None] == np.arange(blocks.max() + 1)).astype(np.float64)
    Zp = Z[None] * present[:, :, None]
    left, values, _ = np.linalg.svd(X, full_matrices=False)
    kept = values > 1e-9 * np.maximum(values[:, :1], 1e-300)
    left = left * kept[:, None, :]
    rank = kept.sum(axis=1)
    rest = y - np.einsum("knp,kp->kn", left, np.einsum("knp,kn->kp", left, y))
    overlap = left.transpose(0, 2, 1) @ Zp
    gram = Zp.transpose(0, 2, 1) @ Zp - overlap.transpose(0, 2, 1) @ overlap
    loadings, vectors = np.linalg.eigh(gram)
    real = loadings > 1e-9
    scores = np.einsum("kbc,kb->kc", vectors, np.einsum("knb,kn->kb", Zp, rest))
    pieces = np.where(real, scores**2 / np.where(real, loadings, 1.0), 0.0)
    n = present.sum(axis=1)
    free = n - rank - real.sum(axis=1)
    remaining = np.maximum(np.einsum("kn,kn->k", rest, rest) - pieces.sum(axis=1), 0.0)
    mean = np.divide(remaining, free, out=np.zeros(len(y)), where=free > 0)
    n_blocks = (present @ Z > 0).sum(axis=1)
    enough = (n > X.shape[2] + 2) & (n_blocks > 1) & (n_blocks < n - 1) & real.any(axis=1)
    squares = np.column_stack([mean, pieces])
    slopes = np.column_stack([np.zeros(len(y)), np.where(real, loadings, 0.0)])
    return squares, slopes, np.column_stack([np.maximum(free, 0), real]).astype(float), enough


def log_abundance(counts: Floats, library: Floats) -> Floats:
    """Log2 cells per million with half a cell added; NaN where the library size is NaN."""
    return np.asarray(np.log2((counts + 0.5) / (library + 1) * 1e6), dtype=np.float64)


def _precision(counts: Floats, library: Floats, *, fit: RowFit, design: Floats) -> Floats:
    """Weights from the trend of residual deviation over log count (voom); (K, n)."""
    with_replicates = np.isfinite(fit.sigma) & (fit.df_residual > 0)
    if with_replicates.sum() < 2:
        return np.ones_like(counts)
    sizes = np.log2(library + 1)
    values = np.where(np.isfinite(sizes), log_abundance(counts, library), np.nan)
    level = np.nanmean(values, axis=1) + np.nanmean(sizes, axis=1) - np.log2(1e6)
    used = with_replicates & (np.where(np.isfinite(sizes), counts, 0).sum(axis=1) > 0)
    if used.sum() < 2:
        return np.ones_like(counts)
    x, trend = lowess(level[used], np.sqrt(fit.sigma[used]), span=SPAN)
    ties, where = np.unique(x, return_inverse=True)
    trend = np.bincount(where, weights=trend) / np.bincount(where)
    fitted = fit.coefficients @ design.T + sizes - np.log2(1e6)
    smooth = np.interp(np.where(np.isfinite(fitted), fitted, ties[0]), ties, trend)
    floor = max(float(np.max(trend)) * 1e-3, 1e-8)
    return np.asarray(1 / np.maximum(smooth, floor) ** 4, dtype=np.float64)


def fit_abundance(
    counts: Floats,
    library: Floats,
    design: Floats,
    *,
    contrasts: Floats,
    blocks: Codes | None,
) -> tuple[ContrastFit, float]:
    """Test contrasts of log abundance for every row.

    Parameters
    ----------
    counts
        (K, n) cells.
    library
        (n,) or (K, n) library sizes: total times size factor, or the parent's cells; NaN leaves the
        sample out of the row.
    design
        (n, p).
    contrasts
        (p, J).
    blocks
        (n,) donor codes 0..B-1, or None.

    Returns
    -------
    ContrastFit
        (K, J) log2 fold changes with moderated standard errors; NaN where a row lacks the samples.
    float
        Consensus correlation within donors.

    Notes
    -----
    Weights and correlation are estimated twice in turn. Standard errors of contrasts take the
    correlation of the coefficients from the unweighted design, as limma does (the row's own
    covariance where the design has less than full rank).

    References
    ----------
    Law, Chen, Shi and Smyth 2014, doi:10.1186/gb-2014-15-2-r29; Smyth 2004,
    doi:10.2202/1544-6115.1027.
    """
    library = np.broadcast_to(library, counts.shape)
    y = log_abundance(counts, library)
    weights = _precision(counts, library, fit=fit_rows(y, design), design=design)
    rho = 0.0
    if blocks is not None:
        rho = block_correlation(y, design, weights, blocks=blocks)
        plain = fit_rows(y, design, blocks=blocks, correlation=rho)
        weights = _precision(counts, library, fit=plain, design=design)
        rho = block_correlation(y, design, weights, blocks=blocks)
    fit = fit_rows(y, design, weights=weights, blocks=blocks, correlation=rho)
    return _moderated(fit, design, contrasts, blocking=(blocks, rho)), rho


def fit_values(
    values: Floats, design: Floats, *, contrasts: Floats, blocks: Codes | None
) -> tuple[ContrastFit, float]:
    """Test contrasts of log abundances whose cells are not known (limma-trend).

    Parameters
    ----------
    values
        (K, n) log2 abundances, NaN where missing.
    design, contrasts, blocks
        As in `fit_abundance`.

    Returns
    -------
    ContrastFit
        As of `fit_abundance`; variances are moderated towards a trend over the mean level.
    float
        Consensus correlation within donors.
    """
    rho = 0.0 if blocks is None else block_correlation(values, design, None, blocks=blocks)
    fit = fit_rows(values, design, blocks=blocks, correlation=rho)
    present = np.isfinite(values)
    level = np.where(present, values, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return _moderated(fit, design, contrasts, blocking=(blocks, rho), trend=level), rho


def _moderated(
    fit: RowFit,
    design: Floats,
    contrasts: Floats,
    *,
    blocking: tuple[Codes | None, float],
    trend: Floats | None = None,
) -> ContrastFit:
    """Contrasts with moderated standard errors."""
    unscaled = _contrast_deviations(fit, design, contrasts, blocking=blocking)
    variances, df = moderate_variances(fit.sigma**2, fit.df_residual, trend=trend)
    std_error = unscaled * np.sqrt(variances)[:, None]
    estimate = np.where(np.isfinite(std_error), fit.coefficients @ contrasts, np.nan)
    return ContrastFit(estimate, std_error, np.broadcast_to(df[:, None], estimate.shape))


def _contrast_deviations(
    fit: RowFit, design: Floats, contrasts: Floats, *, blocking: tuple[Codes | None, float]
) -> Floats:
    """Unscaled standard deviation of each contrast; NaN where the row's own samples lack it."""
    blocks, rho = blocking
    lost = np.abs(fit.span.transpose(0, 2, 1) @ contrasts - contrasts).max(axis=1) > 1e-6
    if np.linalg.matrix_rank(design) < design.shape[1]:
        exact = np.einsum("pj,kpq,qj->kj", contrasts, fit.covariance, contrasts, optimize=True)
        return np.where(lost, np.nan, np.sqrt(np.maximum(exact, 0.0)))
    common = fit_rows(np.zeros((1, len(design))), design, blocks=blocks, correlation=rho).covariance
    scale = np.sqrt(np.diag(common[0]))
    correlation = common[0] / np.outer(scale, scale)
    single = np.sqrt(np.einsum("kpp->kp", fit.covariance))
    loaded = single[:, :, None] * contrasts[None]
    variances = np.einsum("kpj,pq,kqj->kj", loaded, correlation, loaded, optimize=True)
    return np.where(lost, np.nan, np.sqrt(np.maximum(variances, 0.0)))


def welch_difference(later: ContrastFit, earlier: ContrastFit) -> ContrastFit:
    """Difference of two independent fits, degrees of freedom after Welch and Satterthwaite."""
    first, second = later.std_error**2, earlier.std_error**2
    df = (first + second) ** 2 / (first**2 / later.df + second**2 / earlier.df)
    return ContrastFit(later.estimate - earlier.estimate, np.sqrt(first + second), df)
