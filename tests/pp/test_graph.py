from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.numerics import knn, threads
from cytoclust.numerics.prototypes import Index


def threads_now() -> int:
    return int(threads.numba.get_num_threads())


def events(n: int = 400, d: int = 5, *, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    centers = rng.normal(scale=3.0, size=(4, d))
    labels = rng.integers(4, size=n)
    X = (centers[labels] + rng.normal(scale=0.4, size=(n, d))).astype(np.float32)
    var = pd.DataFrame(
        {"marker": [f"CD{i}" for i in range(d)], "marker_class": ["type"] * (d - 1) + ["state"]},
        index=[f"FL{i}-A" for i in range(d)],
    )
    obs = pd.DataFrame({"truth": pd.Categorical(labels.astype(str))}, index=map(str, range(n)))
    return ad.AnnData(X, obs=obs, var=var)


def test_slots_are_as_scanpy_writes_them() -> None:
    adata = events()
    assert cc.pp.neighbors(adata, 15) is None
    assert adata.obsp["distances"].dtype == np.float32
    assert (np.diff(adata.obsp["distances"].indptr) == 14).all()
    weights = adata.obsp["connectivities"]
    assert abs(weights - weights.T).max() == 0
    graph = adata.uns["neighbors"]
    assert graph["connectivities_key"] == "connectivities"
    assert graph["distances_key"] == "distances"
    assert graph["params"]["weights"] == "jaccard"
    assert graph["params"]["method"] == "exact"
    assert list(graph["params"]["markers"]) == ["FL0-A", "FL1-A", "FL2-A", "FL3-A"]


def test_scanpy_works_on_the_graph() -> None:
    sc = pytest.importorskip("scanpy")
    adata = events()
    cc.pp.neighbors(adata)
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    assert adata.obs["leiden"].nunique() >= 4


@pytest.mark.slow
def test_scanpy_umap_works_on_the_graph() -> None:
    sc = pytest.importorskip("scanpy")
    adata = events(200)
    cc.pp.neighbors(adata)
    sc.tl.umap(adata, maxiter=20)
    assert adata.obsm["X_umap"].shape == (200, 2)


def test_markers_by_marker_or_channel_name() -> None:
    adata, other = events(), events()
    cc.pp.neighbors(adata, markers=["CD0", "FL2-A"])
    cc.pp.neighbors(other, markers=["FL0-A", "CD2"])
    assert list(adata.uns["neighbors"]["params"]["markers"]) == ["FL0-A", "FL2-A"]
    assert (adata.obsp["distances"] != other.obsp["distances"]).nnz == 0


def test_representation_and_name() -> None:
    adata = events()
    adata.obsm["X_own"] = adata.X[:, :2].copy()
    cc.pp.neighbors(adata, use_rep="X_own", key_added="own")
    assert "neighbors" not in adata.uns
    assert adata.uns["own"]["distances_key"] == "own_distances"
    assert adata.uns["own"]["params"]["use_rep"] == "X_own"
    cc.pp.neighbors(adata, markers=["CD0", "CD1"])
    assert (adata.obsp["distances"] != adata.obsp["own_distances"]).nnz == 0


def test_copy_leaves_the_data_alone() -> None:
    adata = events()
    changed = cc.pp.neighbors(adata, copy=True)
    assert not adata.obsp
    assert not adata.uns
    assert "distances" in changed.obsp


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_channel(value: float) -> None:
    adata = events()
    adata.X[7, 2] = value
    with pytest.raises(ArgumentError, match="FL2-A"):
        cc.pp.neighbors(adata)
    cc.pp.neighbors(adata, markers=["CD0"])


def test_refusals() -> None:
    adata = events(20)
    with pytest.raises(ArgumentError, match="between 2 and the number of events, 20"):
        cc.pp.neighbors(adata, 21)
    with pytest.raises(ArgumentError, match="n_neighbors"):
        cc.pp.neighbors(adata, 1)
    with pytest.raises(ArgumentError, match="metric"):
        cc.pp.neighbors(adata, metric="cosine")
    with pytest.raises(ArgumentError, match=r"not found: \[CD99\]"):
        cc.pp.neighbors(adata, markers=["CD99"])
    with pytest.raises(MissingSlotError, match="X_pca"):
        cc.pp.neighbors(adata, use_rep="X_pca")
    adata.var["marker_class"] = "none"
    with pytest.raises(ArgumentError, match="marker_class"):
        cc.pp.neighbors(adata)
    with pytest.raises(ArgumentError, match="no events"):
        cc.pp.neighbors(adata[:0].copy(), use_rep="X")


def test_constant_channel_changes_nothing() -> None:
    adata, other = events(), events()
    other.X[:, 3] = 2.5
    cc.pp.neighbors(adata, markers=["CD0", "CD1"])
    cc.pp.neighbors(other, markers=["CD0", "CD1", "CD3"])
    np.testing.assert_allclose(
        adata.obsp["distances"].toarray(), other.obsp["distances"].toarray(), rtol=1e-5
    )


def test_whole_range_of_neighbors() -> None:
    adata = events(20)
    cc.pp.neighbors(adata, 20)
    assert adata.obsp["distances"].nnz == 20 * 19


def test_same_on_one_and_two_threads() -> None:
    one, two = events(3000), events(3000)
    cc.pp.neighbors(one, n_jobs=1)
    cc.pp.neighbors(two, n_jobs=2)
    for key in ("distances", "connectivities"):
        assert np.array_equal(one.obsp[key].data, two.obsp[key].data)
        assert np.array_equal(one.obsp[key].indices, two.obsp[key].indices)


@pytest.mark.parametrize("copy", [False, True])
def test_an_interrupt_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, *, copy: bool
) -> None:
    adata = events(3000)
    cc.pp.neighbors(adata, 5)
    before = adata.obsp["distances"].copy(), dict(adata.uns["neighbors"]["params"])
    before_it, calls, query = threads_now(), [], Index.query

    def interrupted(self: Index, *arguments: object, **options: object) -> object:
        calls.append(threads_now())
        if len(calls) == 3:  # in the middle: two parts of the events have their neighbours
            raise KeyboardInterrupt
        return query(self, *arguments, **options)

    monkeypatch.setattr(Index, "query", interrupted)
    monkeypatch.setattr(knn, "CHUNK", 1000)
    with pytest.raises(KeyboardInterrupt):
        cc.pp.neighbors(adata, 9, n_jobs=1, copy=copy)
    assert calls == [1, 1, 1]
    assert threads_now() == before_it
    assert (adata.obsp["distances"] != before[0]).nnz == 0
    assert adata.uns["neighbors"]["params"] == before[1]
    assert set(adata.obsp) == {"distances", "connectivities"}


def test_progress_counts_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    counts: list[int] = []
    X = np.random.default_rng(0).normal(size=(900, 3))
    knn.nearest_neighbors(X, 4, rng=np.random.default_rng(0), progress=counts.append)
    assert sum(counts) == 900
    cc.pp.neighbors(events(), progress=True)
    assert capsys.readouterr().out == ""
