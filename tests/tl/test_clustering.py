from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.numerics import threads

if TYPE_CHECKING:
    from pathlib import Path


def threads_now() -> int:
    return int(threads.numba.get_num_threads())


def events(n: int = 1500, d: int = 6, *, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    centers = rng.normal(scale=3.0, size=(5, d))
    labels = rng.choice(5, size=n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    X = (centers[labels] + rng.normal(scale=0.4, size=(n, d))).astype(np.float32)
    var = pd.DataFrame({"marker_class": ["type"] * d}, index=[f"CD{i}" for i in range(d)])
    obs = pd.DataFrame({"truth": pd.Categorical(labels.astype(str))}, index=map(str, range(n)))
    return ad.AnnData(X, obs=obs, var=var)


@pytest.mark.parametrize("flavor", ["cytoclust", "igraph", "leidenalg"])
def test_leiden_finds_the_populations(flavor: str) -> None:
    adata = events()
    cc.pp.neighbors(adata)
    assert cc.tl.leiden(adata, 0.2, flavor=flavor, key_added="found") is None
    column = adata.obs["found"]
    assert isinstance(column.dtype, pd.CategoricalDtype)
    assert column.cat.categories.tolist() == [str(i) for i in range(5)]
    assert (np.diff(column.value_counts(sort=False).to_numpy()) <= 0).all()
    assert adjusted_rand_score(adata.obs["truth"], column) > 0.98
    record = adata.uns["cytoclust"]["leiden_found"]
    assert record["params"]["flavor"] == flavor
    assert 0 < record["modularity"] < 1


# scanpy reads X as logarithms of counts; its fold changes of other values may not exist
@pytest.mark.filterwarnings("ignore:invalid value encountered in log2:RuntimeWarning")
def test_scanpy_ranks_the_clusters() -> None:
    sc = pytest.importorskip("scanpy")
    adata = events(300)
    cc.pp.neighbors(adata)
    cc.tl.leiden(adata, 0.2)
    assert adata.obs["leiden"].nunique() == 5
    sc.tl.rank_genes_groups(adata, "leiden", method="t-test")
    assert "rank_genes_groups" in adata.uns


def test_more_resolution_gives_more_clusters() -> None:
    adata = events()
    cc.pp.neighbors(adata)
    counts = []
    for resolution in (0.1, 1.0, 5.0):
        cc.tl.leiden(adata, resolution)
        counts.append(adata.obs["leiden"].nunique())
    assert counts[0] < counts[1] < counts[2]


def test_sketched_labels_every_event() -> None:
    adata = events(6000)
    assert cc.tl.leiden_sketched(adata, 0.2) is None
    assert adata.obs["leiden"].notna().all()
    assert adjusted_rand_score(adata.obs["truth"], adata.obs["leiden"]) > 0.98
    record = adata.uns["cytoclust"]["leiden_sketched"]
    assert record["prototypes"].shape == (record["params"]["n_prototypes"], 6)
    assert record["sizes"].sum() == 6000
    sizes = np.bincount(record["labels"], weights=record["sizes"])
    moved = sizes - adata.obs["leiden"].value_counts(sort=False).to_numpy()
    assert abs(moved).sum() <= 0.01 * 6000  # border events go with their neighbours


def test_few_events_are_their_own_prototypes() -> None:
    adata = events(300)
    cc.tl.leiden_sketched(adata, 0.2)
    cc.pp.neighbors(adata)
    cc.tl.leiden(adata, 0.2, key_added="exact")
    assert adjusted_rand_score(adata.obs["exact"], adata.obs["leiden"]) > 0.99


@pytest.mark.parametrize("verb", ["leiden", "leiden_sketched"])
def test_same_on_threads_and_second_run(verb: str) -> None:
    labels = []
    for n_jobs in (1, 2, 2):
        adata = events(3000)
        cc.pp.neighbors(adata, n_jobs=n_jobs)
        getattr(cc.tl, verb)(adata, n_jobs=n_jobs)
        labels.append(adata.obs["leiden"].cat.codes.to_numpy())
    assert np.array_equal(labels[0], labels[1])
    assert np.array_equal(labels[1], labels[2])


def test_copy_leaves_the_data_alone() -> None:
    adata = events(300)
    assert "leiden" in cc.tl.leiden_sketched(adata, copy=True).obs
    assert list(adata.obs) == ["truth"]
    assert not adata.uns


def test_results_survive_files(tmp_path: Path) -> None:
    adata = events(400)
    cc.pp.neighbors(adata)
    cc.tl.leiden(adata)
    cc.tl.leiden_sketched(adata, key_added="sketched")
    cc.tl.subcluster(adata, restrict_to=("leiden", ["0", "1"]))
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    for column in ("leiden", "sketched", "subcluster"):
        assert back.obs[column].astype(str).tolist() == adata.obs[column].astype(str).tolist()
    record = back.uns["cytoclust"]["leiden_sketched_sketched"]
    assert record["prototypes"].dtype == np.float32
    cc.tl.leiden(back)
    assert back.obs["leiden"].tolist() == adata.obs["leiden"].tolist()


def test_subcluster_of_values_keeps_the_others() -> None:
    adata = events()
    adata.obs["lineage"] = pd.Categorical(
        np.where(adata.obs["truth"].isin(["0", "1"]), "T cell", "other")
    )
    cc.tl.subcluster(adata, 0.1, restrict_to=("lineage", "T cell"), key_added="deep")
    inside = (adata.obs["lineage"] == "T cell").to_numpy()
    assert set(adata.obs["deep"][~inside]) == {"other"}
    assert set(adata.obs["deep"][inside]) == {"T cell,0", "T cell,1"}
    assert adjusted_rand_score(adata.obs["truth"][inside], adata.obs["deep"][inside]) > 0.98
    assert adata.uns["cytoclust"]["subcluster_deep"]["params"]["clustering"] == "exact"


def test_subcluster_of_a_mask_has_no_label_outside() -> None:
    adata = events()
    mask = adata.obs["truth"].isin(["0", "1", "2"]).to_numpy()
    cc.tl.subcluster(adata, 0.1, mask=mask, markers=["CD0", "CD1", "CD2"])
    assert adata.obs["subcluster"].isna().tolist() == (~mask).tolist()
    assert adata.obs["subcluster"].cat.categories[0] == "0"


def test_subcluster_ignores_missing_labels() -> None:
    adata = events()
    column = adata.obs["truth"].astype(object)
    column[:5] = None
    adata.obs["partial"] = pd.Categorical(column)
    cc.tl.subcluster(adata, 0.1, restrict_to=("partial", ["0", "1"]))
    assert adata.obs["subcluster"][:5].isna().all()
    assert adata.obs["subcluster"][5:].notna().all()


def test_refusals() -> None:
    adata = events(50)
    with pytest.raises(MissingSlotError, match=r"pp\.neighbors"):
        cc.tl.leiden(adata)
    with pytest.raises(ArgumentError, match="resolution"):
        cc.tl.leiden_sketched(adata, 0)
    with pytest.raises(ArgumentError, match="n_prototypes"):
        cc.tl.leiden_sketched(adata, n_prototypes=0)
    with pytest.raises(ArgumentError, match="n_neighbors"):
        cc.tl.leiden_sketched(adata, n_neighbors=1)
    with pytest.raises(ArgumentError, match="3 events or more; got 2"):
        cc.tl.leiden_sketched(adata[:2].copy())
    cc.pp.neighbors(adata)
    with pytest.raises(ArgumentError, match="flavor"):
        cc.tl.leiden(adata, flavor="louvain")
    with pytest.raises(ArgumentError, match="resolution"):
        cc.tl.leiden(adata, -1.0)
    with pytest.raises(ArgumentError, match="without '/'"):
        cc.tl.leiden(adata, key_added="a/b")


def test_subcluster_refusals() -> None:
    adata = events(50)
    with pytest.raises(ArgumentError, match="either restrict_to"):
        cc.tl.subcluster(adata)
    with pytest.raises(MissingSlotError, match="nothing"):
        cc.tl.subcluster(adata, restrict_to=("nothing", ["0"]))
    with pytest.raises(ArgumentError, match="no events with"):
        cc.tl.subcluster(adata, restrict_to=("truth", ["9"]))
    with pytest.raises(ArgumentError, match="mask must be bool"):
        cc.tl.subcluster(adata, mask=np.ones(3, dtype=bool))
    with pytest.raises(ArgumentError, match="3 events or more"):
        cc.tl.subcluster(adata, mask=np.zeros(50, dtype=bool))


@pytest.mark.slow
def test_sketch_agrees_with_gates_as_well_as_the_exact_graph(shared: Path) -> None:
    folder = shared / "data" / "pbmc_cytomem"
    if not folder.is_dir():
        pytest.skip("gated sets not found")
    table = pd.read_parquet(folder / "events.parquet")
    markers = [name for name in table if table[name].dtype == "float32"]
    values = np.arcsinh(table[markers].to_numpy() / 15).astype(np.float32)
    adata = ad.AnnData(values, obs=pd.DataFrame(index=map(str, range(len(table)))))
    gates = table["label"].to_numpy()
    cc.pp.neighbors(adata, use_rep="X")
    cc.tl.leiden(adata, key_added="exact")
    sketched = []
    for seed in range(3):  # which neighbouring clusters are split differs from seed to seed
        cc.tl.leiden_sketched(adata, use_rep="X", key_added="sketched", rng=seed)
        sketched.append(mean_f1(gates, adata.obs["sketched"]))
    exact = mean_f1(gates, adata.obs["exact"])
    assert exact > 0.7
    assert np.mean(sketched) > exact - 0.05


def mean_f1(gates: np.ndarray, clusters: pd.Series) -> float:
    """Mean F1 over gates, each matched with one cluster (Weber & Robinson 2016)."""
    from scipy.optimize import linear_sum_assignment

    table = pd.crosstab(gates, clusters.to_numpy()).to_numpy()
    sums = table.sum(axis=0, keepdims=True) + table.sum(axis=1, keepdims=True)
    f1 = 2 * table / sums
    chosen = linear_sum_assignment(-f1)
    return float(f1[chosen].sum() / len(table))


@pytest.mark.parametrize("flavor", ["cytoclust", "igraph", "leidenalg"])
def test_constant_potts_model(flavor: str) -> None:
    adata = events()
    cc.pp.neighbors(adata)
    cc.tl.leiden(adata, 0.0005, objective="cpm", flavor=flavor)
    assert adjusted_rand_score(adata.obs["truth"], adata.obs["leiden"]) > 0.98
    assert adata.uns["cytoclust"]["leiden"]["params"]["objective"] == "cpm"
    with pytest.raises(ArgumentError, match="objective"):
        cc.tl.leiden(adata, objective="potts")


def test_an_interrupt_of_leiden_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cytoclust.numerics import leiden as kernels

    adata = events()
    cc.pp.neighbors(adata)
    before_it = threads_now()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernels, "aggregate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cc.tl.leiden(adata, n_jobs=1)
    assert "leiden" not in adata.obs
    assert "cytoclust" not in adata.uns
    assert threads_now() == before_it
