"""The tree of clusters: each a star of its markers, neighbours joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust import checks, schema
from cytoclust.errors import ArgumentError
from cytoclust.numerics.tallies import cross_tally, tally
from cytoclust.pl.clustering import group_medians, marker_positions, pooled_values
from cytoclust.pl.palette import COLORS, GREY, INK, categories_of
from cytoclust.pl.style import SMALL, axes_or_new, bare, figure_of, legend_size, note, plain

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["star_tree"]

LARGEST: Final = 0.52  # radius of the largest cluster, in mean lengths of the tree's edges
SMALLEST: Final = 0.16
MOST_MARKERS: Final = 24  # wedges of more cannot be told apart


def star_tree(
    adata: AnnData,
    *,
    groupby: str = schema.LEIDEN,
    markers: list[str] | None = None,
    rim: str | None = schema.PHENOTYPE_CLUSTER,
    layer: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw clusters as stars on their minimum spanning tree.

    Parameters
    ----------
    adata
        Annotated events.
    groupby
        Categorical column of ``obs``; one star per category with events.
    markers
        Markers or channels that make the wedges; None takes those of class type, at most 24 (those
        that differ most between the clusters).
    rim
        Categorical column of ``obs`` that colours the rims (the commonest value of a cluster's
        events), the clusters' names by default; None, or a column that is not there: no colour.
    layer
        Layer of the values; None for ``X``.
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        A wedge is as long as its marker's median in the cluster, between the marker's 1 % and 99 %
        quantile over all events; discs grow with the logarithm of the share of events. Edges join
        clusters with similar medians; lengths and directions carry no further meaning.

    Raises
    ------
    MissingSlotError
        `groupby` or a marker is not there.
    ArgumentError
        More than 24 markers were named.

    Notes
    -----
    After the star charts of FlowSOM; the tree is laid out by the algorithm of Kamada and Kawai from
    a circle, so that it is the same each time.

    References
    ----------
    Van Gassen S et al. FlowSOM. Cytometry A 2015. doi:10.1002/cyto.a.22625

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> values = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    >>> obs = pd.DataFrame({"leiden": pd.Categorical(list("012") * 30)}, index=map(str, range(90)))
    >>> len(cc.pl.star_tree(ad.AnnData(values, obs=obs)).texts)
    3
    """
    checks.check_key(adata, groupby)
    codes, groups, _ = categories_of(adata, groupby)
    at, names = star_markers(adata, markers)
    sizes = tally(codes, len(groups))
    keep = np.flatnonzero(sizes)
    side = float(np.clip(4.2 + 0.09 * len(keep), 5.0, 9.0))
    ax = axes_or_new(ax, side, side)
    if not len(keep) or not len(at):
        return note(ax, "no clusters with events" if len(at) else "no markers")
    values, rows = pooled_values(adata, at, layer=layer)
    medians, _ = group_medians(values, codes[rows], len(groups))
    low, high = np.nanquantile(values, [0.01, 0.99], axis=0)
    scaled = np.nan_to_num(np.clip((medians - low) / np.maximum(high - low, 1e-9), 0, 1))[keep]
    if len(at) > MOST_MARKERS:
        chosen = np.sort(np.argsort(-scaled.std(axis=0), kind="stable")[:MOST_MARKERS])
        scaled, names = scaled[:, chosen], [names[i] for i in chosen]
    edges = spanning_tree(scaled)
    places = tree_layout(len(keep), edges)
    radii = star_radii(sizes[keep])
    draw_edges(ax, places, edges)
    draw_stars(ax, places, scaled, radii=radii)
    rims = rim_colors(adata, codes, rim, keep=keep)
    draw_rims(ax, places, radii, colors=[color for _, color in rims])
    for place, radius, group in zip(places, radii, keep, strict=True):
        ax.text(
            place[0], place[1] - radius - 0.04, plain(groups[group], 12), ha="center", va="top",
            fontsize=SMALL - 1, color=INK, zorder=5,
        )  # fmt: skip
    star_legends(ax, names, rims)
    ax.set_aspect("equal", adjustable="datalim")
    ax.autoscale_view()
    return bare(ax)


def star_markers(adata: AnnData, markers: list[str] | None) -> tuple[np.ndarray, list[str]]:
    """Return positions and names of the wedges' markers."""
    if markers is not None and len(markers) > MOST_MARKERS:
        msg = f"a star has at most {MOST_MARKERS} wedges; got {len(markers)} markers. Name fewer."
        raise ArgumentError(msg)
    if markers is None and schema.MARKER_CLASS in adata.var.columns:
        kinds = adata.var[schema.MARKER_CLASS].astype(str).to_numpy()
        if (kinds == "type").any():
            at, names = marker_positions(adata, None)
            chosen = kinds[at] == "type"
            return at[chosen], [name for name, kept in zip(names, chosen, strict=True) if kept]
    return marker_positions(adata, markers)


def spanning_tree(rows: np.ndarray) -> np.ndarray:
    """Return the edges (n - 1, 2) of the minimum spanning tree of the rows' Euclidean distances."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import pdist, squareform

    if len(rows) < 2:
        return np.zeros((0, 2), int)
    # equal rows have distance 0, which a sparse graph would take for no edge
    tree = minimum_spanning_tree(squareform(pdist(rows) + 1e-6)).tocoo()
    return np.c_[tree.row, tree.col].astype(int)


def tree_layout(n: int, edges: np.ndarray) -> np.ndarray:
    """Return places (n, 2) in which the mean edge has length 1."""
    import igraph

    if n < 2:
        return np.zeros((n, 2))
    angle = 2 * np.pi * np.arange(n) / n
    start = np.c_[np.cos(angle), np.sin(angle)]
    graph = igraph.Graph(n=n, edges=[(int(a), int(b)) for a, b in edges])
    places = np.array(graph.layout_kamada_kawai(seed=start.tolist(), maxiter=50 * n).coords)
    lengths = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1)
    return np.asarray((places - places.mean(axis=0)) / max(lengths.mean(), 1e-9))


def star_radii(sizes: np.ndarray) -> np.ndarray:
    """Return radii that grow with the logarithm of the sizes."""
    share = np.log10(sizes / sizes.sum())
    low = min(share.min(), -4.0)
    return np.asarray(SMALLEST + (LARGEST - SMALLEST) * (share - low) / max(-low, 1e-9))


def draw_edges(ax: Axes, places: np.ndarray, edges: np.ndarray) -> None:
    """Draw the tree below the stars."""
    from matplotlib.collections import LineCollection

    lines = LineCollection([places[pair] for pair in edges], colors=GREY, linewidths=1.2, zorder=1)
    ax.add_collection(lines)


def draw_stars(ax: Axes, places: np.ndarray, scaled: np.ndarray, *, radii: np.ndarray) -> None:
    """Draw one collection of wedges per marker, from the top clockwise."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Wedge

    n = scaled.shape[1]
    for marker in range(n):
        stop = 90 - 360 * marker / n
        wedges = [
            Wedge((x, y), radius * length, stop - 360 / n, stop)
            for (x, y), radius, length in zip(places, radii, scaled[:, marker], strict=True)
            if length > 0
        ]
        color = COLORS[marker % len(COLORS)]
        ax.add_collection(PatchCollection(wedges, facecolor=color, edgecolor="none", zorder=3))


def rim_colors(
    adata: AnnData, codes: np.ndarray, rim: str | None, *, keep: np.ndarray
) -> list[tuple[str, str]]:
    """Return the commonest value of `rim` in each cluster, and its colour."""
    if rim is None or rim not in adata.obs.columns:
        return [("", "#777777")] * len(keep)
    of_event, names, colors = categories_of(adata, rim)
    shape = (int(codes.max()) + 1, len(names))
    best = cross_tally(codes, of_event, shape).argmax(axis=1)
    return [(names[best[group]], colors[best[group]]) for group in keep]


def draw_rims(ax: Axes, places: np.ndarray, radii: np.ndarray, *, colors: list[str]) -> None:
    """Draw white discs below the wedges and coloured rims around them."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    discs = [Circle((x, y), radius) for (x, y), radius in zip(places, radii, strict=True)]
    ax.add_collection(PatchCollection(discs, facecolor="white", edgecolor="none", zorder=2))
    rims = PatchCollection(discs, facecolor="none", edgecolor=colors, linewidth=1.8, zorder=4)
    ax.add_collection(rims)


def star_legends(ax: Axes, markers: list[str], rims: list[tuple[str, str]]) -> None:
    """Name the wedges, and the rims at their right."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.transforms import ScaledTranslation

    words = [plain(name, 20) for name in markers]
    named = {plain(name, 26): color for name, color in sorted(rims) if name}
    columns = 1 + (len(words) - 1) // 24
    tallest = max(-(-len(words) // columns), len(named))
    size = legend_size(ax, [*words, *named], columns + bool(named), rows=tallest)
    style: dict[str, Any] = {
        "frameon": False, "fontsize": size, "borderaxespad": 0, "alignment": "left", "labelspacing": 0.3,
        "handletextpad": 0.4, "columnspacing": 0.8, "title_fontsize": size, "loc": "upper left",
    }  # fmt: skip
    wedges = [Patch(color=COLORS[i % len(COLORS)], label=word) for i, word in enumerate(words)]
    first = ax.legend(
        handles=wedges, title="wedges, clockwise", bbox_to_anchor=(1.01, 1.0), handlelength=0.8,
        ncols=columns, **style,
    )  # fmt: skip
    if not named:
        return
    ax.add_artist(first)
    scale = size / SMALL
    rings = [
        Line2D([], [], ls="", marker="o", ms=6 * scale, mfc="white", mec=color, mew=1.8 * scale, label=name)
        for name, color in named.items()
    ]  # fmt: skip
    letters = max(11, columns * (0.6 * max(map(len, words), default=0) + 2.5))
    beside = ScaledTranslation(letters * size / 72, 0, figure_of(ax).dpi_scale_trans)
    ax.legend(
        handles=rings, title="rims", bbox_to_anchor=(1.01, 1.0),
        bbox_transform=ax.transAxes + beside, **style,
    )  # fmt: skip
