"""Flags for debris and for dead cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust import checks, chunks, schema
from cytoclust.errors import StudyError
from cytoclust.event_arrays import event_arrays
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
    from collections.abc import Callable, Iterator, Sequence

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
    arrays = event_arrays(adata)
    usable = arrays.zeros(np.bool_)
    events, after_transformation = blocks.acquired_values(adata)
    if place is not None:
        linear = bool(blocks.linear_channels(adata)[place])
        usable = arrays.filled(
            chunks.iterate_blocks(_is_positive, events, columns=[place]), np.bool_
        )
        usable &= unflagged(adata, schema.QC_INVALID, schema.QC_MARGIN, schema.QC_DOUBLET)
        rows = pooled_rows(adata, usable, POOLED_EVENTS)
        if linear and rows.size:
            markers = _marker_places(adata, after_transformation=after_transformation)
            pool = chunks.take_rows(events, rows, [place, *markers])
            valley, reason = debris_cut(np.log(pool[:, 0].astype(np.float64)), pool[:, 1:])
        else:
            reason = "no usable event" if linear else "scatter was exported after transformation"
    name = "" if place is None else str(adata.var_names[place])

    def judge(events: NDArray[np.float32], usable: NDArray[np.bool_]) -> Verdict:
        if valley is None or place is None:
            return nothing(len(events), reason)
        own = events[:, place]
        sizes = np.log(own[usable].astype(np.float64))
        cut, source = refined_cut(sizes, valley, SIZE_KERNEL)
        found = [threshold(name, "lower", float(np.exp(cut)), source=source)]
        return Verdict(own < np.exp(cut), "", found)

    judge_samples(adata, schema.QC_DEBRIS, judge=judge, params={}, events=[usable])
    return adata if copy else None


def _is_positive(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(values[:, 0]) & (values[:, 0] > 0))


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
    stain = _stain(adata, places)
    usable = event_arrays(adata).filled(stain.iterate(_is_finite), np.bool_)
    stain = _with_scales(adata, stain, usable)
    usable &= unflagged(
        adata, schema.QC_INVALID, schema.QC_MARGIN, schema.QC_DOUBLET, schema.QC_DEBRIS
    )
    pool = stain.take(pooled_rows(adata, usable, POOLED_EVENTS))
    cuts: list[tuple[int, str, Valley]] = []
    reasons = [] if places.size else ["no viability channel"]
    for k, place in enumerate(places):
        valley, reason = viability_cut(pool[:, k].astype(np.float64), STAIN_KERNEL)
        name = str(adata.var_names[place])
        if valley is None:
            reasons.append(f"{name}: {reason}")
        else:
            cuts.append((k, name, valley))
    text = "; ".join([*reasons, *([stain.remark] if stain.remark and places.size else [])])
    scale, cofactors = stain.scale, stain.cofactors

    def judge(
        events: NDArray[np.float32], unmixing: Unmixing, usable: NDArray[np.bool_]
    ) -> Verdict:
        flags = np.zeros(len(events), dtype=np.bool_)
        found = []
        stains = scale(events, unmixing) if cuts else np.zeros((len(events), 0), np.float32)
        for k, name, valley in cuts:
            own = stains[:, k]
            cut, source = refined_cut(own[usable].astype(np.float64), valley, STAIN_KERNEL)
            flags |= own > cut
            found.append(
                threshold(name, "upper", cut, source=f"{source}, cofactor {cofactors[k]:.4g}")
            )
        return Verdict(flags, text, found)

    judge_samples(
        adata, schema.QC_DEAD, judge=judge, params={}, values=stain.values,
        own={sample: (unmixing,) for sample, unmixing in stain.plan.items()}, events=[usable],
    )  # fmt: skip
    return adata if copy else None


@dataclass(frozen=True)
class StainScale:
    """How viability channels are brought to an arcsinh scale: compensated, transformed, spread."""

    places: NDArray[np.intp]
    cofactors: NDArray[np.float64]
    factors: NDArray[np.float32]

    def __call__(self, events: NDArray[np.float32], unmixing: Unmixing) -> NDArray[np.float32]:
        """Return the stains (n_events, n_stains) of events of one sample."""
        if np.isin(self.places, unmixing.columns).any() and len(events):
            block = np.ascontiguousarray(events, dtype=np.float32)
            events = compensate_arcsinh(block, unmixing.matrix, unmixing.columns)
        stains = np.array(events[:, self.places], dtype=np.float32, order="C")
        if np.isfinite(self.cofactors).any():
            arcsinh(stains, self.cofactors, out=stains)
        return stains * self.factors


@dataclass(frozen=True)
class Stain:
    """The viability channels of a study, made sample by sample when they are looked at."""

    values: Any
    plan: dict[str, Unmixing]
    rows: list[blocks.Rows]
    scale: StainScale
    cofactors: NDArray[np.float64]
    remark: str

    def iterate(
        self, function: Callable[..., Any], *arguments: Sequence[Any]
    ) -> Iterator[tuple[blocks.Rows, Any]]:
        """Apply a function to the stains of every sample that has events; yields rows and results."""
        return chunks.iterate_blocks(
            partial(_with_stains, function, self.scale), self.values,
            list(self.plan.values()), *arguments,
            blocks=self.rows,
        )  # fmt: skip

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the stains of some events, by sample."""
        wanted = np.sort(rows)
        picked = [_within(wanted, own) for own in self.rows]
        parts = [part for _, part in self.iterate(_pick, picked)]
        return np.concatenate([np.zeros((0, len(self.scale.places)), np.float32), *parts])


def _with_stains(  # noqa: PLR0917, a task of a worker
    function: Callable[..., Any], scale: StainScale, events: Any, unmixing: Unmixing, *own: Any
) -> Any:
    return function(scale(events, unmixing), *own)


def _is_finite(stains: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(stains).all(axis=1))


def _within(wanted: NDArray[np.intp], own: blocks.Rows) -> NDArray[np.intp]:
    """Return the places among a sample's rows of the increasing rows that are wanted."""
    if not isinstance(own, slice):
        return np.flatnonzero(np.isin(own, wanted))
    first, last = np.searchsorted(wanted, (own.start, own.stop))
    return wanted[first:last] - own.start


def _pick(stains: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
    return stains[places]


def _stain(adata: AnnData, places: NDArray[np.intp]) -> Stain:
    """Find the viability channels as they are in the AnnData, compensated but not yet scaled."""
    transformed = checks.recorded(adata, schema.ARCSINH) is not None
    compensated = checks.recorded(adata, schema.COMPENSATE) is not None
    rows_of = blocks.sample_blocks(adata)
    present = [sample for sample, rows in rows_of.items() if blocks.n_rows(rows)]
    values, remark = blocks.acquired_values(adata)[0], ""
    plan: dict[str, Unmixing] = {}
    unknown = np.full(places.size, np.nan)
    if compensated or (transformed and schema.RAW not in adata.layers):
        values = blocks.plain_values(adata.X)
        if transformed:
            unknown = adata.var[schema.COFACTOR].to_numpy(dtype=np.float64)[places]
    else:
        try:
            plan = unmixing_plan(adata)
        except StudyError as error:
            remark = f"not compensated: {error}"
    scale = StainScale(places, np.full(places.size, np.nan), np.ones(places.size, np.float32))
    own = {sample: plan.get(sample, Unmixing()) for sample in present}
    return Stain(values, own, [rows_of[sample] for sample in present], scale, unknown, remark)


def _with_scales(adata: AnnData, stain: Stain, finite: NDArray[np.bool_]) -> Stain:
    """Find the cofactors of linear stains, and the factors of those exported after transformation."""
    places = stain.scale.places
    linear = blocks.linear_channels(adata)[places]
    pool = stain.take(pooled_rows(adata, finite, POOLED_EVENTS))
    if not places.size or not len(pool):
        return stain
    cofactors, widths = stain.cofactors, np.full(places.size, np.nan)
    if np.isnan(cofactors).all():  # not on an arcsinh scale yet
        found, _, _ = estimate_cofactors(pool, blocks.counts_ions(adata)[places])
        cofactors = widths = np.where(linear, found, np.nan)
    factors = np.ones(places.size, dtype=np.float32)
    for k in np.flatnonzero(~linear):
        low, high = np.quantile(pool[:, k], (0.002, 0.998))
        factors[k] = np.float32(10 / (high - low)) if high > low else np.float32(1)
    return replace(stain, scale=StainScale(places, widths, factors), cofactors=cofactors)
