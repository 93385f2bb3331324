"""Which samples and events a study has, and which were excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import MissingSlotError
from cytoclust.pl.palette import INK
from cytoclust.pl.style import SMALL, TEXT, axes_or_new, dress, legend, name_ticks, note, plain
from cytoclust.pl.tables import design_column, levels_in, levels_of, sample_index

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["design_grid", "exclusions"]

REASONS: Final = {
    schema.QC_INVALID: ("not a number", "#780F69"),
    schema.QC_MARGIN: ("margin", "#E69F00"),
    schema.QC_TIME: ("time drift", "#CC79A7"),
    schema.QC_DOUBLET: ("doublet", "#56B4E9"),
    schema.QC_DEBRIS: ("debris", "#A55A2D"),
    schema.QC_DEAD: ("dead", "#D55E00"),
}


def exclusions(data: AnnData | pd.DataFrame, *, max_rows: int = 60, ax: Axes | None = None) -> Axes:
    """Draw the share of each sample's events that carry each quality flag.

    Parameters
    ----------
    data
        AnnData that ``pp.filter_events`` was run on, or its table of counts (one row per sample,
        columns ``events``, the flags, ``kept``).
    max_rows
        Samples shown; of a larger study those with the largest share excluded, the largest first.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        One row per sample: coloured bars add up flags, so an event with two flags is in two bars;
        the short black line marks the share that was excluded in all.

    Raises
    ------
    MissingSlotError
        The AnnData has no record of ``pp.filter_events``.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> counts = pd.DataFrame({"events": [100], "qc_doublet": [7], "kept": [93]}, index=["s1"])
    >>> cc.pl.exclusions(counts).get_xlabel()
    '% of events'
    """
    every = exclusion_counts(data)
    counts = most_excluded(every, max_rows)
    flags = [flag for flag in schema.QC_FLAGS if flag in counts.columns]
    events = counts["events"].to_numpy(float)
    ax = axes_or_new(ax, 5.6, 0.9 + 0.14 * max(len(counts), 4))
    if counts.empty:
        return note(ax, "no samples")
    rows = np.arange(len(counts))
    start = np.zeros(len(counts))
    used = []
    for flag in flags:
        share = 100 * counts[flag].to_numpy(float) / np.maximum(events, 1)
        if not share.any():
            continue
        ax.barh(rows, share, left=start, height=0.75, color=REASONS[flag][1])
        used.append(REASONS[flag])
        start += share
    excluded = 100 * (events - counts["kept"].to_numpy(float)) / np.maximum(events, 1)
    ax.vlines(excluded, rows - 0.45, rows + 0.45, color=INK, lw=1.2, zorder=4)
    for row in rows[events == 0]:
        ax.text(0.2, row, "no events", va="center", fontsize=SMALL - 1, color=INK)
    ax.set_ylim(len(counts) - 0.4, -0.6)
    ax.set_xlim(0, max(float(start.max()), float(excluded.max()), 1.0) * 1.03)
    name_ticks(ax, counts.index, width=26)
    few = len(counts) < len(every)
    dress(
        ax, xlabel="% of events",
        title=f"{len(counts)} of {len(every)} samples, most excluded first" if few else "",
    )  # fmt: skip
    legend(
        ax,
        [name for name, _ in used] + ["excluded in all"],
        [c for _, c in used] + [INK],
        columns=1,
    )
    return ax


def most_excluded(counts: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return at most `limit` samples: all in their order, else those that lost the largest share."""
    if len(counts) <= limit:
        return counts
    events = counts["events"].astype(float)
    lost = ((events - counts["kept"]) / events.where(events > 0)).fillna(1.0)  # empty ones on top
    return counts.loc[lost.sort_values(ascending=False, kind="stable").index[:limit]]


def exclusion_counts(data: AnnData | pd.DataFrame) -> pd.DataFrame:
    """Return the table of counts that ``pp.filter_events`` recorded."""
    if isinstance(data, pd.DataFrame):
        table = data
    else:
        record = checks.require_step(data, schema.FILTER_EVENTS, "pp.filter_events")
        table = record["counts"]
    missing = [name for name in ("events", "kept") if name not in table.columns]
    if missing:
        msg = (
            f"a table of exclusions needs the columns events and kept; missing: "
            f"{checks.listing(missing)}. Give the counts that pp.filter_events recorded."
        )
        raise MissingSlotError(msg)
    return sample_index(table)


def design_grid(
    data: AnnData | pd.DataFrame,
    *,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    events: pd.Series | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw which sample exists for which donor, visit and compartment.

    Parameters
    ----------
    data
        AnnData, or the sample sheet with one row per sample.
    treatment_key, compartment_key, donor_key
        Design columns; each may be None.
    events
        Events kept per sample, indexed by sample name; darker fields have more.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        With donors: one row per donor, one column per compartment and visit, empty where no
        sample exists, a cross where the sample has no events. Without donors: the number of
        samples per visit (columns) and compartment (rows).

    Raises
    ------
    MissingSlotError
        A design column is not there.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> sheet = pd.DataFrame(
    ...     {"sample": ["a", "b", "c"], "patient": ["P1", "P1", "P2"], "visit": ["d0", "d7", "d0"]}
    ... )
    >>> ax = cc.pl.design_grid(sheet, treatment_key="visit", donor_key="patient")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['P1 (2)', 'P2 (1)']
    """
    sheet = sheet_of(data)
    if treatment_key is None and compartment_key is None:
        return note(axes_or_new(ax, 4, 1.2), f"{len(sheet)} samples, no design columns named")
    if donor_key is None:
        return cell_numbers(sheet, treatment_key, compartment_key, ax=ax)
    donor = design_column(sheet, donor_key)
    cells = [
        (c, t) for c in levels_in(sheet, compartment_key) for t in levels_in(sheet, treatment_key)
    ]
    donors = sorted(levels_of(donor), key=natural)
    compartment, treatment = (
        design_column(sheet, compartment_key),
        design_column(sheet, treatment_key),
    )
    numbers = np.full((len(donors), len(cells)), np.nan)
    repeats = np.zeros(numbers.shape, int)
    for sample, who, where, when in zip(sheet.index, donor, compartment, treatment, strict=True):
        if (where, when) in cells and who in donors:
            i, j = donors.index(who), cells.index((where, when))
            size = 1.0 if events is None else float(events.get(sample, 0))
            numbers[i, j] = np.nansum([numbers[i, j], size])
            repeats[i, j] += 1
    ax = axes_or_new(ax, 2.2 + 0.42 * len(cells), 1.1 + 0.17 * max(len(donors), 4))
    paint_grid(ax, numbers, repeats, counted=events is not None)
    name_ticks(ax, [f"{name} ({n})" for name, n in zip(donors, repeats.sum(axis=1), strict=True)])
    label_cells(ax, cells, (numbers > 0).sum(axis=0))
    return ax


def sheet_of(data: AnnData | pd.DataFrame) -> pd.DataFrame:
    """Return the sample sheet, indexed by sample name."""
    if isinstance(data, pd.DataFrame):
        return sample_index(data)
    from cytoclust import get

    return sample_index(get.sample_table(data))


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts P2 before P10."""
    import re

    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def paint_grid(ax: Axes, numbers: np.ndarray, repeats: np.ndarray, *, counted: bool) -> None:
    """Fill the fields of existing samples; write more than one sample per field as a number."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator

    known = numbers[np.isfinite(numbers) & (numbers > 0)]
    if counted and len(known) and known.max() > known.min():
        norm = LogNorm(known.min() / 3, known.max())
        shown = np.where(numbers > 0, numbers, np.nan)
        drawn = ax.pcolormesh(shown, cmap="Blues", norm=norm, edgecolors="white", linewidth=1)
        inset = ax.inset_axes((1.02, 0.0, 0.025, 0.5))
        bar = ax.figure.colorbar(drawn, cax=inset)
        bar.outline.set_visible(False)
        low, high = float(known.min()), float(known.max())
        ends = FixedLocator([low, high] if high > 1.5 * low else [high])
        inset.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)) if high > 30 * low else ends)
        inset.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        inset.minorticks_off()
        inset.tick_params(labelsize=SMALL, length=2)
        inset.set_title("events", fontsize=SMALL, loc="left")
    else:
        shown = np.where(numbers > 0, 0.7, np.nan)
        ax.pcolormesh(shown, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for i, j in zip(*np.nonzero(repeats), strict=True):
        text = "×" if numbers[i, j] == 0 else (str(repeats[i, j]) if repeats[i, j] > 1 else "")
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=SMALL, color=INK)
    for i, j in zip(*np.nonzero(repeats == 0), strict=True):
        ax.plot([j + 0.35, j + 0.65], [i + 0.5, i + 0.5], color="#AAAAAA", lw=0.8)
    ax.set_ylim(len(numbers), 0)


def label_cells(ax: Axes, cells: list[tuple[str, str]], sizes: np.ndarray) -> None:
    """Name visits below and compartments above the columns; count the donors of each."""
    dress(ax)
    labels = [f"{plain(t or c, 14)}\nn={n}" for (c, t), n in zip(cells, sizes, strict=True)]
    turned = max(len(label.split("\n")[0]) for label in labels) > 5
    ax.set_xticks(np.arange(len(cells)) + 0.5, labels, fontsize=SMALL, rotation=90 if turned else 0)
    ax.set_yticks(np.asarray(ax.get_yticks()) + 0.5, [t.get_text() for t in ax.get_yticklabels()])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if not any(t for _, t in cells):
        return
    for name in dict.fromkeys(c for c, _ in cells):
        at = [i for i, (c, _) in enumerate(cells) if c == name]
        if name:
            ax.text(
                float(np.mean(at)) + 0.5, -0.25, plain(name, 16), ha="center", va="bottom", fontsize=TEXT,
                color=INK, fontweight="bold",
            )  # fmt: skip
        if at[0]:
            ax.axvline(at[0], color=INK, lw=1)


def cell_numbers(
    sheet: pd.DataFrame, treatment_key: str | None, compartment_key: str | None, *, ax: Axes | None
) -> Axes:
    """Draw the number of samples per treatment (columns) and compartment (rows)."""
    columns, rows = levels_in(sheet, treatment_key), levels_in(sheet, compartment_key)
    treatment, compartment = (
        design_column(sheet, treatment_key),
        design_column(sheet, compartment_key),
    )
    numbers = np.array(
        [[((treatment == t) & (compartment == c)).sum() for t in columns] for c in rows]
    )
    ax = axes_or_new(ax, 1.6 + 0.55 * len(columns), 1.0 + 0.3 * len(rows))
    shown = np.where(numbers > 0, numbers, np.nan)
    ax.pcolormesh(
        shown,
        cmap="Blues",
        vmin=0,
        vmax=max(numbers.max(), 1) * 1.6,
        edgecolors="white",
        linewidth=2,
    )
    for (i, j), number in np.ndenumerate(numbers):
        ax.text(j + 0.5, i + 0.5, str(number), ha="center", va="center", fontsize=TEXT, color=INK)
    ax.set_ylim(len(rows), 0)
    turned = max((len(name) for name in columns), default=0) > 7
    ax.set_xticks(
        np.arange(len(columns)) + 0.5,
        [plain(name, 24) for name in columns],
        rotation=90 if turned else 0,
    )
    ax.set_yticks(np.arange(len(rows)) + 0.5, [plain(name, 24) for name in rows])
    dress(
        ax, title="samples", xlabel=plain(treatment_key or ""), ylabel=plain(compartment_key or "")
    )
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax
