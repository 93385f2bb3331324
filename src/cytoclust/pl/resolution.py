"""Which resolutions, and which clusters, the data would give again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cytoclust import checks, schema
from cytoclust.pl.palette import DOWN, GREY, INK, UP
from cytoclust.pl.style import SMALL, axes_or_new, dress

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["resolutions"]

STABLE = 0.75  # as in cytoclust.numerics.stability


def resolutions(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw how well clusters are found again at each resolution, and the one chosen.

    Parameters
    ----------
    adata
        Events after `tl.scan_resolutions`.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        A point is a cluster, its area grows with its share of the events; blue ones are stable. The
        line is the mean over events. Above: clusters, and how many of them are stable.

    Raises
    ------
    MissingSlotError
        `tl.scan_resolutions` was not run.

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32))
    >>> cc.tl.scan_resolutions(adata, [0.1, 1.0], n_replicates=2, use_rep="X")
    >>> cc.pl.resolutions(adata).get_xlabel()
    'resolution'
    """
    scan = checks.require_step(adata, schema.SCAN_RESOLUTIONS, "tl.scan_resolutions")
    table, clusters = scan["table"], scan["clusters"]
    ax = axes_or_new(ax, 5.4, 3.4)
    at = np.arange(len(table))
    place = dict(zip(table["resolution"], at, strict=True))
    events = clusters["n_events"].to_numpy(float)
    share = events / max(events[clusters["resolution"] == table["resolution"].iloc[0]].sum(), 1)
    centre = clusters["resolution"].map(place).to_numpy(float)
    number = clusters.groupby("resolution").cumcount().to_numpy(float)
    spread = clusters["resolution"].map(clusters["resolution"].value_counts()).to_numpy(float)
    x = centre + 0.6 * ((number + 0.5) / spread - 0.5)
    color = np.where(clusters["stable"].to_numpy(bool), DOWN, UP)
    ax.scatter(
        x, clusters["jaccard"], s=8 + 160 * share, c=color, alpha=0.7, lw=0.3, edgecolors="white",
        zorder=3,
    )  # fmt: skip
    ax.plot(at, table["jaccard_events"], color=INK, lw=1, zorder=2)
    ax.axhline(STABLE, color=GREY, lw=0.8, ls="--", zorder=1)
    chosen = int(np.flatnonzero(table["chosen"])[0])
    ax.axvspan(chosen - 0.5, chosen + 0.5, color="#E8F0F8", lw=0, zorder=0)
    for i, (n_clusters, n_stable) in enumerate(
        zip(table["n_clusters"], table["n_stable"], strict=True)
    ):
        ax.text(i, 1.06, f"{n_stable}/{n_clusters}", ha="center", fontsize=SMALL, color=INK)
    ax.set_xticks(at, [f"{value:g}" for value in table["resolution"]])
    ax.set(xlim=(-0.6, len(at) - 0.4), ylim=(0, 1.13), yticks=np.arange(0, 1.01, 0.25))
    return dress(
        ax,
        title="stable clusters / clusters; the chosen resolution is shaded",
        xlabel="resolution",
        ylabel="Jaccard in bootstrap samples",
    )
