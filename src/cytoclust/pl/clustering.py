"""Clusters by markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust import checks, chunks, schema
from cytoclust.errors import MissingSlotError
from cytoclust.numerics.tallies import tally
from cytoclust.pl.palette import INK, categories_of
from cytoclust.pl.style import SMALL, axes_or_new, name_ticks, note, plain, row_size

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["heatmap"]

TREE: Final = 26.0  # points that a tree takes


def marker_positions(adata: AnnData, markers: list[str] | None) -> tuple[np.ndarray, list[str]]:
    """Return positions in var and names of `markers`, by default those of class type and state."""
    var = adata.var
    names = (var[schema.MARKER] if schema.MARKER in var.columns else var.index).astype(str)
    names = np.asarray(names)
    if markers is None:
        if schema.MARKER_CLASS in var.columns:
            wanted = var[schema.MARKER_CLASS].astype(str).isin(["type", "state"]).to_numpy()
            if not wanted.any() and schema.CHANNEL_TYPE in var.columns:
                wanted = var[schema.CHANNEL_TYPE].isin(["fluorescence", "mass"]).to_numpy()
        else:
            wanted = np.ones(len(names), bool)
        at = np.flatnonzero(wanted)
        return at, list(names[at])
    lookup = {name: i for i, name in reversed(list(enumerate(adata.var_names.astype(str))))}
    lookup |= {name: i for i, name in reversed(list(enumerate(names)))}
    missing = [name for name in markers if name not in lookup]
    if missing:
        msg = (
            f"markers {checks.listing(missing)} are neither marker nor channel of these data; "
            f"available: {checks.listing(names)}. Check the spelling."
        )
        raise MissingSlotError(msg)
    return np.array([lookup[name] for name in markers], int), list(markers)


def pooled_values(
    adata: AnnData, at: np.ndarray, *, layer: str | None
) -> tuple[np.ndarray, np.ndarray | slice]:
    """Return some markers' values (n_pooled, n_markers) float32, and which events these are.

    All of them up to a million, above that a million evenly spaced ones; each is read once.
    """
    values = adata.X if layer is None else adata.layers[layer]
    rows = chunks.pool_rows(adata.n_obs)
    if len(rows) == adata.n_obs and not chunks.is_lazy(values):
        return np.asarray(values[:, at], np.float32), slice(None)
    return chunks.take_rows(values, rows, at).astype(np.float32, copy=False), rows


def group_medians(
    values: np.ndarray, codes: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return medians (n_groups, n_markers), NaN for empty groups, and sizes (n_groups,)."""
    order = np.argsort(codes, kind="stable")
    sizes = tally(codes, n_groups)
    start = int((codes < 0).sum())
    median = np.median if np.isfinite(values).all() else np.nanmedian
    medians = np.full((n_groups, values.shape[1]), np.nan)
    for group, size in enumerate(sizes):
        if size:
            medians[group] = median(values[order[start : start + size]], axis=0)
        start += size
    return medians, sizes


def leaf_order(rows: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return the order of rows in an average-linkage tree with optimal leaves, and the linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import pdist

    if len(rows) < 3:
        return np.arange(len(rows)), None
    distances = pdist(rows)
    tree = linkage(distances, method="average")
    if len(rows) <= 200:  # quadratic memory, cubic time
        tree = optimal_leaf_ordering(tree, distances)
    return leaves_list(tree), tree


def beside(ax: Axes, side: str) -> Any:
    """Return the transform whose one direction is points from the edge, the other the axes."""
    from matplotlib.transforms import Affine2D, ScaledTranslation, blended_transform_factory

    corner = (0, 0) if side == "left" else (0, 1)
    frame: Any = ax.transAxes  # axes only ever scale and shift
    points = (
        Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans + ScaledTranslation(*corner, frame)
    )
    if side == "left":
        return blended_transform_factory(points, ax.transAxes)
    return blended_transform_factory(ax.transAxes, points)


def draw_tree(ax: Axes, tree: Any, *, side: str) -> None:
    """Draw a linkage beside (left) or above (top) the axes, leaves at 0, 1, 2, ..."""
    from scipy.cluster.hierarchy import dendrogram

    bounds = (-TREE, 0.0, TREE - 3.0, 1.0) if side == "left" else (0.0, 3.0, 1.0, TREE)
    inset = ax.inset_axes(bounds, transform=beside(ax, side))
    links = dendrogram(tree, no_plot=True)
    for leaves, heights in zip(links["icoord"], links["dcoord"], strict=True):
        along = (np.asarray(leaves) - 5) / 10  # scipy puts leaves at 5, 15, 25, ...
        x, y = (heights, along) if side == "left" else (along, heights)
        inset.plot(x, y, color="#777777", lw=0.6)
    if side == "left":
        inset.set(ylim=ax.get_ylim())
        inset.invert_xaxis()
    else:
        inset.set(xlim=ax.get_xlim())
    inset.axis("off")


def size_bars(ax: Axes, sizes: np.ndarray, colors: list[str]) -> None:
    """Draw the share of events of each row at the right, on a log scale with numbers."""
    inset = ax.inset_axes((1.015, 0.0, 0.13, 1.0))
    percent = 100 * sizes / max(sizes.sum(), 1)
    floor = max(percent[percent > 0].min(initial=100) / 3, 1e-4)
    inset.barh(np.arange(len(sizes)), np.maximum(percent, floor), color=colors, height=0.8)
    inset.set_xscale("log")
    inset.set(ylim=ax.get_ylim(), xlim=(floor, None), yticks=[])
    inset.minorticks_off()
    text = row_size(ax, len(sizes), largest=SMALL - 1)
    for i, (share, size) in enumerate(zip(percent, sizes, strict=True)):
        inset.text(
            1.03, i, f"{share:.2g} %  ({size:,})", transform=inset.get_yaxis_transform(),
            va="center", fontsize=text, color=INK,
        )  # fmt: skip
    inset.spines[["top", "right", "left"]].set_visible(False)
    inset.tick_params(labelsize=SMALL - 1, length=2)
    inset.set_xlabel("% of events", fontsize=SMALL)


def heatmap(
    adata: AnnData,
    *,
    groupby: str = schema.PHENOTYPE,
    markers: list[str] | None = None,
    layer: str | None = None,
    dendrogram: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the median of every marker in every cluster or phenotype, with sizes.

    Parameters
    ----------
    adata
        Annotated events.
    groupby
        Categorical column of ``obs`` for the rows.
    markers
        Markers or channels for the columns; None takes those of class type, then state.
    layer
        Layer of the values; None for ``X``.
    dendrogram
        Order rows and columns by average linkage and draw the trees; otherwise rows are in
        category order.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Rows are groups with events. Colours run from each marker's 1 % to its 99 % quantile over
        all events; bars at the right give the share of events. Above a million events medians and
        quantiles are those of a million evenly spaced ones.

    Raises
    ------
    MissingSlotError
        `groupby` or a marker is not there.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> values = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    >>> obs = pd.DataFrame({"leiden": pd.Categorical(list("012") * 30)}, index=map(str, range(90)))
    >>> cc.pl.heatmap(ad.AnnData(values, obs=obs), groupby="leiden").images[0].get_array().shape
    (3, 4)
    """
    checks.check_key(adata, groupby)
    at, names = marker_positions(adata, markers)
    codes, groups, colors = categories_of(adata, groupby)
    sizes = tally(codes, len(groups))
    present = sizes > 0
    ax = axes_or_new(ax, 2.8 + 0.24 * max(len(at), 6), 1.4 + 0.19 * max(int(present.sum()), 4))
    if not present.any() or not len(at):
        return note(ax, f"no events in {plain(groupby)}" if len(at) else "no markers")
    values, pooled = pooled_values(adata, at, layer=layer)
    medians, _ = group_medians(values, codes[pooled], len(groups))
    low, high = np.nanquantile(values, [0.01, 0.99], axis=0)
    scaled = np.clip((medians - low) / np.maximum(high - low, 1e-9), 0, 1)
    keep = np.flatnonzero(present)
    complete = np.nan_to_num(scaled)
    rows, row_tree = leaf_order(complete[keep]) if dendrogram else (np.arange(len(keep)), None)
    cols, col_tree = leaf_order(complete[keep].T) if dendrogram else (np.arange(len(at)), None)
    shown = keep[rows]
    drawn = ax.imshow(scaled[np.ix_(shown, cols)], aspect="auto", cmap="viridis", vmin=0, vmax=1)
    finish_heatmap(
        ax, drawn, names=[names[i] for i in cols], rows=[groups[i] for i in shown],
        tree=row_tree is not None,
    )  # fmt: skip
    mark_classes(ax, adata, at[cols])
    size_bars(ax, sizes[shown], [colors[i] for i in shown])
    for tree, side in ((row_tree, "left"), (col_tree, "top")):
        if tree is not None:
            draw_tree(ax, tree, side=side)
    return ax


def finish_heatmap(ax: Axes, drawn: Any, *, names: list[str], rows: list[str], tree: bool) -> None:
    """Name rows and columns, add the colour bar."""
    name_ticks(ax, names, axis="x", rotation=60, width=22)
    name_ticks(ax, rows, axis="y", width=34)
    ax.tick_params(length=0)
    ax.tick_params(axis="y", pad=TREE + 2 if tree else 3)
    ax.spines[:].set_visible(False)
    inset = ax.inset_axes((1.015, 1.0 + 0.35 / len(rows), 0.13, 0.25 / len(rows)))
    bar = ax.figure.colorbar(drawn, cax=inset, orientation="horizontal", ticks=[0, 1])
    bar.outline.set_visible(False)
    inset.set_xticklabels(["1 %", "99 %"], fontsize=SMALL - 1)
    inset.xaxis.tick_top()
    inset.tick_params(length=0)
    inset.set_title("median", fontsize=SMALL, color=INK)


def mark_classes(ax: Axes, adata: AnnData, at: np.ndarray) -> None:
    """Write state markers in italic grey: they did not shape the clusters."""
    if schema.MARKER_CLASS not in adata.var.columns:
        return
    for label, kind in zip(
        ax.get_xticklabels(), adata.var[schema.MARKER_CLASS].iloc[at], strict=True
    ):
        if kind == "state":
            label.set_fontstyle("italic")
            label.set_color("#777777")
