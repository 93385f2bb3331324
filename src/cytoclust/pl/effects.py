"""Test results: effects with intervals, effects against p-values, p-values against chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks
from cytoclust.errors import ArgumentError
from cytoclust.pl.palette import DOWN, GREY, INK, UP, color_map
from cytoclust.pl.style import (
    SMALL,
    TEXT,
    axes_or_new,
    dress,
    legend,
    name_ticks,
    new_figure,
    note,
    place_labels,
    plain,
)  # fmt: skip
from cytoclust.pl.tables import WHOLE, effect_column, in_order, is_interaction, labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["forest", "forest_grid", "p_values", "volcano"]


def effect_text(table: pd.DataFrame) -> str:
    """Return the axis label of the effect."""
    if effect_column(table) == "difference":
        return "difference of medians"
    denominator = set(table["denominator"].astype(str)) if "denominator" in table.columns else set()
    scale = {"log_ratio": "log-ratio", "total": "share of all", "parent": "share of parent"}
    if len(denominator) == 1:
        (only,) = denominator
        return f"log2 fold change ({scale.get(only, plain(only))})"
    return "log2 fold change"


def choose_contrast(
    rows: pd.DataFrame, contrast: str | None, *, grid: str = "pl.forest_grid"
) -> pd.DataFrame:
    """Return the rows of one contrast; without a name there must be only one."""
    found = in_order(rows["contrast"])
    if contrast is None and len(found) > 1:
        msg = (
            f"contrast must name one of {checks.listing(found)}; got None. "
            f"Name one, or draw all of them with {grid}."
        )
        raise ArgumentError(msg)
    if contrast is None:
        return rows
    if len(found) and contrast not in found:
        checks.check_one_of("contrast", contrast, found)
    return rows[rows["contrast"] == contrast]


def population_order(rows: pd.DataFrame, limit: int) -> list[str]:
    """Return at most `limit` names: the smallest p-values, sorted by mean effect."""
    p = (
        pd.to_numeric(rows["p_value"], errors="coerce")
        if "p_value" in rows
        else pd.Series(1.0, rows.index)
    )
    best = p.fillna(1).groupby(rows["name"]).min().sort_values(kind="stable").index[:limit]
    mean = rows[rows["name"].isin(best)].groupby("name")["effect"].mean()
    return [str(name) for name in mean.sort_values(ascending=False, kind="stable").index]


def draw_effects(
    ax: Axes, rows: pd.DataFrame, *, names: list[str], colors: dict[str, str], alpha: float
) -> None:
    """Draw effect and interval of each row; filled dots have a false discovery rate below alpha."""
    place = {name: i for i, name in enumerate(names)}
    shift = {
        c: (j - (len(colors) - 1) / 2) * 0.7 / max(len(colors), 2) for j, c in enumerate(colors)
    }
    at = rows["name"].map(place).to_numpy(float) + rows["compartment"].map(shift).to_numpy(float)
    tint = [colors[c] for c in rows["compartment"]]
    effect = rows["effect"].to_numpy(float)
    if {"ci_low", "ci_high"} <= set(rows.columns):
        low = pd.to_numeric(rows["ci_low"], errors="coerce").fillna(rows["effect"]).to_numpy(float)
        high = (
            pd.to_numeric(rows["ci_high"], errors="coerce").fillna(rows["effect"]).to_numpy(float)
        )
        ax.hlines(at, low, high, colors=tint, lw=1.1, zorder=2)
    found = significant(rows, alpha)
    face = [color if sure else "white" for color, sure in zip(tint, found, strict=True)]
    ax.scatter(effect, at, c=face, edgecolors=tint, s=18, linewidths=0.9, zorder=3)


def significant(rows: pd.DataFrame, alpha: float) -> np.ndarray:
    """Tell rows whose false discovery rate is below alpha."""
    if "fdr" not in rows.columns:
        return np.zeros(len(rows), bool)
    return (pd.to_numeric(rows["fdr"], errors="coerce") < alpha).to_numpy()


def frame_forest(ax: Axes, names: list[str], *, title: str, xlabel: str) -> None:
    """Add the zero line, stripes and names."""
    ax.axvline(0, color="#888888", lw=0.8, zorder=1)
    for row in range(0, len(names), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", zorder=0, lw=0)
    ax.set_ylim(len(names) - 0.5, -0.5)
    name_ticks(ax, names)
    dress(ax, title=title, xlabel=xlabel)
    ax.tick_params(axis="y", length=0)


def forest(
    table: pd.DataFrame,
    *,
    contrast: str | None = None,
    alpha: float = 0.05,
    max_rows: int = 40,
    ax: Axes | None = None,
) -> Axes:
    """Draw effects with their 95 % confidence intervals for one contrast.

    Parameters
    ----------
    table
        Result of ``tl.differential_abundance`` or ``tl.differential_state``.
    contrast
        Contrast to show; may be None if there is only one.
    alpha
        False discovery rate below which a dot is filled.
    max_rows
        Populations shown: those with the smallest p-values.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        One row per population (and marker), one colour per compartment; interactions last.

    Raises
    ------
    ArgumentError
        The contrast does not exist, or is needed.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame(
    ...     {
    ...         "population": ["Treg"],
    ...         "contrast": ["d7 - d0"],
    ...         "log2_fold_change": [1.2],
    ...         "ci_low": [0.8],
    ...         "ci_high": [1.6],
    ...         "p_value": [0.001],
    ...         "fdr": [0.01],
    ...     }
    ... )
    >>> cc.pl.forest(table).get_title(loc="left")
    'd7 - d0'
    """
    rows = choose_contrast(labelled(table), contrast)
    names = population_order(rows, max_rows)
    compartments = in_order(rows["compartment"])
    ax = axes_or_new(ax, 5.2, 0.9 + (0.16 + 0.06 * len(compartments)) * max(len(names), 3))
    title = plain(rows["contrast"].iloc[0]) if len(rows) else plain(contrast or "")
    if rows.empty:
        ax.set_title(title, loc="left")
        return note(ax, "nothing could be tested")
    rows = rows[rows["name"].isin(names)]
    colors = color_map(compartments)
    draw_effects(ax, rows, names=names, colors=colors, alpha=alpha)
    frame_forest(ax, names, title=title, xlabel=effect_text(table))
    if any(compartments):
        legend(ax, list(colors), list(colors.values()))
    return ax


def forest_grid(
    table: pd.DataFrame,
    *,
    alpha: float = 0.05,
    max_rows: int = 40,
    interactions: bool = False,
) -> Figure:
    """Draw effects with their 95 % confidence intervals, one panel per contrast.

    Parameters
    ----------
    table
        Result of ``tl.differential_abundance`` or ``tl.differential_state``.
    alpha
        False discovery rate below which a dot is filled.
    max_rows
        Populations shown: those with the smallest p-values over all contrasts.
    interactions
        Show the differences between compartments instead of the changes within them.

    Returns
    -------
    Figure
        Panels share the order of populations and the scale.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame(
    ...     {
    ...         "population": ["Treg"] * 2,
    ...         "contrast": ["d7 - d0", "d28 - d0"],
    ...         "log2_fold_change": [1.2, 0.1],
    ...         "p_value": [0.001, 0.8],
    ...         "fdr": [0.01, 0.8],
    ...     }
    ... )
    >>> len(cc.pl.forest_grid(table).axes)
    2
    """
    rows = labelled(table)
    crossing = is_interaction(rows)
    rows = rows[crossing if interactions and crossing.any() else ~crossing]
    names, contrasts = population_order(rows, max_rows), in_order(rows["contrast"])
    if rows.empty:
        figure = new_figure(5, 1.5)
        note(figure.add_subplot(), "nothing could be tested")
        return figure
    rows = rows[rows["name"].isin(names)]
    compartments = in_order(rows["compartment"])
    colors = color_map(compartments)
    height = 1.0 + (0.15 + 0.06 * len(compartments)) * max(len(names), 3)
    per_row = min(len(contrasts), 4)
    n_rows = -(-len(contrasts) // per_row)
    figure = new_figure(2.2 + 2.0 * per_row, height * n_rows)
    grid = figure.subplots(n_rows, per_row, sharex=True, squeeze=False)
    for i, (ax, contrast) in enumerate(zip(grid.ravel(), contrasts, strict=False)):
        here = rows[rows["contrast"] == contrast]
        draw_effects(ax, here, names=names, colors=colors, alpha=alpha)
        frame_forest(ax, names, title=plain(contrast, 30), xlabel="")
        if i % per_row:
            ax.tick_params(axis="y", labelleft=False)
    for ax in grid.ravel()[len(contrasts) :]:
        ax.remove()
    figure.supxlabel(f"{effect_text(table)}; filled: FDR < {alpha:g}", fontsize=TEXT, color=INK)
    if any(compartments):
        legend(figure, list(colors), list(colors.values()))
    return figure


def volcano(
    table: pd.DataFrame,
    *,
    contrast: str | None = None,
    compartment: str | None = None,
    alpha: float = 0.05,
    n_labels: int = 12,
    ax: Axes | None = None,
) -> Axes:
    """Draw effects against their p-values.

    Parameters
    ----------
    table
        Result of ``tl.differential_abundance`` or ``tl.differential_state``.
    contrast, compartment
        Show only these; None shows all.
    alpha
        False discovery rate below which a dot is coloured.
    n_labels
        Dots named, smallest p-values first, where there is room.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Orange dots rise, blue ones fall, grey ones are not significant.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame(
    ...     {
    ...         "population": ["Treg"],
    ...         "contrast": ["d7 - d0"],
    ...         "log2_fold_change": [1.2],
    ...         "p_value": [0.001],
    ...         "fdr": [0.01],
    ...     }
    ... )
    >>> [text.get_text() for text in cc.pl.volcano(table).texts]
    ['Treg']
    """
    rows = labelled(table)
    compartment = None if compartment == WHOLE and not any(rows["compartment"]) else compartment
    for key, wanted in (("contrast", contrast), ("compartment", compartment)):
        if wanted is not None:
            checks.check_one_of(key, wanted, in_order(rows[key]))
            rows = rows[rows[key] == wanted]
    rows = rows[pd.to_numeric(rows["p_value"], errors="coerce").notna()]
    ax = axes_or_new(ax, 5.0, 4.0)
    if rows.empty:
        return note(ax, "nothing could be tested")
    p = pd.to_numeric(rows["p_value"]).to_numpy(float)
    height = -np.log10(np.maximum(p, 1e-300))
    effect = rows["effect"].to_numpy(float)
    found = significant(rows, alpha)
    color = np.where(~found, GREY, np.where(effect > 0, UP, DOWN))
    ax.scatter(effect, height, c=color, s=16, lw=0, alpha=0.9, zorder=3)
    ax.axvline(0, color="#888888", lw=0.8, zorder=1)
    reach = float(np.abs(effect).max()) * 1.25 + 1e-6
    ax.set_xlim(-reach, reach)
    ax.set_ylim(0, float(height.max()) * 1.12 + 0.1)
    dress(
        ax, title=" · ".join(plain(part) for part in (compartment, contrast) if part),
        xlabel=effect_text(table), ylabel="-log10 p",
    )  # fmt: skip
    label_points(ax, rows.assign(x=effect, y=height, found=found), n_labels)
    return ax


def label_points(ax: Axes, rows: pd.DataFrame, n_labels: int) -> None:
    """Name the significant dots with the smallest p-values, saying where if that differs."""
    shown = rows[rows["found"]].sort_values("y", ascending=False, kind="stable").head(n_labels)
    parts = [key for key in ("compartment", "contrast") if len(in_order(rows[key])) > 1]
    texts = []
    for _, row in shown.iterrows():
        where = ", ".join(str(row[key]) for key in parts if row[key])
        texts.append(plain(row["name"], 30) + (f" ({plain(where, 24)})" if where else ""))
    at = ["x", "y"]
    place_labels(ax, shown[at].to_numpy(float), texts, dots=rows[at].to_numpy(float))


def p_values(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the distribution of p-values against what chance alone would give.

    Parameters
    ----------
    table
        Result of a test, with a column ``p_value``.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Twenty bars (ten with fewer than 100 tests); the dashed line is their height if nothing
        changed.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> len(cc.pl.p_values(pd.DataFrame({"p_value": [0.01, 0.5, 0.9]})).patches)
    10
    """
    from matplotlib.ticker import MaxNLocator

    p = pd.to_numeric(table["p_value"], errors="coerce").dropna().to_numpy(float)
    ax = axes_or_new(ax, 4.0, 2.6)
    if not len(p):
        return note(ax, "nothing could be tested")
    bars = 20 if len(p) >= 100 else 10
    ax.hist(p, bins=bars, range=(0, 1), color="#7FB2D6", edgecolor="white", linewidth=0.5)
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.axhline(len(p) / bars, color=INK, lw=1, ls=(0, (4, 2)))
    label = ax.annotate(
        "if nothing changed", (1, len(p) / bars), xytext=(0, 3), textcoords="offset points",
        ha="right", va="bottom", fontsize=SMALL, color=INK,
    )  # fmt: skip
    label.set_bbox({"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8})
    ax.set_xlim(0, 1)
    return dress(ax, xlabel="p-value", ylabel="tests", title=f"{len(p):,} tests")
