"""Marker levels: given, recorded and taken over, and differences between compartments."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import schema, tl
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.tl.marker_levels import alignment
from cytoclust.tl.phenotype_panel import read_panel

MARKERS = ["CD3", "CD19", "CD14", "CD56", "CD4", "CD8", "CD45", "CD25"]
PROFILES = {
    "CD4 T": {"CD3": 4.5, "CD4": 4.6},
    "CD8 T": {"CD3": 4.5, "CD8": 5.0},
    "B cell": {"CD19": 4.4},
    "NK cell": {"CD56": 4.2},
    "monocyte": {"CD14": 5.0, "CD4": 2.2},
}


def draw(seed: int = 0, *, n_events: int = 800) -> ad.AnnData:
    """Five populations of equal size in two compartments."""
    rng = np.random.default_rng(seed)
    names = np.repeat(list(PROFILES), n_events)
    center = np.array(
        [[PROFILES[n].get(m, 5.0 if m == "CD45" else 0.3) for m in MARKERS] for n in names]
    )
    adata = ad.AnnData((center + rng.normal(0, 0.45, center.shape)).astype(np.float32))
    adata.var_names = [f"ch{i}" for i in range(len(MARKERS))]
    adata.var[schema.MARKER] = MARKERS
    adata.obs["truth"] = pd.Categorical(names)
    adata.obs["compartment"] = pd.Categorical(np.where(np.arange(len(names)) % 2, "BM", "PB"))
    adata.obs["batch"] = pd.Categorical(np.where(np.arange(len(names)) % 4 < 2, "a", "b"))
    return adata  # fmt: skip


def cutoffs(adata: ad.AnnData) -> pd.DataFrame:
    return adata.uns["cytoclust"][schema.CALL_MARKERS]["cutoffs"]


def test_empty_and_unimodal_markers_are_uninformative() -> None:
    adata = draw()
    tl.call_markers(adata)
    table = cutoffs(adata).set_index("marker")
    assert table.loc["CD25", "status"] == "all_negative"
    assert table.loc["CD45", "status"] == "all_positive"
    assert not table.loc[["CD25", "CD45"], "informative"].any()
    assert table.loc[["CD25", "CD45"], "cut_positive"].isna().all()
    assert table.loc[["CD3", "CD19", "CD14", "CD56"], "cut_positive"].between(1.2, 3.6).all()


@pytest.mark.parametrize("n_events", [500, 30_000])
def test_any_cofactor_gives_the_same_calls(n_events: int) -> None:
    adata = draw(1, n_events=n_events // 5)
    linear = 150 * np.sinh(adata.X)
    calls = []
    for cofactor in (50, 150, 400):
        again = adata.copy()
        again.X = np.arcsinh(linear / cofactor).astype(np.float32)
        tl.call_markers(again)
        cut = float(cutoffs(again).set_index("marker").loc["CD3", "cut_positive"])
        calls.append(again.X[:, 0] > cut)
    truth = adata.obs["truth"].isin(["CD4 T", "CD8 T"]).to_numpy()
    assert min(np.mean(call == truth) for call in calls) > 0.995


def test_brighter_staining_of_a_compartment_has_rows_of_its_own_and_is_taken_off() -> None:
    adata = draw(2)
    adata.X[:, 0] -= 1.3  # CD3 dim enough for the shift to matter
    marrow = (adata.obs["compartment"] == "BM").to_numpy()
    adata.X[marrow, 0] += np.float32(1.2)
    tl.call_markers(adata, compartment_key="compartment")
    table = cutoffs(adata)
    assert set(table.loc[table["compartment"] != "all", "marker"]) <= {"CD3"}
    tl.annotate_phenotypes(adata, cluster_key=None)
    found = adata.obs[schema.PHENOTYPE].astype(str)
    assert (found == adata.obs["truth"].astype(str)).mean() > 0.97


def test_compartment_and_batch_are_crossed() -> None:
    adata = draw(3)
    one = ((adata.obs["compartment"] == "BM") & (adata.obs["batch"] == "b")).to_numpy()
    adata.X[one, MARKERS.index("CD14")] += np.float32(2.5)
    tl.call_markers(adata, compartment_key="compartment", batch_key="batch")
    own = cutoffs(adata)
    own = own[own["compartment"] != "all"]
    assert "BM / b" in set(own.loc[own["marker"] == "CD14", "compartment"])
    with pytest.raises(MissingSlotError, match=r"obs\['centre'\] not found"):
        tl.call_markers(adata, batch_key="centre")


def test_recorded_cutoffs_are_used_on_later_samples() -> None:
    first, later = draw(4), draw(5, n_events=100)
    tl.call_markers(first, cutoffs={"CD3": 2.2})
    table = cutoffs(first)
    tl.call_markers(later, cutoffs=table)
    again = cutoffs(later)
    assert (again["method"] == "recorded").all()
    np.testing.assert_array_equal(
        again.set_index("marker")["cut_positive"], table.set_index("marker")["cut_positive"]
    )
    tl.annotate_phenotypes(first, cluster_key=None)
    used = first.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["cutoffs"]
    tl.annotate_phenotypes(later, cluster_key=None, cutoffs=used)
    later_used = later.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["cutoffs"]
    row = later_used[(later_used["marker"] == "CD4") & (later_used["parent"] == "T cell")].iloc[0]
    before = used[(used["marker"] == "CD4") & (used["parent"] == "T cell")].iloc[0]
    assert row["method"] == "given"
    assert row["cut_positive"] == pytest.approx(before["cut_positive"])
    assert (later.obs[schema.PHENOTYPE].astype(str) == later.obs["truth"].astype(str)).mean() > 0.97


def test_a_table_that_was_not_recorded_is_refused() -> None:
    with pytest.raises(ArgumentError, match="must be one that call_markers recorded"):
        tl.call_markers(draw(), cutoffs=pd.DataFrame({"marker": ["CD3"]}))
    with pytest.raises(ArgumentError, match="must be one that annotate_phenotypes recorded"):
        tl.annotate_phenotypes(draw(), cluster_key=None, cutoffs=pd.DataFrame({"marker": ["CD3"]}))


@pytest.mark.parametrize(("moved", "aligned"), [(0.6, True), (3.3, False)])
def test_a_cut_at_another_dent_is_no_shift_of_the_staining(moved: float, *, aligned: bool) -> None:
    # pDC in one compartment draw the CD123 cut between dim and bright: nothing was stained brighter
    rng = np.random.default_rng(0)
    values = np.where(rng.random((4000, 3)) < 0.4, 4.0, 0.3) + rng.normal(0, 0.4, (4000, 3))
    adata = ad.AnnData(values.astype(np.float32))
    adata.var["marker"] = ["CD123", "CD3", "CD19"]
    adata.obs["compartment"] = np.repeat(["PB", "BM"], 2000)
    tl.call_markers(adata, compartment_key="compartment")
    record = adata.uns["cytoclust"]["call_markers"]
    row = record["cutoffs"].query("marker == 'CD123' and compartment == 'all'").copy()
    row[["cut_positive", "high_mean"]] += moved
    row["compartment"] = "BM"
    record["cutoffs"] = pd.concat([record["cutoffs"], row], ignore_index=True)
    shifts = alignment(adata, read_panel(adata)).get("shifts", {})
    assert ("CD123" in shifts) == aligned
