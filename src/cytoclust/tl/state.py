"""Differential state: how marker medians within populations change over treatment."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, get, schema
from cytoclust.checks import check_positive, listing, logger
from cytoclust.errors import ArgumentError, MissingSlotError, StatisticsWarning, StudyError
from cytoclust.numerics.blocks import estimable, fit_medians
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.counts_table import direct_parents
from cytoclust.tl.design import Design, Unit, design
from cytoclust.tl.results import Outcome, fit_everywhere, tidy, warn_of_exclusions
from cytoclust.tl.sheet import sheet_by_sample

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["differential_state"]

METHOD = "limma_fixed"
COLUMNS = (schema.SAMPLE, get.POPULATION, schema.MARKER, "median", "n_events")


@dataclass(frozen=True)
class Medians:
    """Medians of K population-marker rows over the samples of a sheet.

    Attributes
    ----------
    medians, cells
        (K, n_samples) medians (NaN: too few cells) and cells behind them.
    labels
        (K rows) population, marker, level, parent, denominator.
    sheet
        Sample sheet by sample name.
    """

    medians: NDArray[np.float64]
    cells: NDArray[np.float64]
    labels: pd.DataFrame
    sheet: pd.DataFrame


def differential_state(  # noqa: PLR0913, the study's columns are named one by one
    data: AnnData | pd.DataFrame,
    *,
    treatment_key: str | None,
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

    Returns
    -------
    DataFrame
        One row per population x marker x compartment x contrast, always: columns as of
        `differential_abundance` with ``marker`` added, ``difference`` (of medians, in units of the
        layer) in place of the fold change, and ``denominator`` = "median".

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
    told from the donors and is returned as not estimable, unless each donor gave one sample only.
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
    if isinstance(data, pd.DataFrame):
        table = _from_table(data, samples, (sample_key, min_events), markers=markers)
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
        sheet = get.sample_table(data, sample_key=sample_key)
        if samples is not None:
            sheet = sheet_by_sample(samples, sample_key).reindex(sheet.index)
        table = _matrices(tidy_medians, sheet, min_events)
        table = replace(table, labels=_with_level(table.labels, data, groupby))
    plan = design(
        table.sheet,
        treatment_key=treatment_key,
        baseline=baseline,
        compartment_key=compartment_key,
        donor_key=donor_key,
        covariates=covariates,
        contrasts=contrasts,
    )
    plan = plan.without(list(table.sheet.index[table.cells.sum(axis=0) == 0]), "no events")
    warn_of_exclusions(plan)
    result = _test(table, plan, min_events)
    logger.info("differential_state: %d rows, %d ok", len(result), (result["status"] == "ok").sum())
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
    options: tuple[str, int],
    *,
    markers: Sequence[str] | None,
) -> Medians:
    """Check a table of medians made elsewhere."""
    sample_key, min_events = options
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
    return _matrices(data, sheet, min_events)


def _matrices(data: pd.DataFrame, sheet: pd.DataFrame, min_events: int) -> Medians:
    """Bring tidy medians into (rows, samples) matrices in sheet order."""
    text = {name: data[name].astype(str) for name in COLUMNS[:3]}
    keys = pd.MultiIndex.from_arrays([text[get.POPULATION], text[schema.MARKER]])
    rows = keys.drop_duplicates()
    at = (rows.get_indexer(keys), sheet.index.get_indexer(pd.Index(text[schema.SAMPLE])))
    values = np.full((len(rows), len(sheet)), np.nan)
    cells = np.zeros((len(rows), len(sheet)))
    values[at] = data["median"].to_numpy(dtype=np.float64)
    cells[at] = data["n_events"].to_numpy(dtype=np.float64)
    values[cells < min_events] = np.nan
    labels = rows.to_frame(index=False).set_axis([get.POPULATION, schema.MARKER], axis=1)
    labels = labels.assign(level="phenotype", parent="", denominator="median")
    return Medians(values, cells, labels, sheet)


def _test(table: Medians, plan: Design, min_events: int) -> pd.DataFrame:
    """Fit every compartment and put the rows together."""
    at = table.sheet.index.get_indexer(plan.table.index)
    values, cells = table.medians[:, at], table.cells[:, at]
    groups = np.asarray(pd.factorize(table.labels[schema.MARKER])[0], dtype=np.int64)

    def fit_unit(unit: Unit) -> Outcome:
        unit = _without_donor_contrasts(unit)
        medians = values[:, unit.samples]
        present = np.isfinite(medians).sum(axis=1)
        kept = (2 * present >= len(unit.samples)) & (present > 0)
        why = [f"{min_events} cells in {n} of {len(unit.samples)} samples" for n in present]
        fit = None
        if kept.any() and not all(unit.reasons):
            with thread_limit(1):
                fit = fit_medians(
                    medians[kept],
                    cells[kept][:, unit.samples],
                    unit.matrix,
                    contrasts=unit.contrasts,
                    blocks=unit.blocks,
                    groups=groups[kept],
                )
        lost = "too few samples with enough cells at these levels, or no variation between them"
        return Outcome.collect(fit, kept, unit, reasons=(np.array(why, dtype=object), lost))

    tested = fit_everywhere(plan, fit_unit)
    present = np.isfinite(values)
    return tidy(plan, tested, table.labels, kind="state", method=METHOD, present=present)


def _without_donor_contrasts(unit: Unit) -> Unit:
    """Mark contrasts that fixed donor means make inestimable."""
    if all(unit.reasons):  # perhaps without any sample
        return unit
    allowed, df = estimable(unit.matrix, unit.contrasts, unit.blocks)
    where = "" if unit.compartment == "all" else f" in {unit.compartment}"
    reasons = []
    for reason, possible in zip(unit.reasons, allowed, strict=True):
        if reason or (possible and df > 0):
            reasons.append(reason)
        elif possible:
            reasons.append(f"no degrees of freedom left{where} after donors and levels")
        else:
            reasons.append(f"compares donors with donors{where}: no donor links the levels")
    kept = np.array([not reason for reason in reasons])
    return replace(unit, reasons=tuple(reasons), contrasts=unit.contrasts * kept)
