"""Names fitted on a pool and given to every event: the same in memory, lazily, and on workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import cytoclust as cc
from cytoclust import chunks
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.phenotype_naming import NameModel, names_of
from cytoclust.tl.phenotype_panel import passed_events, read_panel, usable_rows
from cytoclust.tl.phenotype_walk import Walk

if TYPE_CHECKING:
    from anndata import AnnData

pytestmark = pytest.mark.filterwarnings("ignore:.*channels are not used to name cells")
COLUMNS = (
    "phenotype", "phenotype_cluster", "phenotype_far", "phenotype_helper", "phenotype_activation", "exhaustion_grade",
    "lineage_cluster", "cluster_split",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> AnnData:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(folder, n_patients=3, events_per_sample=(2000, 2500), rng=1)
    adata = cc.io.read_study(folder / "samples.csv", folder / "panel.csv", layer_raw=False)
    cc.pp.flag_margins(adata)
    cc.pp.flag_doublets(adata)
    cc.pp.flag_dead(adata)
    cc.pp.filter_events(adata)
    cc.pp.compensate(adata)
    cc.pp.arcsinh(adata)
    cc.tl.leiden_sketched(adata)
    return adata


def lazy(adata: AnnData, rows: int) -> AnnData:
    found = ad.AnnData(
        np.zeros((0, adata.n_vars), np.float32), var=adata.var.copy(), uns=adata.uns.copy()
    )
    values = da.from_array(adata.X, chunks=(rows, adata.n_vars))
    chunks.put_events(found, adata.obs.copy(), values=values, layers={})
    return found


def named(adata: AnnData) -> AnnData:
    cc.tl.call_markers(adata, compartment_key="compartment", batch_key="batch")
    cc.tl.annotate_phenotypes(adata, ("human_leukocyte", "b_all"))
    cc.tl.subcluster_lineages(adata)
    cc.tl.split_mixed(adata)
    return adata


def assert_same_names(found: AnnData, expected: AnnData) -> None:
    for name in COLUMNS:
        if name in expected.obs:
            pd.testing.assert_series_equal(
                found.obs[name].reset_index(drop=True), expected.obs[name].reset_index(drop=True)
            )
    for step in ("call_markers", "annotate_phenotypes", "subcluster_lineages", "split_mixed"):
        tables = {
            k: v for k, v in expected.uns["cytoclust"][step].items() if isinstance(v, pd.DataFrame)
        }
        for key, table in tables.items():
            pd.testing.assert_frame_equal(
                found.uns["cytoclust"][step][key], table, obj=f"{step}/{key}"
            )


@pytest.fixture(scope="module")
def whole(prepared: AnnData) -> AnnData:
    return named(prepared.copy())


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "POOL_EVENTS", 9000)


@pytest.mark.slow
def test_a_lazy_study_is_named_as_in_memory(prepared: AnnData, whole: AnnData) -> None:
    assert_same_names(named(lazy(prepared, 5001)), whole)


@pytest.mark.slow
@pytest.mark.usefixtures("small_pool")
def test_pooled_names_do_not_depend_on_where_the_events_are(
    prepared: AnnData, whole: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = named(prepared.copy())
    assert_same_names(named(lazy(prepared, 5001)), expected)
    monkeypatch.setattr(chunks, "BLOCK_EVENTS", 3000)
    assert_same_names(named(prepared.copy()), expected)
    same = expected.obs["phenotype"].astype(str) == whole.obs["phenotype"].astype(str)
    assert same.mean() > 0.97  # the pool is a sixth of the events
    table = expected.uns["cytoclust"]["annotate_phenotypes"]["clusters"]
    sizes = expected.obs["leiden"].value_counts()
    assert table["n_events"].to_dict() == sizes.loc[table.index].to_dict()


@pytest.mark.slow
@pytest.mark.usefixtures("small_pool")
def test_workers_name_events_as_in_memory(prepared: AnnData) -> None:
    expected = named(prepared.copy())
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        assert_same_names(named(lazy(prepared, 4000)), expected)


def test_the_nodes_name_the_walks_own_events_as_the_walk_did(prepared: AnnData) -> None:
    definitions = load_definitions(("human_leukocyte", "b_all"))
    panel = read_panel(prepared).with_axes(definitions.axes)
    walk = Walk(
        definitions, panel, rows=usable_rows(prepared, panel), given={}, min_probability=0.5
    )
    walk.run()
    expected = names_of(walk)
    model = NameModel(definitions, panel.emptied(), walk.nodes, walk.grades, 0.5)
    found = model(prepared.X, passed_events(prepared))
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.far, expected.far)
    assert found.members == expected.members
    for name, facet in expected.facets.items():
        np.testing.assert_array_equal(found.facets[name].codes, facet.codes)
        assert found.facets[name].members == facet.members
    for name, grade in expected.grades.items():
        np.testing.assert_array_equal(found.grades[name].counts, grade.counts)
        assert (found.grades[name].pairs is None) == (grade.pairs is None)
    assert len(np.unique(found.codes)) > 15
