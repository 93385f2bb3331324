"""Further names of named cells, exhaustion grades, residual populations, mixed clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import schema, tl

if TYPE_CHECKING:
    from pathlib import Path

MARKERS = [
    "CD3", "CD4", "CD8", "CD19", "CD56", "CD14", "CCR7", "CD45RA", "CXCR3", "CCR6", "CCR4", "HLA-DR",
    "CD38", "PD-1", "TIM-3", "LAG-3", "TIGIT", "CD39",
]  # fmt: skip
T4 = {"CD3": 4.5, "CD4": 4.6}
MEMORY = {**T4, "CCR7": 0.3}
PROFILES: dict[str, dict[str, float]] = {
    "naive": {**T4, "CCR7": 4, "CD45RA": 4.4},
    "Th1": {**MEMORY, "CXCR3": 4},
    "Th2": {**MEMORY, "CCR4": 4},
    "Th17": {**MEMORY, "CCR6": 4, "CCR4": 4},
    "Th1-17": {**MEMORY, "CCR6": 4, "CXCR3": 4},
    "activated": {**MEMORY, "HLA-DR": 4.4, "CD38": 4.4, "CXCR3": 4},
    "grade 1": {"CD3": 4.5, "CD8": 5, "PD-1": 4},
    "grade 3": {"CD3": 4.5, "CD8": 5, "PD-1": 4, "TIM-3": 4, "LAG-3": 4},
    "grade 5": {"CD3": 4.5, "CD8": 5, "PD-1": 4, "TIM-3": 4, "LAG-3": 4, "TIGIT": 4, "CD39": 4},
    "B": {"CD19": 4.4, "HLA-DR": 4.6, "CD45RA": 4},
    "NK": {"CD56": 4.2, "CD45RA": 3},
}


def draw(seed: int = 0, n_events: int = 500) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    names = np.repeat(list(PROFILES), n_events)
    center = np.array([[PROFILES[name].get(m, 0.3) for m in MARKERS] for name in names])
    adata = ad.AnnData((center + rng.normal(0, 0.45, center.shape)).astype(np.float32))
    adata.var_names = MARKERS
    adata.var[schema.MARKER] = MARKERS
    adata.var[schema.MARKER_CLASS] = "type"
    adata.obs["truth"] = pd.Categorical(names)
    return adata


@pytest.fixture(scope="module")
def named() -> ad.AnnData:
    adata = draw()
    tl.annotate_phenotypes(adata, cluster_key="truth")
    return adata


def test_helper_types_are_named_beside_the_lineage(named: ad.AnnData) -> None:
    truth = named.obs["truth"].astype(str)
    helper = named.obs["phenotype_helper"].astype(str)
    for name in ("Th1", "Th2", "Th17", "Th1-17"):
        assert (helper[truth == name] == name).mean() > 0.95
        assert (named.obs[schema.PHENOTYPE][truth == name] == "CD4 EM").mean() > 0.95
    assert (helper[truth.isin(["naive", "B", "NK", "grade 1"])] == schema.UNASSIGNED).mean() > 0.98
    activation = named.obs["phenotype_activation"].astype(str)
    assert (activation[truth == "activated"] == "CD4 activated").mean() > 0.95
    assert (helper[truth == "activated"] == "Th1").mean() > 0.95
    rules = named.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["rules"]
    assert rules.loc["Th1", "facet"] == "helper"
    assert rules.loc["Tfh", "status"] == "fell back to parent"
    assert "CXCR5 not measured" in rules.loc["Tfh", "reason"]
    assert "Th1" not in named.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["hierarchy"].index


def test_exhaustion_is_graded_by_the_markers_that_are_positive(named: ad.AnnData) -> None:
    grade = named.obs["exhaustion_grade"]
    truth = named.obs["truth"].astype(str)
    for expected in (1, 3, 5):
        assert (grade[truth == f"grade {expected}"] == expected).mean() > 0.9
    assert (grade[truth.isin(["naive", "B", "NK"])] == -1).mean() > 0.98
    record = named.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]
    table = record["exhaustion_grades"]
    graded = table.loc["CD8 EM", "share_exhausted"] if "CD8 EM" in table.index else None
    assert graded == pytest.approx(2 / 3, abs=0.03)
    assert table.loc["CD8 EM", "share_PD-1_TIM-3"] == pytest.approx(2 / 3, abs=0.03)
    assert record["exhaustion_markers"]["cut"].notna().all()


def test_missing_receptors_are_said_and_not_counted() -> None:
    adata = draw()[:, [m for m in MARKERS if m not in {"LAG-3", "TIGIT"}]].copy()
    tl.annotate_phenotypes(adata, cluster_key=None)
    markers = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["exhaustion_markers"]
    assert (markers.loc[["LAG-3", "TIGIT"], "reason"] == "not measured").all()
    assert adata.obs["exhaustion_grade"].max() == 3
    none = draw()[:, MARKERS[:9]].copy()
    tl.annotate_phenotypes(none, cluster_key=None)
    assert "exhaustion_grade" not in none.obs
    assert (
        "phenotype_activation" not in none.obs or not none.obs["phenotype_activation"].isna().any()
    )


def test_clusters_that_mix_definitions_are_found_and_described(named: ad.AnnData) -> None:
    adata = named.copy()
    merged = adata.obs["truth"].astype(str).replace({"B": "B+NK", "NK": "B+NK"})
    adata.obs["leiden"] = pd.Categorical(merged)
    tl.annotate_phenotypes(adata)
    table = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["clusters"]
    assert "B cell 0.5" in table.loc["B+NK", "mixed"]
    assert "NK cell 0.5" in table.loc["B+NK", "mixed"]
    assert (table.drop(index="B+NK")["mixed"] == "").all()
    assert table.loc["B+NK", "enrichment"].startswith("CD4-")  # the median of neither has CD19
    details = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["evidence"]
    row = details[(details["cluster"] == "naive") & (details["marker"] == "CCR7")].iloc[0]
    assert row["share"] > 0.97
    assert 0.3 < row["margin"] < 0.7


def test_tail_of_cd8_is_not_called_double_negative() -> None:
    rng = np.random.default_rng(0)
    cd4 = np.c_[rng.normal(4.5, 0.4, 4_000), rng.normal(1.0, 0.5, 4_000)]
    dim = rng.gamma(2.0, 0.6, 3_000)  # CD8 with a long tail towards the negatives
    cd8 = np.c_[rng.normal(1.0, 0.5, 3_000), 5.0 - dim]
    values = np.r_[cd4, cd8]
    adata = ad.AnnData(np.c_[rng.normal(4.5, 0.4, 7_000), values].astype(np.float32))
    adata.var[schema.MARKER] = ["CD3", "CD4", "CD8"]
    tl.annotate_phenotypes(adata, cluster_key=None)
    assert (adata.obs[schema.PHENOTYPE] == "DN T").mean() < 0.005
    assert (adata.obs[schema.PHENOTYPE][4_000:] == "CD8 T").mean() > 0.97


def test_facets_and_grades_survive_h5ad(named: ad.AnnData, tmp_path: Path) -> None:
    named.write_h5ad(tmp_path / "named.h5ad")
    back = ad.read_h5ad(tmp_path / "named.h5ad")
    assert (back.obs["exhaustion_grade"] == named.obs["exhaustion_grade"]).all()
    assert (back.obs["phenotype_helper"] == named.obs["phenotype_helper"]).all()
    record = back.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]
    assert record["exhaustion_grades"].loc["CD8 EM", "share_exhausted"] > 0.6


def test_gates_of_facets_are_compared_with_their_column(named: ad.AnnData) -> None:
    names = {"activated": "CD4 activated", "Th1": "CD4 EM", "B": "B cell"}
    gates = named.obs["truth"].astype(str).where(lambda gate: gate.isin(list(names)), "")
    result = tl.compare_gates(named, gates, names=names)
    assert result.populations.loc["activated", "f1"] > 0.95
    # activated cells are CD4 EM as well, but each event has one gate
    assert result.populations.loc["Th1", "precision"] > 0.95
