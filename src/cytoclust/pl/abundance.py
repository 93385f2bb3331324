"""How much of each population a sample holds, and how that moves over treatment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cytoclust import checks, schema
from cytoclust.pl.palette import color_map
from cytoclust.pl.style import (
    SMALL,
    TEXT,
    axes_or_new,
    dress,
    new_figure,
    note,
    plain,
)  # fmt: skip
from cytoclust.pl.tables import Cells, arrange, counts_and_samples

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["abundance", "abundance_grid"]


def percentages(counts: pd.DataFrame) -> pd.DataFrame:
    """Return percent of each sample's events; NaN for a sample without events."""
    total = counts.sum(axis=0).astype(float)
    return 100 * counts / total.where(total > 0)


def abundance(
    data: AnnData | pd.DataFrame,
    population: str,
    *,
    samples: pd.DataFrame | None = None,
    groupby: str = schema.PHENOTYPE,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one population's share of events over treatment, a line per patient, medians on top.

    Parameters
    ----------
    data
        AnnData, or counts (populations x samples).
    population
        Row of the counts.
    samples
        Sample sheet, needed with counts; design columns as categories keep their order.
    groupby
        Column of ``obs`` that is counted, with an AnnData.
    treatment_key, compartment_key, donor_key
        Design columns; each may be None. Compartments stand side by side.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Percent of all events on a log scale. Open triangles at the lower edge are samples with
        no event of the population.

    Raises
    ------
    MissingSlotError
        A design column is not there.
    ArgumentError
        The population is not there.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> counts = pd.DataFrame({"a": [10, 90], "b": [30, 70]}, index=["Treg", "other"])
    >>> sheet = pd.DataFrame({"sample": ["a", "b"], "visit": ["d0", "d7"]})
    >>> cc.pl.abundance(counts, "Treg", samples=sheet, treatment_key="visit").get_ylabel()
    '% of events'
    """
    counts, sheet = counts_and_samples(data, samples, groupby)
    checks.check_one_of("population", population, list(counts.index))
    cells = arrange(
        sheet, treatment_key=treatment_key, compartment_key=compartment_key, donor_key=donor_key
    )
    percent = percentages(counts).loc[population].to_numpy(float)
    ax = axes_or_new(ax, 1.0 + 0.42 * max(len(cells.names), 4), 2.6)
    draw_course(ax, percent, cells, title=plain(population, 40))
    return ax


def draw_course(ax: Axes, percent: np.ndarray, cells: Cells, *, title: str) -> None:
    """Draw points, donor lines and medians of one population."""
    from matplotlib.collections import LineCollection

    known = np.isfinite(percent) & (cells.of_sample >= 0)
    if not known.any():
        ax.set_title(title, loc="left", fontsize=TEXT)
        note(ax, "no samples")
        return
    positive = percent[known & (percent > 0)]
    floor = positive.min() / 2 if len(positive) else 0.01
    y = np.where(percent > 0, percent, floor)
    tint = color_map(list(dict.fromkeys(c for c, _ in cells.names)))
    jitter = np.where(cells.donor == "", spread_points(cells.of_sample, y), 0.0)
    x = np.full(len(y), np.nan)
    x[known] = cells.x[cells.of_sample[known]] + jitter[known]
    lines = [np.c_[x[line], y[line]] for line in donor_lines(cells, known)]
    ax.add_collection(
        LineCollection(lines, colors="#9A9A9A", linewidths=0.5, alpha=0.7, zorder=1), autolim=False
    )
    for compartment, color in tint.items():
        at = [i for i, (c, _) in enumerate(cells.names) if c == compartment]
        member = known & np.isin(cells.of_sample, at)
        seen = member & (percent > 0)
        ax.scatter(x[seen], y[seen], s=7, color=color, alpha=0.55, lw=0, zorder=2)
        none = member & (percent == 0)
        ax.scatter(
            x[none],
            y[none],
            s=10,
            marker="v",
            facecolors="none",
            edgecolors=color,
            lw=0.6,
            zorder=2,
        )
        medians = [
            np.median(y[known & (cells.of_sample == i)])
            if (known & (cells.of_sample == i)).any()
            else np.nan
            for i in at
        ]
        joined = len(at) > 1
        ax.plot(cells.x[at], medians, color=color, lw=1.8 if joined else 0, zorder=3)
        ax.scatter(cells.x[at], medians, s=90, marker="_", color=color, lw=2.2, zorder=4)
    ax.set_yscale("log")
    finish_course(ax, cells, title)


def spread_points(cell: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a small x offset per sample, alternating in order of y, the same every time."""
    offset = np.zeros(len(y))
    for group in np.unique(cell):
        member = np.flatnonzero(cell == group)
        order = member[np.argsort(y[member], kind="stable")]
        offset[order] = 0.22 * np.resize([0, 1, -1, 0.5, -0.5], len(order))
    return offset


def donor_lines(cells: Cells, known: np.ndarray) -> list[np.ndarray]:
    """Return the samples of each donor in order of x; apart per compartment if there are visits."""
    visits = len({t for _, t in cells.names}) > 1
    groups: dict[tuple[str, str], list[int]] = {}
    for sample in np.flatnonzero(known & (cells.donor != "")):
        compartment = cells.names[cells.of_sample[sample]][0] if visits else ""
        groups.setdefault((str(cells.donor[sample]), compartment), []).append(int(sample))
    return [
        np.array(sorted(members, key=lambda i: cells.of_sample[i]))
        for members in groups.values()
        if len(members) > 1
    ]


def finish_course(ax: Axes, cells: Cells, title: str) -> None:
    """Name visits below and compartments above the points, with plain numbers on the y axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    dress(ax, title=title, ylabel="% of events")
    ax.title.set_fontsize(TEXT)
    low, high = ax.get_ylim()
    if high / low < 10:  # a log axis of less than a decade would have one tick or none
        ax.set_ylim(low / 1.4, high * 1.4)
    subs: tuple[float, ...] = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    if high / low < 5:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    labels = [plain(t or c, 16) for c, t in cells.names]
    longest = max((len(label) for label in labels), default=0)
    turned = longest > 5 or longest * len(labels) > 40
    ax.set_xticks(
        cells.x,
        labels,
        fontsize=SMALL,
        rotation=60 if turned else 0,
        ha="right" if turned else "center",
    )
    ax.set_xlim(cells.x.min() - 0.6, cells.x.max() + 0.6)
    if not any(c and t for c, t in cells.names):
        return
    for name in dict.fromkeys(c for c, _ in cells.names):
        at = [x for x, (c, _) in zip(cells.x, cells.names, strict=True) if c == name]
        ax.text(
            np.mean(at), 0.995, plain(name, 14), transform=ax.get_xaxis_transform(), ha="center",
            va="top", fontsize=SMALL, color=color_map(list(dict.fromkeys(c for c, _ in cells.names)))[name],
            fontweight="bold",
        )  # fmt: skip
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top * (top / bottom) ** 0.1)


def abundance_grid(
    data: AnnData | pd.DataFrame,
    *,
    populations: list[str] | None = None,
    samples: pd.DataFrame | None = None,
    groupby: str = schema.PHENOTYPE,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
) -> Figure:
    """Draw `abundance` for many populations.

    Parameters
    ----------
    data
        AnnData, or counts (populations x samples).
    populations
        Rows of the counts, in order; None takes all.
    samples
        Sample sheet, needed with counts.
    groupby
        Column of ``obs`` that is counted, with an AnnData.
    treatment_key, compartment_key, donor_key
        Design columns; each may be None.

    Returns
    -------
    Figure
        One panel per population.

    Raises
    ------
    MissingSlotError
        A design column is not there.
    ArgumentError
        A population is not there.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> counts = pd.DataFrame({"a": [10, 90], "b": [30, 70]}, index=["Treg", "other"])
    >>> sheet = pd.DataFrame({"sample": ["a", "b"], "visit": ["d0", "d7"]})
    >>> len(cc.pl.abundance_grid(counts, samples=sheet, treatment_key="visit").axes)
    2
    """
    counts, sheet = counts_and_samples(data, samples, groupby)
    names = list(counts.index) if populations is None else populations
    for name in names:
        checks.check_one_of("population", name, list(counts.index))
    cells = arrange(
        sheet, treatment_key=treatment_key, compartment_key=compartment_key, donor_key=donor_key
    )
    width = 0.8 + 0.24 * max(len(cells.names), 4)
    columns = max(1, min(len(names), int(11 // width)))
    rows = max(1, -(-len(names) // columns))
    # fixed margins in inches: constrained layout takes a minute for sixty populations
    figure = new_figure(width * columns, 1.9 * rows, layout="none")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(
        left=0.55 / (width * columns), right=1 - 0.05 / (width * columns), bottom=0.35 / (1.9 * rows),
        top=1 - 0.25 / (1.9 * rows), wspace=0.45 / (width - 0.45), hspace=0.55 / 1.35,
    )  # fmt: skip
    percent = percentages(counts)
    for i, (ax, name) in enumerate(zip(grid, names, strict=False)):
        draw_course(
            ax, percent.loc[name].to_numpy(float), cells, title=plain(name, int(12 * width))
        )
        if i % columns:
            ax.set_ylabel("")
    for ax in grid[len(names) :]:
        ax.remove()
    return figure
