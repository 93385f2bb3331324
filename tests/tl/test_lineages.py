"""Lineages clustered again, mixed clusters taken apart, and how stable names are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import schema, tl
from cytoclust.errors import ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from pathlib import Path

MARKERS = [
    "CD3",
    "CD4",
    "CD8",
    "CD19",
    "CD56",
    "CD16",
    "CD14",
    "CCR7",
    "CD45RA",
    "CD25",
    "CD127",
    "FoxP3",
]
T4 = {"CD3": 4.6, "CD4": 4.6, "CD127": 2.6}
PROFILES: dict[str, tuple[float, dict[str, float]]] = {
    "CD4 naive": (0.25, {**T4, "CCR7": 3.2, "CD45RA": 4.4}),
    "CD4 CM": (0.18, {**T4, "CCR7": 2.8, "CD45RA": 0.9}),
    "CD4 EM": (0.12, {**T4, "CD45RA": 0.9}),
    "effector Treg": (0.01, {"CD3": 4.6, "CD4": 4.6, "CD45RA": 0.9, "CD25": 3.2, "FoxP3": 2.8}),
    "CD8 naive": (0.14, {"CD3": 4.6, "CD8": 5, "CCR7": 3.2, "CD45RA": 4.6, "CD127": 2.6}),
    "CD8 EM": (0.1, {"CD3": 4.6, "CD8": 5, "CD45RA": 0.9, "CD127": 2}),
    "CD56bright NK": (0.005, {"CD56": 6.2, "CD127": 1.5}),
    "CD56dim NK": (0.1, {"CD56": 4.2, "CD16": 5, "CD45RA": 3}),
    "B cell": (0.095, {"CD19": 4.6, "CD45RA": 4.4}),
}  # fmt: skip


def draw(n_events: int, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    shares = np.array([share for share, _ in PROFILES.values()])
    names = rng.choice(list(PROFILES), n_events, p=shares / shares.sum())
    center = np.array([[PROFILES[n][1].get(m, 0.4) for m in MARKERS] for n in names])
    adata = ad.AnnData((center + rng.normal(0, 0.5, center.shape)).astype(np.float32))
    adata.var_names = MARKERS
    adata.var[schema.MARKER] = MARKERS
    adata.var[schema.MARKER_CLASS] = "type"
    adata.obs["truth"] = pd.Categorical(names)
    adata.obs["sample"] = pd.Categorical(rng.choice(["s1", "s2", "s3", "s4"], n_events))
    return adata


@pytest.fixture(scope="module")
def named() -> ad.AnnData:
    adata = draw(20_000)
    lineage = adata.obs["truth"].astype(str)
    adata.obs["leiden"] = pd.Categorical(lineage.replace({"B cell": "B+NK", "CD56dim NK": "B+NK"}))
    tl.annotate_phenotypes(adata)
    return adata


def test_rare_members_are_clusters_of_their_own_at_20_000_events(named: ad.AnnData) -> None:
    adata = tl.subcluster_lineages(named, copy=True)
    assert adata is not None
    table = adata.uns["cytoclust"][schema.SUBCLUSTER_LINEAGES]["clusters"]
    for name in ("effector Treg", "CD56bright NK"):
        truth = (adata.obs["truth"] == name).to_numpy()
        clusters = table.index[table["phenotype"] == name]
        assert len(clusters), table
        found = adata.obs[schema.LINEAGE_CLUSTER].isin(clusters).to_numpy()
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.85
    markers = adata.uns["cytoclust"][schema.SUBCLUSTER_LINEAGES]["markers"]["markers"]
    assert "CD25" in markers["T cell"]
    assert "CD19" not in markers["T cell"]
    assert markers["NK cell"] == "CD56" or "CD56" in markers["NK cell"]


def test_lineage_clusters_do_not_depend_on_threads(named: ad.AnnData) -> None:
    one = tl.subcluster_lineages(named, n_jobs=1, copy=True)
    two = tl.subcluster_lineages(named, n_jobs=2, copy=True)
    assert one is not None
    assert two is not None
    assert one.obs[schema.LINEAGE_CLUSTER].equals(two.obs[schema.LINEAGE_CLUSTER])


def test_mixed_clusters_are_taken_apart(named: ad.AnnData) -> None:
    adata = tl.split_mixed(named, copy=True)
    assert adata is not None
    table = adata.uns["cytoclust"][schema.SPLIT_MIXED]["clusters"]
    parts = table[table.index.str.startswith("B+NK,")]
    assert set(parts["phenotype"]) >= {"B cell", "CD56dim NK"}
    assert (parts["score"] > 0.95).all()
    untouched = adata.obs["leiden"] != "B+NK"
    assert (
        adata.obs.loc[untouched, schema.CLUSTER_SPLIT].astype(str)
        == adata.obs.loc[untouched, "leiden"].astype(str)
    ).all()
    tl.annotate_phenotypes(adata, cluster_key=schema.CLUSTER_SPLIT)
    again = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["clusters"]
    assert (again["mixed"] == "").all()


def test_names_are_stable_and_say_on_which_marker_they_rest(named: ad.AnnData) -> None:
    adata = tl.name_stability(named, max_events=20_000, n_repeats=2, copy=True)
    assert adata is not None
    table = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["clusters"]
    large = table.drop(index=["B+NK", "CD56bright NK"])
    assert (large["stability_samples"] >= 0.99).all()
    assert (large["stability_markers"] >= 0.75).all()
    assert (large["stability_seed"].drop("effector Treg") >= 0.9).all()
    assert large["stability_samples"].notna().all()
    before = named.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["clusters"]
    assert "stability_samples" not in before


def test_errors(named: ad.AnnData) -> None:
    with pytest.raises(ArgumentError, match="lineages must be populations of the definitions"):
        tl.subcluster_lineages(named, lineages=["T cells"], copy=True)
    with pytest.raises(MissingSlotError, match=r"Run tl\.annotate_phenotypes first"):
        tl.subcluster_lineages(draw(100))
    bare = draw(500)
    tl.annotate_phenotypes(bare, cluster_key=None)
    with pytest.raises(MissingSlotError, match="with clusters"):
        tl.split_mixed(bare)
    with pytest.raises(MissingSlotError, match="with clusters"):
        tl.name_stability(bare)


def test_lineage_with_one_marker_is_cut_where_its_groups_part() -> None:
    rng = np.random.default_rng(4)
    memory = rng.random(3000) < 0.3
    center = np.column_stack([np.full(3000, 4.6), np.where(memory, 4.0, 0.4), np.full(3000, 0.4)])
    adata = ad.AnnData((center + rng.normal(0, 0.5, center.shape)).astype(np.float32))
    others = adata.copy()
    others.X = others.X[:, [2, 1, 0]]
    adata = ad.concat([adata, others], index_unique="-")
    adata.var[schema.MARKER] = ["CD19", "CD27", "CD3"]
    tl.annotate_phenotypes(adata, cluster_key=None)
    tl.subcluster_lineages(adata, lineages=["B cell"])
    record = adata.uns["cytoclust"][schema.SUBCLUSTER_LINEAGES]
    assert record["markers"].loc["B cell", "markers"] == "CD27"
    assert record["clusters"]["phenotype"].tolist() == ["naive B", "memory B"]
    labels = adata.obs[schema.LINEAGE_CLUSTER]
    assert labels.cat.categories.tolist() == ["B cell,0", "B cell,1"]
    assert (labels[:3000] == np.where(memory, "B cell,1", "B cell,0")).mean() > 0.99
    assert labels[3000:].isna().mean() > 0.99


def test_large_lineages_go_through_prototypes_and_keep_their_rare_members() -> None:
    adata = draw(140_000, seed=6)
    tl.annotate_phenotypes(adata, cluster_key=None)
    tl.subcluster_lineages(adata, lineages=["T cell"])
    table = adata.uns["cytoclust"][schema.SUBCLUSTER_LINEAGES]["clusters"]
    assert table["n_events"].sum() > 100_000
    clusters = table.index[table["phenotype"] == "effector Treg"]
    found = adata.obs[schema.LINEAGE_CLUSTER].isin(clusters).to_numpy()
    truth = (adata.obs["truth"] == "effector Treg").to_numpy()
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.9


@pytest.mark.parametrize("definitions", ["mouse_basic", "human_leukocyte"])
def test_events_of_no_lineage_stay_without_and_can_be_written(
    definitions: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(0, 0.4, (300, 1)), rng.normal(4, 0.4, (300, 1))]
    adata = ad.AnnData(values.astype(np.float32), obs={"row": [str(i) for i in range(600)]})
    adata.var[schema.MARKER] = ["CD56" if definitions == "mouse_basic" else "CD14"]
    tl.annotate_phenotypes(adata, definitions, cluster_key=None)
    tl.subcluster_lineages(adata)
    assert adata.obs[schema.LINEAGE_CLUSTER].isna().all()
    adata.write_h5ad(tmp_path / "events.h5ad")
    again = ad.read_h5ad(tmp_path / "events.h5ad")
    assert again.obs[schema.LINEAGE_CLUSTER].isna().all()
    assert list(again.uns["cytoclust"][schema.SUBCLUSTER_LINEAGES]["clusters"]) == [
        "lineage", "phenotype", "score", "runner_up", "n_events",
    ]  # fmt: skip


def test_usual_lineages_are_those_that_the_definitions_have(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'schema = 1\nname = "own"\n'
        '[[population]]\nname = "T cell"\nsource = "here"\nneeded = { CD3 = "+" }\n'
    )
    adata = draw(300)
    tl.annotate_phenotypes(adata, own, cluster_key=None)
    tl.subcluster_lineages(adata)
    record = adata.uns["cytoclust"][schema.SUBCLUSTER_LINEAGES]
    assert record["params"]["lineages"] == ["T cell"]
    assert record["clusters"].index.tolist() == ["T cell,0"]


def test_a_lineage_without_events_has_no_cluster() -> None:
    rng = np.random.default_rng(0)
    profiles = np.repeat([[4.0, 4, 0, 0], [4, 0, 4, 0], [0, 0, 0, 4]], 200, axis=0)
    adata = ad.AnnData((profiles + rng.normal(0, 0.4, (600, 4))).astype(np.float32))
    adata.var["marker"] = ["CD3", "CD4", "CD8", "CD19"]
    tl.annotate_phenotypes(adata, "human_lymphoid", cluster_key=None)
    tl.subcluster_lineages(adata, 0.1)
    names = adata.obs["lineage_cluster"].cat.categories
    assert not any(name.startswith("NK cell") for name in names)
    assert (adata.obs["lineage_cluster"].value_counts() > 0).all()
