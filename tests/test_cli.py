"""The command line as a user meets it: help, exit codes, plain errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import cytoclust as cc
from cytoclust.cli import app

if TYPE_CHECKING:
    from pathlib import Path

runner = CliRunner()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(
        folder, n_patients=4, visits=("d0", "d7"), events_per_sample=(300, 400), rng=5
    )
    return folder


def test_help_names_every_command() -> None:
    shown = runner.invoke(app, ["--help"])
    assert shown.exit_code == 0
    for command in ("demo", "run", "inspect", "design"):
        assert command in shown.output


def test_design_prints_the_grid(study: Path) -> None:
    arguments = ["--treatment", "visit", "--compartment", "compartment", "--donor", "patient"]
    shown = runner.invoke(app, ["design", "--samples", str(study / "samples.csv"), *arguments])
    assert shown.exit_code == 0, shown.output
    assert "d7 - d0" in shown.output
    assert "P01" in shown.output


def test_design_with_a_typo_exits_with_one(study: Path) -> None:
    shown = runner.invoke(
        app, ["design", "--samples", str(study / "samples.csv"), "--treatment", "vist"]
    )
    assert shown.exit_code == 1
    assert "visit" in shown.stderr
    assert "Traceback" not in shown.output


def test_inspect(study: Path) -> None:
    file = sorted(study.glob("*.fcs"))[0]
    shown = runner.invoke(app, ["inspect", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "CD3" in shown.output
    facts = json.loads(runner.invoke(app, ["inspect", "--json", str(file)]).stdout)
    assert facts[0]["version"].startswith("FCS3.1")


def test_inspect_of_what_is_no_fcs_file(tmp_path: Path) -> None:
    (tmp_path / "text.fcs").write_text("not an FCS file")
    shown = runner.invoke(app, ["inspect", str(tmp_path / "text.fcs")])
    assert shown.exit_code == 1
    assert "text.fcs" in shown.stderr


def test_run(study: Path, tmp_path: Path) -> None:
    arguments = [
        "--treatment",
        "visit",
        "--compartment",
        "compartment",
        "--donor",
        "patient",
        "--n-jobs",
        "1",
    ]
    files = ["--samples", str(study / "samples.csv"), "--panel", str(study / "panel.csv")]
    shown = runner.invoke(app, ["run", *files, "--out", str(tmp_path / "run"), *arguments])
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "run" / "report.html").is_file()
    again = runner.invoke(app, ["run", *files, "--out", str(tmp_path / "run"), *arguments])
    assert again.exit_code == 1
    assert "already holds" in again.stderr.replace("\n", " ")


def test_unknown_option_is_refused() -> None:
    assert runner.invoke(app, ["run", "--colour", "red"]).exit_code == 2
