"""Gate membership from tables and from FlowJo workspaces."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import io
from cytoclust.errors import ArgumentError, StudyError
from cytoclust.io import gates

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def adata() -> ad.AnnData:
    found = ad.AnnData(np.zeros((6, 1), dtype=np.float32))
    found.obs["sample"] = pd.Categorical(["b", "b", "b", "a", "a", "a"])
    found.obs["event"] = np.array([0, 2, 5, 1, 2, 3], dtype=np.int32)  # after filtering
    return found


def test_labels_are_matched_by_sample_and_event(adata: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "gates.csv"
    path.write_text("sample,event,gate\na,2,T\nb,2,B\na,9,T\nb,0,\n")
    found = io.read_gates(path, adata)
    assert found.tolist() == ["", "B", "", "", "T", ""]
    assert found.index.equals(adata.obs_names)


def test_innermost_of_nested_gates_counts(tmp_path: Path) -> None:
    path = tmp_path / "gates.csv"
    path.write_text("event;Lymphocytes;T;CD4\n0;1;1;1\n1;1;1;0\n2;1;0;0\n3;0;0;0\n")
    found = io.read_gates(path, ad.AnnData(np.zeros((4, 1))))
    assert found.tolist() == ["CD4", "T", "Lymphocytes", ""]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sample,gate\na,T\n", "column 'event'"),
        ("event,gate\n0,T\n", "column 'sample' is needed for 2 samples"),
        ("sample,event,T\na,0,7\n", "not of 0 and 1"),
        ("sample,event,gate\na,1,T\na,1,B\n", "come more than once"),
    ],
)
def test_wrong_tables_are_refused(
    adata: ad.AnnData, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "gates.csv"
    path.write_text(text)
    with pytest.raises(StudyError, match=problem) as caught:
        io.read_gates(path, adata)
    assert "gates.csv" in str(caught.value)


def test_foreign_events_and_missing_files_are_refused(adata: ad.AnnData, tmp_path: Path) -> None:
    table = pd.DataFrame({"sample": ["c"], "event": [0], "gate": ["T"]})
    with pytest.raises(ArgumentError, match="none of its 1 events"):
        io.read_gates(table, adata)
    with pytest.raises(StudyError, match="existing CSV or Parquet"):
        io.read_gates(tmp_path / "no.csv", adata)


def test_without_flowkit_the_way_out_is_said(
    adata: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flowkit", None)
    with pytest.raises(ArgumentError, match=r"pip install cytoclust\[flowjo\]"):
        io.read_flowjo_gates(tmp_path / "x.wsp", adata, {})


class FakeWorkspace:
    """What FlowKit's Workspace offers, for two gates of one name."""

    paths = (("root",), ("root", "CD4"), ("root",), ("root", "CD8"))
    names = ("CD4", "CD45RA+", "CD8", "CD45RA+")
    masks = ((1, 1, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 1, 0), (0, 0, 0, 1, 0))

    def get_gate_ids(self, _: str) -> list[tuple[str, tuple[str, ...]]]:
        return list(zip(self.names, self.paths, strict=True))

    def get_gate_membership(self, _: str, name: str, gate_path: tuple[str, ...]) -> np.ndarray:
        k = self.get_gate_ids("").index((name, gate_path))
        return np.array(self.masks[k], dtype=bool)


def test_gates_of_one_name_keep_their_path() -> None:
    table = gates.sample_gates(FakeWorkspace(), "f.fcs", "s", gates=None, source="x.wsp")
    assert table["gate"].tolist() == ["CD4", "CD4/CD45RA+", "CD8", "CD8/CD45RA+", ""]
    with pytest.raises(ArgumentError, match=r"has no gates \[CD19\]"):
        gates.sample_gates(FakeWorkspace(), "f.fcs", "s", gates=["CD19"], source="x.wsp")


@pytest.mark.skipif(importlib.util.find_spec("flowkit") is None, reason="FlowKit is not installed")
def test_a_workspace_that_flowkit_wrote_is_read(tmp_path: Path) -> None:
    import flowkit

    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1000, (200, 2)).astype(np.float32)
    adata = ad.AnnData(values)
    adata.var["channel"] = ["A", "B"]
    adata.var["marker"] = ["CD3", "CD4"]
    adata.obs["event"] = np.arange(200, dtype=np.int32)
    file = tmp_path / "one.fcs"
    flowkit.Sample(
        values.astype(np.float64), sample_id="one.fcs", channel_labels=["A", "B"]
    ).export(str(file.name), source="raw", directory=str(tmp_path))
    session = flowkit.Session(fcs_samples=[flowkit.Sample(str(file), filename_as_id=True)])
    outer = flowkit.Dimension("A", range_min=500, range_max=2000)
    inner = flowkit.Dimension("B", range_min=500, range_max=2000)
    session.add_gate(flowkit.gates.RectangleGate("T", [outer]), ("root",))
    session.add_gate(flowkit.gates.RectangleGate("CD4", [inner]), ("root", "T"))
    with (tmp_path / "gates.wsp").open("wb") as handle:
        session.export_wsp(handle, "All Samples")
    found = io.read_flowjo_gates(tmp_path / "gates.wsp", adata, {"one": file})
    expected = np.where(values[:, 0] >= 500, np.where(values[:, 1] >= 500, "CD4", "T"), "").tolist()
    assert found.tolist() == expected
