"""The models of abundance, each from counts and library sizes of one unit to fitted contrasts."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from cytoclust.errors import ArgumentError
from cytoclust.numerics.blocks import estimable
from cytoclust.numerics.mixed import fit_linear, full_rank
from cytoclust.numerics.mixed_binomial import BinomialFit, fit_binomial
from cytoclust.numerics.voom import fit_abundance, fit_values, log_abundance
from cytoclust.tl.results import OK, SEPARATED, SINGULAR, Fitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cytoclust.tl.design import Unit

__all__ = ["METHODS", "Input", "Method", "require_edger"]

Method = Literal["voom", "glmm", "lmm", "signflip", "edger"]
FAR = 10.0  # natural log odds, or their standard error, that no data can support
FLAT = "no variance between {} (a standard deviation is estimated as 0)"


@dataclass(frozen=True)
class Input:
    """What a model of one unit sees: K rows, n samples.

    Attributes
    ----------
    cells
        (K, n) counts, or percentages if `percent`.
    library
        (K, n) library sizes; NaN leaves a sample out of the row.
    trials
        (K, n) cells among which `cells` were counted.
    unit
        Design of the unit.
    inner
        (n,) codes of donor and compartment, in a joint model.
    percent
        Whether `cells` are percentages without known numbers of cells.
    """

    cells: NDArray[np.float64]
    library: NDArray[np.float64]
    trials: NDArray[np.float64]
    unit: Unit
    inner: NDArray[np.int64] | None = None
    percent: bool = False

    @property
    def values(self) -> NDArray[np.float64]:
        """(K, n) log2 abundance."""
        return log_percent(self.cells) if self.percent else log_abundance(self.cells, self.library)


def log_percent(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log2 percentages with half of the row's smallest value above zero added."""
    positive = np.where(percent > 0, percent, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row of zeros
        least = np.nanmin(positive, axis=1, keepdims=True)
    return np.asarray(np.log2(percent + np.where(np.isfinite(least), least, 1.0) / 2))


def fit_voom(given: Input) -> Fitted:
    """limma-voom with one correlation within donors; limma-trend for percentages."""
    unit = given.unit
    blocks = unit.blocks if given.inner is None else given.inner
    if given.percent:
        fit, _ = fit_values(given.values, unit.matrix, contrasts=unit.contrasts, blocks=blocks)
    else:
        fit, _ = fit_abundance(
            given.cells, given.library, unit.matrix, contrasts=unit.contrasts, blocks=blocks
        )
    return Fitted(fit.estimate, fit.std_error, fit.df)


def fit_lmm(given: Input) -> Fitted:
    """Linear mixed model of log ratios with Satterthwaite's degrees of freedom."""
    unit = given.unit
    fit = fit_linear(
        given.values, unit.matrix, contrasts=unit.contrasts, blocks=unit.blocks, inner=given.inner
    )
    status, reason = _flags(fit.singular, fit.estimate.shape)
    return Fitted(fit.estimate, fit.std_error, fit.df, status=status, reason=reason)


def _flags(
    singular: NDArray[np.bool_], shape: tuple[int, ...]
) -> tuple[NDArray[np.str_], NDArray[np.object_]]:
    """Status and reason of rows whose random effects vanish."""
    status = np.where(np.broadcast_to(singular[:, None], shape), SINGULAR, OK).astype(object)
    reason = np.where(status == SINGULAR, FLAT.format("donors or samples"), "").astype(object)
    return status, reason


def fit_glmm(given: Input) -> Fitted:
    """Binomial mixed model; t statistics, and likelihood-ratio tests where cells are separated."""
    unit, present = given.unit, np.isfinite(given.library)
    trials = np.where(present, given.trials, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where(present, np.log(given.library / given.trials), 0.0)

    def fit(
        rows: NDArray[np.int64], matrix: NDArray[np.float64], contrasts: NDArray[np.float64]
    ) -> BinomialFit:
        return fit_binomial(
            given.cells[rows], trials[rows], matrix, contrasts=contrasts, blocks=unit.blocks,
            inner=given.inner, offset=offset[rows],
        )  # fmt: skip

    whole = fit(np.arange(len(trials)), unit.matrix, unit.contrasts)
    df = _degrees_of_freedom(given, present)
    status, reason = _flags(whole.singular, whole.estimate.shape)
    result = Fitted(
        whole.estimate / np.log(2), whole.std_error / np.log(2), df, status=status, reason=reason
    )
    lost = ~whole.converged
    result.estimate[lost] = np.nan
    result.reason[lost] = "the model did not converge"
    _test_separated(given, trials, (whole, result), fit=fit)
    return result


def _degrees_of_freedom(given: Input, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count samples less donors less changes, or donors less means between donors; (K, J)."""
    unit = given.unit
    blocks = unit.blocks if given.inner is None else given.inner
    within, df = estimable(unit.matrix, unit.contrasts, blocks)
    n, rank = len(unit.matrix), np.linalg.matrix_rank(unit.matrix)
    between = (n if blocks is None else len(np.unique(blocks))) - rank
    each = np.where((within > 0) & (df >= 1), df, between)
    return np.maximum(each[None] - (~present).sum(axis=1)[:, None], 1.0)


def _test_separated(
    given: Input,
    trials: NDArray[np.float64],
    fits: tuple[BinomialFit, Fitted],
    *,
    fit: Callable[..., BinomialFit],
) -> None:
    """Replace Wald tests that mean nothing: no cells at a level, or estimates without bound.

    There the Wald statistic falls as the change grows (Hauck and Donner 1977), so the
    likelihood-ratio test is taken, and the change from pooled shares with half a cell added.
    """
    whole, result = fits
    matrix, contrasts = given.unit.matrix, given.unit.contrasts
    member = (matrix == 1).all(axis=0) | np.isin(matrix, (0.0, 1.0)).all(axis=0)
    cells, of = given.cells * (trials > 0) @ matrix, trials @ matrix
    empty = member & (cells == 0)
    far = (np.abs(whole.estimate) > FAR) | (whole.std_error > FAR)
    for j in np.flatnonzero(np.abs(contrasts).sum(axis=0) > 0):
        weights = contrasts[:, j]
        touched = (empty[:, weights != 0]).any(axis=1) | far[:, j]
        rows = np.flatnonzero(touched & whole.converged & np.isfinite(whole.estimate[:, j]))
        if not len(rows):
            continue
        nothing = (empty | (weights == 0))[rows].all(axis=1)
        result.estimate[rows[nothing], j] = np.nan
        result.reason[rows[nothing], j] = "no cells at any of the levels compared"
        rows = rows[~nothing]
        if not len(rows):
            continue
        # designs on which the contrast is 0
        span = np.linalg.svd(weights[None])[2][1:].T
        null = fit(rows, matrix @ span, np.zeros((span.shape[1], 1)))
        gain = np.maximum(2 * (whole.log_likelihood[rows] - null.log_likelihood), 0.0)
        share = np.where(member, np.log2((cells[rows] + 0.5) / (of[rows] + 1)), 0.0)
        change = share @ weights
        root = np.maximum(np.sqrt(gain), 1e-6)
        result.estimate[rows, j] = change
        result.std_error[rows, j] = np.abs(change) / root
        result.status[rows, j] = SEPARATED
        result.reason[rows, j] = (
            "no cells at a level, or no overlap: likelihood-ratio test; the change is of pooled shares "
            "with half a cell added, its interval follows the test"
        )


def require_edger() -> None:
    """Refuse ``method="edger"`` where its optional package is not installed."""
    if importlib.util.find_spec("edgepython") is None:
        msg = (
            "method 'edger' needs the optional package edgepython (GPL-3); it is not installed. Install "
            "cytoclust[edger], or use method='voom'."
        )
        raise ArgumentError(msg)


def fit_edger(given: Input) -> Fitted:
    """Quasi-likelihood negative binomial model of edgeR with a mean per donor."""
    import edgepython

    unit = given.unit
    blocks = unit.blocks if given.inner is None else given.inner
    allowed, _ = estimable(unit.matrix, unit.contrasts, blocks)
    matrix = unit.matrix
    contrasts = unit.contrasts * allowed
    if blocks is not None:
        matrix = np.column_stack([matrix, blocks[:, None] == np.unique(blocks)]).astype(float)
        contrasts = np.vstack(
            [contrasts, np.zeros((matrix.shape[1] - len(contrasts), len(allowed)))]
        )
    matrix, contrasts = full_rank(matrix, contrasts)
    shape = (len(given.cells), len(allowed))
    result = Fitted(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan))
    complete = np.asarray(np.isfinite(given.library).all(axis=1))
    reason = np.where(complete, "", "edger needs every sample of a row").astype(object)
    result.reason[:] = reason[:, None]
    result.reason[:, allowed == 0] = "compares donors with donors, who have a mean each in edger"
    if len(matrix) <= matrix.shape[1] or not complete.any():
        result.reason[:] = "no degrees of freedom left after donors and levels"
        return result
    counts, offset = given.cells[complete], np.log(given.library[complete])
    sizes = np.exp(offset.mean(axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numerical notes of edgepython
        dispersions = edgepython.estimate_disp(counts, matrix, offset=offset, lib_size=sizes)
        fit = edgepython.glm_ql_fit(
            counts,
            matrix,
            dispersion=dispersions["trended.dispersion"],
            offset=offset,
            lib_size=sizes,
            legacy=True,
        )
        for j in np.flatnonzero(allowed):
            table = edgepython.glm_ql_ftest(fit, contrast=contrasts[:, j])
            _edger_rows(result, complete, int(j), tested=table)
    return result


def _edger_rows(
    result: Fitted, complete: NDArray[np.bool_], j: int, *, tested: dict[str, Any]
) -> None:
    """Copy a tested contrast; the standard error is what the F statistic says."""
    table = tested["table"]
    change, p_value = (table[name].to_numpy(np.float64) for name in ("logFC", "PValue"))
    df = np.broadcast_to(np.asarray(tested["df.total"], dtype=np.float64), change.shape)
    root = np.maximum(stats.t.isf(np.clip(p_value, 1e-300, 1) / 2, df), 1e-6)
    result.estimate[complete, j] = change
    result.std_error[complete, j] = np.abs(change) / root
    result.df[complete, j] = df


METHODS: dict[str, Callable[[Input], Fitted]] = {
    "voom": fit_voom,
    "glmm": fit_glmm,
    "lmm": fit_lmm,
    "edger": fit_edger,
}
