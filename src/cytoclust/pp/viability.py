"""Flags for debris and for dead cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cytoclust import checks, schema
from cytoclust.errors import StudyError
from cytoclust.numerics.arcsinh import arcsinh, compensate_arcsinh
from cytoclust.numerics.cofactors import estimate_cofactors
from cytoclust.numerics.quality import debris_cut, refined_cut, viability_cut
from cytoclust.pp import blocks
from cytoclust.pp.compensation import Unmixing, unmixing_plan
from cytoclust.pp.flags import (
    Verdict,
    judge_samples,
    nothing,
    pooled_rows,
    scatter_channels,
    threshold,
    unflagged,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from cytoclust.numerics.density import Valley

__all__ = ["flag_dead", "flag_debris"]

POOLED_EVENTS: Final = 200_000
SIZE_KERNEL: Final = 0.1  # log units
STAIN_KERNEL: Final = 0.2  # arcsinh units; the noise of live cells is 0.32 wide there


def flag_debris(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Flag events that are too small to be cells.

    Parameters
    ----------
    adata
        Events of a study.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs["qc_debris"]`` (bool), updates ``obs["qc_pass"]`` and records
        ``uns["cytoclust"]["flag_debris"]``: ``samples`` (events, flagged, reason) and
        ``thresholds`` (cut in forward scatter of each sample, and whether it is the sample's own
        valley or the study's).

    Notes
    -----
    The cut is the valley of the density of log forward scatter area between debris and cells, found
    in the pooled events of all samples and moved to a sample's own valley where that is clear.
    Nothing is cut where there is no valley, and nothing where the small events carry markers as the
    others do: those are lymphocytes. Pooled events: at most 200,000, the same number per sample.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> rng = np.random.default_rng(0)
    >>> size = np.concatenate([rng.lognormal(9, 0.3, 300), rng.lognormal(11, 0.2, 2000)])
    >>> var = pd.DataFrame({"channel_type": ["scatter"]}, index=["FSC-A"])
    >>> adata = anndata.AnnData(size[:, None].astype(np.float32), var=var)
    >>> cc.pp.flag_debris(adata)
    >>> bool(abs(adata.obs["qc_debris"].sum() - 300) < 10)
    True
    """
    adata = adata.copy() if copy else adata
    place = scatter_channels(adata).get(("FSC", "A"))
    if place is None:
        place = scatter_channels(adata).get(("FSC", "H"))
    valley: Valley | None = None
    reason = "no forward scatter channel"
    events, after_transformation = blocks.acquired_values(adata)
    if place is not None:
        linear = bool(blocks.linear_channels(adata)[place])
        values = events[:, place]
        usable = np.isfinite(values) & (values > 0)
        usable &= unflagged(adata, schema.QC_INVALID, schema.QC_MARGIN, schema.QC_DOUBLET)
        rows = pooled_rows(adata, usable, POOLED_EVENTS)
        if linear and rows.size:
            markers = _marker_places(adata, after_transformation=after_transformation)
            brightness = events[rows][:, markers]
            valley, reason = debris_cut(np.log(values[rows].astype(np.float64)), brightness)
        else:
            reason = "no usable event" if linear else "scatter was exported after transformation"

    def judge(_sample: str, rows: blocks.Rows) -> Verdict:
        if valley is None or place is None:
            return nothing(blocks.n_rows(rows), reason)
        own = values[rows]
        sizes = np.log(own[usable[rows]].astype(np.float64))
        cut, source = refined_cut(sizes, valley, SIZE_KERNEL)
        found = [threshold(adata.var_names[place], "lower", float(np.exp(cut)), source=source)]
        return Verdict(own < np.exp(cut), "", found)

    judge_samples(adata, schema.QC_DEBRIS, judge=judge, params={})
    return adata if copy else None


def _marker_places(adata: AnnData, *, after_transformation: bool) -> NDArray[np.intp]:
    """Channels that stain cells: linear markers of the panel, else all fluorescence."""
    kinds = blocks.channel_types(adata)
    usable = (kinds == "fluorescence") & (blocks.linear_channels(adata) | after_transformation)
    if schema.MARKER_CLASS in adata.var:
        of_panel = adata.var[schema.MARKER_CLASS].astype(str).isin(["type", "state"]).to_numpy()
        if (usable & of_panel).any():
            usable &= of_panel
    return np.flatnonzero(usable)


def flag_dead(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Flag events that took up a viability dye.

    Parameters
    ----------
    adata
        Events of a study; channels with ``channel_type`` = ``viability`` are looked at.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs["qc_dead"]`` (bool), updates ``obs["qc_pass"]`` and records
        ``uns["cytoclust"]["flag_dead"]``: ``samples`` (events, flagged, reason) and ``thresholds``
        (sample, channel, cut on the arcsinh scale and whether it is the sample's own valley or the
        study's, the cofactor of that scale).

    Notes
    -----
    For each viability channel the valley of the density between live and dead cells, on compensated
    arcsinh values made for this purpose only (the events are not changed), found in the pooled
    events of all samples and moved to a sample's own valley where that is clear. With several
    channels an event above the cut of any is dead. One population only: nothing is flagged, with
    the reason. Debris, doublets and margin events do not take part in finding the cut.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> rng = np.random.default_rng(0)
    >>> stain = np.concatenate([rng.normal(0, 100, 2000), rng.lognormal(9.5, 0.4, 200)])
    >>> var = pd.DataFrame({"channel_type": ["viability"]}, index=["Zombie-A"])
    >>> adata = anndata.AnnData(stain[:, None].astype(np.float32), var=var)
    >>> cc.pp.flag_dead(adata)
    >>> int(adata.obs["qc_dead"].sum())
    200
    """
    adata = adata.copy() if copy else adata
    places = np.flatnonzero(blocks.channel_types(adata) == "viability")
    stains, cofactors, remark = _stains(adata, places)
    usable = np.isfinite(stains).all(axis=1) & unflagged(
        adata, schema.QC_INVALID, schema.QC_MARGIN, schema.QC_DOUBLET, schema.QC_DEBRIS
    )
    rows = pooled_rows(adata, usable, POOLED_EVENTS)
    cuts: list[tuple[int, Valley]] = []
    reasons = [] if places.size else ["no viability channel"]
    for k, place in enumerate(places):
        valley, reason = viability_cut(stains[rows, k].astype(np.float64), STAIN_KERNEL)
        if valley is None:
            reasons.append(f"{adata.var_names[place]}: {reason}")
        else:
            cuts.append((k, valley))
    text = "; ".join([*reasons, *([remark] if remark and places.size else [])])

    def judge(_sample: str, rows: blocks.Rows) -> Verdict:
        flags = np.zeros(blocks.n_rows(rows), dtype=np.bool_)
        found = []
        for k, valley in cuts:
            own = stains[rows, k]
            cut, source = refined_cut(own[usable[rows]].astype(np.float64), valley, STAIN_KERNEL)
            flags |= own > cut
            name = adata.var_names[places[k]]
            found.append(
                threshold(name, "upper", cut, source=f"{source}, cofactor {cofactors[k]:.4g}")
            )
        return Verdict(flags, text, found)

    judge_samples(adata, schema.QC_DEAD, judge=judge, params={})
    return adata if copy else None


def _stains(
    adata: AnnData, places: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64], str]:
    """Viability channels on an arcsinh scale, the cofactors of that scale, and a remark."""
    transformed = checks.recorded(adata, schema.ARCSINH) is not None
    compensated = checks.recorded(adata, schema.COMPENSATE) is not None
    if transformed and (compensated or schema.RAW not in adata.layers):
        stains = np.ascontiguousarray(np.asarray(adata.X)[:, places], dtype=np.float32)
        widths = adata.var[schema.COFACTOR].to_numpy(dtype=np.float64)[places]
        return _spread_out(adata, stains, places), widths, ""
    stains, remark = _linear_stains(adata, places, compensated=compensated)
    linear = blocks.linear_channels(adata)[places]
    if not places.size or not stains.shape[0]:
        return stains, np.full(places.size, np.nan), remark
    pool = pooled_rows(adata, np.asarray(np.isfinite(stains).all(axis=1)), POOLED_EVENTS)
    found, _, _ = estimate_cofactors(stains[pool], blocks.counts_ions(adata)[places])
    widths = np.where(linear, found, np.nan)
    arcsinh(stains, widths, out=stains)
    return _spread_out(adata, stains, places), widths, remark


def _linear_stains(
    adata: AnnData, places: NDArray[np.intp], *, compensated: bool
) -> tuple[NDArray[np.float32], str]:
    """Linear values of the viability channels, compensated as far as matrices are known."""
    events, _ = blocks.acquired_values(adata)
    if compensated:
        return np.ascontiguousarray(np.asarray(adata.X)[:, places], dtype=np.float32), ""
    stains = np.ascontiguousarray(events[:, places], dtype=np.float32)
    try:
        plan = unmixing_plan(adata)
    except StudyError as error:
        return stains, f"not compensated: {error}"
    for sample, rows in blocks.sample_blocks(adata).items():
        unmixing = plan.get(sample, Unmixing())
        if np.isin(places, unmixing.columns).any() and blocks.n_rows(rows):
            block = np.ascontiguousarray(events[rows], dtype=np.float32)
            block = compensate_arcsinh(block, unmixing.matrix, unmixing.columns)
            stains[rows] = block[:, places]
    return stains, ""


def _spread_out(
    adata: AnnData, stains: NDArray[np.float32], places: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Scale channels exported after transformation to the width of an arcsinh scale."""
    for k in np.flatnonzero(~blocks.linear_channels(adata)[places]):
        column = stains[np.isfinite(stains[:, k]), k]
        low, high = np.quantile(column, (0.002, 0.998)) if column.size else (0.0, 0.0)
        if high > low:
            stains[:, k] *= np.float32(10 / (high - low))
    return stains
