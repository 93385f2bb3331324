from __future__ import annotations

import time

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import cytoclust as cc
from cytoclust import chunks
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.pl.canvas import Canvas, majority_image, spread


def test_canvas_counts_every_event() -> None:
    points = np.random.default_rng(0).normal(size=(250_000, 2)).astype(np.float32)
    canvas = Canvas(points)
    assert canvas.radius == 0
    assert canvas.total().sum() == 250_000
    left = points[:, 0] < 0
    assert canvas.total(keep=left).sum() == left.sum()
    assert np.isclose(
        canvas.total(weights=points[:, 0].astype(float)).sum(), points[:, 0].sum(), atol=1
    )


def test_pixel_positions_match_a_histogram() -> None:
    points = np.random.default_rng(1).uniform(size=(300_000, 2))
    canvas = Canvas(points, pixels=64)
    left, right, bottom, top = canvas.extent
    expected, _, _ = np.histogram2d(
        points[:, 1],
        points[:, 0],
        bins=tuple(canvas.size[::-1]),
        range=[[bottom, top], [left, right]],
    )
    assert np.abs(canvas.total() - expected).max() <= 2  # float32 edges move single events


def test_events_without_coordinates_are_left_out() -> None:
    points = np.array([[0, 0], [1, 1], [np.nan, 1], [np.inf, 0]], np.float32)
    canvas = Canvas(points)
    assert canvas.placed.tolist() == [True, True, False, False]
    adata = AnnData(points.copy(), obsm={"X_umap": points})
    assert cc.pl.umap(adata).get_title(loc="left") == "2 events"


def test_spread_is_a_disc() -> None:
    image = np.zeros((9, 9), np.float32)
    image[4, 4] = 2
    assert spread(image, 1).sum() == 10
    assert spread(image, 0) is image


def test_majority_wins_the_pixel() -> None:
    points = np.zeros((300_000, 2), np.float32)
    points[-1] = 1
    codes = np.r_[np.zeros(100_000, int), np.ones(199_999, int), 0]
    canvas = Canvas(points, pixels=16)
    image = majority_image(canvas, codes, colors=["#FF0000", "#0000FF"], keep=codes >= 0)
    filled = image[..., 3] > 0
    assert filled.sum() == 2
    colors = {tuple(image[i, j, :3]) for i, j in np.argwhere(filled)}
    assert colors == {(0.0, 0.0, 1.0), (1.0, 0.0, 0.0)}


@pytest.mark.parametrize("color", [None, "phenotype", "leiden", "CD3", "FL0-A", "event", "flag"])
def test_umap_of_anything(study: AnnData, color: str | None) -> None:
    study.obs["flag"] = study.obs["event"] % 2 == 0
    ax = cc.pl.umap(study, color=color)
    assert len(ax.images) == 1
    if color in {"phenotype", "leiden", "flag"}:
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert len(labels) == len(set(study.obs[color]))
        assert f"{color}_colors" in study.uns


def test_names_on_the_map(study: AnnData) -> None:
    named = cc.pl.umap(study, color="phenotype", names_on_map=True)
    assert {text.get_text() for text in named.texts} == set(study.obs["phenotype"].unique())
    assert not cc.pl.umap(study, color="phenotype").texts


def test_missing_slots(study: AnnData) -> None:
    with pytest.raises(MissingSlotError, match=r"Run tl\.umap"):
        cc.pl.umap(study, basis="X_nothing")
    with pytest.raises(MissingSlotError, match="neither an obs column, a channel nor a marker"):
        cc.pl.umap(study, color="CD999")
    with pytest.raises(MissingSlotError, match="CD999"):
        cc.pl.umap_markers(study, markers=["CD999"])


def test_grid_counts_events_of_each_group(study: AnnData) -> None:
    figure = cc.pl.umap_grid(study, row_key="compartment", column_key="visit")
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    numbers = [int(title.split("\n")[1].split()[0].replace(",", "")) for title in titles]
    sizes = study.obs.groupby(["compartment", "visit"], observed=False).size()
    assert numbers == sizes.tolist()


@pytest.mark.parametrize("color", ["phenotype", "CD3"])
def test_grid_by_color(study: AnnData, color: str) -> None:
    figure = cc.pl.umap_grid(study, color=color, column_key="visit")
    assert sum(bool(ax.images) for ax in figure.axes) == 4 + (color == "CD3") - (color == "CD3")


def test_grid_refuses_too_many_levels(study: AnnData) -> None:
    with pytest.raises(ArgumentError, match="at most 12"):
        cc.pl.umap_grid(study, row_key="sample")


def test_one_event_and_none() -> None:
    point = np.zeros((1, 2), np.float32)
    assert cc.pl.umap(AnnData(point, obsm={"X_umap": point})).get_title(loc="left") == "1 events"
    empty = AnnData(np.zeros((0, 2), np.float32), obsm={"X_umap": np.zeros((0, 2), np.float32)})
    assert cc.pl.umap(empty).get_title(loc="left") == "0 events"


@pytest.mark.slow
def test_a_million_events_in_seconds() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1_000_000, 2)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "phenotype": pd.Categorical.from_codes(
                rng.integers(0, 30, 1_000_000), [f"p{i}" for i in range(30)]
            )
        }
    )
    obs.index = obs.index.astype(str)
    adata = AnnData(points, obs=obs, obsm={"X_umap": points})
    start = time.perf_counter()
    cc.pl.umap(adata, color="phenotype")
    assert (
        time.perf_counter() - start < 10
    )  # 1 s on one free core; the bound allows for a busy machine


def test_counts_by_code_are_those_of_single_codes() -> None:
    from cytoclust.pl.canvas import Canvas

    rng = np.random.default_rng(8)
    canvas = Canvas(rng.normal(size=(5_000, 2)), pixels=60)
    codes = rng.integers(-1, 70, 5_000).astype(np.int8)  # more than one pass, some without a code
    images = list(canvas.by_code(codes, 70))
    assert len(images) == 70
    for code in (0, 31, 32, 69):
        np.testing.assert_allclose(images[code], canvas.total(keep=codes == code), rtol=1e-6)


def figures(adata: AnnData) -> list[np.ndarray]:
    """What the figures that read marker values draw: images, wedges and lines."""
    marker = str(adata.var_names[0])
    axes = [cc.pl.umap(adata, color=marker), cc.pl.heatmap(adata, groupby="leiden")]
    axes += [cc.pl.marker_densities(adata, cutoffs={}), cc.pl.star_tree(adata, groupby="leiden")]
    axes += cc.pl.umap_markers(adata).axes + cc.pl.umap_grid(adata, color=marker).axes
    drawn = [np.asarray(image.get_array()) for ax in axes for image in ax.images]
    drawn += [np.asarray(line.get_xydata()) for ax in axes for line in ax.lines]
    return drawn + [path.vertices for ax in axes for c in ax.collections for path in c.get_paths()]


@pytest.mark.parametrize("pool", [1_000_000, 300])
def test_lazy_values_are_drawn_as_those_in_memory(
    pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "POOL_EVENTS", pool)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 4)).astype(np.float32)
    obs = pd.DataFrame({"leiden": pd.Categorical(list("012") * 300)}, index=map(str, range(900)))
    points = rng.normal(size=(900, 2)).astype(np.float32)
    drawn = [
        figures(AnnData(values, obs=obs.copy(), obsm={"X_umap": points}))
        for values in (X, da.from_array(X, chunks=((500, 400), 4)))
    ]
    assert len(drawn[0]) > 20
    for held, lazy in zip(*drawn, strict=True):
        np.testing.assert_array_equal(held, lazy)
