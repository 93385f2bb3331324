"""Differential state: how marker medians within populations change over treatment."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from cytoclust import checks, get, schema
from cytoclust.checks import check_one_of, check_positive, listing, logger
from cytoclust.errors import ArgumentError, MissingSlotError, StatisticsWarning, StudyError
from cytoclust.get.composition import POPULATION
from cytoclust.tl.counts_table import direct_parents
from cytoclust.tl.design import design
from cytoclust.tl.results import TESTED, warn_of_exclusions
from cytoclust.tl.sheet import sheet_by_sample
from cytoclust.tl.state_fit import Medians, StateMethod, state_result
from cytoclust.tl.state_parts import PARTS, add_positives, part_values

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

__all__ = ["differential_state"]

Measure = Literal["median", "two_part"]
COLUMNS = (schema.SAMPLE, POPULATION, schema.MARKER, "median", "n_events")


def differential_state(  # noqa: PLR0913, the study's columns are named one by one
    data: AnnData | pd.DataFrame,
    *,
    treatment_key: str | Sequence[str] | None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    baseline: str | None = None,
    markers: Sequence[str] | None = None,
    groupby: str = schema.PHENOTYPE,
    samples: pd.DataFrame | str | os.PathLike[str] | None = None,
    sample_key: str = schema.SAMPLE,
    covariates: Sequence[str] = (),
    contrasts: Sequence[str] | Mapping[str, Mapping[str, float]] | None = None,
    layer: str | None = None,
    min_events: int = 10,
    allow_type_markers: bool = False,
    measure: Measure = "median",
    cutoffs: Mapping[str, float] | None = None,
    method: StateMethod = "limma",
) -> pd.DataFrame:
    """Test whether marker medians of each population change, within and between compartments.

    Parameters
    ----------
    data
        Events of a study, or medians as `cytoclust.get.medians` returns them.
    treatment_key, compartment_key, donor_key
        Columns of the sample sheet; each may be None, not both of the first two. See `design`.
    baseline
        Level that the others are compared with; by default the first.
    markers
        Markers to test; None takes those with ``var["marker_class"] == "state"``.
    groupby
        Column of ``obs`` with the populations.
    samples
        Sample sheet; needed with a table of medians.
    sample_key
        Column of sample names.
    covariates, contrasts
        Terms to adjust for and comparisons. See `design`.
    layer
        Layer with transformed values; None reads ``X``.
    min_events
        Cells that a median needs. A population is tested in a compartment if at least half of the
        samples have them.
    allow_type_markers
        Test markers that defined the populations, too. Their change is partly made by the
        clustering, so that p-values do not hold.
    measure
        ``median`` of the marker, or ``two_part``: the fraction of positive cells (`denominator`
        "positive"; its difference is of log2 odds), then the median among these ("median_positive").
        A table of medians then needs the columns ``n_positive`` and ``median_positive``.
    cutoffs
        Marker to where positive begins, in units of the layer; by default those that
        `call_markers` recorded.
    method
        ``limma``: a mean per donor, and a mixed model for the contrasts that compare donors;
        ``lmm``: the mixed model for all.

    Returns
    -------
    DataFrame
        One row per population x marker x compartment x contrast, always: columns as of
        `differential_abundance` with ``marker`` added, ``difference`` (of medians, in units of the
        layer) in place of the fold change, and ``denominator`` = what was measured. ``method`` says
        which model a row comes from.

    Raises
    ------
    ArgumentError
        A marker is unknown or defined the populations.
    DesignError
        The design does not fit the sheet. See `design`.
    MissingSlotError
        A column, layer or the state markers are not there.

    Warns
    -----
    StudyWarning
        Samples take no part.
    StatisticsWarning
        The values look untransformed.

    Notes
    -----
    Within a compartment every donor has a mean of its own, so that only changes within donors
    count. Medians are weighted by 1 / (tau2 + s2 / cells), both estimated per marker; variances are
    moderated over all rows of a compartment. A contrast between donors (arms, responders) cannot be
    told from these means; it is tested in a mixed model with a random effect of donors, restricted
    maximum likelihood and Satterthwaite's degrees of freedom.
    False discovery rates are over populations and markers jointly, per compartment and contrast.

    References
    ----------
    Smyth 2004, doi:10.2202/1544-6115.1027; Weber et al. 2019, doi:10.1038/s42003-019-0415-5.

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
    >>> medians = sheet[["sample"]].assign(
    ...     population="Treg", marker="CD39", median=rng.normal(2, 0.1, 12), n_events=500
    ... )
    >>> found = cc.tl.differential_state(
    ...     medians, samples=sheet, treatment_key="visit", donor_key="patient"
    ... )
    >>> found[["population", "marker", "status"]].values.tolist()
    [['Treg', 'CD39', 'ok']]
    """
    check_positive("min_events", min_events)
    check_one_of("measure", measure, get_args(Measure))
    check_one_of("method", method, get_args(StateMethod))
    if isinstance(data, pd.DataFrame):
        tidy_medians, sheet = _from_table(data, samples, sample_key, markers=markers)
    else:
        if not allow_type_markers:
            _refuse_type_markers(data, markers)
        _warn_of_linear_values(data, markers, layer)
        tidy_medians = get.medians(
            data,
            groupby,
            markers=markers,
            layer=layer,
            min_events=min_events,
            sample_key=sample_key,
        )
        if tidy_medians.empty:
            msg = "var['marker_class'] names no state marker and markers= was not given. Name the markers to test."
            raise MissingSlotError(msg)
        if measure == "two_part":
            tidy_medians = add_positives(
                tidy_medians, data, groupby=groupby, sample_key=sample_key, layer=layer, cutoffs=cutoffs
            )  # fmt: skip
        sheet = get.sample_table(data, sample_key=sample_key)
        if samples is not None:
            sheet = sheet_by_sample(samples, sample_key).reindex(sheet.index)
    tables = [
        _measured(tidy_medians, sheet, min_events, part=part)
        for part in (PARTS if measure == "two_part" else ("median",))
    ]
    if not isinstance(data, pd.DataFrame):
        tables = [replace(t, labels=_with_level(t.labels, data, groupby)) for t in tables]
    plan = design(
        sheet,
        treatment_key=treatment_key,
        baseline=baseline,
        compartment_key=compartment_key,
        donor_key=donor_key,
        covariates=covariates,
        contrasts=contrasts,
    )
    counted = tidy_medians.groupby(tidy_medians[schema.SAMPLE].astype(str))["n_events"].sum()
    empty = [name for name in sheet.index if not counted.get(name, 0) > 0]
    plan = plan.without(empty, "no events")
    warn_of_exclusions(plan)
    result = pd.concat(
        [state_result(table, plan, min_events, method=method) for table in tables],
        ignore_index=True,
    )
    n_tested = int(result["status"].isin(TESTED).sum())
    logger.info("differential_state: %d rows, %d tested", len(result), n_tested)
    return result


def _refuse_type_markers(adata: AnnData, markers: Sequence[str] | None) -> None:
    """Refuse to test markers on populations that they defined."""
    if markers is None or schema.MARKER_CLASS not in adata.var.columns:
        return
    is_type = adata.var[schema.MARKER_CLASS].astype(str) == "type"
    names = set(adata.var_names[is_type])
    if schema.MARKER in adata.var.columns:
        names |= set(adata.var.loc[is_type, schema.MARKER].astype(str))
    wrong = [marker for marker in markers if marker in names]
    if wrong:
        msg = (
            f"markers must not have defined the populations; of class type: {listing(wrong)}. Their "
            "differences are partly made by the clustering. Leave them out, or pass "
            "allow_type_markers=True and do not trust the p-values."
        )
        raise ArgumentError(msg)


def _warn_of_linear_values(
    adata: AnnData, markers: Sequence[str] | None, layer: str | None
) -> None:
    """Warn where medians would be taken of values that were never transformed."""
    known = {schema.SCALE, schema.MARKER_CLASS} <= set(adata.var.columns)
    if layer is not None or not known or checks.recorded(adata, schema.ARCSINH) is not None:
        return
    chosen = adata.var[schema.MARKER_CLASS].astype(str) == "state"
    if markers is not None:
        chosen = adata.var_names.isin(list(markers))
        if schema.MARKER in adata.var.columns:
            chosen |= adata.var[schema.MARKER].astype(str).isin(list(markers))
    if (adata.var.loc[chosen, schema.SCALE].astype(str) == "linear").any():
        text = (
            "marker medians are taken of linear values: pp.arcsinh is not recorded for these data. "
            "Run pp.arcsinh first, or name the layer that holds transformed values."
        )
        warnings.warn(text, StatisticsWarning, stacklevel=3)


def _with_level(labels: pd.DataFrame, adata: AnnData, groupby: str) -> pd.DataFrame:
    """Fill level and parent from what the AnnData knows."""
    if groupby not in {schema.PHENOTYPE, schema.PHENOTYPE_CLUSTER}:
        return labels.assign(level="cluster")
    known = checks.recorded(adata, schema.ANNOTATE_PHENOTYPES)
    tree = known["hierarchy"] if known is not None and "hierarchy" in known else None
    return labels.assign(parent=direct_parents(pd.Index(labels["population"]), tree))


def _from_table(
    data: pd.DataFrame,
    samples: pd.DataFrame | str | os.PathLike[str] | None,
    sample_key: str,
    *,
    markers: Sequence[str] | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check a table of medians made elsewhere; return it and the sample sheet."""
    if samples is None:
        msg = "a table of medians needs samples=: one row per sample with the design columns. Give the sample sheet."
        raise ArgumentError(msg)
    missing = [name for name in COLUMNS if name not in data.columns]
    if missing:
        msg = f"medians must have the columns {listing(COLUMNS)}; missing: {listing(missing)}. Rename or add them."
        raise ArgumentError(msg)
    if markers is not None:
        unknown = [marker for marker in markers if marker not in set(data[schema.MARKER])]
        if unknown:
            msg = f"markers {listing(unknown)} are not in the table; it has {listing(data[schema.MARKER].unique())}. Check the spelling."
            raise ArgumentError(msg)
        data = data[data[schema.MARKER].isin(list(markers))]
    sheet = sheet_by_sample(samples, sample_key)
    strange = sorted(set(data[schema.SAMPLE].astype(str)) - set(sheet.index))
    if strange:
        msg = f"medians name samples that the sheet does not have: {listing(strange)}. Add their rows or drop the medians."
        raise StudyError(msg)
    return data, sheet


def _measured(data: pd.DataFrame, sheet: pd.DataFrame, min_events: int, *, part: str) -> Medians:
    """Return what one part measures, as matrices."""
    if part == "median":
        return _matrices(data, sheet, min_events, part=part)
    values, told = part_values(data, part, min_events)
    table = _matrices(values, sheet, min_events if part == "median_positive" else 0, part=part)
    return replace(
        table, told=_matrices(values.assign(median=told), sheet, 0, part=part).medians == 1
    )


def _matrices(data: pd.DataFrame, sheet: pd.DataFrame, min_events: int, *, part: str) -> Medians:
    """Bring tidy medians into (rows, samples) matrices in sheet order."""
    text = {name: data[name].astype(str) for name in COLUMNS[:3]}
    keys = pd.MultiIndex.from_arrays([text[POPULATION], text[schema.MARKER]])
    rows = keys.drop_duplicates()
    at = (rows.get_indexer(keys), sheet.index.get_indexer(pd.Index(text[schema.SAMPLE])))
    values = np.full((len(rows), len(sheet)), np.nan)
    cells = np.zeros((len(rows), len(sheet)))
    values[at] = data["median"].to_numpy(dtype=np.float64)
    cells[at] = data["n_events"].to_numpy(dtype=np.float64)
    values[cells < min_events] = np.nan
    labels = rows.to_frame(index=False).set_axis([POPULATION, schema.MARKER], axis=1)
    labels = labels.assign(level="phenotype", parent="", denominator=part)
    return Medians(values, cells, labels, sheet)
