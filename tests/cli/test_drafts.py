"""`init`: sample sheet, panel and study file from the files of a folder."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cytoclust as cc
from cytoclust.cli import app
from cytoclust.cli.drafts import draft_study
from cytoclust.cli.study_file import read_request
from cytoclust.errors import StudyError
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from pathlib import Path

runner = CliRunner()
RNG = np.random.default_rng(0)


def put(path: Path, channels: dict[str, str], *, scale: float = 1e4, n: int = 60) -> None:
    """Write an FCS file: channel -> $PnS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RNG.uniform(0, scale, (n, len(channels)))
    write_fcs_file(path, values, list(channels), markers=list(channels.values()))


PANEL = {
    "FSC-A": "", "SSC-A": "", "FITC-A": "CD3", "PE-A": "CD279 (PD-1)", "APC-A": "", "BV421-A": "Zombie", "Time": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    cc.simulate.study(
        folder, n_patients=3, visits=("d0", "d7"), missing=(0.0, 0.0), events_per_sample=(200, 250), rng=3,
    )  # fmt: skip
    return folder


def test_simulated_study_is_recognised(simulated: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(simulated, tmp_path / "study")
    (folder / "samples.csv").unlink()
    (folder / "panel.csv").unlink()
    shown = runner.invoke(app, ["init", str(folder)])
    assert shown.exit_code == 0, shown.output
    keys = ["sample", "patient", "compartment", "visit"]
    found = pd.read_csv(folder / "samples.csv", dtype=str)
    truth = pd.read_csv(simulated / "samples.csv", dtype=str)
    both = found.merge(truth, on="file", suffixes=("", "_truth"))
    assert len(both) == len(truth)
    for key in keys:
        assert list(both[key]) == list(both[f"{key}_truth"]), key
    panel = pd.read_csv(folder / "panel.csv").set_index("channel").fillna("")
    known = pd.read_csv(simulated / "panel.csv").set_index("channel").fillna("")
    typed = known[known["marker_class"] != "none"]
    assert (panel.loc[typed.index, "marker"] == typed["marker"]).all()
    assert (panel.loc[typed.index, "marker_class"] == typed["marker_class"]).all()
    assert (panel.drop(index=typed.index)["marker_class"] == "none").all()
    asked = read_request(folder)
    assert (asked.treatment, asked.baseline, asked.compartment, asked.donor) == (
        "visit", "d0", "compartment", "patient",
    )  # fmt: skip
    again = runner.invoke(app, ["design", str(folder)])
    assert again.exit_code == 0, again.output
    assert "d7 - d0" in again.output


def test_roles_are_guessed_and_gaps_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.fcs", PANEL)
    draft = draft_study(tmp_path)
    panel = draft.panel.set_index("channel")
    assert list(panel["marker_class"]) == ["none", "none", "type", "state", "none", "none", "none"]
    assert "scale" not in panel
    told = "\n".join(draft.notes)
    assert "[APC-A]" in told
    assert "Zombie" not in told
    assert "tell no visit" in told
    assert draft.keys == {}


def test_transformed_tables_are_marked(tmp_path: Path) -> None:
    for name in ("export_PBMC_1", "export_BM_1", "export_PBMC_2", "export_BM_2"):
        table = pd.DataFrame(
            RNG.integers(0, 1000, (40, 4)), columns=["FSC-A", "CD3", "CD8", "Zombie"]
        )
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    draft = draft_study(tmp_path)
    assert list(draft.panel["scale"]) == ["transformed"] * 4
    assert list(draft.panel["marker_class"]) == ["none", "type", "type", "none"]
    assert list(draft.samples["file"])[:2] == [
        "export_PBMC_1.csv",
        "export_BM_1.csv",
    ]  # blood first
    assert draft.keys == {"compartment": "compartment", "donor": "patient", "baseline": "PBMC"}


def test_folders_below_and_names_that_come_twice(tmp_path: Path) -> None:
    for place in ("d0", "d7"):
        for name in ("P1.fcs", "P2.fcs"):
            put(tmp_path / place / name, PANEL)
    put(tmp_path / "results" / "fcs" / "P1.fcs", PANEL)
    (tmp_path / "results" / "run.json").write_text("{}")
    draft = draft_study(tmp_path)
    assert list(draft.samples["file"]) == ["d0/P1.fcs", "d7/P1.fcs", "d0/P2.fcs", "d7/P2.fcs"]
    assert draft.samples["sample"].is_unique
    assert list(draft.samples["visit"]) == ["d0", "d7", "d0", "d7"]


def test_files_that_differ_or_cannot_be_read_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.fcs", PANEL)
    put(tmp_path / "b.fcs", {name: marker for name, marker in PANEL.items() if name != "FITC-A"})
    (tmp_path / "c.fcs").write_text("nonsense")
    draft = draft_study(tmp_path)
    told = "\n".join(draft.notes)
    assert "c.fcs" in told
    assert "Channel FITC-A is missing in 1 of 2 files, [b.fcs]" in told
    assert draft.panel.set_index("channel").loc["FITC-A", "marker_class"] == "none"


def test_a_marker_that_comes_twice_is_used_once(tmp_path: Path) -> None:
    put(tmp_path / "a.fcs", {"FITC-A": "CD3", "PE-A": "CD3"})
    draft = draft_study(tmp_path)
    assert list(draft.panel["marker_class"]) == ["type", "none"]
    assert any("PE-A repeats the marker CD3" in note for note in draft.notes)


def test_nothing_is_replaced_without_asking(tmp_path: Path) -> None:
    put(tmp_path / "a.fcs", PANEL)
    (tmp_path / "panel.csv").write_text("mine")
    shown = runner.invoke(app, ["init", str(tmp_path)])
    assert shown.exit_code == 1
    assert "already holds panel.csv" in shown.stderr
    assert (tmp_path / "panel.csv").read_text() == "mine"
    assert not (tmp_path / "samples.csv").exists()
    assert runner.invoke(app, ["init", str(tmp_path), "--force", "--quiet"]).exit_code == 0
    assert (tmp_path / "panel.csv").read_text().startswith("channel,marker,marker_class")


def test_json(tmp_path: Path) -> None:
    put(tmp_path / "P1_d0.fcs", PANEL)
    put(tmp_path / "P1_d7.fcs", PANEL)
    shown = runner.invoke(app, ["init", str(tmp_path), "--json"])
    facts = json.loads(shown.stdout)
    assert facts["n_samples"] == 2
    assert facts["n_events"] == 120
    assert facts["keys"] == {"treatment": "visit", "baseline": "d0"}


def test_hostile_names_do_no_harm(tmp_path: Path) -> None:
    panel = {**PANEL, "PE-A": "=HYPERLINK(1)"}
    put(tmp_path / "=cmd()_1.fcs", panel)
    put(tmp_path / "@x, y_2.fcs", panel)
    assert runner.invoke(app, ["init", str(tmp_path)]).exit_code == 0
    text = (tmp_path / "samples.csv").read_text() + (tmp_path / "panel.csv").read_text()
    cells = [cell for line in text.splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "-"))]
    adata = cc.io.read_study(tmp_path / "samples.csv")  # the sheet still finds its files
    assert adata.n_obs == 120


def test_a_folder_without_event_files(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no event file"):
        draft_study(tmp_path)
    with pytest.raises(StudyError, match="is not a folder"):
        draft_study(tmp_path / "nowhere")
