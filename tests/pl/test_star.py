"""The tree of clusters: spanning tree, wedges, rims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PatchCollection

import cytoclust as cc
from cytoclust.pl.star import spanning_tree, star_radii, tree_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def wedges(ax: Axes) -> list[PatchCollection]:
    return [c for c in ax.collections if isinstance(c, PatchCollection) and c.get_zorder() == 3]


def test_spanning_tree_of_points_on_a_line() -> None:
    edges = spanning_tree(np.array([[0.0], [5.0], [1.0], [3.0]]))
    assert {frozenset(map(int, edge)) for edge in edges} == {
        frozenset({0, 2}), frozenset({2, 3}), frozenset({1, 3}),
    }  # fmt: skip
    assert len(spanning_tree(np.zeros((4, 2)))) == 3  # equal clusters are joined too
    assert spanning_tree(np.zeros((1, 2))).shape == (0, 2)


def test_layout_is_the_same_each_time_and_of_unit_edges() -> None:
    edges = np.array([[0, 1], [1, 2], [1, 3]])
    places = tree_layout(4, edges)
    np.testing.assert_array_equal(places, tree_layout(4, edges))
    lengths = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1)
    assert lengths.mean() == pytest.approx(1.0)


def test_larger_clusters_have_larger_stars() -> None:
    radii = star_radii(np.array([10, 1_000, 100_000]))
    assert (np.diff(radii) > 0).all()


def test_a_wedge_per_type_marker_as_long_as_its_median(study: ad.AnnData) -> None:
    ax = cc.pl.star_tree(study)
    n_type = int((study.var["marker_class"] == "type").sum())
    assert len(wedges(ax)) == n_type
    names = [text.get_text() for text in study_labels(ax)]
    assert sorted(names, key=int) == sorted(study.obs["leiden"].cat.categories, key=int)
    lines = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(lines[0].get_segments()) == len(names) - 1


def study_labels(ax: Axes) -> list[object]:
    return list(ax.texts)


def test_high_and_low_markers() -> None:
    values = np.repeat([[0.0, 1.0], [1.0, 0.0]], 50, axis=0).astype(np.float32)
    obs = pd.DataFrame(
        {"leiden": pd.Categorical(["0"] * 50 + ["1"] * 50)}, index=map(str, range(100))
    )
    ax = cc.pl.star_tree(ad.AnnData(values, obs=obs))
    # a marker at its lowest has no wedge: each of the two has one star with a wedge
    assert [len(collection.get_paths()) for collection in wedges(ax)] == [1, 1]


def test_rims_have_the_colours_of_the_study(study: ad.AnnData) -> None:
    ax = cc.pl.star_tree(study, rim="phenotype")
    legends = [text.get_text() for text in ax.get_legend().get_texts()]
    assert set(legends) <= set(study.obs["phenotype"].cat.categories)
    plain = cc.pl.star_tree(study, rim=None)
    assert plain.get_legend().get_title().get_text() == "wedges, clockwise"


def test_one_cluster_and_none() -> None:
    values = np.random.default_rng(0).random((20, 3), np.float32)
    obs = pd.DataFrame({"leiden": pd.Categorical(["0"] * 20)}, index=map(str, range(20)))
    assert len(cc.pl.star_tree(ad.AnnData(values, obs=obs)).texts) == 1
    empty = ad.AnnData(values, obs=obs)[:0].copy()
    assert "no clusters" in cc.pl.star_tree(empty).texts[0].get_text()


def test_wrong_requests_are_named(study: ad.AnnData) -> None:
    with pytest.raises(cc.errors.MissingSlotError, match="nothing"):
        cc.pl.star_tree(study, groupby="nothing")
    with pytest.raises(cc.errors.ArgumentError, match="at most 24"):
        cc.pl.star_tree(study, markers=["CD3"] * 25)
