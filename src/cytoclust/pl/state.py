"""How strongly populations express their state markers, and how that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust.pl.effects import choose_contrast, significant
from cytoclust.pl.palette import INK
from cytoclust.pl.style import (
    SMALL,
    axes_or_new,
    bare,
    figure_of,
    name_ticks,
    new_figure,
    note,
    plain,
)
from cytoclust.pl.tables import WHOLE, in_order, is_interaction, labelled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["state", "state_grid"]


def draw_state(
    ax: Axes,
    rows: pd.DataFrame,
    *,
    populations: list[str],
    markers: list[str],
    limit: float,
    alpha: float,
) -> Any:
    """Draw one tile per population and marker; a dot marks a false discovery rate below alpha."""
    image = np.full((len(populations), len(markers)), np.nan)
    sure = np.zeros(image.shape, bool)
    at = rows["population"].map({name: i for i, name in enumerate(populations)}).to_numpy(int)
    to = rows["marker"].map({name: i for i, name in enumerate(markers)}).to_numpy(int)
    image[at, to] = rows["effect"].to_numpy(float)
    sure[at, to] = significant(rows, alpha)
    ax.set_facecolor("#EEEEEE")
    drawn = ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    where = np.argwhere(sure)
    ax.scatter(where[:, 1], where[:, 0], s=10, color="white", edgecolors=INK, lw=0.7, zorder=3)
    name_ticks(ax, markers, axis="x", rotation=60, width=16)
    name_ticks(ax, populations, width=30)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return drawn


def limits(rows: pd.DataFrame) -> tuple[list[str], list[str], float]:
    """Return populations, markers and the colour limit shared by all panels."""
    reach = float(np.quantile(np.abs(rows["effect"]), 0.99)) if len(rows) else 1.0
    return in_order(rows["population"]), in_order(rows["marker"]), max(reach, 1e-6)


def add_bar(axes: list[Axes], drawn: Any, *, alpha: float) -> None:
    """Add the colour bar with the unit of the difference."""
    from matplotlib.ticker import MaxNLocator

    bar = figure_of(axes[0]).colorbar(drawn, ax=axes, shrink=0.6, pad=0.02, aspect=20)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL)
    # no title: layouts make room for the height of a title, but not for its width
    bar.ax.annotate(
        f"difference\nof medians\ndot: FDR\n< {alpha:g}", (0, 1), xycoords="axes fraction",
        xytext=(0, 8), textcoords="offset points", va="bottom", fontsize=SMALL, color=INK,
    )  # fmt: skip


def state(
    table: pd.DataFrame,
    *,
    contrast: str | None = None,
    compartment: str | None = None,
    alpha: float = 0.05,
    ax: Axes | None = None,
) -> Axes:
    """Draw the change of every state marker in every population for one contrast.

    Parameters
    ----------
    table
        Result of ``tl.differential_state``.
    contrast, compartment
        What to show; each may be None if there is only one.
    alpha
        False discovery rate below which a tile gets a dot.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Populations x markers; red rises, blue falls, grey was not tested.

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
    ...         "marker": ["CD39"],
    ...         "contrast": ["d7 - d0"],
    ...         "difference": [0.4],
    ...         "fdr": [0.01],
    ...     }
    ... )
    >>> cc.pl.state(table).get_title(loc="left")
    'd7 - d0'
    """
    rows = choose_contrast(labelled(table), contrast, grid="pl.state_grid")
    if compartment == WHOLE and not any(rows["compartment"]):
        compartment = None
    if compartment is None and len(in_order(rows["compartment"])) > 1:
        compartment = in_order(rows["compartment"])[0]
    if compartment is not None:
        rows = rows[rows["compartment"] == compartment]
    populations, markers, limit = limits(rows)
    ax = axes_or_new(ax, 2.8 + 0.26 * len(markers), 1.2 + 0.18 * max(len(populations), 3))
    title = " · ".join(
        plain(part)
        for part in (compartment, contrast or "".join(in_order(rows["contrast"])))
        if part
    )
    if rows.empty:
        return note(ax, "nothing could be tested")
    drawn = draw_state(ax, rows, populations=populations, markers=markers, limit=limit, alpha=alpha)
    ax.set_title(title, fontsize=9, loc="left")
    add_bar([ax], drawn, alpha=alpha)
    return ax


def state_grid(table: pd.DataFrame, *, alpha: float = 0.05, interactions: bool = False) -> Figure:
    """Draw the change of every state marker, compartments as rows and contrasts as columns.

    Parameters
    ----------
    table
        Result of ``tl.differential_state``.
    alpha
        False discovery rate below which a tile gets a dot.
    interactions
        Show differences between compartments too.

    Returns
    -------
    Figure
        One panel per compartment and contrast, same colours in all.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame(
    ...     {
    ...         "population": ["Treg"] * 2,
    ...         "marker": ["CD39"] * 2,
    ...         "contrast": ["d7 - d0", "d28 - d0"],
    ...         "difference": [0.4, 0.1],
    ...         "fdr": [0.01, 0.6],
    ...     }
    ... )
    >>> len(cc.pl.state_grid(table).axes)
    3
    """
    rows = labelled(table)
    if not interactions:
        rows = rows[~is_interaction(rows)]
    if rows.empty:
        figure = new_figure(5, 1.5)
        note(figure.add_subplot(), "nothing could be tested")
        return figure
    populations, markers, limit = limits(rows)
    compartments, contrasts = in_order(rows["compartment"]), in_order(rows["contrast"])
    figure = new_figure(
        2.6 + (0.5 + 0.2 * max(len(markers), 4)) * len(contrasts),
        (0.6 + 0.15 * max(len(populations), 4)) * len(compartments) + 0.6,
    )
    grid = figure.subplots(
        len(compartments), len(contrasts), squeeze=False, sharex=True, sharey=True
    )
    drawn: Any = None
    for i, compartment in enumerate(compartments):
        for j, contrast in enumerate(contrasts):
            here = rows[(rows["compartment"] == compartment) & (rows["contrast"] == contrast)]
            ax = grid[i, j]
            if here.empty:
                note(bare(ax), "not tested")
                continue
            drawn = draw_state(
                ax, here, populations=populations, markers=markers, limit=limit, alpha=alpha
            )
            title = " · ".join(plain(part, 24) for part in (compartment, contrast) if part)
            ax.set_title(title, fontsize=SMALL + 1, loc="left", color=INK)
            ax.tick_params(labelleft=j == 0, labelbottom=i == len(compartments) - 1)
    add_bar(list(grid.ravel()), drawn, alpha=alpha)
    return figure
