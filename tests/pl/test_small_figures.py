"""Crowded figures at the size of a journal's column: names and legends make room for the axes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import cytoclust as cc
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from matplotlib.axes import Axes

DESIGN = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}


def small_axes() -> Axes:
    figure = Figure(figsize=(3, 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def crowded(adata: AnnData) -> AnnData:
    """Return the study with twice the populations, their names long."""
    adata.obs["crowd"] = (
        adata.obs["phenotype"].astype(str) + " seen in " + adata.obs["compartment"].astype(str)
    ).astype("category")
    return adata


@pytest.mark.parametrize(
    "draw",
    [
        lambda a, ax: cc.pl.phenotype_sizes(a, groupby="crowd", ax=ax),
        lambda a, ax: cc.pl.heatmap(a, groupby="crowd", ax=ax),
        lambda a, ax: cc.pl.marker_densities(a, ax=ax),
        lambda a, ax: cc.pl.exclusions(a, ax=ax),
    ],
    ids=["sizes", "heatmap", "densities", "exclusions"],
)
def test_names_of_rows_do_not_stand_on_each_other(
    study: AnnData, draw: Callable[[AnnData, Axes], Axes]
) -> None:
    ax = draw(crowded(study), small_axes())
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels() if label.get_text()]
    assert len(boxes) > 8
    middles = sorted((box.y0 + box.y1) / 2 for box in boxes)
    size = ax.get_yticklabels()[0].get_fontsize() / 72 * ax.figure.dpi
    # capitals are 0.73 of the font's size
    assert min(b - a for a, b in pairwise(middles)) > 0.73 * size


@pytest.mark.parametrize(
    "draw",
    [
        lambda a, ax: cc.pl.composition(a, groupby="crowd", ax=ax, **DESIGN),
        lambda a, ax: cc.pl.umap(a, color="crowd", ax=ax),
        lambda a, ax: cc.pl.star_tree(a, rim="crowd", groupby="phenotype", ax=ax),
    ],
    ids=["composition", "umap", "star"],
)
def test_legends_leave_room_and_are_not_cut(
    study: AnnData, draw: Callable[[AnnData, Axes], Axes]
) -> None:
    adata = crowded(study)
    adata.uns.pop("crowd_colors", None)
    ax = draw(adata, small_axes())
    figure = ax.figure
    figure.draw_without_rendering()
    page = figure.bbox
    assert ax.get_window_extent().width > 0.25 * page.width
    shown = ax.get_legend().get_window_extent()
    assert shown.y0 >= page.y0 - 1
    assert shown.x1 <= page.x1 + 1


def test_a_large_figure_has_letters_of_full_size(study: AnnData) -> None:
    ax = cc.pl.phenotype_sizes(study)
    assert {label.get_fontsize() for label in ax.get_yticklabels()} == {7.0}
    legend = cc.pl.composition(study, **DESIGN).get_legend()
    assert {text.get_fontsize() for text in legend.get_texts()} == {7.0}


def test_names_on_a_crowded_map_do_not_stand_on_each_other(study: AnnData) -> None:
    study.obsm["X_umap"] = study.obsm["X_umap"] * 0  # every cluster at one place
    codes = study.obs["phenotype"].cat.codes
    study.obs["cluster"] = codes.astype(str).astype("category")
    ax = cc.pl.umap(study, color="cluster", ax=small_axes())
    assert [text.get_text() for text in ax.texts] == [str(codes.value_counts().index[0])]
    named = cc.pl.umap(study, color="cluster", names_on_map=True, ax=small_axes())
    assert len(named.texts) == codes.nunique()


def test_a_figure_of_any_backend_is_drawn_on(study: AnnData) -> None:
    from cytoclust.checks import recorded

    table = recorded(study, "differential_abundance")["table"]
    ax = cc.pl.volcano(table, ax=Figure().add_subplot())  # a canvas without a renderer, as of PDF
    assert ax.texts


def test_state_names_its_own_grid(study: AnnData) -> None:
    from cytoclust.checks import recorded

    with pytest.raises(ArgumentError, match=r"pl\.state_grid"):
        cc.pl.state(recorded(study, "differential_state")["table"])
