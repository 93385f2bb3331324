"""Test a table of counts against a library size, and find the library that composition asks for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from cytoclust.checks import listing, logger
from cytoclust.errors import StatisticsWarning
from cytoclust.numerics.threads import thread_limit
from cytoclust.numerics.voom import fit_abundance, reference_rows, size_factors
from cytoclust.tl.results import Outcome, fit_everywhere, tidy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.tl.design import Design, Unit

__all__ = ["Denominator", "Method", "Options", "counts_result", "log_ratio_library"]

Method = Literal["voom"]
Denominator = Literal["log_ratio", "total", "parent", "absolute"]
MIN_REFERENCE = 4  # populations that size factors should rest on
VANISHING = 3.0  # log2 change by which a population pulls at the reference of all others
CHANGED = 1.0  # and by which it leaves too, once one has vanished
ALPHA = 0.05
SAME_SHARE = 1e-9  # relative


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the rows are counted and filtered."""

    method: Method
    denominators: tuple[Denominator, ...]
    min_cells: float
    absolute_key: str | None


def log_ratio_library(
    counts: pd.DataFrame, totals: NDArray[np.float64], plan: Design, *, options: Options
) -> NDArray[np.float64]:
    """Cells of each sample times its size factor, from the populations that may serve as reference.

    A trimmed mean bears a few changed populations, but not a whole lineage that a drug removes: each
    of its members pulls at the reference of all others. So where populations change 8-fold or more in
    a first fit they leave the reference, and so do those that change 2-fold or more in the second.
    """
    cells = counts.to_numpy(dtype=np.float64)
    usable = reference_rows(cells)
    if usable.sum() < MIN_REFERENCE:
        text = (
            f"log-ratio size factors rest on {int(usable.sum())} populations with 3 cells in more than "
            "half of the samples; with so few, a change of one looks like a change of the "
            "others. Use denominator='total' or finer populations."
        )
        warnings.warn(text, StatisticsWarning, stacklevel=5)
    library = totals * size_factors(cells, totals)
    steady = np.ones(len(cells), dtype=bool)
    for limit in (VANISHING, CHANGED):
        left = steady & ~changed_rows(cells, library, plan, options=options, limit=limit)
        if left.all() or (usable & left).sum() < MIN_REFERENCE:
            break
        steady = left
        library = totals * size_factors(cells, totals, steady)
    if not steady.all():
        logger.info("log-ratio reference without %s", listing(counts.index[~steady]))
    return library


def changed_rows(
    cells: NDArray[np.float64],
    library: NDArray[np.float64],
    plan: Design,
    *,
    options: Options,
    limit: float,
) -> NDArray[np.bool_]:
    """Rows that change significantly by `limit` (log2) or more in a contrast within a compartment."""
    rows = np.arange(len(cells))
    labels = pd.DataFrame({"population": rows, "level": "", "parent": "", "denominator": ""})
    table = counts_result(cells, library, plan, options=options, labels=labels)
    within = table["compartment"].isin(list(plan.compartments))
    far = (table["log2_fold_change"].abs() >= limit) & (table["fdr"] < ALPHA)
    return np.isin(rows, table.loc[within & far, "population"])


def counts_result(
    counts: NDArray[np.float64],
    library: NDArray[np.float64],
    plan: Design,
    *,
    options: Options,
    labels: pd.DataFrame,
) -> pd.DataFrame:
    """Test a counts matrix whose columns are the design's samples."""
    shares = np.broadcast_to(library, counts.shape)

    def fit_unit(unit: Unit) -> Outcome:
        cells, sizes = counts[:, unit.samples], shares[:, unit.samples]
        enough = (cells >= options.min_cells) & np.isfinite(sizes)
        need = max(unit.smallest_cell, 1) if options.min_cells else 0
        kept = enough.sum(axis=1) >= need
        why = [
            f"{options.min_cells:g} cells in {n} of {len(unit.samples)} samples; needs {need}"
            for n in enough.sum(axis=1)
        ]
        varies = kept & ~tracks_library(cells, sizes)
        fit = None
        if varies.any() and not all(unit.reasons):
            with thread_limit(1):
                fit, rho = fit_abundance(
                    cells[varies],
                    sizes[varies],
                    unit.matrix,
                    contrasts=unit.contrasts,
                    blocks=unit.blocks,
                )
            logger.info("%s: correlation within donors %.3f", unit.compartment, rho)
        lost = "too few samples with enough cells, or no variation between them"
        reasons = (np.array(why, dtype=object), lost)
        return Outcome.collect(fit, kept, unit, reasons=reasons, fitted=varies)

    present = None if np.isfinite(shares).all() else np.isfinite(shares)
    tested = fit_everywhere(plan, fit_unit)
    return tidy(plan, tested, labels, kind="abundance", method=options.method, present=present)


def tracks_library(cells: NDArray[np.float64], library: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows that are one share of the library in every sample: all of it, or its only reference.

    Such a row says nothing but the pseudocount of the log ratio, yet without any scatter.
    """
    tracks = np.zeros(len(cells), dtype=bool)
    if not cells.size:
        return tracks
    for pseudocount in (0.0, 0.5):  # size factors rest on cells + 0.5
        share = np.where(np.isfinite(library), (cells + pseudocount) / library, np.nan)
        lowest, highest = np.fmin.reduce(share, axis=1), np.fmax.reduce(share, axis=1)
        tracks |= highest - lowest <= SAME_SHARE * highest
    return np.asarray(tracks & (cells > 0).any(axis=1))
