from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_score

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def events(n: int = 1200, d: int = 6) -> ad.AnnData:
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=3.0, size=(5, d))
    labels = rng.integers(5, size=n)
    X = (centers[labels] + rng.normal(scale=0.4, size=(n, d))).astype(np.float32)
    var = pd.DataFrame({"marker_class": ["type"] * d}, index=[f"CD{i}" for i in range(d)])
    obs = pd.DataFrame({"truth": pd.Categorical(labels.astype(str))}, index=map(str, range(n)))
    return ad.AnnData(X, obs=obs, var=var)


def test_umap_separates_populations() -> None:
    adata = events()
    cc.pp.neighbors(adata)
    assert cc.tl.umap(adata, n_epochs=150) is None
    assert adata.obsm["X_umap"].dtype == np.float32
    assert silhouette_score(adata.obsm["X_umap"], adata.obs["truth"]) > 0.6
    assert adata.uns["cytoclust"]["umap"]["params"]["min_dist"] == 0.3


def test_umap_on_other_graphs() -> None:
    adata = events(300)
    cc.pp.neighbors(adata, use_rep="X", key_added="own")
    del adata.uns["own"]["params"]["markers"]
    del adata.uns["own"]["params"]["use_rep"]
    cc.tl.umap(adata, neighbors_key="own", key_added="X_own", n_epochs=20)
    assert adata.obsm["X_own"].shape == (300, 2)
    assert "umap_X_own" in adata.uns["cytoclust"]


def test_sketched_places_every_event() -> None:
    adata = events(4000)
    assert cc.tl.umap_sketched(adata, n_landmarks=500) is None
    points = adata.obsm["X_umap"]
    assert points.shape == (4000, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) > 3950
    assert silhouette_score(points, adata.obs["truth"]) > 0.6
    record = adata.uns["cytoclust"]["umap_sketched"]
    assert record["landmarks"].shape == (500, 6)
    assert record["coordinates"].shape == (500, 2)


@pytest.mark.parametrize("verb", ["umap", "umap_sketched"])
def test_same_on_threads_and_second_run(verb: str) -> None:
    found = []
    for n_jobs in (1, 2, 2):
        adata = events(1500)
        cc.pp.neighbors(adata, n_jobs=n_jobs)
        getattr(cc.tl, verb)(adata, n_jobs=n_jobs)
        found.append(adata.obsm["X_umap"])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[1], found[2])


def test_other_seeds_give_other_layouts() -> None:
    adata = events(300)
    cc.tl.umap_sketched(adata, rng=0)
    first = adata.obsm["X_umap"].copy()
    cc.tl.umap_sketched(adata, rng=1)
    assert not np.array_equal(first, adata.obsm["X_umap"])


def test_records_survive_files_and_scanpy_plots(tmp_path: Path) -> None:
    adata = events(300)
    cc.tl.umap_sketched(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    assert np.array_equal(back.obsm["X_umap"], adata.obsm["X_umap"])
    assert back.uns["cytoclust"]["umap_sketched"]["landmarks"].shape == (300, 6)


def test_copy_leaves_the_data_alone() -> None:
    adata = events(100)
    assert "X_umap" in cc.tl.umap_sketched(adata, copy=True).obsm
    assert not adata.obsm
    assert not adata.uns


def test_refusals() -> None:
    adata = events(50)
    with pytest.raises(MissingSlotError, match=r"pp\.neighbors"):
        cc.tl.umap(adata)
    with pytest.raises(ArgumentError, match="n_landmarks"):
        cc.tl.umap_sketched(adata, n_landmarks=2)
    with pytest.raises(ArgumentError, match="min_dist"):
        cc.tl.umap_sketched(adata, min_dist=2.0)
    with pytest.raises(ArgumentError, match="3 events or more"):
        cc.tl.umap_sketched(adata[:2].copy())
    adata.X[3, 1] = np.nan
    with pytest.raises(ArgumentError, match="CD1"):
        cc.tl.umap_sketched(adata)


def test_progress_counts_every_epoch_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adata, plain = events(60), events(60)
    counts: list[int] = []

    @contextmanager
    def bar(label: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
        assert (label, total, shown) == ("umap", 7, True)
        yield counts.append

    for one in (adata, plain):
        cc.pp.neighbors(one, 5, use_rep="X")
    cc.tl.umap(plain, n_epochs=7, progress=True)
    monkeypatch.setattr("cytoclust.tl.embedding.progress_bar", bar)
    cc.tl.umap(adata, n_epochs=7, progress=True)
    assert counts == [1] * 7
    assert np.array_equal(adata.obsm["X_umap"], plain.obsm["X_umap"])
    assert capsys.readouterr().out == ""
