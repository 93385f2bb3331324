"""Agreement with manual gates: F1, confusion, and frequencies of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from cytoclust.pl.palette import DOWN, INK
from cytoclust.pl.style import SMALL, axes_or_new, dress, name_ticks, note

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["bland_altman", "confusion", "gate_scores"]


class Concordance(Protocol):
    """What `tl.compare_gates` returns."""

    @property
    def populations(self) -> pd.DataFrame:
        """One row per gate."""

    @property
    def confusion(self) -> pd.DataFrame:
        """Events by gate and by name found."""

    @property
    def frequencies(self) -> pd.DataFrame:
        """One row per sample and gate."""


def gate_scores(result: Concordance, *, ax: Axes | None = None) -> Axes:
    """Draw F1, precision and recall of every gate.

    Parameters
    ----------
    result
        From `tl.compare_gates`.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        A bar for F1, the best gate first; a triangle for precision, a circle for recall.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame(
    ...     {"phenotype": ["T", "T", "B"], "gate": ["T", "T", "B"]}, index=list("abc")
    ... )
    >>> result = cc.tl.compare_gates(ad.AnnData(np.zeros((3, 1)), obs=obs), "gate")
    >>> [label.get_text() for label in cc.pl.gate_scores(result).get_yticklabels()]
    ['B', 'T']
    """
    table = result.populations.sort_values("f1", ascending=False, kind="stable")
    ax = axes_or_new(ax, 4.6, 0.9 + 0.24 * max(len(table), 3))
    rows = np.arange(len(table))
    ax.barh(rows, table["f1"], color="#A8C8E0", height=0.7)
    ax.scatter(table["precision"], rows, marker="^", s=16, color=INK, label="precision", zorder=3)
    ax.scatter(table["recall"], rows, marker="o", s=14, color=DOWN, label="recall", zorder=3)
    for row, value in enumerate(table["f1"]):
        ax.text(0.01, row, f"{value:.2f}", va="center", fontsize=SMALL - 1, color=INK)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(len(table) - 0.4, -0.6)
    name_ticks(ax, table.index, axis="y")
    ax.legend(fontsize=SMALL - 1, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return dress(ax, xlabel="F1 (bar), precision, recall")


def confusion(result: Concordance, *, ax: Axes | None = None) -> Axes:
    """Draw where the events of every gate went, as percentages of the gate.

    Parameters
    ----------
    result
        From `tl.compare_gates`.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Gates as rows, names found as columns; percentages from 1 on are written.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame(
    ...     {"phenotype": ["T", "T", "B"], "gate": ["T", "B", "B"]}, index=list("abc")
    ... )
    >>> result = cc.tl.compare_gates(ad.AnnData(np.zeros((3, 1)), obs=obs), "gate")
    >>> ax = cc.pl.confusion(result)
    >>> sorted(text.get_text() for text in ax.texts)
    ['100', '50', '50']
    """
    table = result.confusion
    share = 100 * table.div(table.sum(axis=1), axis=0)
    keep = share.columns[(share >= 1).any()]
    share = share[keep]
    ax = axes_or_new(ax, 1.8 + 0.36 * len(keep), 1.4 + 0.28 * len(share))
    ax.imshow(share.to_numpy(), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for i, row in enumerate(share.to_numpy()):
        for j, value in enumerate(row):
            if value >= 1:
                color = "white" if value > 60 else INK
                ax.text(
                    j, i, f"{value:.0f}", ha="center", va="center", fontsize=SMALL - 1, color=color
                )
    name_ticks(ax, share.index, axis="y")
    ax.set_xticks(
        np.arange(len(keep)), [str(name) for name in keep], rotation=60, ha="right", fontsize=SMALL
    )
    return dress(ax, xlabel="name found (% of the gate)")


def bland_altman(result: Concordance, gate: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw found less gated frequency of every sample over their mean, with limits of agreement.

    Parameters
    ----------
    result
        From `tl.compare_gates`.
    gate
        Gate to draw; None draws all, and limits over all.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        A dot per sample (and gate), the mean difference, and mean +/- 1.96 standard deviations.

    References
    ----------
    Bland and Altman 1986, doi 10.1016/S0140-6736(86)90837-8.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame({"phenotype": list("TTBB"), "gate": list("TBBB")}, index=list("abcd"))
    >>> obs["sample"] = ["1", "1", "2", "2"]
    >>> result = cc.tl.compare_gates(ad.AnnData(np.zeros((4, 1)), obs=obs), "gate")
    >>> len(cc.pl.bland_altman(result, "T").lines)
    3
    """
    table = result.frequencies
    table = table if gate is None else table[table["gate"] == gate]
    ax = axes_or_new(ax, 4.4, 3.2)
    if table.empty:
        return note(ax, "no samples" if gate is None else f"no gate {gate!r}")
    difference = (table["found"] - table["gated"]).to_numpy(dtype=float)
    middle = 0.5 * (table["found"] + table["gated"]).to_numpy(dtype=float)
    ax.scatter(middle, difference, s=16, color=DOWN, alpha=0.8, lw=0)
    mean = float(difference.mean())
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    for value, style in ((mean, "-"), (mean - 1.96 * spread, "--"), (mean + 1.96 * spread, "--")):
        ax.axhline(value, color=INK, ls=style, lw=0.8)
        ax.annotate(
            f"{value:+.2f}", (1.01, value), xycoords=("axes fraction", "data"), fontsize=SMALL - 1,
            va="center", color=INK,
        )  # fmt: skip
    ax.set_title(gate or "all gates", fontsize=SMALL + 1)
    return dress(ax, xlabel="mean of found and gated (%)", ylabel="found less gated (points)")
