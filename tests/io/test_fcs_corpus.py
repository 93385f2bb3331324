"""Every file of the shared corpora: exact, or a clear error, never silently wrong."""

from __future__ import annotations

import csv
import hashlib
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cytoclust.errors import FcsFormatError, FcsWarning
from cytoclust.io import read_fcs_datasets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def matrix_hash(events: NDArray[np.generic]) -> str:
    values = np.array(events, dtype="<f8", order="C")
    values[np.isnan(values)] = np.nan
    return hashlib.sha256(values.tobytes()).hexdigest()


def split_names(text: str) -> list[str]:
    names, index = [""], 0
    while index < len(text):
        if text[index] == "\\":
            index += 1
            names[-1] += text[index]
        elif text[index] == ";":
            names.append("")
        else:
            names[-1] += text[index]
        index += 1
    return names


def check_row(folder: Path, row: dict[str, str]) -> list[str]:
    """Return what is wrong about reading one row's file."""
    path = folder / row["file"]
    expected = row["expectation"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            datasets = read_fcs_datasets(path)
        except FcsFormatError as error:
            wrong = [] if "error" in expected else [f"error: {error}"]
            return wrong + ([] if str(path) in str(error) else ["the error does not name the file"])
    wrong = ["read without error"] if expected == "error" else []
    if "warn" in expected and not any(issubclass(w.category, FcsWarning) for w in caught):
        wrong.append("no warning")
    number = int(row.get("dataset") or 0)
    if len(datasets) <= number:
        return [*wrong, f"only {len(datasets)} data sets"]
    dataset = datasets[number]
    if row["sha256"] and matrix_hash(dataset.events) != row["sha256"]:
        wrong.append("other values")
    if "channels" in row:
        if list(dataset.channels) != split_names(row["channels"]):
            wrong.append(f"channels {dataset.channels}")
        if list(dataset.markers) != split_names(row["markers"]):
            wrong.append(f"markers {dataset.markers}")
        if (dataset.spillover_keyword or "no") != row["has_spillover"]:
            wrong.append(f"spillover in {dataset.spillover_keyword!r}")
    return wrong


@pytest.mark.parametrize(("table", "n_rows"), [("truth.csv", 96), ("malformed.csv", 38)])
def test_corpus(shared: Path, table: str, n_rows: int) -> None:
    folder = shared / "fcs"
    with (folder / table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == n_rows
    problems = {row["file"]: wrong for row in rows if (wrong := check_row(folder, row))}
    assert problems == {}
