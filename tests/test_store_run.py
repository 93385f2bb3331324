"""Whole runs through a store: on threads, on workers, interrupted, from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from typer.testing import CliRunner

import cytoclust as cc
from cytoclust import chunks, schema
from cytoclust.cli import app
from cytoclust.errors import ArgumentError, StudyError
from cytoclust.event_arrays import bare_values, file_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*:cytoclust.errors.CytoclustWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",  # of clusters that are closed
    ),
]
TABLES = ("abundance", "abundance_levels", "state", "counts", "qc", "phenotypes", "lineages")
RESULTS = ("leiden", "phenotype", "phenotype_cluster", "phenotype_far", "lineage_cluster")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough events for the way through prototypes."""
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(
        folder, n_patients=4, visits=("d0", "d7"), events_per_sample=(4500, 5500), missing=(0, 0), rng=5
    )  # fmt: skip
    return folder


def analyse(study: Path, out: Path, **options: Any) -> AnnData:
    return cc.pipeline.run(
        study / "samples.csv", study / "panel.csv", out, treatment_key="visit",
        compartment_key="compartment", donor_key="patient", fcs=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run in memory, a third of its events in the pool; so are they in every other run here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "POOL_EVENTS", 25_000)
        out = tmp_path_factory.mktemp("whole")
        yield analyse(study, out), out


def assert_same_run(adata: AnnData, out: Path, whole: tuple[AnnData, Path]) -> None:
    expected, place = whole
    for table in TABLES:
        name = f"tables/{table}.csv"
        assert (out / name).read_bytes() == (place / name).read_bytes(), table
    np.testing.assert_array_equal(adata.obsm[schema.UMAP], expected.obsm[schema.UMAP])
    for name in RESULTS:
        pd.testing.assert_series_equal(
            adata.obs[name].reset_index(drop=True), expected.obs[name].reset_index(drop=True)
        )
    assert (out / "report.html").stat().st_size > 100_000


def codes_of(adata: AnnData, name: str) -> Any:
    values = bare_values(adata.obs[name])
    return getattr(values, "codes", values)


def test_a_store_changes_no_result(
    study: Path, whole: tuple[AnnData, Path], tmp_path: Path
) -> None:
    adata = analyse(study, tmp_path / "run", store=tmp_path / "store")
    assert chunks.is_lazy(adata.X)
    assert_same_run(adata, tmp_path / "run", whole)
    again = cc.pipeline.open_run(tmp_path / "run")
    for study_of in (
        adata,
        again,
    ):  # nothing of a lazy study that grows with its events is in memory
        assert [name for name in study_of.obs if file_of(codes_of(study_of, name)) is None] == []
        assert file_of(study_of.obsm[schema.UMAP]) is not None
    np.testing.assert_array_equal(again.X.compute(scheduler="threads"), whole[0].X)
    assert again.obs["phenotype"].equals(adata.obs["phenotype"])


@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_change_no_result(
    study: Path, whole: tuple[AnnData, Path], tmp_path: Path, n_workers: int
) -> None:
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        adata = analyse(study, tmp_path / "run", store=tmp_path / "store", client=client)
        assert_same_run(adata, tmp_path / "run", whole)


def test_an_interrupted_run_goes_on(
    study: Path, whole: tuple[AnnData, Path], tmp_path: Path
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    store = tmp_path / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cc.pipeline.running, "name", stop)
        with pytest.raises(KeyboardInterrupt):
            analyse(study, tmp_path / "run", store=store)
    with pytest.MonkeyPatch.context() as patch:
        for step in ("prepare", "cluster", "embed"):
            patch.setattr(cc.pipeline.running, step, stop)
        patch.setattr(cc.io, "convert_study", stop)
        adata = analyse(study, tmp_path / "run", store=store)
    assert_same_run(adata, tmp_path / "run", whole)
    before = (tmp_path / "run" / "run.json").stat().st_mtime_ns
    assert chunks.is_lazy(analyse(study, tmp_path / "run", store=store).X)
    assert (tmp_path / "run" / "run.json").stat().st_mtime_ns == before


def test_a_small_study_is_loaded(study: Path, tmp_path: Path) -> None:
    sheet = pd.read_csv(study / "samples.csv", dtype=str)
    sheet = sheet[sheet["patient"].isin(sheet["patient"].unique()[:2])]
    sheet = sheet.assign(file=[str(study / name) for name in sheet["file"]])
    options = {"treatment_key": "visit", "compartment_key": "compartment", "embedding": False}
    lazy = cc.pipeline.run(sheet, study / "panel.csv", store=tmp_path / "store", **options)
    assert isinstance(lazy.X, np.ndarray)
    whole = cc.pipeline.run(sheet, study / "panel.csv", **options)
    for step in ("differential_abundance", "differential_state"):
        tables = (adata.uns[schema.UNS][step]["table"] for adata in (lazy, whole))
        pd.testing.assert_frame_equal(*tables)
    np.testing.assert_array_equal(lazy.X, whole.X)


def test_command_line(study: Path, tmp_path: Path) -> None:
    command = [
        "run", "--samples", str(study / "samples.csv"), "--panel", str(study / "panel.csv"), "--out",
        str(tmp_path / "out"), "--treatment", "visit", "--compartment", "compartment", "--donor", "patient",
        "--store", str(tmp_path / "store"), "--no-fcs", "--no-embedding", "--json",
    ]  # fmt: skip
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        found = CliRunner().invoke(app, [*command, "--scheduler", cluster.scheduler_address])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["status"] == "finished"
    assert (tmp_path / "out" / "study.h5").is_file()
    assert not (tmp_path / "out" / "fcs").exists()
    again = CliRunner().invoke(
        app, ["report", str(tmp_path / "out"), "--out", str(tmp_path / "r.html")]
    )
    assert again.exit_code == 0, again.output
    assert (tmp_path / "r.html").stat().st_size > 100_000


def test_refusals(study: Path, tmp_path: Path) -> None:
    command = ["run", "--samples", str(study / "samples.csv"), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*command, "--scheduler", "tcp://127.0.0.1:1"])
    assert found.exit_code == 2
    assert "workers need a store" in found.output
    with (
        pytest.raises(ArgumentError, match="no Dask scheduler answers at nonsense://x"),
        cc.cli.working.connected("nonsense://x"),
    ):
        pass
    with pytest.raises(StudyError, match=r"no study\.h5ad or study\.h5 of a run"):
        cc.pipeline.open_run(tmp_path)
