"""One page per sample: what quality control saw and why it excluded events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust import checks, schema
from cytoclust.errors import ArgumentError
from cytoclust.pl.palette import DOWN, GREY, INK, UP
from cytoclust.pl.quality import REASONS
from cytoclust.pl.style import SMALL, dress, new_figure, note, plain

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["quality_page"]

DRIFTING: Final = ("#CC79A7", "#E69F00", "#009E73")  # the channels that move most


def quality_page(adata: AnnData, sample: str) -> Figure:
    """Draw one sample's scatter, acquisition rate and signals over time, exclusions coloured.

    Parameters
    ----------
    adata
        Events that ``pp.profile_quality`` was run on, before or after ``pp.filter_events``.
    sample
        Name of the sample.

    Returns
    -------
    Figure
        Left: forward and side scatter, blue where events were kept, orange where they were excluded.
        Right: events per time bin, and the mean of each channel against its own median over time,
        the three that move most in colour. The title counts the exclusions by reason.

    Raises
    ------
    MissingSlotError
        ``pp.profile_quality`` was not run.
    ArgumentError
        The sample does not exist.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": ["scatter", "scatter"]}, index=["FSC-A", "SSC-A"])
    >>> obs = pd.DataFrame({"sample": pd.Categorical(["a"] * 100)}, index=map(str, range(100)))
    >>> values = np.random.default_rng(0).random((100, 2), np.float32)
    >>> adata = ad.AnnData(values, obs=obs, var=var)
    >>> cc.pp.profile_quality(adata)
    >>> len(cc.pl.quality_page(adata, "a").axes)
    3
    """
    record = checks.require_step(adata, schema.PROFILE_QUALITY, "pp.profile_quality")
    names = [str(name) for name in record["samples"]]
    if sample not in names:
        msg = f"sample {sample!r} is not in these data; samples: {checks.listing(names)}. Check the spelling."
        raise ArgumentError(msg)
    at = names.index(sample)
    figure = new_figure(7.4, 3.0)
    axes = figure.subplot_mosaic(
        [["scatter", "rate"], ["scatter", "signal"]], width_ratios=(1, 1.5)
    )
    paint_scatter(axes["scatter"], record, at)
    draw_rate(axes["rate"], np.asarray(record["rate"][at], float))
    channels = [str(name) for name in record["signal_channels"]]
    draw_signal(axes["signal"], np.asarray(record["signal"][at], float), channels)
    figure.suptitle(
        f"{plain(sample, 50)}\n{exclusion_words(adata, sample, np.asarray(record['rate'][at]))}",
        fontsize=SMALL + 1, x=0.01, ha="left", color=INK,
    )  # fmt: skip
    return figure


def exclusion_words(adata: AnnData, sample: str, rate: np.ndarray) -> str:
    """Say how many events were excluded, and for which reasons."""
    total, excluded = int(rate.sum()), int(rate[1].sum())
    text = f"{excluded:,} of {total:,} events excluded ({100 * excluded / max(total, 1):.1f} %)"
    counts = (checks.recorded(adata, schema.FILTER_EVENTS) or {}).get("counts")
    if counts is None or sample not in counts.index:
        return text
    row = counts.loc[sample]
    reasons = [f"{name} {int(row[flag]):,}" for flag, (name, _) in REASONS.items() if row[flag]]
    return f"{text}: {', '.join(reasons)}" if reasons else text


def paint_scatter(ax: Axes, record: dict[str, Any], at: int) -> None:
    """Colour each pixel by its share of excluded events, darker where events are many."""
    from matplotlib.colors import to_rgb

    names = [str(name) for name in record["scatter_channels"]]
    if len(names) < 2:
        note(ax, "no scatter channels")
        return
    kept, excluded = np.asarray(record["scatter"][at], float)
    total = kept + excluded
    share = (excluded / np.maximum(total, 1))[..., None]
    color = (1 - share) * np.array(to_rgb(DOWN)) + share * np.array(to_rgb(UP))
    top = np.log1p(max(float(total.max()), 1.0))
    alpha = np.where(total > 0, 0.25 + 0.75 * np.log1p(total) / top, 0.0)
    (left, right), (bottom, up) = (edges[[0, -1]] for edges in np.asarray(record["scatter_edges"]))
    image = np.dstack([color, alpha])
    ax.imshow(image, origin="lower", extent=(left, right, bottom, up), aspect="auto")
    dress(ax, xlabel=plain(names[0], 20), ylabel=plain(names[1], 20))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks([])


def draw_rate(ax: Axes, rate: np.ndarray) -> None:
    """Stack kept and excluded events per bin of time."""
    bins = np.arange(rate.shape[1])
    ax.bar(bins, rate[0], width=1.0, color=DOWN, lw=0, label="kept")
    ax.bar(bins, rate[1], width=1.0, bottom=rate[0], color=UP, lw=0, label="excluded")
    ax.legend(
        frameon=False, fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.0, 1.05), handlelength=0.8
    )  # fmt: skip
    dress(ax, ylabel="events")
    ax.set_xlim(-0.5, len(bins) - 0.5)
    ax.set_xticks([])


def draw_signal(ax: Axes, signal: np.ndarray, channels: list[str]) -> None:
    """Draw each channel's mean against its median over time; name the three that move most."""
    if not len(channels) or not np.isfinite(signal).any():
        note(ax, "no measured channel")
        return
    present = np.isfinite(signal).any(axis=0)
    moved = np.full(signal.shape, np.nan)
    moved[:, present] = signal[:, present] - np.nanmedian(signal[:, present], axis=0)
    reach = np.zeros(len(channels))
    reach[present] = np.nanquantile(np.abs(moved[:, present]), 0.9, axis=0)
    order = np.argsort(-reach, kind="stable")
    bins = np.arange(len(signal))
    for channel in order[len(DRIFTING) :]:
        ax.plot(bins, moved[:, channel], color=GREY, lw=0.5)
    for channel, color in zip(order, DRIFTING, strict=False):
        ax.plot(bins, moved[:, channel], color=color, lw=1.1, label=plain(channels[channel], 14))
    ax.legend(
        frameon=False, fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.0, 1.05), handlelength=0.8
    )  # fmt: skip
    limit = max(float(np.nanquantile(np.abs(moved[:, present]), 0.995)), 0.3)
    dress(ax, xlabel="time of acquisition", ylabel="signal - median")
    ax.set_ylim(-1.15 * limit, 1.15 * limit)
    ax.set_xlim(-0.5, len(bins) - 0.5)
    ax.set_xticks([])
