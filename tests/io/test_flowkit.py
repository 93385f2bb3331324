"""FlowKit opens what is written: equal values, names, markers and spillover."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from cytoclust.io import read_fcs_datasets, read_study, write_fcs
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def flowkit() -> Any:
    """FlowKit, which needs pandas below 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("flowkit", reason="FlowKit needs pandas below 3")


def opened(flowkit: Any, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flowkit.Sample(str(path))


@pytest.mark.parametrize("n_events", [0, 1, 500])
def test_file(flowkit: Any, tmp_path: Path, n_events: int) -> None:
    events = np.random.default_rng(0).normal(50, 300, size=(n_events, 4)).astype(np.float32)
    channels = ["FSC-A", "B|1-A", "PE/Cy7-A", "Time"]
    markers = ["", "TCR\u03b3\u03b4", "CD3/CD4", ""]
    matrix = [[1, 0.25], [0.125, 1]]
    path = tmp_path / "written.fcs"
    write_fcs_file(
        path, events, channels, markers=markers, spillover=(["PE/Cy7-A", "B|1-A"], matrix)
    )
    sample = opened(flowkit, path)
    assert sample.event_count == n_events
    assert list(sample.pnn_labels) == channels
    assert list(sample.pns_labels) == markers
    if n_events:
        np.testing.assert_array_equal(sample.get_events(source="raw"), events)
        spilled = sample.get_metadata()["spillover"]
        assert spilled == "2,PE/Cy7-A,B|1-A,1.0,0.25,0.125,1.0"
        sample.apply_compensation(spilled)
        expected = events.astype(np.float64)
        expected[:, [2, 1]] = expected[:, [2, 1]] @ np.linalg.inv(np.array(matrix))
        np.testing.assert_allclose(sample.get_events(source="comp"), expected, rtol=1e-5, atol=1e-3)


def test_results_of_a_study(flowkit: Any, tmp_path: Path) -> None:
    events = np.random.default_rng(1).lognormal(6, 1, size=(40, 3)).astype(np.float32)
    channels = ["FSC-A", "FITC-A", "PE-A"]
    write_fcs_file(
        tmp_path / "a.fcs",
        events,
        channels,
        markers=["", "CD3", "CD4"],
        keywords={"$CYT": "Aurora", "note": "as acquired"},
        spillover=(["PE-A", "FITC-A"], [[1, 0.1], [0.2, 1]]),
    )
    adata = read_study(pd.DataFrame({"file": [str(tmp_path / "a.fcs")], "sample": ["a"]}))
    adata.obs["phenotype"] = pd.Categorical(["T cell", "B cell"] * 20)
    adata.obsm["X_umap"] = np.arange(80, dtype=np.float32).reshape(40, 2) - 40
    adata.X[:] = 0  # a transformation must not reach the file
    (path,) = write_fcs(adata, tmp_path / "out")
    sample, mine = opened(flowkit, path), read_fcs_datasets(path)[0]
    assert tuple(sample.pnn_labels) == mine.channels
    assert tuple(sample.pns_labels) == mine.markers
    theirs = pd.DataFrame(sample.get_events(source="raw"), columns=list(sample.pnn_labels))
    np.testing.assert_array_equal(theirs, mine.events)
    np.testing.assert_array_equal(theirs[channels], events)
    np.testing.assert_array_equal(theirs["phenotype"], [2, 1] * 20)
    np.testing.assert_array_equal(theirs["UMAP_2"], adata.obsm["X_umap"][:, 1])
    assert sample.get_metadata()["cyt"] == "Aurora"
    assert sample.get_metadata()["note"] == "as acquired"
