"""study.toml: every key, unknown keys, wrong values, and the draft that init writes."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from cytoclust.cli.study_file import KEYS, Request, compose, read_request
from cytoclust.errors import StudyError

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
samples = "sheets/samples.csv"
panel = "panel.csv"
out = "results"
treatment = "visit"
baseline = "d0"
compartment = "compartment"
donor = "patient"
covariates = ["batch"]
definitions = ["human_leukocyte", "own.toml"]
resolution = 2
embedding = false
seed = 7
n_jobs = 1
title = "Cycle 1"
store = "events.zarr"
fcs = false
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "study.toml"
    file.write_text(text)
    return file


def test_every_key_is_read(tmp_path: Path) -> None:
    found = read_request(written(tmp_path, WHOLE))
    assert set(tomllib.loads(WHOLE)) == set(KEYS)
    assert found == Request(
        samples=tmp_path / "sheets/samples.csv", panel=tmp_path / "panel.csv", out=tmp_path / "results",
        treatment="visit", baseline="d0", compartment="compartment", donor="patient", covariates=("batch",),
        definitions=("human_leukocyte", str(tmp_path / "own.toml")), resolution=2, embedding=False, seed=7,
        n_jobs=1, title="Cycle 1", store=tmp_path / "events.zarr", fcs=False,
    )  # fmt: skip
    assert read_request(tmp_path) == found  # a folder stands for its study.toml


def test_options_win_over_the_file(tmp_path: Path) -> None:
    found = read_request(written(tmp_path, WHOLE))
    changed = found.changed(baseline="d7", seed=0, covariates=(), out=None)
    assert (changed.baseline, changed.seed, changed.covariates) == ("d7", 0, ())
    assert changed.out == tmp_path / "results"


def test_an_empty_text_is_no_value(tmp_path: Path) -> None:
    found = read_request(written(tmp_path, 'samples = "s.csv"\ntreatment = ""\ncovariates = [""]'))
    assert found.treatment is None
    assert found.covariates == ()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('treatmnt = "visit"', r"unknown keys \[treatmnt\].*Did you mean 'treatment'\?"),
        ("resolution = true", "resolution must be a number; found True"),
        ('seed = "0"', "seed must be a whole number; found '0'"),
        ("donor = 3", "donor must be a text in quotes; found 3"),
        ("covariates = [1]", "covariates must be a list of texts"),
        ("treatment = visit", "not a TOML file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(StudyError, match=match):
        read_request(written(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.toml: no such file"):
        read_request(tmp_path)


def test_the_draft_holds_every_key_and_reads_back(tmp_path: Path) -> None:
    hostile = 'd"0\\ ü \x7f\n'
    text = compose({"samples": "samples.csv", "treatment": "visit", "baseline": hostile})
    assert all(f"{key} = " in text for key in KEYS)
    assert read_request(written(tmp_path, text)).baseline == hostile.strip()
    everything = "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:])
    assert set(tomllib.loads(everything)) == set(KEYS)  # what is commented out is valid too
    read_request(written(tmp_path, everything))
