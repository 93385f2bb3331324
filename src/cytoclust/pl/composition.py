"""What each sample is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.pl.abundance import percentages
from cytoclust.pl.palette import GREY, INK, color_map, study_colors
from cytoclust.pl.quality import natural
from cytoclust.pl.style import SMALL, axes_or_new, dress, legend, note, plain
from cytoclust.pl.tables import Cells, arrange, counts_and_samples

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection

__all__ = ["composition"]


def composition(
    data: AnnData | pd.DataFrame,
    *,
    samples: pd.DataFrame | None = None,
    groupby: str = schema.PHENOTYPE,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw every sample as a bar of its populations, samples grouped by compartment and visit.

    Parameters
    ----------
    data
        AnnData, or counts (populations x samples).
    samples
        Sample sheet; without one, samples stay in the order of the counts.
    groupby
        Column of ``obs`` that is counted, with an AnnData.
    treatment_key, compartment_key, donor_key
        Design columns that order the samples; each may be None.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Bars of 100 %; a sample without events stays empty.

    Raises
    ------
    MissingSlotError
        A design column is not there.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> counts = pd.DataFrame({"a": [10, 90], "b": [30, 70]}, index=["Treg", "other"])
    >>> cc.pl.composition(counts).get_ylabel()
    '% of events'
    """
    counts, sheet = counts_and_samples(data, samples, groupby)
    cells = arrange(
        sheet, treatment_key=treatment_key, compartment_key=compartment_key, donor_key=donor_key
    )
    known = np.where(cells.of_sample < 0, len(cells.names), cells.of_sample)
    order = sorted(range(len(sheet)), key=lambda i: (known[i], natural(str(cells.donor[i])), i))
    percent = percentages(counts).fillna(0).iloc[:, order]
    colors = (
        color_map(counts.index) if isinstance(data, pd.DataFrame) else study_colors(data, groupby)
    )
    names = [*sorted(counts.index, key=lambda name: name == schema.UNASSIGNED)]
    ax = axes_or_new(ax, min(2.4 + 0.13 * max(len(order), 12), 14), 3.4)
    if not order:
        return note(ax, "no samples")
    start = np.zeros(len(order))
    gaps = (
        1.2 * np.cumsum(np.r_[0, np.diff(known[order]) != 0])
        if treatment_key or compartment_key
        else 0
    )
    x = np.arange(len(order)) + gaps
    for name in names:
        height = percent.loc[name].to_numpy(float)
        ax.add_collection(bars(x, start, height, color=colors.get(name, GREY)), autolim=False)
        start += height
    dress(ax, ylabel="% of events")
    ax.set_ylim(0, 100)
    ax.set_xlim(x.min() - 0.8, x.max() + 0.8)
    name_bars(ax, x, order=order, cells=cells, sheet=sheet)
    stacked = names[::-1]  # the legend reads from the top down, as the bars do
    legend(ax, stacked, [colors.get(name, GREY) for name in stacked])
    return ax


def bars(x: np.ndarray, start: np.ndarray, height: np.ndarray, *, color: str) -> PolyCollection:
    """Return one collection of bars; thousands of single patches would take seconds to draw."""
    from matplotlib.collections import PolyCollection

    left, right, top = x - 0.47, x + 0.47, start + height
    corners = np.stack(
        [np.c_[left, start], np.c_[right, start], np.c_[right, top], np.c_[left, top]], axis=1
    )
    return PolyCollection(list(corners), facecolors=color, edgecolors="none")


def name_bars(
    ax: Axes, x: np.ndarray, *, order: list[int], cells: Cells, sheet: pd.DataFrame
) -> None:
    """Name groups of bars below them; without groups, each bar by its sample."""
    group = cells.of_sample[order]
    if cells.names == [("", "")]:
        small = SMALL if len(order) <= 40 else SMALL - 3
        ax.set_xticks(
            x, [plain(name, 22) for name in sheet.index[order]], rotation=90, fontsize=small
        )
        ax.tick_params(axis="x", length=0)
        return
    ticks, labels = [], []
    for cell in dict.fromkeys(group):
        ticks.append(float(x[group == cell].mean()))
        name = " ".join(part for part in cells.names[cell] if part) if cell >= 0 else "no design"
        labels.append(f"{plain(name, 24)}  n={int((group == cell).sum())}")
    ax.set_xticks(ticks, labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=SMALL)
    ax.tick_params(axis="x", length=0, colors=INK)
