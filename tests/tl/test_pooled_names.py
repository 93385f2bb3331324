"""Names fitted on a pool of events and given to all of them, block by block."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest

from cytoclust import chunks, schema, tl

MARKERS = [
    "CD3", "CD4", "CD8", "CD19", "CD56", "CCR7", "CD45RA", "CXCR3", "CCR6", "CCR4", "HLA-DR", "CD38",
    "PD-1", "TIM-3", "LAG-3",
]  # fmt: skip
PROFILES: dict[str, dict[str, float]] = {
    "naive": {"CD3": 4.5, "CD4": 4.6, "CCR7": 4, "CD45RA": 4.4},
    "Th1": {"CD3": 4.5, "CD4": 4.6, "CXCR3": 4},
    "Th17": {"CD3": 4.5, "CD4": 4.6, "CCR6": 4, "CCR4": 4},
    "CD8": {"CD3": 4.5, "CD8": 5, "PD-1": 4},
    "exhausted": {"CD3": 4.5, "CD8": 5, "PD-1": 4, "TIM-3": 4, "LAG-3": 4, "HLA-DR": 4, "CD38": 4},
    "B": {"CD19": 4.4, "HLA-DR": 4.6, "CD45RA": 4},
    "NK": {"CD56": 4.2, "CD45RA": 3},
}
POOL = 4000

pytestmark = pytest.mark.slow


def draw(n_events: int = 10_001) -> ad.AnnData:
    """Events of two batches, of which one is stained brighter, some failed and some not finite."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, len(PROFILES), n_events)
    levels = np.array([[p.get(m, 0.3) for m in MARKERS] for p in PROFILES.values()])
    values = levels[kinds] + rng.normal(0, 0.45, (n_events, len(MARKERS)))
    batches = rng.integers(0, 2, n_events)
    values[:, 0] += 0.6 * batches
    adata = ad.AnnData(values.astype(np.float32))
    adata.var_names = MARKERS
    adata.var[schema.MARKER] = MARKERS
    adata.obs["batch"] = pd.Categorical.from_codes(batches, categories=["one", "two"])
    adata.obs["sample"] = pd.Categorical.from_codes(
        np.arange(n_events) % 4, categories=list("abcd")
    )
    # the first cluster mixes populations
    adata.obs["leiden"] = pd.Categorical.from_codes(
        np.maximum(kinds - 1, 0), categories=list("012345")
    )
    adata.obs[schema.QC_PASS] = rng.random(n_events) > 0.05
    adata.X[5, 2] = np.nan
    return adata


def lazily(adata: ad.AnnData, sizes: tuple[int, ...]) -> ad.AnnData:
    values = da.from_array(adata.X, chunks=(sizes, adata.n_vars))
    return ad.AnnData(values, obs=adata.obs.copy(), var=adata.var.copy())


def name(adata: ad.AnnData) -> ad.AnnData:
    tl.call_markers(adata, batch_key="batch")
    tl.annotate_phenotypes(adata)
    tl.subcluster_lineages(adata, 0.2)
    tl.split_mixed(adata, 0.2)
    return adata


def assert_same(found: ad.AnnData, expected: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    for step in ("call_markers", "annotate_phenotypes", "subcluster_lineages", "split_mixed"):
        for key, table in expected.uns["cytoclust"][step].items():
            if isinstance(table, pd.DataFrame):
                pd.testing.assert_frame_equal(
                    found.uns["cytoclust"][step][key], table, check_exact=True
                )


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "POOL_EVENTS", POOL)


@pytest.fixture(scope="module")
def pooled() -> ad.AnnData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "POOL_EVENTS", POOL)
        return name(draw())


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize("sizes", [(10_001,), (1, 4000, 3999, 2001)])
def test_lazy_events_get_the_names_of_those_in_memory(
    pooled: ad.AnnData, sizes: tuple[int, ...]
) -> None:
    assert_same(name(lazily(draw(), sizes)), pooled)


@pytest.mark.usefixtures("small_pool")
def test_blocks_in_memory_change_no_name(
    pooled: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "BLOCK_EVENTS", 3000)
    assert_same(name(draw()), pooled)


def test_pooled_names_are_those_of_a_fit_to_all_events(
    pooled: ad.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "POOL_EVENTS", 20_000)
    whole = name(draw())
    for key in ("phenotype", "phenotype_helper", "phenotype_cluster"):
        same = pooled.obs[key].astype(str) == whole.obs[key].astype(str)
        assert same.mean() >= 0.99, key
    clusters = pooled.uns["cytoclust"]["annotate_phenotypes"]["clusters"]
    assert clusters["n_events"].sum() == pooled.n_obs
    parts = pooled.uns["cytoclust"]["subcluster_lineages"]["clusters"]
    sizes = pooled.obs[schema.LINEAGE_CLUSTER].value_counts(sort=False)
    assert parts["n_events"].tolist() == sizes.tolist()
    assert (
        parts.groupby("lineage", sort=False)["n_events"]
        .apply(lambda n: n.is_monotonic_decreasing)
        .all()
    )


@pytest.mark.usefixtures("small_pool")
def test_stability_of_names_is_told_of_lazy_events(pooled: ad.AnnData) -> None:
    memory = pooled.copy()
    lazy = name(lazily(draw(), (5000, 5001)))
    for adata in (memory, lazy):
        tl.name_stability(adata, n_repeats=1)
    tables = [a.uns["cytoclust"]["annotate_phenotypes"]["clusters"] for a in (memory, lazy)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["stability_samples"].notna().all()


@pytest.mark.usefixtures("small_pool")
def test_workers_in_other_processes_give_the_same_names(pooled: ad.AnnData) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        found = name(lazily(draw(), (4000, 3000, 3001)))
    assert_same(found, pooled)


@pytest.mark.usefixtures("small_pool")
def test_a_mixed_cluster_of_which_the_pool_has_one_event_stays_whole() -> None:
    adata = draw()
    pool = chunks.pool_rows(adata.n_obs)
    beyond = np.setdiff1d(np.arange(adata.n_obs), pool)
    both = [beyond[adata.X[beyond, MARKERS.index(m)] > 3][:20] for m in ("CD19", "CD56")]
    clusters = adata.obs["leiden"].cat.codes.to_numpy().copy()
    clusters[np.concatenate([*both, pool[100:101]])] = 6
    adata.obs["leiden"] = pd.Categorical.from_codes(clusters, categories=list("0123456"))
    tl.annotate_phenotypes(adata)
    assert adata.uns["cytoclust"]["annotate_phenotypes"]["clusters"].loc["6", "mixed"]
    tl.split_mixed(adata, 0.2)
    parts = adata.obs["cluster_split"].astype(str)[clusters == 6]
    assert parts.unique().tolist() == ["6,0"]
