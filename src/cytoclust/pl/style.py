"""How every figure looks: sizes for print, plain text, no pyplot state."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust.pl.palette import INK

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["save"]

TITLE: Final = 9.0  # points
TEXT: Final = 8.0
SMALL: Final = 7.0
SMALLEST: Final = 2.5  # of names in a crowded figure: small, but none on another


def plain(text: object, width: int | None = None) -> str:
    """Return text that matplotlib draws as written: one line, no mathematics, no control characters."""
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words)
    if width is not None and len(line) > width:
        head = (width - 1) * 2 // 3
        line = f"{line[:head]}…{line[len(line) - (width - 1 - head) :]}"
    return line.replace("$", r"\$")


def new_figure(width: float, height: float, *, layout: str = "constrained") -> Figure:
    """Make a figure (inches) that pyplot does not know of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the only axes of a new figure (inches)."""
    if ax is not None:
        return ax
    # no layout engine: saving crops to what was drawn, and a long legend must not squeeze the axes
    return new_figure(width, height, layout="none").add_axes((0.2, 0.1, 0.78, 0.84))


def extent_of(where: Axes | Figure) -> tuple[float, float]:
    """Return width and height in points, before any layout makes room for legends."""
    figure = figure_of(where)
    width, height = 72 * figure.get_size_inches()
    if where is figure:
        return float(width), float(height)
    box = where.get_position()  # type: ignore[union-attr]
    return float(width * box.width), float(height * box.height)


def row_size(ax: Axes, n: int, *, axis: str = "y", largest: float = SMALL) -> float:
    """Return the font size at which `n` names beside each other do not overlap."""
    room = extent_of(ax)["xy".index(axis)] / max(n, 1)
    return float(np.clip(0.68 * room, SMALLEST, largest))


def legend_size(
    where: Axes | Figure, texts: Sequence[str], columns: int, *, rows: int | None = None
) -> float:
    """Return the font size at which a legend is no higher than the figure and leaves the axes room.

    Without a layout engine the legend stands outside, where saving finds it, and keeps its size.
    """
    figure = figure_of(where)
    if figure.get_layout_engine() is None or not texts:
        return SMALL
    letters = columns * (0.6 * max(map(len, texts)) + 2.5)
    lines = 1.5 * (rows or -(-len(texts) // columns)) + 3  # and a title above the axes
    width = 0.6 * extent_of(where)[0]
    return float(np.clip(min(width / letters, extent_of(figure)[1] / lines), SMALLEST, SMALL))


def dress(ax: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """Set texts and sizes, remove the frame's upper and right lines."""
    from matplotlib.ticker import FixedLocator

    ax.set_title(title, fontsize=TITLE, color=INK, loc="left")
    ax.set_xlabel(xlabel, fontsize=TEXT, color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT, color=INK)
    ax.tick_params(axis="x", labelsize=SMALL)
    named = isinstance(ax.yaxis.get_major_locator(), FixedLocator)
    ax.tick_params(axis="y", labelsize=row_size(ax, len(ax.get_yticks())) if named else SMALL)
    ax.tick_params(colors=INK, width=0.6, length=2.5)
    ax.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_linewidth(0.6)
        ax.spines[side].set_color("#666666")
    return ax


def bare(ax: Axes, *, title: str = "") -> Axes:
    """Remove ticks and frame, for images whose coordinates mean nothing."""
    ax.set_title(title, fontsize=TITLE, color=INK, loc="left")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def name_ticks(
    ax: Axes, names: Iterable[object], *, axis: str = "y", width: int = 34, rotation: float = 0
) -> None:
    """Put one name at each of the positions 0, 1, 2, ... of an axis."""
    labels = [plain(name, width) for name in names]
    at = np.arange(len(labels))
    size = row_size(ax, len(labels), axis=axis) if axis == "y" or rotation else SMALL
    if axis == "y":
        ax.set_yticks(at, labels, fontsize=size)
    elif rotation:
        ax.set_xticks(
            at, labels, fontsize=size, rotation=rotation, ha="right", rotation_mode="anchor"
        )
    else:
        ax.set_xticks(at, labels, fontsize=SMALL)


def note(ax: Axes, text: str) -> Axes:
    """Say in words why a figure is empty."""
    bare(ax, title=ax.get_title(loc="left"))
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, fontsize=TEXT)
    return ax


def legend(
    where: Axes | Figure,
    names: Sequence[str],
    colors: Sequence[str],
    *,
    title: str = "",
    columns: int = 0,
) -> None:
    """Put a legend of filled dots at the right of axes, or of the whole figure."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", marker="o", ms=5, mew=0, color=color, label=plain(name, 34))
        for name, color in zip(names, colors, strict=True)
    ]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    if isinstance(where, Figure):
        place = {"loc": "outside right upper"}
    columns = columns or 1 + (len(handles) - 1) // 24
    size = legend_size(where, [str(handle.get_label()) for handle in handles], columns)
    for handle in handles:
        handle.set_markersize(5 * size / SMALL)
    shown = where.legend(
        handles=handles, frameon=False, fontsize=size, title=plain(title), title_fontsize=TEXT,
        ncols=columns, borderaxespad=0, handletextpad=0.2,
        columnspacing=0.8, labelspacing=0.35, alignment="left", **place,
    )  # fmt: skip
    shown.get_title().set_color(INK)


def place_labels(
    ax: Axes, points: np.ndarray, texts: Sequence[str], *, dots: np.ndarray | None = None
) -> None:
    """Write each text beside its point, in the first of eight places that is free.

    Parameters
    ----------
    ax
        Axes whose limits are final.
    points
        (n_texts, 2) data coordinates; the first texts get the best places.
    texts
        What to write; a text without a free place is left out.
    dots
        (n_dots, 2) data coordinates that no text may cover.
    """
    frame = ax.get_window_extent()
    taken: list[Bbox] = []
    marks = ax.transData.transform(points if dots is None else dots)
    anchors = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
    sides = {1: "left", -1: "right", 0: "center"}
    heights = {1: "bottom", -1: "top", 0: "center"}
    for point, text in zip(points, texts, strict=True):
        for dx, dy in anchors:
            label = ax.annotate(
                text, (point[0], point[1]), xytext=(5 * dx, 5 * dy), textcoords="offset points",
                ha=sides[dx], va=heights[dy], fontsize=SMALL, color=INK,
            )  # fmt: skip
            box = label.get_window_extent().expanded(1.02, 1.05)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 <= frame.y1
            covers = np.any(
                np.all(
                    (marks > np.asarray(box.min) - 2) & (marks < np.asarray(box.max) + 2), axis=1
                )
            )
            if inside and not covers and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()


def figure_of(plot: Axes | Figure) -> Figure:
    """Return the figure that a plotting function's answer belongs to."""
    from matplotlib.figure import Figure

    if isinstance(plot, Figure):
        return plot
    figure = plot.get_figure(root=True)
    assert figure is not None
    return figure


def draw(plot: Axes | Figure, target: Any, *, dpi: float, format: str) -> None:
    """Write a figure, silent about letters that the font does not have."""
    import matplotlib as mpl

    # a fixed salt and no date: the same figure is the same file
    metadata = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
    rc: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "cytoclust", "pdf.fonttype": 42}
    with warnings.catch_warnings(), mpl.rc_context(rc):
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure_of(plot).savefig(
            target, dpi=dpi, format=format, bbox_inches="tight", pad_inches=0.06,
            metadata=metadata.get(format), facecolor="white",
        )  # fmt: skip


def save(plot: Axes | Figure, path: str | os.PathLike[str], *, dpi: float = 200) -> None:
    """Write a figure to a file; the ending (.png, .svg, .pdf) chooses the format.

    Parameters
    ----------
    plot
        What a function of ``cc.pl`` returned.
    path
        File to write; written beside its place and then renamed.
    dpi
        Dots per inch of PNG files and of the raster parts of SVG and PDF files.

    Examples
    --------
    >>> import pathlib, tempfile, pandas as pd, cytoclust as cc
    >>> ax = cc.pl.p_values(pd.DataFrame({"p_value": [0.01, 0.5]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cc.pl.save(ax, pathlib.Path(folder) / "p_values.png")
    """
    target = Path(path)
    beside = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        draw(plot, beside, dpi=dpi, format=target.suffix.lstrip(".").lower() or "png")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
