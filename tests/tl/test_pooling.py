"""Models fitted on a pool of events: the same in memory and read by Dask, whoever does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import cytoclust as cc
from cytoclust import chunks
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

N = 9_000
POOL = 3_000
CHUNKINGS = [(N,), (2_500, 0, 4_000, 1, 2_499)]
RARE = 4


def study(chunking: tuple[int, ...] | None = None, *, n: int = N) -> ad.AnnData:
    """Five populations, the last of 0.2 % of the events, and a channel that is no marker."""
    rng = np.random.default_rng(3)
    centers = np.eye(5, 6) * 8
    labels = rng.choice(5, size=n, p=[0.5, 0.25, 0.15, 0.098, 0.002])
    X = (centers[labels] + rng.normal(scale=0.4, size=(n, 6))).astype(np.float32)
    var = pd.DataFrame(
        {"marker_class": ["none", *["type"] * 5], "marker": ["Time", *"ABCDE"]},
        index=[f"C{i}" for i in range(6)],
    )
    X[:, [0, 5]] = X[:, [5, 0]]
    obs = pd.DataFrame(
        {
            "truth": pd.Categorical.from_codes(labels, list("01234")),
            "sample": pd.Categorical.from_codes(np.arange(n) * 4 // n, list("wxyz")),
        }
    )
    obs.index = obs.index.astype(str)
    values = X if chunking is None else da.from_array(X, chunks=(chunking, 6))
    return ad.AnnData(values, obs=obs, var=var)


def analyse(adata: ad.AnnData) -> ad.AnnData:
    cc.tl.leiden_sketched(adata, 0.2, n_prototypes=300)
    cc.tl.umap_sketched(adata, n_landmarks=300)
    return adata


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return set(one) == set(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, pd.DataFrame | pd.Series):
        return bool(one.equals(other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


def assert_same(one: ad.AnnData, other: ad.AnnData) -> None:
    assert one.obs.equals(other.obs)
    assert np.array_equal(one.obsm["X_umap"], other.obsm["X_umap"])
    assert equal(dict(one.uns["cytoclust"]), dict(other.uns["cytoclust"]))


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "POOL_EVENTS", POOL)
    monkeypatch.setattr(chunks, "BLOCK_EVENTS", 4_321)


@pytest.mark.usefixtures("pooled")
@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_lazy_events_get_what_they_get_in_memory(chunking: tuple[int, ...]) -> None:
    held, lazy = analyse(study()), analyse(study(chunking))
    assert_same(held, lazy)
    assert isinstance(lazy.X, da.Array)
    assert lazy.obsm["X_umap"].dtype == np.float32
    assert np.isfinite(lazy.obsm["X_umap"]).all()


@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_lazy_events_that_all_fit_the_pool(chunking: tuple[int, ...]) -> None:
    held = analyse(study())
    assert_same(held, analyse(study(chunking)))
    assert held.uns["cytoclust"]["leiden_sketched"]["params"]["n_events_pooled"] == N


def test_the_pool_finds_the_clusters_of_all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    every, adata = study(n=60_000), study(n=60_000)
    cc.tl.leiden_sketched(every, 0.1)
    monkeypatch.setattr(chunks, "POOL_EVENTS", 20_000)
    cc.tl.leiden_sketched(adata, 0.1)
    assert adjusted_rand_score(every.obs["leiden"], adata.obs["leiden"]) > 0.95
    record = adata.uns["cytoclust"]["leiden_sketched"]
    assert record["params"]["n_events_pooled"] == 20_000
    sizes = adata.obs["leiden"].value_counts(sort=False).to_numpy()
    assert (np.diff(sizes) <= 0).all()
    assert sizes.sum() == 60_000
    by_prototype = np.bincount(record["labels"], weights=record["sizes"])
    np.testing.assert_array_equal(by_prototype, sizes)
    counts = pd.crosstab(adata.obs["truth"], adata.obs["leiden"])
    own = counts.loc["4"].idxmax()  # 0.2 % of the events keep a cluster of their own
    assert counts.loc["4", own] == counts.loc["4"].sum() == counts[own].sum()


def test_every_event_has_the_label_of_its_nearest_prototype(pooled: None) -> None:
    adata = study(CHUNKINGS[1])
    cc.tl.leiden_sketched(adata, 0.2, n_prototypes=300)
    record = adata.uns["cytoclust"]["leiden_sketched"]
    X = study().X[:, 1:]
    squares = ((X[:, None, :] - record["prototypes"][None]) ** 2).sum(axis=2)
    expected = record["labels"][squares.argmin(axis=1)]
    assert (adata.obs["leiden"].cat.codes.to_numpy() == expected).all()
    assert len(record["reach"]) == adata.obs["leiden"].nunique()


@pytest.mark.usefixtures("pooled")
def test_stability_is_that_of_the_pool() -> None:
    found = []
    for chunking in (None, *CHUNKINGS):
        adata = study(chunking)
        cc.tl.scan_resolutions(adata, [0.1, 0.3], n_replicates=2, leave_out_key="sample")
        cc.tl.leiden_sketched(adata, None, n_prototypes=300)
        cc.tl.cluster_stability(adata, n_replicates=2, leave_out_key="sample")
        assert len(adata.uns["cytoclust"]["scan_resolutions"]["labels"]) == POOL
        table = adata.uns["cytoclust"]["cluster_stability"]["table"]
        assert table.index.tolist() == adata.obs["leiden"].cat.categories.tolist()
        assert table["n_events"].sum() == POOL
        found.append(adata)
    for lazy in found[1:]:
        assert lazy.obs.equals(found[0].obs)
        assert equal(dict(found[0].uns["cytoclust"]), dict(lazy.uns["cytoclust"]))


@pytest.mark.usefixtures("pooled")
def test_later_events_are_mapped_by_block() -> None:
    reference = analyse(study())
    new = [
        cc.tl.map_events(study(chunking), reference, copy=True) for chunking in (None, CHUNKINGS[1])
    ]
    assert_same(*new)
    assert new[0].obs["leiden"].astype(str).tolist() == reference.obs["leiden"].tolist()
    assert np.array_equal(new[0].obsm["X_umap"], reference.obsm["X_umap"])


@pytest.mark.usefixtures("pooled")
def test_a_lineage_is_clustered_again_if_it_fits_the_pool() -> None:
    columns = []
    for chunking in (None, *CHUNKINGS):
        adata = study(chunking)
        cc.tl.subcluster(adata, 0.1, restrict_to=("truth", ["2", "4"]))
        columns.append(adata.obs["subcluster"])
    assert columns[0].equals(columns[1])
    assert columns[0].equals(columns[2])
    with pytest.raises(ArgumentError, match="more than are taken into memory at once"):
        cc.tl.subcluster(study(CHUNKINGS[0]), 0.1, restrict_to=("truth", ["0"]))


@pytest.mark.usefixtures("pooled")
@pytest.mark.parametrize("verb", [cc.tl.leiden_sketched, cc.tl.umap_sketched])
def test_a_value_that_is_not_finite_is_named_wherever_it_is(verb: Callable[..., Any]) -> None:
    inside = set(chunks.pool_rows(N).tolist())
    for row in (0, next(row for row in range(8_000, N) if row not in inside)):
        values = study().X.copy()
        values[row, 2] = np.nan
        adata = study()
        adata.X = da.from_array(values, chunks=(CHUNKINGS[1], 6))
        with pytest.raises(ArgumentError, match=r"NaN or infinite values: \[C2\]"):
            verb(adata)
        assert not adata.uns


@pytest.mark.parametrize("verb", [cc.pp.neighbors, cc.tl.leiden, cc.tl.umap])
def test_a_graph_of_all_events_wants_them_in_memory(verb: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError, match=r"tl\.leiden_sketched and tl\.umap_sketched"):
        verb(study(CHUNKINGS[1]))


@pytest.mark.slow
@pytest.mark.usefixtures("pooled")
def test_workers_elsewhere_give_the_same() -> None:
    distributed = pytest.importorskip("distributed")
    expected = analyse(study())
    with (
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        assert_same(expected, analyse(study(CHUNKINGS[1])))
