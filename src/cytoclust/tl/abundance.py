"""Differential abundance: which populations change over treatment, per compartment."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
import pandas as pd

from cytoclust import get, schema
from cytoclust.checks import check_one_of, check_positive, listing, logger
from cytoclust.errors import ArgumentError
from cytoclust.tl.alarms import add_alarms, warn_of_alarms
from cytoclust.tl.counts_fit import (
    Denominator,
    Method,
    Normalization,
    Options,
    Rows,
    counts_result,
    warn_of_few_donors,
)
from cytoclust.tl.counts_library import library_of
from cytoclust.tl.counts_methods import require_edger
from cytoclust.tl.counts_table import (
    Abundance,
    direct_parents,
    from_anndata,
    from_tables,
    hierarchy_table,
)
from cytoclust.tl.design import Design, design
from cytoclust.tl.multiplicity import tree_adjusted
from cytoclust.tl.results import TESTED, warn_of_exclusions
from cytoclust.tl.sheet import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

__all__ = ["differential_abundance"]

Level = Literal["leaf", "parent", "cluster"]


def differential_abundance(  # noqa: PLR0913, the study's columns are named one by one
    data: AnnData | pd.DataFrame | str | os.PathLike[str],
    *,
    treatment_key: str | Sequence[str] | None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    baseline: str | None = None,
    groupby: str = schema.PHENOTYPE,
    samples: pd.DataFrame | str | os.PathLike[str] | None = None,
    sample_key: str = schema.SAMPLE,
    covariates: Sequence[str] = (),
    contrasts: Sequence[str] | Mapping[str, Mapping[str, float]] | None = None,
    method: Method = "voom",
    denominator: Denominator | Sequence[Denominator] = "log_ratio",
    levels: Level | Sequence[Level] = "leaf",
    cluster_key: str = schema.LEIDEN,
    hierarchy: pd.DataFrame | Mapping[str, str] | None = None,
    absolute_key: str | None = None,
    beads_key: str | None = None,
    min_cells: float = 3,
    joint: bool = False,
    normalization: Normalization = "trimmed",
    values: Literal["counts", "percent"] = "counts",
    multiplicity: Literal["family", "tree"] = "family",
    rng: int = 0,
) -> pd.DataFrame:
    """Test which populations change over treatment, within each compartment and between them.

    Parameters
    ----------
    data
        Events of a study, or a counts table (populations x samples; also a CSV of it).
    treatment_key, compartment_key, donor_key
        Columns of the sample sheet; each may be None, not both of the first two. See `design`.
    baseline
        Level that the others are compared with; by default the first.
    groupby
        Column of ``obs`` with the populations.
    samples
        Sample sheet; needed with a counts table, where its column ``total`` (if any) gives the
        cells of each sample.
    sample_key
        Column of sample names.
    covariates
        Columns or formula terms to adjust for. See `design`.
    contrasts
        ``"d7 - d0"`` texts or name -> {level: weight}. See `design`.
    method
        ``voom`` (limma-voom); ``glmm`` (binomial mixed model, effects nearest to unbiased); ``lmm``
        (linear mixed model of log ratios); ``signflip`` (permutation within donors, a sanity check);
        ``edger`` (quasi-likelihood; optional package).
    denominator
        What abundance is relative to, one or several: ``log_ratio`` (corrected for composition),
        ``total`` cells, ``parent`` phenotype, ``absolute`` (with `absolute_key` or `beads_key`).
    levels
        ``leaf``: the populations of `groupby`; ``parent``: the inner nodes of the hierarchy, each
        with all below it; ``cluster``: those of `cluster_key`.
    cluster_key
        Column of ``obs`` with the clusters.
    hierarchy
        Index = population with column ``parent``, or child -> parent; by default as recorded by
        ``tl.annotate_phenotypes``.
    absolute_key
        Column of the sheet with the blood count: the concentration of all counted cells.
    beads_key
        Column with the number of counting beads acquired with each sample (the same number per
        volume in all).
    min_cells
        A population is tested in a compartment if it has this many cells in at least as many
        samples as the rarest level has; 0 tests all.
    joint
        Fit one model over all compartments, with effects of donor and of donor in a compartment.
        Pools their variances: a noisier compartment then makes false discoveries.
    normalization
        Size factors of ``log_ratio``: ``trimmed`` mean of log ratios, or ``tmm``.
    values
        ``percent`` for a table of percentages (0 to 100, empty where not measured), each of a gate
        of its own: `denominator` is then ``parent``, and weights for numbers of cells are lacking.
    multiplicity
        ``family``: Benjamini-Hochberg per level, denominator, compartment and contrast. ``tree``:
        along the hierarchy, a population counting only within a significant parent.
    rng
        Seed of the Monte-Carlo sign flips.

    Returns
    -------
    DataFrame
        One row per population x compartment x contrast, always: population, level, parent,
        denominator, compartment, contrast, log2_fold_change, ci_low, ci_high (95 %), std_error, df,
        statistic, p_value, fdr, n_samples, n_paired, method, status, reason, n_events, size_factor,
        alarm. `n_samples` counts the samples at the levels compared, `n_events` their cells,
        `n_paired` the donors that have them all. `size_factor` is the ratio of size factors that was
        taken out of the change. `status` is ok, singular (a random effect without variance),
        separated (no cells at a level), too few or not estimable, with the reason. `alarm` says
        where the reference of the log ratio is in doubt or denominators disagree.

    Raises
    ------
    DesignError
        The design does not fit the sheet. See `design`.
    ArgumentError
        An option has no such value, or lacks what it needs.
    MissingSlotError
        A column of ``obs`` or the hierarchy is not there.

    Warns
    -----
    StudyWarning
        Samples take no part.
    StatisticsWarning
        More than 40 % of the populations are significant in the same direction, or the size factors
        rest on too few populations.

    Notes
    -----
    Each compartment is fitted separately, so that a noisier compartment cannot make another look
    significant. Library size = cells x trimmed log-ratio size factor. Where populations vanish (change
    8-fold or more in a first fit), they and those that then change 2-fold or more leave the reference:
    a drug that removes a lineage would shift all others. limma-voom with one mean per
    level, one correlation within donors, moderated t. The interaction row (compartment "BM - PB")
    is the difference of two compartments with Welch-Satterthwaite degrees of freedom.
    False discovery rates (Benjamini-Hochberg) are per level, denominator, compartment and contrast.
    Cells named `unassigned` are part of every total and are tested as a population of their own: a
    change there says that the naming depends on treatment. Where a parent has cells of its own that
    are not named further, and parents are asked for, those stand as "NAME, not named further".
    Does not depend on sample order, population order or threads.

    References
    ----------
    Law, Chen, Shi and Smyth 2014, doi:10.1186/gb-2014-15-2-r29; Smyth, Michaud and Scott 2005,
    doi:10.1093/bioinformatics/bti270.

    Examples
    --------
    >>> import numpy as np, pandas as pd, cytoclust as cc
    >>> rng = np.random.default_rng(0)
    >>> sheet = pd.DataFrame(
    ...     {
    ...         "sample": [f"s{i}" for i in range(12)],
    ...         "visit": ["d0", "d7"] * 6,
    ...         "patient": np.repeat(list("abcdef"), 2),
    ...     }
    ... )
    >>> counts = pd.DataFrame(
    ...     rng.poisson(200, (6, 12)), index=[f"c{i}" for i in range(6)], columns=sheet["sample"]
    ... )
    >>> found = cc.tl.differential_abundance(
    ...     counts, samples=sheet, treatment_key="visit", donor_key="patient"
    ... )
    >>> len(found), set(found["contrast"])
    (6, {'d7 - d0'})
    """
    options = _options(
        method, denominator, absolute_key=absolute_key, beads_key=beads_key, min_cells=min_cells,
        joint=joint, normalization=normalization, values=values, rng=rng,
    )  # fmt: skip
    check_one_of("multiplicity", multiplicity, ("family", "tree"))
    wanted = _choices("levels", levels, get_args(Level))
    if isinstance(data, (pd.DataFrame, str, os.PathLike)):
        if "cluster" in wanted:
            msg = "levels='cluster' needs an AnnData with events; got a counts table. Give the cluster counts as data."
            raise ArgumentError(msg)
        leaf = from_tables(
            data, samples, sample_key=sample_key, groupby=groupby, percent=options.percent
        )
    else:
        leaf = from_anndata(data, groupby, samples=samples, sample_key=sample_key)
    if hierarchy is not None:
        leaf = replace(leaf, tree=hierarchy_table(hierarchy))
    plan = design(
        leaf.sheet,
        treatment_key=treatment_key,
        baseline=baseline,
        compartment_key=compartment_key,
        donor_key=donor_key,
        covariates=covariates,
        contrasts=contrasts,
    ).without(list(leaf.totals.index[leaf.totals <= 0]), "no events")
    warn_of_exclusions(plan)
    warn_of_few_donors(plan, options.method)
    tables = []
    for level in wanted:
        if level == "cluster":
            given = from_anndata(data, cluster_key, samples=leaf.sheet, sample_key=sample_key)
            tables.append(level_table(replace(given, level="cluster", tree=None), plan, options))
        else:
            tables.append(level_table(leaf, plan, options, rows=level, beside="parent" in wanted))
    result = pd.concat(tables, ignore_index=True)
    if multiplicity == "tree":
        result = along_the_tree(result, leaf.tree)
    result = add_alarms(
        result,
        np.concatenate(
            [
                np.full(len(table), level != "parent")
                for table, level in zip(tables, wanted, strict=True)
            ]
        ),
    )
    warn_of_alarms(result)
    n_tested = int(result["status"].isin(TESTED).sum())
    logger.info("differential_abundance: %d rows, %d tested", len(result), n_tested)
    return result


def _options(
    method: str,
    denominator: str | Sequence[str],
    *,
    min_cells: float,
    absolute_key: str | None,
    beads_key: str | None,
    joint: bool,
    normalization: str,
    values: str,
    rng: int,
) -> Options:
    """Check the options that do not depend on the data."""
    check_one_of("method", method, get_args(Method))
    check_one_of("normalization", normalization, get_args(Normalization))
    check_one_of("values", values, ("counts", "percent"))
    chosen = _choices("denominator", denominator, get_args(Denominator))
    if min_cells:
        check_positive("min_cells", min_cells)
    if "absolute" in chosen and (absolute_key is None) == (beads_key is None):
        msg = (
            "denominator 'absolute' needs absolute_key=, the column with cells per volume, or beads_key=, "
            f"that with counted beads; got {'both' if absolute_key else 'neither'}. Name one."
        )
        raise ArgumentError(msg)
    if method == "edger":
        require_edger()
    if method == "signflip" and joint:
        msg = "joint=True needs a model of all compartments; got method 'signflip', which has none. Leave joint out."
        raise ArgumentError(msg)
    if values == "percent":
        if method in {"glmm", "edger"}:
            msg = f"method {method!r} needs numbers of cells; got percentages. Use voom, lmm or signflip."
            raise ArgumentError(msg)
        if chosen not in {("log_ratio",), ("parent",)}:
            msg = f"percentages are shares of their own gates, denominator 'parent'; got {listing(chosen)}. Leave it out."
            raise ArgumentError(msg)
        chosen = ("parent",)
    return Options(
        method=cast("Method", method),
        denominators=cast("tuple[Denominator, ...]", chosen),
        min_cells=min_cells,
        absolute_key=absolute_key,
        beads_key=beads_key,
        joint=joint,
        normalization=cast("Normalization", normalization),
        percent=values == "percent",
        seed=rng,
    )


def along_the_tree(result: pd.DataFrame, tree: pd.DataFrame | None) -> pd.DataFrame:
    """Replace false discovery rates by those along the hierarchy, per denominator, place, contrast."""
    if tree is None:
        msg = "multiplicity='tree' needs a phenotype hierarchy; none is recorded. Run tl.annotate_phenotypes or give hierarchy=."
        raise ArgumentError(msg)
    fdr = result["fdr"].to_numpy(np.float64).copy()
    phenotypes = np.flatnonzero((result["level"] == "phenotype").to_numpy())
    families = result.iloc[phenotypes].groupby(
        ["denominator", "compartment", "contrast"], sort=False
    )
    up = dict(zip(tree.index.astype(str), as_text(tree["parent"]), strict=True))
    for where in families.indices.values():
        rows = phenotypes[where]
        names = result["population"].to_numpy(str)[rows]
        first = {name: i for i, name in reversed(list(enumerate(names)))}
        parents = []
        for name, parent in zip(names, result["parent"].to_numpy(str)[rows], strict=True):
            above = parent
            while above and (above not in first or above == name):  # a node that was not asked for
                above = up.get(above, "")
            parents.append(first.get(above, -1))
        fdr[rows] = tree_adjusted(result["p_value"].to_numpy(np.float64)[rows], parents)
    return result.assign(fdr=fdr)


def _choices(name: str, given: str | Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """Return one or several choices as a tuple without repeats."""
    chosen = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    for choice in chosen:
        check_one_of(name, choice, options)
    if not chosen:
        msg = f"{name} must be at least one of {listing(options)}; got none. Name one."
        raise ArgumentError(msg)
    return chosen


def level_table(
    leaf: Abundance, plan: Design, options: Options, *, rows: str = "leaf", beside: bool = False
) -> pd.DataFrame:
    """Test the rows of one level against every denominator.

    `beside`: parents are listed too, so a parent's own cells need a name of their own.
    """
    names = list(plan.table.index)
    direct = leaf.counts[names]
    totals = leaf.totals[names].to_numpy(dtype=np.float64)
    summed = direct if leaf.tree is None else get.with_parents(direct, leaf.tree)
    if rows == "parent":
        if leaf.tree is None:
            msg = "levels='parent' needs a phenotype hierarchy; none is recorded. Run tl.annotate_phenotypes or give hierarchy=."
            raise ArgumentError(msg)
        inner = set(direct_parents(summed.index, leaf.tree)) - {""}
        tested = summed[summed.index.isin(list(inner))]
    else:
        tested = direct
    parents = direct_parents(tested.index, leaf.tree)
    labels = pd.DataFrame({"population": tested.index, "level": leaf.level, "parent": parents})
    if rows == "leaf" and beside and leaf.tree is not None:
        inner = set(direct_parents(summed.index, leaf.tree)) - {""}
        own = labels["population"].isin(list(inner))
        labels.loc[own, "parent"] = labels.loc[own, "population"]
        labels.loc[own, "population"] += ", not named further"
    results = []
    for denominator in options.denominators:
        library, fitted = library_of(
            denominator, options, plan=plan, leaf=leaf, parents=labels["parent"], summed=summed
        )
        trials = library if denominator == "parent" else totals
        if options.percent:
            library = np.where(np.isfinite(tested), library, np.nan)
        table = counts_result(
            Rows.make(tested.to_numpy(dtype=np.float64), library, trials),
            plan,
            options=options,
            labels=labels.assign(denominator=denominator),
            tested=fitted if rows == "leaf" else None,
        )
        results.append(table)
    return pd.concat(results, ignore_index=True)
