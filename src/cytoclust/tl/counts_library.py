"""Library sizes: the cells that counts are relative to, for each denominator."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust.checks import listing, logger
from cytoclust.errors import ArgumentError, StatisticsWarning
from cytoclust.numerics.voom import reference_rows, size_factors, tmm_factors
from cytoclust.tl.counts_fit import Denominator, Options, Rows, fit_counts
from cytoclust.tl.multiplicity import benjamini_hochberg
from cytoclust.tl.sheet import as_text, refuse_unknown_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.tl.counts_table import Abundance
    from cytoclust.tl.design import Design
    from cytoclust.tl.results import Outcome

__all__ = ["library_of", "log_ratio_library"]

MIN_REFERENCE = 4  # populations that size factors should rest on
VANISHING = 3.0  # log2 change by which a population pulls at the reference of all others
CHANGED = 1.0  # and by which it leaves too, once one has vanished
ALPHA = 0.05
MIN_PARENT = 10  # cells of the parent below which a share of it means nothing


def library_of(
    denominator: Denominator,
    options: Options,
    *,
    plan: Design,
    leaf: Abundance,
    parents: pd.Series,
    summed: pd.DataFrame,
) -> tuple[NDArray[np.float64], dict[str, Outcome] | None]:
    """Cells that each count is relative to, (n,) or (K, n); NaN leaves a sample out of the row.

    `summed` holds the counts with parents, `parents` the parent of each row. The second value is the
    default fit of the leaves with this library, where it was made on the way.
    """
    names = list(plan.table.index)
    totals = leaf.totals[names].to_numpy(dtype=np.float64)
    if denominator == "total" or options.percent:
        return totals, None
    if denominator == "log_ratio":
        return log_ratio_library(leaf.counts[names], totals, plan, options=options)
    if denominator == "absolute":
        return _volume(leaf, totals, names, options=options), None
    if leaf.tree is None:
        msg = "denominator 'parent' needs a phenotype hierarchy; none is recorded. Run tl.annotate_phenotypes or give hierarchy=."
        raise ArgumentError(msg)
    below = [summed.loc[name].to_numpy() if name in summed.index else totals for name in parents]
    cells = np.array(below, dtype=np.float64).reshape(len(parents), len(totals))
    return np.where(cells >= MIN_PARENT, cells, np.nan), None


def _volume(
    leaf: Abundance, totals: NDArray[np.float64], names: list[str], *, options: Options
) -> NDArray[np.float64]:
    """Volume in which the cells were counted, up to a factor, scaled to the number of cells."""
    key, argument = options.absolute_key, "absolute_key"
    if key is None:
        key, argument = str(options.beads_key), "beads_key"
    if key not in leaf.sheet.columns:
        refuse_unknown_column(argument, key, leaf.sheet.columns)
    given = as_text(leaf.sheet.loc[names, key]).replace("", np.nan)
    number = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
    known = number > 0
    lacking = [name for name, fine in zip(names, known, strict=True) if not fine]
    if not known.any():
        msg = f"{argument} {key!r} must hold numbers above 0; found none. Correct the column of the sample sheet."
        raise ArgumentError(msg)
    if lacking:
        text = (
            f"{len(lacking)} samples without a number above 0 in {key!r} take no part in the tests of "
            f"absolute counts: {listing(lacking, 5)}."
        )
        warnings.warn(text, StatisticsWarning, stacklevel=5)
    safe = np.where(known, number, 1.0)
    volume = np.where(known, totals / safe if argument == "absolute_key" else safe, np.nan)
    scale = np.exp(np.log(totals).mean() - np.nanmean(np.log(volume)))
    return np.asarray(volume * scale)


def log_ratio_library(
    counts: pd.DataFrame, totals: NDArray[np.float64], plan: Design, *, options: Options
) -> tuple[NDArray[np.float64], dict[str, Outcome] | None]:
    """Cells of each sample times its size factor, from the populations that may serve as reference.

    A trimmed mean bears a few changed populations, but not a whole lineage that a drug removes: each
    of its members pulls at the reference of all others. So where populations change 8-fold or more in
    a first fit they leave the reference, and so do those that change 2-fold or more in the second.
    The second value is the default fit of all rows with this library, if it was made on the way.
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
    if options.normalization == "tmm":
        return totals * tmm_factors(cells, totals), None
    library = totals * size_factors(cells, totals)
    steady = np.ones(len(cells), dtype=bool)
    tested = None
    for limit in (VANISHING, CHANGED):
        rows = Rows.make(cells, library, totals)
        tested = fit_counts(rows, plan, method="voom", options=options)
        left = steady & ~changed_rows(tested, plan, limit)
        if left.all() or (usable & left).sum() < MIN_REFERENCE:
            break
        steady = left
        library = totals * size_factors(cells, totals, steady)
        tested = None
    if not steady.all():
        logger.info("log-ratio reference without %s", listing(counts.index[~steady]))
    return library, tested if options.method == "voom" and not options.joint else None


def changed_rows(tested: dict[str, Outcome], plan: Design, limit: float) -> NDArray[np.bool_]:
    """Rows that change significantly by `limit` (log2) or more in a contrast within a compartment."""
    found = []
    for place in plan.compartments:
        outcome = tested[place]
        fdr = np.apply_along_axis(benjamini_hochberg, 0, outcome.p_value)
        found.append(((np.abs(outcome.estimate) >= limit) & (fdr < ALPHA)).any(axis=1))
    return np.asarray(np.any(found, axis=0))
