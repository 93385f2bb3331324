"""The command line as a user meets it: help, exit codes, plain errors, JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from typer.testing import CliRunner

import cytoclust as cc
from cytoclust.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

runner = CliRunner()
DESIGN = ["--treatment", "visit", "--compartment", "compartment", "--donor", "patient"]
COMMANDS = ("init", "design", "inspect", "run", "report", "map", "demo")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(
        folder, n_patients=4, visits=("d0", "d7"), events_per_sample=(300, 400), rng=5
    )
    (folder / "study.toml").write_text(
        'samples = "samples.csv"\npanel = "panel.csv"\nout = "results"\ntreatment = "visit"\n'
        'compartment = "compartment"\ndonor = "patient"\ntitle = "Four patients"\n'
    )
    return folder


@pytest.fixture(scope="module")
def finished(study: Path) -> dict[str, object]:
    """A run of study.toml; what it said for scripts."""
    shown = runner.invoke(app, ["run", str(study), "--json", "--quiet"])
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def test_help_names_every_command() -> None:
    shown = runner.invoke(app, ["--help"])
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert command in shown.output
    assert "130 interrupted" in " ".join(shown.output.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    shown = runner.invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"cytoclust {command}" in " ".join(shown.output.split())


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout == f"cytoclust {cc.__version__}\n"


def test_design_prints_the_grid(study: Path) -> None:
    shown = runner.invoke(app, ["design", "--samples", str(study / "samples.csv"), *DESIGN])
    assert shown.exit_code == 0, shown.output
    assert "d7 - d0" in shown.output
    assert "P01" in shown.output
    assert runner.invoke(app, ["design", str(study)]).stdout == shown.stdout


def test_design_for_scripts(study: Path) -> None:
    facts = json.loads(runner.invoke(app, ["design", str(study), "--json"]).stdout)
    assert facts["levels"] == ["d0", "d7"]
    assert {row["contrast"] for row in facts["contrasts"]} == {"d7 - d0"}


def test_design_with_a_typo_exits_with_one(study: Path) -> None:
    shown = runner.invoke(app, ["design", str(study), "--treatment", "vist"])
    assert shown.exit_code == 1
    assert "Did you mean 'visit'?" in shown.stderr
    assert "Traceback" not in shown.output


def test_design_that_can_test_nothing_exits_with_three(tmp_path: Path) -> None:
    sheet = pd.DataFrame({"file": ["a", "b"], "sample": ["a", "b"], "visit": ["d0", "d7"]})
    sheet.to_csv(tmp_path / "samples.csv", index=False)
    command = ["design", "--samples", str(tmp_path / "samples.csv"), "--treatment", "visit"]
    shown = runner.invoke(app, command)
    assert shown.exit_code == 3
    assert "no replicates" in shown.output


@pytest.mark.parametrize("command", ["design", "run"])
def test_a_sheet_must_be_given(command: str) -> None:
    shown = runner.invoke(app, [command])
    assert shown.exit_code == 2
    assert "--samples" in shown.stderr


def test_a_missing_column_of_the_sheet(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("name,visit\na,d0\n")
    command = ["run", "--samples", str(tmp_path / "samples.csv"), "--out", str(tmp_path / "out")]
    shown = runner.invoke(app, command)
    assert shown.exit_code == 1
    assert "column 'file' not found" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert isinstance(runner.invoke(app, [*command, "--debug"]).exception, cc.errors.StudyError)


def test_run_of_a_study_file(study: Path, finished: dict[str, object]) -> None:
    assert finished["status"] == "finished"
    assert finished["n_samples"] == len(pd.read_csv(study / "samples.csv"))
    page = (study / "results" / "report.html").read_text()
    assert "<h1>Four patients</h1>" in page


def test_the_same_run_again_says_so(study: Path, finished: dict[str, object]) -> None:
    stamp = (study / "results" / "run.json").stat().st_mtime_ns
    options = ["--samples", str(study / "samples.csv"), "--panel", str(study / "panel.csv")]
    places = ["--out", str(study / "results"), "--title", "Four patients", "--n-jobs", "1"]
    shown = runner.invoke(app, ["run", *options, *places, *DESIGN])  # the same said in options
    assert shown.exit_code == 0, shown.output
    assert "Nothing to compute" in shown.stdout
    assert "changed in abundance (false discovery rate 5 %)" in shown.stdout
    assert (study / "results" / "run.json").stat().st_mtime_ns == stamp
    facts = json.loads(runner.invoke(app, ["run", str(study), "--json", "--quiet"]).stdout)
    assert facts == {**finished, "status": "unchanged"}


def test_another_run_into_the_same_folder(study: Path, finished: dict[str, object]) -> None:
    assert finished
    shown = runner.invoke(app, ["run", str(study), "--resolution", "2"])
    assert shown.exit_code == 1
    assert "resolution 1.0 -> 2.0" in shown.stderr


def test_report_again(study: Path, finished: dict[str, object], tmp_path: Path) -> None:
    assert finished
    target = tmp_path / "monday.html"
    command = ["report", str(study / "results"), "--out", str(target), "--title", "Monday"]
    shown = runner.invoke(app, [*command, "--figures", str(tmp_path / "figures")])
    assert shown.exit_code == 0, shown.output
    assert "<h1>Monday</h1>" in target.read_text()
    assert (tmp_path / "figures" / "composition.png").is_file()
    assert "is there already" in runner.invoke(app, command).stderr


def test_report_of_what_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "study.h5ad").write_text("nonsense")
    shown = runner.invoke(app, ["report", str(tmp_path / "study.h5ad")])
    assert shown.exit_code == 1
    assert "not a readable h5ad file" in shown.stderr


def test_map_gives_a_study_its_own_answers_back(
    study: Path, finished: dict[str, object], tmp_path: Path
) -> None:
    """Samples of the study itself, mapped onto it, keep nearly every cluster."""
    assert finished
    sheet = pd.read_csv(study / "samples.csv", dtype=str).iloc[:2]
    sheet["file"] = [str(study / name) for name in sheet["file"]]
    sheet.to_csv(tmp_path / "later.csv", index=False)
    command = ["map", str(study / "results"), "--samples", str(tmp_path / "later.csv")]
    shown = runner.invoke(app, [*command, "--out", str(tmp_path / "out"), "--json", "--quiet"])
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout)
    assert [row["sample"] for row in facts["samples"]] == list(sheet["sample"])
    mapped = pd.read_csv(tmp_path / "out" / "tables" / "counts.csv", index_col=0)
    own = pd.read_csv(study / "results" / "tables" / "counts.csv", index_col=0)
    both = own[list(sheet["sample"])].reindex(mapped.index, fill_value=0)
    moved = (both - mapped).abs().to_numpy().sum() / 2
    assert moved < 0.1 * mapped.to_numpy().sum()
    assert (tmp_path / "out" / "report.html").is_file()
    again = runner.invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert again.exit_code == 1
    assert "already holds results" in again.stderr


def test_unknown_option_is_refused_with_a_suggestion() -> None:
    shown = runner.invoke(app, ["run", "--treatmnt", "visit"])
    assert shown.exit_code == 2
    assert "--treatment" in shown.stderr


def test_unknown_command_is_refused_with_a_suggestion() -> None:
    shown = runner.invoke(app, ["desing"])
    assert shown.exit_code == 2
    assert "design" in shown.stderr


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_locked_output_folder(study: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    shown = runner.invoke(app, ["run", str(study), "--out", str(tmp_path / "out")])
    tmp_path.chmod(0o700)
    assert shown.exit_code == 1
    assert "cannot be written" in shown.stderr


def test_an_output_folder_where_none_can_be(study: Path) -> None:
    shown = runner.invoke(app, ["run", str(study), "--out", "/proc/nowhere"])
    assert shown.exit_code == 1
    assert "cannot be written" in shown.stderr


def test_a_defect_asks_for_a_report(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        msg = "surprise"
        raise RuntimeError(msg)

    monkeypatch.setattr(cc.tl, "design", broken)
    shown = runner.invoke(app, ["design", str(study)])
    assert shown.exit_code == 4
    assert "Unexpected RuntimeError: surprise" in shown.stderr
    assert "--debug" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Let child processes hear SIGINT, which a shell's background jobs are started deaf to."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(study: Path, tmp_path: Path, kind: int) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cytoclust.cli", "run", str(study), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (out / ".resume" / "state.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(kind)
        _, told = process.communicate(timeout=60)
    # a shell shows both as 130; Python reports a signal that came while it ran code from a text so
    assert process.returncode in {130, -signal.SIGINT}, told
    assert "the same command goes on" in told
    assert "Traceback" not in told
    assert [path.name for path in out.iterdir()] == [".resume"]
