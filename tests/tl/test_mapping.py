from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError, StudyWarning

if TYPE_CHECKING:
    from pathlib import Path


def events(n: int = 1500, *, d: int = 6, seed: int = 0, shift: float = 0.0) -> ad.AnnData:
    """Four populations around fixed centers; the event names are those of the seed."""
    centers = np.random.default_rng(99).normal(scale=3.0, size=(4, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    X = centers[labels] + rng.normal(scale=0.4, size=(n, d)) + shift
    var = pd.DataFrame(
        {"marker_class": "type", "marker": [f"CD{i}" for i in range(d)], "cofactor": 150.0},
        index=[f"C{i}" for i in range(d)],
    )
    obs = pd.DataFrame({"truth": labels, "sample": np.where(np.arange(n) % 2, "a", "b")})
    return ad.AnnData(X.astype(np.float32), obs=obs.set_index(obs.index.astype(str)), var=var)


def analysed(way: str) -> ad.AnnData:
    adata = events()
    if way == "exact":
        cc.pp.neighbors(adata)
        cc.tl.leiden(adata, 0.1)
        cc.tl.umap(adata, n_epochs=50)
    else:
        cc.tl.leiden_sketched(adata, 0.1)
        cc.tl.umap_sketched(adata, n_landmarks=400)
    return adata


@pytest.mark.parametrize("way", ["exact", "sketched"])
def test_later_events_land_in_their_population(way: str, tmp_path: Path) -> None:
    reference = analysed(way)
    reference.write_h5ad(tmp_path / "reference.h5ad")
    kept = ad.read_h5ad(tmp_path / "reference.h5ad")[:0].copy()  # no event is needed
    new = events(800, seed=1)
    assert cc.tl.map_events(new, kept) is None
    names = reference.obs.groupby("truth")["leiden"].agg(lambda labels: labels.mode()[0])
    expected = names.loc[new.obs["truth"]].astype(str).to_numpy()
    assert (new.obs["leiden"].astype(str).to_numpy() == expected).mean() > 0.99
    assert new.obs["leiden"].cat.categories.tolist() == (
        reference.obs["leiden"].cat.categories.tolist()
    )
    centers = pd.DataFrame(reference.obsm["X_umap"]).groupby(reference.obs["truth"].values).mean()
    apart = np.linalg.norm(
        new.obsm["X_umap"][:, None] - centers.to_numpy()[None], axis=2
    )  # each new event is nearest to its own population on the map
    assert (apart.argmin(axis=1) == new.obs["truth"]).mean() > 0.97
    assert new.obs["mapped_far"].mean() < 0.01
    record = new.uns["cytoclust"]["map_events"]
    assert record["n_events"] == 800
    assert record["samples"]["n_events"].sum() == 800


@pytest.mark.parametrize("way", ["exact", "sketched"])
def test_same_answer_for_any_split_order_and_threads(way: str) -> None:
    reference = analysed(way)
    whole = cc.tl.map_events(events(700, seed=2), reference, n_jobs=1, copy=True)
    order = np.random.default_rng(0).permutation(700)
    for chosen in (order, order[:1], np.arange(300, 700)):
        part = events(700, seed=2)[chosen].copy()
        cc.tl.map_events(part, reference, n_jobs=2)
        assert np.array_equal(part.obsm["X_umap"], whole.obsm["X_umap"][chosen])
        for column in ("leiden", "mapped_far"):
            assert part.obs[column].tolist() == whole.obs[column].iloc[chosen].tolist()


def test_the_reference_maps_onto_itself() -> None:
    reference = analysed("sketched")
    again = cc.tl.map_events(events(), reference, copy=True)
    assert np.array_equal(again.obsm["X_umap"], reference.obsm["X_umap"])
    assert (again.obs["leiden"] == reference.obs["leiden"]).mean() > 0.995
    assert again.obs["mapped_far"].mean() <= 0.002


def test_a_population_that_the_reference_lacks_is_far() -> None:
    reference = analysed("sketched")
    new = events(300, seed=3)
    new.X[:30] += 25.0
    with pytest.warns(StudyWarning, match=r"3\d of 300 events"):
        cc.tl.map_events(new, reference)
    assert new.obs["mapped_far"].iloc[:30].all()
    assert new.obs["mapped_far"].iloc[30:].mean() < 0.01
    assert new.uns["cytoclust"]["map_events"]["samples"]["n_far"].sum() >= 30


def test_phenotypes_come_along() -> None:
    def lymphocytes(seed: int) -> ad.AnnData:
        rng = np.random.default_rng(seed)
        values = np.repeat([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]], 300, axis=0)
        adata = ad.AnnData((values + rng.normal(0, 0.5, (900, 3))).astype(np.float32))
        adata.var["marker"] = ["CD3", "CD19", "CD56"]
        adata.var["marker_class"] = "type"
        return adata

    reference, new = lymphocytes(0), lymphocytes(1)
    cc.tl.leiden_sketched(reference, 0.1)
    cc.tl.annotate_phenotypes(reference, "human_lymphoid")
    cc.tl.map_events(new, reference)
    truth = np.repeat(["T cell", "B cell", "NK cell"], 300)
    for column in ("phenotype", "phenotype_cluster"):
        assert (new.obs[column].astype(str).to_numpy() == truth).mean() > 0.98
    assert "X_umap" not in new.obsm
    without_events = lymphocytes(1)
    cc.tl.map_events(without_events, reference[:0])
    assert (without_events.obs["phenotype"] == without_events.obs["phenotype_cluster"]).all()
    new.X[0] = 40.0
    cc.tl.map_events(new, reference)
    assert new.obs["phenotype"].iloc[0] == "unassigned"


def test_what_does_not_match_is_refused() -> None:
    reference = analysed("sketched")
    new = events(50, seed=4)
    with pytest.raises(MissingSlotError, match="keeps no prototypes"):
        cc.tl.map_events(new, events(50))
    with pytest.raises(ArgumentError, match=r"do not have: \[C5\]"):
        cc.tl.map_events(new[:, :5].copy(), reference)
    other = new.copy()
    other.var.loc["C2", "cofactor"] = 5.0
    with pytest.raises(ArgumentError, match="'C2': arcsinh cofactor is 150 in the reference, 5"):
        cc.tl.map_events(other, reference)
    other = new.copy()
    other.var.loc["C3", "marker"] = "CD99"
    with pytest.raises(ArgumentError, match="'C3': the marker is 'CD3' in the reference, 'CD99'"):
        cc.tl.map_events(other, reference)
    other = new.copy()
    other.uns["cytoclust"] = {"arcsinh": {}}
    with pytest.raises(ArgumentError, match="reference was not transformed"):
        cc.tl.map_events(other, reference)
    other = new.copy()
    other.X[3, 1] = np.nan
    with pytest.raises(ArgumentError, match="C1"):
        cc.tl.map_events(other, reference)
    assert list(new.obs) == ["truth", "sample"]
    assert not new.uns


def test_columns_may_come_in_another_order() -> None:
    reference = analysed("sketched")
    new = events(200, seed=5)
    turned = new[:, ::-1].copy()
    cc.tl.map_events(new, reference)
    cc.tl.map_events(turned, reference)
    assert np.array_equal(new.obsm["X_umap"], turned.obsm["X_umap"])
    assert new.obs["leiden"].tolist() == turned.obs["leiden"].tolist()


def test_a_slot_of_obsm_can_be_mapped() -> None:
    reference, new = events(), events(200, seed=6)
    for adata in (reference, new):
        adata.obsm["X_own"] = adata.X[:, :4].copy()
    cc.tl.leiden_sketched(reference, 0.1, use_rep="X_own")
    cc.tl.map_events(new, reference)
    assert new.obs["leiden"].notna().all()
    new.obsm["X_own"] = new.obsm["X_own"][:, :3]
    with pytest.raises(ArgumentError, match="reference's 4 columns"):
        cc.tl.map_events(new, reference)


def test_the_last_clustering_is_the_one_mapped() -> None:
    reference = analysed("exact")
    cc.tl.leiden_sketched(reference, 3.0)
    assert "leiden" not in reference.uns["cytoclust"]
    new = cc.tl.map_events(events(50), reference, copy=True)
    assert new.uns["cytoclust"]["map_events"]["params"]["clustering"] == "leiden_sketched"
