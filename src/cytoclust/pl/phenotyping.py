"""What the names of populations rest on: marker distributions with their cut-offs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.pl.clustering import marker_positions, pooled_values
from cytoclust.pl.palette import DOWN, INK, categories_of
from cytoclust.pl.style import SMALL, axes_or_new, dress, name_ticks, note, plain, row_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["marker_densities", "phenotype_sizes"]

BINS = 256


def recorded_cutoffs(adata: AnnData) -> dict[str, list[float]]:
    """Return marker -> where positive begins, in units of ``X``, as ``tl.call_markers`` recorded it.

    A marker that was cut in each compartment for itself has several values.
    """
    table = (checks.recorded(adata, schema.CALL_MARKERS) or {}).get("cutoffs")
    if not isinstance(table, pd.DataFrame) or "cut_positive" not in table.columns:
        return {}
    cuts: dict[str, list[float]] = {}
    values = pd.to_numeric(table["cut_positive"], errors="coerce").to_numpy(float)
    for marker, value in zip(table[schema.MARKER].astype(str), values, strict=True):
        if np.isfinite(value) and value not in cuts.setdefault(marker, []):
            cuts[marker].append(float(value))
    return cuts


def value_unit(adata: AnnData, at: np.ndarray) -> str:
    """Say in which unit the values of the channels at these positions stand."""
    scale = adata.var[schema.SCALE].iloc[at].astype(str) if schema.SCALE in adata.var else None
    given = scale is not None and bool((scale == "transformed").all())
    if checks.recorded(adata, schema.ARCSINH) and not given:
        return "arcsinh(value / cofactor)"
    return "value (transformed before import)" if given else "value"


def smooth_histogram(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of events per bin, smoothed and scaled to a peak of 1."""
    values = values[np.isfinite(values)]
    counts, _ = np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))
    inner = np.arange(-12, 13)
    kernel = np.exp(-0.5 * (inner / 4) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same")
    return np.asarray(density / max(density.max(), 1e-12))


def marker_densities(
    adata: AnnData,
    *,
    markers: list[str] | None = None,
    cutoffs: Mapping[str, float] | None = None,
    layer: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one density per marker with the cut-off between negative and positive.

    Parameters
    ----------
    adata
        Annotated events.
    markers
        Markers or channels, from the top down; None takes those of class type and state.
    cutoffs
        Marker -> cut-off in units of the values; None takes those recorded by ``tl.call_markers``.
    layer
        Layer of the values; None for ``X``.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Every density has the same height; a short line is a cut-off, the number at the right the
        share of events above it, where there is one for all samples.

    Raises
    ------
    MissingSlotError
        A marker is not there.

    Examples
    --------
    >>> import anndata as ad, numpy as np, cytoclust as cc
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32))
    >>> len(cc.pl.marker_densities(adata, cutoffs={"0": 1.0}).get_yticklabels())
    2
    """
    at, names = marker_positions(adata, markers)
    ax = axes_or_new(ax, 5.0, 0.8 + 0.3 * max(len(at), 3))
    if not len(at) or not adata.n_obs:
        return note(ax, "no markers" if not len(at) else "no events")
    lines = recorded_cutoffs(adata) if cutoffs is None else {k: [v] for k, v in cutoffs.items()}
    values, _ = pooled_values(adata, at, layer=layer)
    ranges = np.nanquantile(values, [0.0005, 0.9995], axis=0)
    low, high = float(np.nanmin(ranges[0])), float(np.nanmax(ranges[1]))
    centres = np.linspace(low, high, BINS)
    channels = adata.var_names.astype(str)
    for i, (position, name) in enumerate(zip(at, names, strict=True)):
        density = 0.9 * smooth_histogram(values[:, i], low, high)
        ax.fill_between(centres, i, i - density, color="#A8C8E0", lw=0, zorder=2 * i)
        ax.plot(centres, i - density, color=DOWN, lw=0.7, zorder=2 * i + 1)
        cuts = lines.get(channels[position], lines.get(name, []))
        for cut in cuts:
            ax.plot([cut, cut], [i, i - 0.8], color=INK, lw=1.2, zorder=2 * i + 1)
        if len(cuts) == 1:
            share = 100 * np.mean(values[:, i] > cuts[0])
            ax.text(
                1.01, i, f"{share:.3g} % +", transform=ax.get_yaxis_transform(), va="bottom",
                fontsize=row_size(ax, len(at)), color=INK,
            )  # fmt: skip
    ax.set_ylim(len(at) - 0.7, -1.05)
    name_ticks(ax, names, axis="y", width=24)
    dress(ax, xlabel=value_unit(adata, at))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def phenotype_sizes(
    adata: AnnData, *, groupby: str = schema.PHENOTYPE, ax: Axes | None = None
) -> Axes:
    """Draw the share of events of every phenotype, largest first, on a log scale.

    Parameters
    ----------
    adata
        Annotated events.
    groupby
        Categorical column of ``obs``.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        One dot per phenotype that has events.

    Raises
    ------
    MissingSlotError
        `groupby` is not there.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame(
    ...     {"phenotype": pd.Categorical(["B cell", "pDC", "pDC"])}, index=list("abc")
    ... )
    >>> ax = cc.pl.phenotype_sizes(ad.AnnData(np.zeros((3, 1), np.float32), obs=obs))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['pDC', 'B cell']
    """
    checks.check_key(adata, groupby)
    codes, names, tints = categories_of(adata, groupby)
    colors = dict(zip(names, tints, strict=True))
    sizes = pd.Series(np.bincount(codes[codes >= 0], minlength=len(names)), index=names)
    sizes = sizes[sizes > 0].sort_values(ascending=False, kind="stable")
    ax = axes_or_new(ax, 4.6, 0.8 + 0.19 * max(len(sizes), 3))
    if sizes.empty:
        return note(ax, "no events")
    percent = 100 * sizes.to_numpy() / sizes.sum()
    rows = np.arange(len(sizes))
    ax.hlines(rows, percent.min() / 2, percent, color="#DDDDDD", lw=1)
    ax.scatter(percent, rows, c=[colors[name] for name in sizes.index], s=22, zorder=3)
    for row, share, count in zip(rows, percent, sizes, strict=True):
        ax.annotate(
            plain(f"{share:.2g} %  ({count:,})"), (share, row), xytext=(6, 0),
            textcoords="offset points", va="center", color=INK,
            fontsize=row_size(ax, len(sizes), largest=SMALL - 1),
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(percent.min() / 2, max(percent.max() * 6, percent.min() * 4))
    ax.set_ylim(len(sizes) - 0.4, -0.6)
    name_ticks(ax, sizes.index, axis="y")
    return dress(ax, xlabel="% of events")
