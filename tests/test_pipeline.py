"""The whole way on small simulated studies: files, determinism, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust import schema

DESIGN = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
COLUMNS = [
    "population", "level", "parent", "denominator", "compartment", "contrast", "log2_fold_change", "ci_low", "ci_high",
    "std_error", "df", "statistic", "p_value", "fdr", "n_samples", "n_paired", "method", "status", "reason",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(
        folder, n_patients=5, visits=("d0", "d7", "d28"), events_per_sample=(600, 900), rng=11
    )
    return folder


def analyse(study: Path, out: Path | None = None, **options: object) -> ad.AnnData:
    return cc.pipeline.run(
        study / "samples.csv",
        study / "panel.csv",
        out,
        **DESIGN,
        definitions=("human_leukocyte", "b_all"),
        **options,
    )


@pytest.fixture(scope="module")
def finished(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ad.AnnData, Path]:
    out = tmp_path_factory.mktemp("results") / "run"
    return analyse(study, out), out


def test_every_file_is_left(finished: tuple[ad.AnnData, Path]) -> None:
    _, out = finished
    names = ("abundance", "abundance_levels", "state", "counts", "phenotypes", "lineages", "qc")
    wanted = ["report.html", "study.h5ad", "run.json", *(f"tables/{name}.csv" for name in names)]
    assert [name for name in wanted if not (out / name).is_file()] == []
    assert list((out / "figures").iterdir())
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    facts = json.loads((out / "run.json").read_text())
    assert {"parameters", "versions", "inputs", "steps"} <= set(facts)
    assert all(len(row["sha256"]) == 64 for row in facts["inputs"])


def test_abundance_has_every_row(finished: tuple[ad.AnnData, Path]) -> None:
    adata, out = finished
    table = pd.read_csv(out / "tables" / "abundance.csv")
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    assert {"n_events", "size_factor", "alarm", "detectable_change"} <= set(table.columns)
    tested = table["status"] == "ok"
    assert (table.loc[tested, "detectable_change"] > 0).all()
    cells = table.groupby("population")[["compartment", "contrast"]].size()
    assert len(set(cells)) == 1
    assert set(table["compartment"]) == {"PB", "BM", "BM - PB"}
    assert set(table["contrast"]) == {"d7 - d0", "d28 - d0", "d28 - d7"}
    assert set(table["population"]) <= set(adata.obs[schema.PHENOTYPE].cat.categories)
    assert table.loc[table["status"] != "ok", "reason"].str.len().gt(0).all()


def test_counts_go_back_into_the_test(finished: tuple[ad.AnnData, Path], study: Path) -> None:
    _, out = finished
    counts = pd.read_csv(out / "tables" / "counts.csv", index_col=0)
    again = cc.tl.differential_abundance(
        counts, samples=pd.read_csv(study / "samples.csv"), **DESIGN
    )
    first = pd.read_csv(out / "tables" / "abundance.csv")
    keys = ["population", "compartment", "contrast"]
    both = first.merge(again, on=keys, suffixes=("", "_again"))
    assert len(both) > 0
    np.testing.assert_allclose(
        both["log2_fold_change"], both["log2_fold_change_again"], rtol=1e-6, atol=1e-9
    )


def test_no_event_is_lost(finished: tuple[ad.AnnData, Path], study: Path) -> None:
    adata, out = finished
    truth = pd.read_parquet(study / "truth" / "events.parquet")
    qc = pd.read_csv(out / "tables" / "qc.csv", index_col=0)
    read = truth.groupby("sample", observed=True).size()
    assert (qc["events"] == read.reindex(qc.index)).all()
    kept = adata.obs.groupby("sample", observed=False).size()
    assert (qc["kept"] == kept.reindex(qc.index)).all()
    for sample in qc.index[:3]:
        (data,) = cc.io.read_fcs_datasets(out / "fcs" / f"{sample}.fcs")
        assert len(data.events) == read[sample]


def test_clusters_say_how_stable_they_are(finished: tuple[ad.AnnData, Path]) -> None:
    adata, out = finished
    table = pd.read_csv(out / "tables" / "phenotypes.csv")
    for column in ("stability", "stability_left_out"):
        assert table[column].between(0, 1).all()
    kept = adata.uns[schema.UNS]["cluster_stability"]
    assert kept["params"]["leave_out_key"] == "patient"
    assert len(table) == len(kept["table"])
    assert "stability" in (out / "report.html").read_text()


def test_lineages_are_clustered_again(finished: tuple[ad.AnnData, Path]) -> None:
    adata, out = finished
    table = pd.read_csv(out / "tables" / "lineages.csv", index_col=0)
    assert set(table["lineage"]) == {"T cell", "NK cell", "B cell"}
    labels = adata.obs[schema.LINEAGE_CLUSTER]
    assert (labels.value_counts().reindex(table.index) == table["n_events"]).all()
    inside = adata.obs[schema.PHENOTYPE].isin(["CD4 naive", "CD8 EM", "effector Treg"])
    assert labels[inside].str.startswith("T cell,").all()
    assert labels[adata.obs[schema.PHENOTYPE] == schema.UNASSIGNED].isna().all()
    assert "effector Treg" in set(table["phenotype"])
    text = (out / "report.html").read_text()
    assert "Clusters within lineages" in text
    assert "The events of each lineage (T cell, NK cell, B cell) were clustered again" in text


def test_h5ad_reads_back_equal(finished: tuple[ad.AnnData, Path]) -> None:
    adata, out = finished
    again = ad.read_h5ad(out / "study.h5ad")
    np.testing.assert_array_equal(again.X, adata.X)
    np.testing.assert_array_equal(again.layers["raw"], adata.layers["raw"])
    for key in adata.obs:
        assert again.obs[key].astype(object).equals(adata.obs[key].astype(object)), key
    table = adata.uns[schema.UNS]["differential_abundance"]["table"]
    pd.testing.assert_frame_equal(
        again.uns[schema.UNS]["differential_abundance"]["table"],
        table,
        check_dtype=False,
        check_names=False,
    )


@pytest.mark.slow
def test_same_answer_on_one_thread_and_again(
    finished: tuple[ad.AnnData, Path], study: Path
) -> None:
    adata, _ = finished
    again = analyse(study, n_jobs=1)
    for key in (schema.LEIDEN, schema.PHENOTYPE, schema.LINEAGE_CLUSTER):
        assert again.obs[key].equals(adata.obs[key])
    np.testing.assert_array_equal(again.obsm[schema.UMAP], adata.obsm[schema.UMAP])
    pd.testing.assert_frame_equal(
        again.uns[schema.UNS]["differential_abundance"]["table"],
        adata.uns[schema.UNS]["differential_abundance"]["table"],
    )


@pytest.mark.filterwarnings("ignore:DataFrame is highly fragmented")  # both are scanpy's own
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_scanpy_works_on_the_result(finished: tuple[ad.AnnData, Path]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import scanpy as sc

    adata = finished[0]
    adata = adata[
        :, adata.var[schema.MARKER_CLASS] != "none"
    ].copy()  # scatter is linear; scanpy takes exp
    sc.tl.rank_genes_groups(adata, "leiden", method="t-test_overestim_var", use_raw=False)
    assert "rank_genes_groups" in adata.uns
    assert sc.pl.umap(adata, color="phenotype", show=False) is not None


def test_steps_refuse_to_run_twice(finished: tuple[ad.AnnData, Path]) -> None:
    adata = finished[0].copy()
    with pytest.raises(cc.errors.AlreadyAppliedError, match="arcsinh was already applied"):
        cc.pp.arcsinh(adata)
    with pytest.raises(cc.errors.AlreadyAppliedError, match="compensate was already applied"):
        cc.pp.compensate(adata)


def test_output_folder_of_an_earlier_run(finished: tuple[ad.AnnData, Path], study: Path) -> None:
    with pytest.raises(cc.errors.ArgumentError, match="already holds results of a run"):
        analyse(study, finished[1], resolution=2.0)


def test_output_folder_that_is_a_file(study: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(cc.errors.ArgumentError, match="is a file"):
        analyse(study, tmp_path / "run")


def test_output_folder_that_cannot_be_written(study: Path) -> None:
    with pytest.raises(cc.errors.ArgumentError, match="cannot be written"):
        analyse(study, Path("/proc/nowhere"))


def test_design_column_with_a_typo(study: Path) -> None:
    with pytest.raises(cc.errors.CytoclustError, match=r"vist.*visit"):
        cc.pipeline.run(study / "samples.csv", study / "panel.csv", treatment_key="vist")


def test_baseline_that_is_no_level(study: Path) -> None:
    with pytest.raises(cc.errors.CytoclustError, match=r"d1.*d0"):
        cc.pipeline.run(
            study / "samples.csv", study / "panel.csv", treatment_key="visit", baseline="d1"
        )


def test_missing_file(study: Path) -> None:
    sheet = pd.read_csv(study / "samples.csv")
    sheet["file"] = [str(study / name) for name in sheet["file"]]
    sheet.loc[0, "file"] = str(study / "gone.fcs")
    with pytest.raises(cc.errors.StudyError, match=r"gone\.fcs"):
        cc.pipeline.run(sheet, study / "panel.csv", **DESIGN)


def test_sample_listed_twice(study: Path) -> None:
    sheet = pd.read_csv(study / "samples.csv")
    sheet["file"] = [str(study / name) for name in sheet["file"]]
    sheet.loc[1, "sample"] = sheet.loc[0, "sample"]
    with pytest.raises(cc.errors.StudyError, match=str(sheet.loc[0, "sample"])):
        cc.pipeline.run(sheet, study / "panel.csv", **DESIGN)


def test_panel_that_names_no_channel(study: Path) -> None:
    panel = pd.DataFrame({"channel": ["X1"], "marker": ["CD3"], "marker_class": ["type"]})
    with pytest.raises(cc.errors.StudyError, match="X1"):
        cc.pipeline.run(study / "samples.csv", panel, **DESIGN)
