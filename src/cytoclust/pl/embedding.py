"""UMAP images: events are counted into pixels, so that millions stay legible and quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.event_arrays import event_arrays
from cytoclust.numerics.tallies import tally
from cytoclust.pl.canvas import (
    PIXELS,
    Canvas,
    color_bar,
    majority_image,
    paint,
    paint_values,
    spread,
)
from cytoclust.pl.palette import INK, categories_of, study_colors
from cytoclust.pl.style import SMALL, axes_or_new, bare, extent_of, legend, new_figure, plain

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["umap", "umap_grid", "umap_markers"]

PRIOR: Final = 20.0  # events, spread over a disc of pixels
NAMED_ON_MAP: Final = 60  # up to here, short category names are written on the map


def event_values(adata: AnnData, key: str, layer: str | None) -> pd.Series | np.ndarray:
    """Return the obs column or the marker's values that `key` names."""
    if key in adata.obs.columns:
        return adata.obs[key]
    found = np.flatnonzero(adata.var_names == key)
    if not len(found) and schema.MARKER in adata.var.columns:
        found = np.flatnonzero(adata.var[schema.MARKER].astype(str) == key)
    if not len(found):
        names = adata.var[schema.MARKER] if schema.MARKER in adata.var.columns else adata.var_names
        msg = (
            f"color={key!r} is neither an obs column, a channel nor a marker; "
            f"columns: {checks.listing(adata.obs.columns)}, markers: {checks.listing(names)}."
            " Check the spelling."
        )
        raise MissingSlotError(msg)
    values = adata.X if layer is None else adata.layers[layer]
    parts = chunks.iterate_blocks(_one_column, values, columns=[int(found[0])])
    return event_arrays(adata).filled(parts, np.float32)


def _one_column(block: np.ndarray) -> np.ndarray:
    return block[:, 0].astype(np.float32)


def name_on_map(
    ax: Axes, canvas: Canvas, *, codes: np.ndarray, names: list[str], every: bool
) -> None:
    """Write each category's name at the densest part of its events, the largest first.

    Unless `every` is wanted, a name that would stand on another is left out; the legend has it.
    """
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import uniform_filter

    scale = min(np.asarray(extent_of(ax)) / (canvas.high - canvas.low))  # points per unit
    found = []
    for name, count in zip(names, canvas.by_code(codes, len(names)), strict=True):
        if count.any():
            image = uniform_filter(count, 17, mode="constant")
            row, column = np.unravel_index(int(image.argmax()), image.shape)
            place = (np.array([column, row]) + 0.5) / canvas.size * (canvas.high - canvas.low)
            found.append((float(count.sum()), plain(name, 22), canvas.low + place))
    taken: list[tuple[np.ndarray, int]] = []
    for _, name, at in sorted(found, key=lambda item: -item[0]):
        gaps = [(np.abs(at - other) * scale, 0.3 * SMALL * (len(name) + n)) for other, n in taken]
        if not every and any(gap[0] < wide and gap[1] < SMALL for gap, wide in gaps):
            continue
        taken.append((at, len(name)))
        ax.text(
            at[0], at[1], name, ha="center", va="center", fontsize=SMALL, color=INK,
            path_effects=[withStroke(linewidth=2, foreground="white")], zorder=5,
        )  # fmt: skip


def umap(
    adata: AnnData,
    *,
    color: str | None = None,
    layer: str | None = None,
    basis: str = schema.UMAP,
    names_on_map: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw all events on their UMAP, coloured by category, by a value or by density.

    Parameters
    ----------
    adata
        Annotated events with ``obsm[basis]`` (n_events, 2).
    color
        Column of ``obs``, a channel or a marker; None colours by the number of events.
        A pixel takes the colour of its commonest category, or the mean of its values.
    layer
        Layer that marker values are taken from; None for ``X``.
    basis
        Key of ``obsm``.
    names_on_map
        Write the categories on the map; None: only if there are few and their names are short,
        and where one would stand on another, that of the larger.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        The image with vector text. Writes ``uns[f"{color}_colors"]`` if it is not there.

    Raises
    ------
    MissingSlotError
        ``obsm[basis]`` or `color` is not there.

    Notes
    -----
    Events are counted into about 420 x 420 pixels, so time and file size hardly grow with
    their number; none are sampled away. Events without coordinates are left out.

    Examples
    --------
    >>> import anndata as ad, numpy as np, cytoclust as cc
    >>> points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> adata = ad.AnnData(points, obsm={"X_umap": points})
    >>> cc.pl.umap(adata).get_title(loc="left")
    '500 events'
    """
    checks.check_key(adata, basis, place="obsm", remedy="Run tl.umap or tl.umap_sketched first.")
    coordinates = np.asarray(adata.obsm[basis])[:, :2]
    canvas = Canvas(coordinates, arrays=event_arrays(adata))
    ax = axes_or_new(ax, 5.2, 4.4)
    if color is None:
        count = canvas.total()
        image = np.where(count > 0, np.log10(np.maximum(count, 1)), np.nan)
        color_bar(ax, paint(ax, image, canvas, cmap="viridis"), "log10 events\nper pixel")
        ax.set_title(f"{canvas.placed.sum():,} events", fontsize=9, loc="left")
        return ax
    values = event_values(adata, color, layer)
    if isinstance(values, pd.Series) and not is_number(values):
        codes, names, colors = categories_of(adata, color)
        codes = canvas.of_placed(codes)
        paint(ax, majority_image(canvas, codes, colors=colors), canvas)
        short = len(names) <= NAMED_ON_MAP and max(map(len, names), default=0) <= 3
        if short if names_on_map is None else names_on_map:
            name_on_map(ax, canvas, codes=codes, names=names, every=names_on_map is True)
        legend(ax, names, colors)
    else:
        paint_values(ax, canvas, bare_numbers(values), text="mean")
    ax.set_title(plain(color, 60), fontsize=9, loc="left")
    return ax


def bare_numbers(values: pd.Series | np.ndarray) -> np.ndarray:
    """Return numbers without their index; ``np.asarray`` of a Series first hashes all of it."""
    return values.to_numpy() if isinstance(values, pd.Series) else values


def is_number(values: pd.Series) -> bool:
    """Tell numbers from categories; truth values are categories."""
    kind = values.dtype
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def level_names(adata: AnnData, key: str | None, limit: int) -> list[str | None]:
    """Return the levels of an obs column that have events, or [None] without a column."""
    if key is None:
        return [None]
    checks.check_key(adata, key)
    codes, names, _ = categories_of(adata, key)
    levels = [names[code] for code in np.flatnonzero(tally(codes, len(names)))]
    if len(levels) > limit:
        msg = (
            f"obs[{key!r}] has {len(levels)} levels; a grid of at most {limit} is legible. "
            "Choose another column, or subset the events first."
        )
        raise ArgumentError(msg)
    return list(levels)


def level_codes(adata: AnnData, key: str, levels: list[str | None]) -> np.ndarray:
    """Return the position of each event's level in `levels`, -1 without one."""
    codes, names, _ = categories_of(adata, key)
    place = {name: i for i, name in enumerate(levels)}
    found = [*(place.get(name, -1) for name in names), -1]
    table = np.array(found, dtype=np.min_scalar_type(-max(len(levels), 1)))
    return event_arrays(adata).mapped(lambda part: table[part], codes, dtype=table.dtype)


def umap_grid(
    adata: AnnData,
    *,
    color: str | None = None,
    row_key: str | None = None,
    column_key: str | None = None,
    layer: str | None = None,
    basis: str = schema.UMAP,
) -> Figure:
    """Split the UMAP by sample groups, compartment by visit for example.

    Parameters
    ----------
    adata
        Annotated events with ``obsm[basis]``.
    color
        As in `umap`; None shows where the group's events are denser (red) or sparser (blue)
        than those of all groups together, as log2 ratio of fractions.
    row_key, column_key
        Columns of ``obs`` whose levels make the rows and columns; at most 12 levels each.
    layer
        Layer that marker values are taken from; None for ``X``.
    basis
        Key of ``obsm``.

    Returns
    -------
    Figure
        One panel per combination; the title counts its events.

    Raises
    ------
    MissingSlotError
        A slot or column is not there.
    ArgumentError
        A column has more than 12 levels.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> obs = pd.DataFrame({"visit": ["d0", "d7"] * 250}, index=map(str, range(500)))
    >>> adata = ad.AnnData(points, obs=obs, obsm={"X_umap": points})
    >>> len(cc.pl.umap_grid(adata, column_key="visit").axes)
    3
    """
    checks.check_key(adata, basis, place="obsm", remedy="Run tl.umap or tl.umap_sketched first.")
    rows, columns = level_names(adata, row_key, 12), level_names(adata, column_key, 12)
    canvas = Canvas(
        np.asarray(adata.obsm[basis])[:, :2], pixels=PIXELS // 2, arrays=event_arrays(adata)
    )
    figure = new_figure(1.9 * len(columns) + 1.6, 2.0 * len(rows) + 0.2)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    keys = [(key, own) for key, own in ((row_key, rows), (column_key, columns)) if key is not None]
    groups = [canvas.of_placed(level_codes(adata, key, levels)) for key, levels in keys]
    painter = group_painter(adata, canvas, color=color, layer=layer)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            wanted = [place for place, key in ((i, row_key), (j, column_key)) if key is not None]
            member = members(canvas, groups, wanted)
            painter(grid[i, j], member)
            named = " ".join(plain(level, 18) for level in (row, column) if level is not None)
            bare(grid[i, j], title=f"{named}\n{member.sum():,} events")
            grid[i, j].title.set_fontsize(SMALL)
    if color is not None and color in adata.obs.columns and not is_number(adata.obs[color]):
        names, colors = zip(*study_colors(adata, color).items(), strict=True)
        legend(figure, names, colors, title=color)
    elif grid[0, 0].images:
        bar = figure.colorbar(
            grid[0, 0].images[0], ax=list(grid.ravel()), shrink=0.5, aspect=30, pad=0.01
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=SMALL)
        bar.set_label(
            "log2 (group / all)" if color is None else plain(f"mean {color}", 40), fontsize=SMALL
        )
    return figure


def members(canvas: Canvas, groups: list[np.ndarray], wanted: list[int]) -> np.ndarray:
    """Tell which placed events are at the level wanted of every column; all events without columns."""
    if not groups:
        return canvas.arrays.full(value=True, dtype=np.bool_)

    def at_levels(*parts: np.ndarray) -> np.ndarray:
        same = [codes == level for codes, level in zip(parts, wanted, strict=True)]
        return np.asarray(np.logical_and.reduce(same))

    return canvas.arrays.mapped(at_levels, *groups, dtype=np.bool_)


def group_painter(adata: AnnData, canvas: Canvas, *, color: str | None, layer: str | None) -> Any:
    """Return a function (axes, members) that paints one group of events."""
    if color is None:
        return density_painter(canvas)
    values = event_values(adata, color, layer)
    if isinstance(values, pd.Series) and not is_number(values):
        codes, _, colors = categories_of(adata, color)
        placed = canvas.of_placed(codes)
        return lambda ax, member: paint(
            ax, majority_image(canvas, placed, colors=colors, keep=member), canvas
        )
    numbers = canvas.of_placed(bare_numbers(values))
    known = np.isfinite(numbers)
    low, high = np.quantile(numbers[known], [0.01, 0.99]) if known.any() else (0.0, 1.0)

    def paint_mean(ax: Axes, member: np.ndarray) -> None:
        count = canvas.total(keep=member & known)
        total = canvas.total(numbers, keep=member & known)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        paint(ax, mean, canvas, cmap="viridis", vmin=low, vmax=max(high, low + 1e-6))

    return paint_mean


def density_painter(canvas: Canvas) -> Any:
    """Return a painter of log2 ratios: fraction of the group's events over that of all."""
    everything = spread(canvas.total(), 2)
    reference = everything / max(everything.sum(), 1)

    def paint_ratio(ax: Axes, member: np.ndarray) -> None:
        here = spread(canvas.total(keep=member), 2)
        expected = here.sum() * reference
        # the prior keeps pixels with hardly any events from shouting
        ratio = np.log2((here + PRIOR) / (expected + PRIOR))
        paint(ax, np.where(everything > 0, ratio, np.nan), canvas, cmap="RdBu_r", vmin=-2, vmax=2)

    return paint_ratio


def umap_markers(
    adata: AnnData,
    *,
    markers: list[str] | None = None,
    layer: str | None = None,
    basis: str = schema.UMAP,
    columns: int = 6,
) -> Figure:
    """Draw one small UMAP per marker, each scaled between the 1 and 99 % quantiles of its pixels.

    Parameters
    ----------
    adata
        Annotated events with ``obsm[basis]``.
    markers
        Markers or channels; None takes those of class type and state.
    layer
        Layer of the values; None for ``X``.
    basis
        Key of ``obsm``.
    columns
        Panels per row.

    Returns
    -------
    Figure
        Grid of panels, dark for low and yellow for high; above a million events those of a million
        evenly spaced ones.

    Raises
    ------
    MissingSlotError
        A slot or marker is not there.

    Examples
    --------
    >>> import anndata as ad, numpy as np, cytoclust as cc
    >>> points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> adata = ad.AnnData(points, obsm={"X_umap": points})
    >>> len(cc.pl.umap_markers(adata).axes)
    2
    """
    from cytoclust.pl.clustering import marker_positions, pooled_values

    checks.check_key(adata, basis, place="obsm", remedy="Run tl.umap or tl.umap_sketched first.")
    at, names = marker_positions(adata, markers)
    values, pooled = pooled_values(adata, at, layer=layer)
    canvas = Canvas(np.asarray(adata.obsm[basis])[pooled, :2], pixels=PIXELS // 2)
    width = min(columns, max(len(at), 1))
    rows = -(-len(at) // width)
    figure = new_figure(1.5 * width, 1.65 * max(rows, 1))
    grid = figure.subplots(max(rows, 1), width, squeeze=False).ravel()
    for i, (ax, name) in enumerate(zip(grid, names, strict=False)):
        paint_values(ax, canvas, values[:, i], text="", bar=False)
        ax.set_title(plain(name, 22), fontsize=SMALL + 1, loc="left", color=INK)
    for ax in grid[len(at) :]:
        ax.remove()
    return figure
