"""Interrupted runs go on after their last finished step; finished ones are not computed again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust import checkpoints, outputs, schema

if TYPE_CHECKING:
    from pathlib import Path

    import anndata as ad

DESIGN = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
STEPS = ("cluster", "name", "keep")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(
        folder, n_patients=3, visits=("d0", "d7"), missing=(0.0, 0.0), events_per_sample=(200, 250), rng=3,
    )  # fmt: skip
    return folder


def analyse(study: Path, out: Path | None, **options: Any) -> ad.AnnData:
    return cc.pipeline.run(study / "samples.csv", study / "panel.csv", out, **{**DESIGN, **options})


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of a small run, and nothing here looks at them."""
    monkeypatch.setattr(cc.report, "write", plain_report)


def plain_report(_: ad.AnnData, path: Path, *, figures_folder: Path, **__: object) -> None:
    path.write_text("<html></html>")
    figures_folder.mkdir()


@pytest.fixture(scope="module")
def whole(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ad.AnnData, Path]:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cc.report, "write", plain_report)
        return analyse(study, out), out


def interrupt(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cc.pipeline.running, step, stop)


def forbid(monkeypatch: pytest.MonkeyPatch, *steps: str) -> None:
    def reached(*_: object, **__: object) -> None:
        pytest.fail("a finished step was done again")

    for step in steps:
        place, name = (cc.io, step) if step == "read_study" else (cc.pipeline.running, step)
        monkeypatch.setattr(place, name, reached)


def same_result(found: ad.AnnData, expected: ad.AnnData) -> None:
    np.testing.assert_array_equal(found.X, expected.X)
    np.testing.assert_array_equal(found.layers[schema.RAW], expected.layers[schema.RAW])
    np.testing.assert_array_equal(found.obsm[schema.UMAP], expected.obsm[schema.UMAP])
    assert list(found.obs) == list(expected.obs)
    for name in expected.obs:
        assert found.obs[name].astype(object).equals(expected.obs[name].astype(object)), name
    assert set(found.uns[schema.UNS]) == set(expected.uns[schema.UNS])
    for step in ("differential_abundance", "differential_state"):
        pd.testing.assert_frame_equal(
            found.uns[schema.UNS][step]["table"], expected.uns[schema.UNS][step]["table"],
            check_dtype=False, check_names=False,
        )  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_run_goes_on_after_its_last_finished_step(
    study: Path,
    whole: tuple[ad.AnnData, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, step)
        with pytest.raises(KeyboardInterrupt):
            analyse(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.FOLDER]
    before = {"cluster": (), "embed": ("cluster",), "name": ("cluster", "embed")}
    forbid(
        monkeypatch, "read_study", "prepare", *before.get(step, ("cluster", "embed", "name")),
        *(("compare",) if step == "keep" else ()),
    )  # fmt: skip
    found = analyse(study, tmp_path, n_jobs=1)  # the number of threads does not matter
    same_result(found, whole[0])
    assert not (tmp_path / checkpoints.FOLDER).exists()
    for name in ("abundance", "state", "counts", "qc", "phenotypes"):
        table = f"tables/{name}.csv"
        assert (tmp_path / table).read_text() == (whole[1] / table).read_text(), name
    facts = json.loads((tmp_path / "run.json").read_text())
    assert [row["step"] for row in facts["steps"]][:3] == ["read", "prepare", "cluster"]


@pytest.mark.parametrize("change", ["resolution", "events", "panel", "levels"])
def test_steps_of_another_run_are_not_used(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    copy = shutil.copytree(study, tmp_path / "study")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, "cluster")
        with pytest.raises(KeyboardInterrupt):
            analyse(copy, out)
    options: dict[str, Any] = {}
    sheet = pd.read_csv(copy / "samples.csv", dtype=str)
    if change == "resolution":
        options = {"resolution": 2.0}
    elif change == "events":
        first, second = (copy / name for name in sheet["file"][:2])
        first.write_bytes(second.read_bytes())
    elif change == "panel":
        panel = pd.read_csv(copy / "panel.csv")
        panel.loc[panel["marker"] == "CD57", "marker_class"] = "none"
        panel.to_csv(copy / "panel.csv", index=False)
    else:  # the order of the sheet decides the baseline
        sheet["visit"] = sheet["visit"].map({"d0": "d7", "d7": "d0"})
        sheet.to_csv(copy / "samples.csv", index=False)
    read = []
    monkeypatch.setattr(cc.io, "read_study", lambda *_, **__: read.append(1) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        analyse(copy, out, **options)
    assert read == [1]
    assert not (out / checkpoints.FOLDER).exists()


def test_the_same_run_again_computes_nothing(
    study: Path,
    whole: tuple[ad.AnnData, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    forbid(monkeypatch, "read_study", "prepare", "cluster", "embed", "name", "compare", "keep")
    with caplog.at_level("INFO", "cytoclust"):
        same_result(analyse(study, whole[1], n_jobs=1), whole[0])
    assert "Nothing to compute" in caplog.text


def test_another_run_says_what_differs(study: Path, whole: tuple[ad.AnnData, Path]) -> None:
    with pytest.raises(cc.errors.ArgumentError, match=r"other parameters: \[baseline None -> 'd7'"):
        analyse(study, whole[1], baseline="d7")


def test_a_state_that_cannot_be_read(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, "name")
        with pytest.raises(KeyboardInterrupt):
            analyse(study, tmp_path)
    (tmp_path / checkpoints.FOLDER / checkpoints.EVENTS).write_bytes(b"cut off")
    interrupt(monkeypatch, "prepare")
    with (
        pytest.warns(cc.errors.StudyWarning, match="cannot be read"),
        pytest.raises(KeyboardInterrupt),
    ):
        analyse(study, tmp_path)


def test_a_full_disk_does_not_stop_the_run(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_slots", full)
    with pytest.warns(cc.errors.StudyWarning, match="No space left on device"):
        analyse(study, tmp_path, embedding=False)
    assert (tmp_path / "report.html").is_file()
    assert not (tmp_path / checkpoints.FOLDER).exists()
    assert outputs.finished(tmp_path) is not None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_killed_process_leaves_what_another_goes_on_with(study: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "cytoclust.cli", "run", "--samples", str(study / "samples.csv"), "--panel",
        str(study / "panel.csv"), "--out", str(tmp_path / "out"), "--treatment", "visit", "--no-embedding",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
        state = tmp_path / "out" / checkpoints.FOLDER / checkpoints.STATE
        deadline = time.monotonic() + 120
        while not state.is_file() and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "Going on after [prepare" in again.stderr
    assert (tmp_path / "out" / "report.html").is_file()
    assert not [path for path in (tmp_path / "out").rglob("*") if ".part" in path.name]
