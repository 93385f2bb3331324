"""Events written back: all of them, as acquired, with the results as further channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flowio
import numpy as np
import pandas as pd
import pytest

from cytoclust.errors import ArgumentError, MissingSlotError, StudyError, StudyWarning
from cytoclust.io import read_fcs_datasets, read_study, write_fcs
from cytoclust.io.export import safe_names
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

# anndata 0.13 asks for options that pandas 3.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' option")

CHANNELS = ["FSC-A", "FITC-A", "PE-A"]
SPILLOVER = (["FITC-A", "PE-A"], [[1, 0.1], [0.2, 1]])


def values(n_events: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.lognormal(7, 1, size=(n_events, 3)).astype(np.float32)


@pytest.fixture
def study(tmp_path: Path) -> AnnData:
    """Two samples of 20 and 10 events; events 0, 3, 6, ... of each are excluded as margin, dead."""
    for number, name in enumerate("ab"):
        write_fcs_file(
            tmp_path / f"{name}.fcs",
            values(20 - 10 * number, number),
            CHANNELS,
            markers=["", "CD3", "CD4"],
            keywords={"$CYT": "Aurora", "note": f"file {name}"},
            spillover=SPILLOVER,
        )
    files = [str(tmp_path / "a.fcs"), str(tmp_path / "b.fcs")]
    adata = read_study(pd.DataFrame({"file": files, "sample": ["../a/1", "b"]}))
    adata.obs["leiden"] = pd.Categorical([str(row % 4) for row in adata.obs["event"]])
    adata.obs["phenotype"] = pd.Categorical(
        ["T cell" if row % 2 else "unassigned" for row in adata.obs["event"]]
    )
    adata.obsm["X_umap"] = np.arange(60, dtype=np.float32).reshape(30, 2) - 30
    out = (adata.obs["event"] % 3 == 0).to_numpy()
    kept = adata[~out].copy()
    kept.obs["qc_pass"] = True
    kept.X[:] = 0  # a transformation must not reach the files
    kept.uns["cytoclust"]["filter_events"] = {
        "excluded": {
            "samples": np.array(["../a/1", "b"], dtype=object),
            "sample": adata.obs["sample"].cat.codes.to_numpy()[out].astype(np.int32),
            "event": adata.obs["event"].to_numpy()[out],
            "flags": np.full(out.sum(), 0b100010, dtype=np.uint8),
        }
    }
    return kept


def test_one_file_per_sample(study: AnnData, tmp_path: Path) -> None:
    written = write_fcs(study, tmp_path / "out")
    assert [path.name for path in written] == ["a_1.fcs", "b.fcs"]
    first = read_fcs_datasets(written[0])[0]
    table = pd.DataFrame(np.asarray(first.events), columns=list(first.channels))
    np.testing.assert_array_equal(table[CHANNELS], values(20, 0))
    excluded = np.arange(20) % 3 == 0
    rows = np.arange(20)
    np.testing.assert_array_equal(table["qc_margin"], excluded)
    np.testing.assert_array_equal(table["qc_dead"], excluded)
    np.testing.assert_array_equal(table["qc_time"], np.zeros(20))
    np.testing.assert_array_equal(table["qc_pass"], ~excluded)
    np.testing.assert_array_equal(table["leiden"], np.where(excluded, 0, rows % 4 + 1))
    np.testing.assert_array_equal(table["phenotype"], np.where(excluded, 0, 2 - rows % 2))
    np.testing.assert_array_equal(table["UMAP_1"], np.where(excluded, 0, rows * 2.0 - 30))
    assert first.markers[:3] == ("", "CD3", "CD4")
    assert first.keywords["note"] == "file a"
    assert first.keywords["$CYT"] == "Aurora"
    assert first.spillover is not None
    np.testing.assert_allclose(first.spillover, SPILLOVER[1])
    book = pd.read_csv(tmp_path / "out" / "phenotype_codes.csv")
    assert book["code"].tolist() == [0, 1, 2]
    assert book["phenotype"].tolist() == ["(excluded or missing)", "T cell", "unassigned"]
    assert book["n_events"].sum() == 30
    other = flowio.FlowData(str(written[1]))
    assert other.event_count == 10
    assert other.pnn_labels == list(first.channels)


def test_one_file(study: AnnData, tmp_path: Path) -> None:
    written = write_fcs(study, tmp_path / "out" / "all.fcs", quality=False, umap=False)
    dataset = read_fcs_datasets(written[0])[0]
    assert dataset.channels == (*CHANNELS, "sample", "leiden", "phenotype")
    np.testing.assert_array_equal(dataset.events[20:, :3], values(10, 1))
    np.testing.assert_array_equal(dataset.events[:, 3], [1] * 20 + [2] * 10)
    book = pd.read_csv(tmp_path / "out" / "sample_codes.csv")
    assert book["sample"].tolist() == ["../a/1", "b"]


def test_sample_of_which_no_event_is_left(study: AnnData, tmp_path: Path) -> None:
    left = study[study.obs["sample"] == "b"].copy()
    left.obs["sample"] = left.obs["sample"].cat.remove_unused_categories()
    written = write_fcs(left, tmp_path / "out")
    first = read_fcs_datasets(written[0])[0]
    table = pd.DataFrame(np.asarray(first.events), columns=list(first.channels))
    np.testing.assert_array_equal(table["qc_margin"], np.arange(20) % 3 == 0)
    assert (table["phenotype"] == 0).all()


def test_changed_file(study: AnnData, tmp_path: Path) -> None:
    write_fcs_file(tmp_path / "b.fcs", values(10, 5), CHANNELS)
    with pytest.raises(StudyError, match=r"b\.fcs: the file of sample 'b' has changed"):
        write_fcs(study, tmp_path / "out")


def test_file_that_is_gone_but_all_events_are_there(tmp_path: Path) -> None:
    write_fcs_file(tmp_path / "a.fcs", values(20, 0), CHANNELS, markers=["", "CD3", "CD4"])
    adata = read_study(pd.DataFrame({"file": [str(tmp_path / "a.fcs")], "sample": ["a"]}))
    (tmp_path / "a.fcs").unlink()
    adata.X[:] = 0
    with pytest.warns(StudyWarning, match="is gone"):
        written = write_fcs(adata[::-1].copy(), tmp_path / "out")
    dataset = read_fcs_datasets(written[0])[0]
    np.testing.assert_array_equal(dataset.events[:, :3], values(20, 0))


def test_event_table_and_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame(values(8, 2), columns=["CD3", "CD4", "FSC-A"])
    table.to_parquet(tmp_path / "t.parquet")
    adata = read_study(pd.DataFrame({"file": [str(tmp_path / "t.parquet")], "sample": ["t"]}))
    adata.obs["score"] = np.arange(8) / 2
    written = write_fcs(adata, tmp_path / "out", obs_keys=["score"], quality=False)
    dataset = read_fcs_datasets(written[0])[0]
    np.testing.assert_array_equal(dataset.events[:, :3], values(8, 2))
    np.testing.assert_array_equal(dataset.events[:, 3], np.arange(8) / 2)


def test_refused(study: AnnData, tmp_path: Path) -> None:
    with pytest.raises(MissingSlotError, match="nothing"):
        write_fcs(study, tmp_path / "out", obs_keys=["nothing"])
    twice = study.copy()
    twice.obs["event"] = np.int32(1)
    with pytest.raises(ArgumentError, match="each event of sample"):
        write_fcs(twice, tmp_path / "out")
    del study.uns["cytoclust"]["read_study"]
    with pytest.raises(MissingSlotError, match=r"Run io\.read_study first"):
        write_fcs(study, tmp_path / "out")


def test_safe_names() -> None:
    names = safe_names(["../a", "/a", "A", "", "..", "x" * 500, "day 1: blood"])
    assert names[:5] == ["a", "a_2", "A_3", "sample", "sample_2"]
    assert len(names[5]) <= 120
    assert names[6] == "day_1_blood"
