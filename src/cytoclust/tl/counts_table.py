"""Counts, totals and sample sheet for a test, from an AnnData or from tables made elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, get, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError, StudyError, StudyWarning
from cytoclust.get.composition import POPULATION
from cytoclust.tl.sheet import as_text, sheet_by_sample

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from numpy.typing import NDArray

TOTAL = "total"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


@dataclass(frozen=True)
class Abundance:
    """Cells per population and sample, and what they are shares of.

    Attributes
    ----------
    counts
        Populations x samples (float64), samples as in `sheet`.
    totals
        (n_samples,) cells of each sample.
    sheet
        Sample sheet by sample name.
    level
        "phenotype" or "cluster".
    tree
        Index = population, column parent; None if unknown.
    """

    counts: pd.DataFrame
    totals: pd.Series
    sheet: pd.DataFrame
    level: str
    tree: pd.DataFrame | None


def from_anndata(
    adata: AnnData,
    groupby: str,
    *,
    samples: pd.DataFrame | str | os.PathLike[str] | None,
    sample_key: str,
) -> Abundance:
    """Count the events; the sheet recorded in the AnnData is used unless one is given."""
    table = get.counts(adata, groupby, sample_key=sample_key)
    if samples is None:
        sheet = get.sample_table(adata, sample_key=sample_key)
    else:
        sheet = sheet_by_sample(samples, sample_key)
    known = checks.recorded(adata, schema.ANNOTATE_PHENOTYPES)
    tree = known["hierarchy"] if known is not None and "hierarchy" in known else None
    level = "phenotype" if groupby in {schema.PHENOTYPE, schema.PHENOTYPE_CLUSTER} else "cluster"
    table, sheet = matched(table.astype(np.float64), sheet)
    return Abundance(table, table.sum(axis=0), sheet, level, tree)


def from_tables(
    counts: pd.DataFrame | str | os.PathLike[str],
    samples: pd.DataFrame | str | os.PathLike[str] | None,
    *,
    sample_key: str,
    groupby: str,
    percent: bool = False,
) -> Abundance:
    """Check tables made elsewhere; a column ``total`` of the sheet gives the cells of a sample."""
    if samples is None:
        msg = "a counts table needs samples=: one row per sample with the design columns. Give the sample sheet."
        raise ArgumentError(msg)
    table = population_rows(counts if isinstance(counts, pd.DataFrame) else pd.read_csv(counts))
    table, sheet = matched(table, sheet_by_sample(samples, sample_key))
    level = "phenotype" if groupby in {schema.PHENOTYPE, schema.PHENOTYPE_CLUSTER} else "cluster"
    values = table.to_numpy()
    if percent:
        if (values < 0).any() or (values > 100).any() or np.isinf(values).any():
            msg = "percentages must lie between 0 and 100; found values outside. Correct the table, or give cells with values='counts'."
            raise ArgumentError(msg)
        whole = pd.Series(100.0, index=table.columns).where(table.notna().any(), 0.0)
        return Abundance(table, whole, sheet, level, None)
    if not np.isfinite(values).all() or (values < 0).any():
        msg = "counts must be finite and not below 0; found missing, infinite or negative values. Correct the table."
        raise ArgumentError(msg)
    if (values % 1 != 0).any():
        msg = (
            "counts must be whole numbers of cells; found fractions. Percentages alone do not say "
            "how many cells stand behind them: multiply them by the cells of the parent gate, or pass "
            "values='percent'."
        )
        raise ArgumentError(msg)
    sums = table.sum(axis=0)
    totals = sums
    if TOTAL in sheet.columns:
        given = pd.to_numeric(as_text(sheet[TOTAL]).replace("", np.nan), errors="coerce")
        totals = given.fillna(sums).astype(np.float64)
        if (totals < sums * (1 - 1e-9)).any():
            short = listing(totals.index[totals < sums * (1 - 1e-9)], 5)
            msg = f"samples[{TOTAL!r}] must be at least the sum of the counts; it is smaller in {short}. Correct it or drop the column."
            raise ArgumentError(msg)
    return Abundance(table, totals, sheet, level, None)


def population_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return populations x samples with names as text; a leading text column becomes the index."""
    text = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
    if isinstance(table.index, pd.RangeIndex) and text:
        table = table.set_index(text[0])
        text = text[1:]
    if text:
        msg = f"counts must be numbers; columns {listing(text, 5)} hold text. Give populations as index, samples as columns."
        raise ArgumentError(msg)
    names = as_text(pd.Series(list(table.index))).map(unquoted)
    if names.duplicated().any():
        msg = f"every population must have one row; listed twice: {listing(names[names.duplicated()].unique())}. Add them up."
        raise ArgumentError(msg)
    return pd.DataFrame(
        table.to_numpy(dtype=np.float64),
        index=pd.Index(names.tolist(), name=POPULATION),
        columns=pd.Index([unquoted(str(name)) for name in table.columns], name=schema.SAMPLE),
    )


def unquoted(name: str) -> str:
    """Take off the quote that a counts table of the pipeline has before a name like ``=x``."""
    return name[1:] if name[:1] == "'" and name[1:].startswith(FORMULA_STARTS) else name


def matched(table: pd.DataFrame, sheet: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring counts and sheet to the same samples in sheet order; report what has no partner."""
    uncounted = [name for name in sheet.index if name not in table.columns]
    unlisted = [name for name in table.columns if name not in sheet.index]
    both = [name for name in sheet.index if name in table.columns]
    if not both:
        msg = (
            f"counts and samples must name the same samples; counts have {listing(table.columns, 5)}, "
            f"the sheet has {listing(sheet.index, 5)}. Correct the names (sample_key, columns of counts)."
        )
        raise StudyError(msg)
    for names, where in ((unlisted, "not in the sample sheet"), (uncounted, "without counts")):
        if names:
            text = f"{len(names)} samples are left out of the tests, {where}: {listing(names, 5)}."
            warnings.warn(text, StudyWarning, stacklevel=4)
    return table[both], sheet.loc[both]


def hierarchy_table(tree: pd.DataFrame | Mapping[str, str]) -> pd.DataFrame:
    """Return a hierarchy as index = population, column parent ("" at a root)."""
    if isinstance(tree, Mapping):
        return pd.DataFrame({"parent": pd.Series(dict(tree), dtype="str")})
    if "parent" not in tree.columns:
        msg = f"hierarchy must have a column 'parent'; got {listing(tree.columns)}. Rename it."
        raise ArgumentError(msg)
    return tree


def direct_parents(names: pd.Index, tree: pd.DataFrame | None) -> NDArray[np.str_]:
    """Return the parent of each population, "" at a root or where unknown."""
    if tree is None:
        return np.full(len(names), "", dtype=object)
    parent = as_text(tree["parent"])
    parent.index = parent.index.astype(str)
    return np.array([parent.get(str(name), "") for name in names], dtype=object)
