"""Tables out of an AnnData against plain pandas."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from cytoclust import get, schema
from cytoclust.errors import ArgumentError, MissingSlotError, StudyError


@pytest.fixture
def adata() -> anndata.AnnData:
    rng = np.random.default_rng(0)
    n = 400
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(rng.choice(["s2", "s1"], n), categories=["s2", "s1", "empty"]),
            "phenotype": pd.Categorical(
                rng.choice(["Treg", "CD8 T", "unassigned", "T cell"], n),
                categories=["Treg", "CD8 T", "T cell", "mDC", "unassigned"],
            ),
        },
        index=[str(i) for i in range(n)],
    )
    obs["visit"] = obs["sample"].map({"s2": "d0", "s1": "d7", "empty": "d7"}).astype("category")
    var = pd.DataFrame(
        {"marker": ["CD4", "PD-1"], "marker_class": ["type", "state"]}, index=["V1-A", "V2-A"]
    )
    data = anndata.AnnData(rng.normal(size=(n, 2)).astype(np.float32), obs=obs, var=var)
    data.uns[schema.UNS] = {
        "samples": pd.DataFrame(
            {"visit": ["d0", "d7", "d7"]}, index=pd.Index(["s2", "s1", "empty"], name="sample")
        ),
        "annotate_phenotypes": {
            "hierarchy": pd.DataFrame(
                {"parent": ["T cell", "T cell", "", ""]}, index=["Treg", "CD8 T", "T cell", "mDC"]
            )
        },
    }
    return data


def test_counts_are_cross_tabulated_in_sheet_order(adata: anndata.AnnData) -> None:
    table = get.counts(adata)
    assert list(table.columns) == ["s2", "s1", "empty"]
    assert list(table.index) == ["Treg", "CD8 T", "T cell", "mDC", "unassigned"]
    assert table["empty"].sum() == 0
    assert table.loc["mDC"].sum() == 0
    assert all(pd.api.types.is_integer_dtype(kind) for kind in table.dtypes)
    expected = pd.crosstab(adata.obs["phenotype"].astype(str), adata.obs["sample"].astype(str))
    for population in expected.index:
        assert table.loc[population, ["s1", "s2"]].tolist() == expected.loc[population].tolist()
    assert table.to_numpy().sum() == adata.n_obs


def test_counts_with_parents_sum_everything_below(adata: anndata.AnnData) -> None:
    plain, table = get.counts(adata), get.counts(adata, parents=True)
    together = plain.loc[["Treg", "CD8 T", "T cell"]].sum()
    assert table.loc["T cell"].tolist() == together.tolist()
    assert table.loc["Treg"].tolist() == plain.loc["Treg"].tolist()


def test_events_without_population_are_unassigned(adata: anndata.AnnData) -> None:
    adata.obs["leiden"] = pd.Categorical(["0"] * 300 + [None] * 100)
    table = get.counts(adata, "leiden")
    assert table.loc["unassigned"].sum() == 100
    assert table.to_numpy().sum() == adata.n_obs


def test_text_columns_count_like_categories(adata: anndata.AnnData) -> None:
    expected = get.counts(adata)
    adata.obs["phenotype"] = adata.obs["phenotype"].astype(str)
    adata.obs["sample"] = adata.obs["sample"].astype(str)
    table = get.counts(adata)
    for population in table.index:
        assert table.loc[population].tolist() == expected.loc[population].tolist()


def test_event_of_an_unknown_sample_is_refused(adata: anndata.AnnData) -> None:
    adata.obs["sample"] = adata.obs["sample"].cat.rename_categories({"s1": "s9"})
    with pytest.raises(StudyError, match=r"events have \[s9\]"):
        get.counts(adata)


def test_missing_column_is_named(adata: anndata.AnnData) -> None:
    with pytest.raises(MissingSlotError, match=r"obs\['cluster'\] not found"):
        get.counts(adata, "cluster")


def test_proportions(adata: anndata.AnnData) -> None:
    table = get.proportions(adata)
    np.testing.assert_allclose(table[["s1", "s2"]].sum(), 1.0)
    assert table["empty"].isna().all()
    of_parent = get.proportions(adata, of="parent")
    direct = get.counts(adata)
    above = direct.loc[["Treg", "CD8 T", "T cell"]].sum()
    assert of_parent.loc["Treg", "s1"] == pytest.approx(direct.loc["Treg", "s1"] / above["s1"])
    assert of_parent.loc["T cell", "s1"] == pytest.approx(above["s1"] / direct["s1"].sum())
    with pytest.raises(ArgumentError, match="of must be one of"):
        get.proportions(adata, of="grandparent")  # type: ignore[arg-type]


def test_medians_against_pandas(adata: anndata.AnnData) -> None:
    table = get.medians(adata, min_events=10)
    assert list(table.columns) == ["sample", "population", "marker", "median", "n_events"]
    assert len(table) == 3 * 5
    frame = adata.obs.assign(value=adata.X[:, 1])
    for row in table.itertuples():
        values = frame.loc[
            (frame["sample"] == row.sample) & (frame["phenotype"] == row.population), "value"
        ]
        assert row.n_events == len(values)
        if len(values) >= 10:
            assert row.median == pytest.approx(np.median(values), rel=1e-6)
        else:
            assert np.isnan(row.median)


def test_medians_of_named_markers(adata: anndata.AnnData) -> None:
    table = get.medians(adata, markers=["CD4", "V2-A"], min_events=10_000)
    assert list(dict.fromkeys(table["marker"])) == ["CD4", "V2-A"]
    assert table["median"].isna().all()
    with pytest.raises(ArgumentError, match="marker 'CD99' not found"):
        get.medians(adata, markers=["CD99"])


def test_sample_table_without_a_sheet(adata: anndata.AnnData) -> None:
    recorded = get.sample_table(adata)
    del adata.uns[schema.UNS]["samples"]
    built = get.sample_table(adata)
    assert list(built.index) == list(recorded.index)
    assert list(built.columns) == ["visit"]
    assert built.loc["s1", "visit"] == "d7"
    assert pd.isna(built.loc["empty", "visit"])
