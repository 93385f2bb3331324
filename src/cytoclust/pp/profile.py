"""What quality control saw in each sample, small enough to keep when the events are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError
from cytoclust.pp import blocks
from cytoclust.pp.flags import even_rows, scatter_channels, unflagged

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["profile_quality"]

PIXELS: Final = 48
COFACTOR: Final = {"mass": 5.0}
USUAL: Final = 150.0  # cofactor that shows drift; nothing is analysed on this scale
LOOKED_AT: Final = 20_000  # events of a sample that the limits of the scatter plot come from
LOOKED_AT_IN_ALL: Final = 2_000_000


def profile_quality(adata: AnnData, *, n_bins: int = 50, copy: bool = False) -> AnnData | None:
    """Record scatter, rate and signals over time of each sample, kept and excluded events apart.

    Parameters
    ----------
    adata
        Flagged events (``pp.flag_*``), before ``pp.filter_events`` drops the flagged ones and before
        ``pp.compensate``.
    n_bins
        Bins over the time of acquisition.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    AnnData or None
        Writes ``uns["cytoclust"]["profile_quality"]``: ``samples`` (n_samples,); ``scatter`` uint32
        (n_samples, 2, 48, 48), events kept and excluded over ``scatter_edges`` (2, 49) of
        ``scatter_channels`` (forward, side; empty without scatter); ``rate`` uint32
        (n_samples, 2, n_bins) over time; ``signal`` float32 (n_samples, n_bins, n_channels), mean
        of ``arcsinh(value / 150)`` (mass 5; transformed channels as they are) of
        ``signal_channels``, NaN where no event is.

    Raises
    ------
    ArgumentError
        `n_bins` is not positive.

    Notes
    -----
    About 30 kB a sample. Time is that of the time channel, or the order of the file without one.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": ["scatter", "scatter"]}, index=["FSC-A", "SSC-A"])
    >>> adata = ad.AnnData(np.random.default_rng(0).random((100, 2), np.float32), var=var)
    >>> cc.pp.profile_quality(adata)
    >>> int(adata.uns["cytoclust"]["profile_quality"]["rate"].sum())
    100
    """
    if n_bins < 1:
        msg = f"n_bins must be 1 or more; got {n_bins}."
        raise ArgumentError(msg)
    adata = adata.copy() if copy else adata
    values, _ = blocks.acquired_values(adata)
    kept = unflagged(adata, *schema.QC_FLAGS)
    rows_of = blocks.sample_blocks(adata)
    kinds = blocks.channel_types(adata)
    pair = scatter_pair(adata)
    edges = scatter_edges(values, rows_of, pair)
    measured = np.flatnonzero(np.isin(kinds, blocks.MEASURED))
    clocks = np.flatnonzero(kinds == "time")
    look = Look(
        n_bins, pair, edges, measured, signal_scale(adata, measured),
        int(clocks[0]) if len(clocks) else None,
    )  # fmt: skip
    present = {sample: rows for sample, rows in rows_of.items() if blocks.n_rows(rows)}
    found = chunks.map_blocks(
        look, values, [kept[rows] for rows in present.values()], blocks=list(present.values())
    )
    scatter = np.zeros((len(rows_of), 2, PIXELS, PIXELS) if pair else (0,), np.uint32)
    rate = np.zeros((len(rows_of), 2, n_bins), np.uint32)
    signal = np.full((len(rows_of), n_bins, len(measured)), np.nan, np.float32)
    places = [i for i, sample in enumerate(rows_of) if sample in present]
    for i, (seen, rates, means) in zip(places, found, strict=True):
        rate[i], signal[i] = rates, means
        if pair:
            scatter[i] = seen
    checks.record(
        adata, schema.PROFILE_QUALITY, {"n_bins": n_bins},
        samples=np.array(list(rows_of), dtype=object), scatter=scatter, scatter_edges=edges,
        scatter_channels=np.array([str(blocks.channel_names(adata)[c]) for c in pair], dtype=object),
        rate=rate, signal=signal,
        signal_channels=np.array([signal_name(adata, int(c)) for c in measured], dtype=object),
    )  # fmt: skip
    return adata if copy else None


@dataclass(frozen=True)
class Look:
    """What is counted and averaged in the events of one sample."""

    n_bins: int
    pair: list[int]
    edges: NDArray[np.float64]
    measured: NDArray[np.intp]
    scale: NDArray[np.float64]
    clock: int | None

    def __call__(
        self, values: NDArray[np.float32], good: NDArray[np.bool_]
    ) -> tuple[list[NDArray[np.float64]], NDArray[np.intp], NDArray[np.float32]]:
        """Return scatter and rate of kept and excluded events, and the mean signals."""
        clock = None if self.clock is None else values[:, self.clock]
        when = time_bins(clock, len(values), self.n_bins)
        sides = (good, ~good)
        scatter = [
            scatter_counts(values[side][:, self.pair], self.edges) for side in sides if self.pair
        ]
        rate = np.stack([np.bincount(when[side], minlength=self.n_bins) for side in sides])
        means = signal_means(values[:, self.measured], when, scale=self.scale, n_bins=self.n_bins)
        return scatter, rate, means


def scatter_pair(adata: AnnData) -> list[int]:
    """Return the places of forward and side scatter area, or nothing."""
    found = scatter_channels(adata)
    pair = [found.get((kind, "A"), found.get((kind, "H"), -1)) for kind in ("FSC", "SSC")]
    return pair if min(pair) >= 0 else []


def scatter_edges(
    values: Any, rows_of: dict[str, blocks.Rows], pair: list[int]
) -> NDArray[np.float64]:
    """Return the edges (2, 49) of the study's scatter plots, from 0 to nearly the largest values."""
    if not pair:
        return np.zeros((0, PIXELS + 1))
    share = min(LOOKED_AT, max(LOOKED_AT_IN_ALL // max(len(rows_of), 1), 1))
    some = [even_rows(rows, None, share) for rows in rows_of.values()]
    rows = np.concatenate(some) if some else np.zeros(0, np.intp)
    seen = chunks.take_rows(values, rows, pair)
    seen = seen[np.isfinite(seen).all(axis=1)]
    top = np.quantile(seen, 0.998, axis=0) if len(seen) else np.ones(2)
    return np.linspace(0.0, np.maximum(top, 1e-6), PIXELS + 1).T


def scatter_counts(points: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count events per pixel (side scatter x forward scatter); what lies outside is at the rim."""
    points = np.clip(np.nan_to_num(points, posinf=edges[:, -1].max()), edges[:, 0], edges[:, -1])
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=(edges[1], edges[0]))
    return counts


def time_bins(clock: NDArray[np.float32] | None, n: int, n_bins: int) -> NDArray[np.intp]:
    """Return each event's bin of time, or of order where time stands still."""
    if clock is not None and np.isfinite(clock).all() and clock.max() > clock.min():
        share = (clock.astype(np.float64) - clock.min()) / (float(clock.max()) - float(clock.min()))
    else:
        share = np.arange(n) / n
    return np.minimum((share * n_bins).astype(np.intp), n_bins - 1)


def signal_scale(adata: AnnData, measured: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the cofactor of each measured channel, NaN where values are transformed already."""
    kinds, linear = blocks.channel_types(adata), blocks.linear_channels(adata)
    return np.array(
        [COFACTOR.get(str(kinds[c]), USUAL) if linear[c] else np.nan for c in measured], np.float64
    )


def signal_means(
    values: NDArray[np.float32],
    when: NDArray[np.intp],
    *,
    scale: NDArray[np.float64],
    n_bins: int,
) -> NDArray[np.float32]:
    """Return the mean signal (n_bins, n_channels) of the finite events."""
    means = np.full((n_bins, values.shape[1]), np.nan, np.float32)
    for c, cofactor in enumerate(scale):
        shown = values[:, c].astype(np.float64)
        known = np.isfinite(shown)
        shown = np.arcsinh(shown[known] / cofactor) if np.isfinite(cofactor) else shown[known]
        count = np.bincount(when[known], minlength=n_bins)
        total = np.bincount(when[known], weights=shown, minlength=n_bins)
        np.divide(total, count, out=means[:, c], where=count > 0, casting="same_kind")
    return means


def signal_name(adata: AnnData, channel: int) -> str:
    """Return the marker of a channel, or its name."""
    return str(blocks.marker_names(adata)[channel] or blocks.channel_names(adata)[channel])
