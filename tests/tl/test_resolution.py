from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.numerics import sketch

if TYPE_CHECKING:
    from pathlib import Path


def events(n: int = 1500, *, d: int = 6, seed: int = 0) -> ad.AnnData:
    """Six populations, two of them close together, of four patients."""
    centers = np.random.default_rng(7).normal(scale=3.0, size=(6, d))
    centers[5] = centers[4] + 0.9
    rng = np.random.default_rng(seed)
    labels = rng.choice(6, size=n, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    X = (centers[labels] + rng.normal(scale=0.4, size=(n, d))).astype(np.float32)
    var = pd.DataFrame({"marker_class": ["type"] * d}, index=[f"CD{i}" for i in range(d)])
    obs = pd.DataFrame({"truth": labels, "patient": [f"p{i % 4}" for i in range(n)]})
    return ad.AnnData(X, obs=obs.set_index(obs.index.astype(str)), var=var)


def test_the_populations_are_what_is_stable() -> None:
    adata = events()
    assert cc.tl.scan_resolutions(adata, n_replicates=10) is None
    record = adata.uns["cytoclust"]["scan_resolutions"]
    table = record["table"].set_index("resolution")
    chosen = record["params"]["resolution"]
    assert table.loc[chosen, "chosen"]
    assert table["chosen"].sum() == 1
    assert table.loc[chosen, "n_clusters"] == 6
    assert table.loc[chosen, "share_stable"] >= 0.75
    assert (table["share_stable"][table.index > chosen] < 0.75).all()
    assert table["jaccard"].iloc[-1] < table["jaccard"].loc[chosen]
    clusters = record["clusters"]
    assert (clusters.groupby("resolution")["n_events"].sum() == adata.n_obs).all()
    for verb in (cc.tl.leiden_sketched, cc.tl.leiden):
        cc.pp.neighbors(adata)
        verb(adata, resolution=None)
        assert adjusted_rand_score(adata.obs["truth"], adata.obs["leiden"]) > 0.95


def test_patients_can_be_left_out() -> None:
    adata = events()
    adata.X[(adata.obs["patient"] == "p3").to_numpy()] += 9.0  # one patient is unlike the others
    cc.tl.scan_resolutions(adata, [0.2, 1.0], n_replicates=3, leave_out_key="patient")
    table = adata.uns["cytoclust"]["scan_resolutions"]["table"]
    assert {"jaccard_left_out", "adjusted_rand_left_out"} <= set(table)
    cc.tl.leiden_sketched(adata, 0.2)
    cc.tl.cluster_stability(adata, n_replicates=3, leave_out_key="patient")
    own = adata.uns["cytoclust"]["cluster_stability"]["table"]
    assert own.index.tolist() == adata.obs["leiden"].cat.categories.tolist()
    assert own["n_events"].tolist() == adata.obs["leiden"].value_counts(sort=False).tolist()
    assert set(own["left_out"]) <= {"p0", "p1", "p2", "p3"}
    assert (own["lowest_left_out"] <= own["jaccard_left_out"] + 1e-12).all()


def test_stability_of_any_clusters() -> None:
    adata = events()
    cc.pp.neighbors(adata)
    cc.tl.leiden(adata, 0.3, key_added="own")
    cc.tl.cluster_stability(adata, cluster_key="own", n_replicates=5)
    record = adata.uns["cytoclust"]["cluster_stability_own"]
    assert record["table"]["stable"].all()
    assert (record["adjusted_rand"] > 0.9).all()
    adata.obs["own"] = pd.Categorical(np.random.default_rng(0).permutation(adata.obs["own"]))
    cc.tl.cluster_stability(adata, cluster_key="own", n_replicates=5)
    assert not adata.uns["cytoclust"]["cluster_stability_own"]["table"]["stable"].any()


def test_same_on_threads_and_after_files(tmp_path: Path) -> None:
    found = []
    for n_jobs in (1, 2):
        adata = events(600)
        cc.tl.scan_resolutions(adata, [0.2, 1.0], n_replicates=3, n_jobs=n_jobs)
        found.append(adata.uns["cytoclust"]["scan_resolutions"])
    for name in ("table", "clusters"):
        pd.testing.assert_frame_equal(found[0][name], found[1][name])
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    cc.tl.leiden_sketched(back, resolution=None)
    assert "leiden" in back.obs
    ax = cc.pl.resolutions(back)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.2", "1"]


def test_prototypes_choose_for_the_exact_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "EXACT_EVENTS", 1000)
    records = []
    for n_jobs in (1, 2):
        adata = events(3000)
        cc.tl.scan_resolutions(adata, leave_out_key="patient", n_replicates=4, n_jobs=n_jobs)
        records.append(adata.uns["cytoclust"]["scan_resolutions"])
    scan = records[0]
    assert (scan["params"]["n_events"], scan["params"]["clustering"]) == (3000, "sketched")
    np.testing.assert_array_equal(scan["labels"], records[1]["labels"])
    pd.testing.assert_frame_equal(scan["table"], records[1]["table"])
    chosen = scan["table"].loc[scan["table"]["chosen"], "n_clusters"].tolist()
    assert chosen == [scan["labels"].max() + 1]
    cc.pp.neighbors(adata)
    for verb in (cc.tl.leiden_sketched, cc.tl.leiden):
        verb(adata, resolution=None)
        found = adata.obs["leiden"].cat.codes.to_numpy()
        assert adjusted_rand_score(scan["labels"], found) > 0.95
        assert adjusted_rand_score(adata.obs["truth"], found) > 0.95


def test_what_was_chosen_on_other_events_is_refused() -> None:
    adata = events(600)
    cc.tl.scan_resolutions(adata, [0.2, 1.0], n_replicates=2)
    with pytest.raises(ArgumentError, match=r"it saw 600 events and there are 500 now\. Run"):
        cc.tl.leiden_sketched(adata[:500].copy(), resolution=None)


def test_the_plot_shows_every_cluster() -> None:
    adata = events(600)
    cc.tl.scan_resolutions(adata, [0.2, 1.0, 4.0], n_replicates=3)
    ax = cc.pl.resolutions(adata)
    record = adata.uns["cytoclust"]["scan_resolutions"]
    points = ax.collections[0].get_offsets()
    assert len(points) == len(record["clusters"])
    np.testing.assert_allclose(points[:, 1], record["clusters"]["jaccard"])
    texts = [text.get_text() for text in ax.texts]
    assert texts == [f"{row.n_stable}/{row.n_clusters}" for row in record["table"].itertuples()]


def test_copy_leaves_the_data_alone() -> None:
    adata = events(200)
    assert cc.tl.scan_resolutions(adata, [1.0], n_replicates=2, copy=True).uns
    assert not adata.uns


def test_refusals() -> None:
    adata = events(100)
    for resolutions in ([0.0], [1.0, -1.0], [float("nan")]):
        with pytest.raises(ArgumentError, match="each of resolutions must be a finite number"):
            cc.tl.scan_resolutions(adata, resolutions)
    with pytest.raises(ArgumentError, match="at least one number"):
        cc.tl.scan_resolutions(adata, [])
    with pytest.raises(ArgumentError, match="n_replicates must be 2 or more; got 1"):
        cc.tl.scan_resolutions(adata, n_replicates=1)
    with pytest.raises(MissingSlotError, match="'donor'"):
        cc.tl.scan_resolutions(adata, leave_out_key="donor")
    adata.obs["one"] = "p0"
    with pytest.raises(ArgumentError, match=r"2 values or more to leave one out; it has \[p0\]"):
        cc.tl.scan_resolutions(adata, leave_out_key="one")
    for verb in (cc.tl.leiden_sketched, cc.tl.leiden):
        with pytest.raises(MissingSlotError, match=r"tl\.scan_resolutions first"):
            verb(adata, resolution=None)
    adata.obs["leiden"] = pd.Categorical(["0"] * 100)
    with pytest.raises(MissingSlotError, match=r"tl\.leiden_sketched first"):
        cc.tl.cluster_stability(adata)
    with pytest.raises(MissingSlotError, match=r"tl\.scan_resolutions first"):
        cc.pl.resolutions(adata)
