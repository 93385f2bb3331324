"""Quality control, compensation and transformation of a lazy study: the same as in memory."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import cytoclust as cc
from cytoclust import chunks, tasks
from cytoclust.errors import ArgumentError, CytoclustError
from cytoclust.io import store as stores

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*lose more than half",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # of workers that were killed
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(folder, n_patients=2, events_per_sample=(1500, 2500), rng=3)
    return folder


def prepared(adata: AnnData) -> AnnData:
    """Do all that happens to values, with the records of every step."""
    for flag in ("invalid", "margins", "time_drift", "doublets", "debris", "dead"):
        getattr(cc.pp, f"flag_{flag}")(adata)
    cc.pp.profile_quality(adata)
    cc.pp.filter_events(adata)
    cc.pp.compensate(adata)
    cc.pp.estimate_cofactors(adata)
    cc.pp.arcsinh(adata)
    return adata


@pytest.fixture(scope="module")
def in_memory(study: Path) -> AnnData:
    return prepared(cc.io.read_study(study / "samples.csv", study / "panel.csv"))


def lazy(study: Path, store: Path) -> AnnData:
    return cc.io.open_study(cc.io.convert_study(study / "samples.csv", study / "panel.csv", store))


def assert_same(found: Any, expected: Any, place: str) -> None:
    """Compare records bit for bit, whatever they are nested in."""
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, obj=place)
    elif isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            assert_same(found[key], value, f"{place}/{key}")
    else:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), err_msg=place)


def assert_as_in_memory(adata: AnnData, expected: AnnData) -> None:
    pd.testing.assert_frame_equal(adata.obs, expected.obs.reset_index(drop=True))
    pd.testing.assert_frame_equal(adata.var, expected.var)
    np.testing.assert_array_equal(adata.X.compute(scheduler="threads"), expected.X)
    raw = adata.layers["raw"].compute(scheduler="threads")
    np.testing.assert_array_equal(raw, expected.layers["raw"])
    steps, wanted = adata.uns["cytoclust"], expected.uns["cytoclust"]
    assert set(steps) == set(wanted)
    for step in set(wanted) - {"read_study", "samples"}:
        assert_same(steps[step], wanted[step], step)


@pytest.mark.parametrize("rows", [1 << 17, 700, 97])
def test_any_chunks_give_the_same(
    study: Path, in_memory: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(stores, "CHUNK_EVENTS", rows)
    assert_as_in_memory(prepared(lazy(study, tmp_path / "store")), in_memory)


def test_nothing_is_read_by_opening_and_transforming(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = cc.io.convert_study(study / "samples.csv", study / "panel.csv", tmp_path / "store")
    adata = cc.io.open_study(store)
    monkeypatch.setattr(tasks, "run_tasks", None)
    cc.pp.compensate(adata)
    cc.pp.arcsinh(adata, 150.0)
    assert chunks.is_lazy(adata.X)


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_give_the_same(
    study: Path, in_memory: AnnData, tmp_path: Path, n_workers: int
) -> None:
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        assert_as_in_memory(prepared(lazy(study, tmp_path / "store")), in_memory)


@pytest.mark.slow
def test_what_a_killed_worker_did_is_done_again(
    study: Path, in_memory: AnnData, tmp_path: Path
) -> None:
    adata = lazy(study, tmp_path / "store")
    whole = cc.io.read_study(study / "samples.csv", study / "panel.csv").X
    expected = [
        (len(block), float(block.sum(dtype=np.float64)))
        for block in np.split(whole, np.cumsum(adata.X.chunks[0])[:-1])
    ]
    mark = tmp_path / "killed"

    def die_once(block: NDArray[np.float32]) -> tuple[int, float]:
        """Kill the worker that is first to get here; count and add up in all other calls."""
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return len(block), float(block.sum(dtype=np.float64))

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        assert chunks.map_blocks(die_once, adata.X) == expected
        assert mark.exists()
        assert_as_in_memory(prepared(adata), in_memory)


@pytest.mark.slow
def test_without_any_worker_a_run_stops(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = lazy(study, tmp_path / "store")
    monkeypatch.setattr(tasks, "PATIENCE", 1.0)
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        Client(cluster),
        pytest.raises(
            CytoclustError, match=r"no worker of the Dask cluster .* Start workers and run again"
        ),
    ):
        cc.pp.flag_invalid(adata)


def test_samples_must_be_side_by_side(study: Path, tmp_path: Path) -> None:
    adata = lazy(study, tmp_path / "store")
    adata.obs["sample"] = adata.obs["sample"].array[
        np.arange(adata.n_obs)[::2].tolist() * 2 + [0] * (adata.n_obs % 2)
    ][: adata.n_obs]
    with pytest.raises(ArgumentError, match="not side by side"):
        cc.pp.compensate(adata)
