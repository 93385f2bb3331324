"""Cells and shares per population and sample, and the sample table behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import StudyError
from cytoclust.event_arrays import event_arrays, release
from cytoclust.numerics.tallies import cross_tally

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = [
    "POPULATION",
    "ancestors",
    "counts",
    "hierarchy",
    "population_codes",
    "proportions",
    "sample_codes",
    "sample_table",
    "with_parents",
]

POPULATION = "population"


def sample_table(data: AnnData, *, sample_key: str = schema.SAMPLE) -> pd.DataFrame:
    """Return the sample sheet: one row per sample, also those without events.

    Parameters
    ----------
    data
        Events of a study.
    sample_key
        Column of ``obs`` that names the sample.

    Returns
    -------
    DataFrame
        Index = sample name (str) in sheet order; the design columns. Without a recorded sheet, the
        columns of ``obs`` that are constant within every sample.

    Raises
    ------
    MissingSlotError
        ``obs[sample_key]`` is not there.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame({"sample": ["a", "b"], "visit": ["d0", "d7"]}, index=list("12"))
    >>> cc.get.sample_table(anndata.AnnData(np.zeros((2, 1)), obs=obs))["visit"].tolist()
    ['d0', 'd7']
    """
    checks.check_key(data, sample_key)
    recorded = checks.recorded(data, schema.SAMPLES)
    if sample_key == schema.SAMPLE and isinstance(recorded, pd.DataFrame):
        table = recorded.copy()
    else:
        table = _table_from_obs(data.obs, sample_key)
    table.index = pd.Index([str(name) for name in table.index], name=schema.SAMPLE)
    return table


def _table_from_obs(obs: pd.DataFrame, sample_key: str) -> pd.DataFrame:
    """Columns of ``obs`` that do not vary within a sample, one row per sample."""
    groups = obs.groupby(sample_key, observed=False, sort=False)
    varied = groups.nunique(dropna=False).max()
    constant = [name for name in varied.index if varied[name] <= 1]
    names = _levels(obs[sample_key])
    first = obs[~obs[sample_key].duplicated() & obs[sample_key].notna()]
    return first.set_index(first[sample_key].astype(str))[constant].reindex(names)


def _levels(column: pd.Series) -> list[str]:
    """Categories in their order, or values in order of appearance."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [str(name) for name in column.cat.categories]
    return list(dict.fromkeys(column.dropna().astype(str)))


def _codes(data: AnnData, key: str, levels: list[str]) -> NDArray[np.signedinteger]:
    """Position of each event's value in `levels`, -1 where it has none."""
    column = data.obs[key]
    if isinstance(column.dtype, pd.CategoricalDtype):
        place = {name: i for i, name in enumerate(levels)}
        found = [*(place.get(str(name), -1) for name in column.cat.categories), -1]
        lookup = np.array(found, dtype=np.min_scalar_type(-max(len(levels), 1)))
        return event_arrays(data).mapped(
            lambda part: lookup[part], column.cat.codes.to_numpy(), dtype=lookup.dtype
        )
    text = column.astype(str).where(column.notna())
    return pd.Categorical(text, categories=levels).codes


def population_codes(data: AnnData, groupby: str) -> tuple[NDArray[np.signedinteger], list[str]]:
    """Code of each event's population; events without one are `unassigned`."""
    remedy = "Run tl.annotate_phenotypes or tl.leiden first, or give another groupby."
    checks.check_key(data, groupby, remedy=remedy)
    names = _levels(data.obs[groupby])
    codes = _codes(data, groupby, names)
    if codes.min(initial=0) < 0:
        if schema.UNASSIGNED not in names:
            names.append(schema.UNASSIGNED)
        nameless, smallest = names.index(schema.UNASSIGNED), np.min_scalar_type(-len(names))
        codes = event_arrays(data).mapped(
            lambda part: np.where(part < 0, nameless, part), codes, dtype=smallest
        )
    return codes, names


def sample_codes(data: AnnData, sample_key: str) -> tuple[NDArray[np.signedinteger], list[str]]:
    """Code of each event's sample, and the samples in sheet order."""
    names = list(sample_table(data, sample_key=sample_key).index)
    codes = _codes(data, sample_key, names)
    if codes.min(initial=0) < 0:
        strange = data.obs[sample_key][codes < 0].astype(str).unique()
        msg = (
            f"obs[{sample_key!r}] must name samples of the sample sheet; "
            f"{int((codes < 0).sum())} events have {checks.listing(strange)}. "
            "Correct the names or give their rows in uns['cytoclust']['samples']."
        )
        raise StudyError(msg)
    return codes, names


def counts(
    data: AnnData,
    groupby: str = schema.PHENOTYPE,
    *,
    sample_key: str = schema.SAMPLE,
    parents: bool = False,
) -> pd.DataFrame:
    """Count the events of each population in each sample.

    Parameters
    ----------
    data
        Events of a study.
    groupby
        Column of ``obs`` with the populations; events without a value count as `unassigned`.
    sample_key
        Column of ``obs`` that names the sample.
    parents
        Add the inner nodes of the phenotype hierarchy, each with the events of all below it.

    Returns
    -------
    DataFrame
        Populations x samples (int64); samples without events are columns of 0.

    Raises
    ------
    MissingSlotError
        A column of ``obs`` is not there.
    StudyError
        An event belongs to no sample of the sheet.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame({"sample": list("aab"), "phenotype": ["T", "B", "T"]}, index=list("123"))
    >>> cc.get.counts(anndata.AnnData(np.zeros((3, 1)), obs=obs)).loc["T"].tolist()
    [1, 1]
    """
    groups, populations = population_codes(data, groupby)
    codes, samples = sample_codes(data, sample_key)
    release(data)
    size = (len(populations), len(samples))
    table = pd.DataFrame(
        cross_tally(groups, codes, size),
        index=pd.Index(populations, name=POPULATION),
        columns=pd.Index(samples, name=schema.SAMPLE),
    )
    return with_parents(table, hierarchy(data)) if parents else table


def hierarchy(data: AnnData) -> pd.DataFrame:
    """Return the phenotype hierarchy that ``tl.annotate_phenotypes`` recorded.

    Parameters
    ----------
    data
        Annotated events.

    Returns
    -------
    DataFrame
        Index = phenotype; column ``parent`` ("" at a root), and what else was recorded.

    Raises
    ------
    MissingSlotError
        Phenotypes were not annotated.

    Examples
    --------
    >>> import anndata, pandas as pd, cytoclust as cc
    >>> tree = pd.DataFrame({"parent": ["", "T cell"]}, index=["T cell", "CD4 T"])
    >>> adata = anndata.AnnData(uns={"cytoclust": {"annotate_phenotypes": {"hierarchy": tree}}})
    >>> cc.get.hierarchy(adata).loc["CD4 T", "parent"]
    'T cell'
    """
    step = checks.require_step(data, schema.ANNOTATE_PHENOTYPES, "tl.annotate_phenotypes")
    return step["hierarchy"]


def _parents_of(table: pd.DataFrame) -> dict[str, str]:
    """Phenotype -> parent, "" at a root."""
    parent = table["parent"].astype(str).where(table["parent"].notna(), "")
    return {str(name): str(above) for name, above in zip(table.index, parent, strict=True)}


def ancestors(name: str, parent_of: dict[str, str]) -> list[str]:
    """Return the line from the parent of `name` up to its root."""
    line: list[str] = []
    above = parent_of.get(name, "")
    while above and above not in line:
        line.append(above)
        above = parent_of.get(above, "")
    return line


def with_parents(data: pd.DataFrame, tree: pd.DataFrame) -> pd.DataFrame:
    """Add the inner nodes of a hierarchy to a counts table.

    Parameters
    ----------
    data
        Counts, populations x samples.
    tree
        Index = population, column ``parent`` ("" or missing at a root).

    Returns
    -------
    DataFrame
        The rows of `data`, those with something below them replaced by the sum of their own and
        all below, and the parents that were not there.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame({"a": [1, 2]}, index=["CD4 T", "CD8 T"])
    >>> tree = pd.DataFrame({"parent": ["T cell", "T cell"]}, index=table.index)
    >>> cc.get.with_parents(table, tree)["a"].to_dict()
    {'CD4 T': 1, 'CD8 T': 2, 'T cell': 3}
    """
    parent_of = _parents_of(tree)
    sums: dict[str, NDArray[np.int64]] = {}
    for name, row in zip(data.index.astype(str), data.to_numpy(), strict=True):
        for node in (name, *ancestors(name, parent_of)):
            sums[node] = sums[node] + row if node in sums else row.copy()
    order = [*data.index.astype(str), *(node for node in sums if node not in set(data.index))]
    values = np.array([sums[name] for name in order]).reshape(len(order), data.shape[1])
    return pd.DataFrame(values, index=pd.Index(order, name=data.index.name), columns=data.columns)


def proportions(
    data: AnnData,
    groupby: str = schema.PHENOTYPE,
    *,
    of: Literal["total", "parent"] = "total",
    sample_key: str = schema.SAMPLE,
) -> pd.DataFrame:
    """Return the share of each population in each sample.

    Parameters
    ----------
    data
        Events of a study.
    groupby
        Column of ``obs`` with the populations.
    of
        ``total``: all events of the sample, `unassigned` included. ``parent``: the events of the
        parent phenotype; inner nodes are rows too.
    sample_key
        Column of ``obs`` that names the sample.

    Returns
    -------
    DataFrame
        Populations x samples, fractions of 1; NaN where there is nothing to divide by.

    Raises
    ------
    ArgumentError
        `of` is neither.
    MissingSlotError
        A column, or for ``parent`` the hierarchy, is not there.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame({"sample": list("aab"), "phenotype": ["T", "B", "T"]}, index=list("123"))
    >>> cc.get.proportions(anndata.AnnData(np.zeros((3, 1)), obs=obs)).loc["T"].tolist()
    [0.5, 1.0]
    """
    checks.check_one_of("of", of, ("total", "parent"))
    direct = counts(data, groupby, sample_key=sample_key)
    totals = direct.sum(axis=0)
    if of == "total":
        return direct / totals.where(totals > 0)
    tree = hierarchy(data)
    table = with_parents(direct, tree)
    parent_of = _parents_of(tree)
    below = [
        table.loc[above].to_numpy() if above in table.index else totals.to_numpy()
        for above in (parent_of.get(name, "") for name in table.index)
    ]
    divisor = np.array(below, dtype=np.float64).reshape(table.shape)
    divisor[divisor <= 0] = np.nan
    return table / pd.DataFrame(divisor, index=table.index, columns=table.columns)
