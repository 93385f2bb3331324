"""Compensation: each file's own matrix, matched by name, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import AlreadyAppliedError, StudyError, StudyWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

MEASURED = ["FITC-A", "PE-A", "V500-A"]


def record(adata: AnnData) -> dict:
    return adata.uns["cytoclust"]["read_study"]


def expected(adata: AnnData, matrix: np.ndarray) -> np.ndarray:
    values = adata[:, MEASURED].X.astype(np.float64)
    return values @ np.linalg.inv(matrix)


def test_in_place_and_right(study: Callable[..., AnnData]) -> None:
    adata = study()
    matrix = record(adata)["spillover"]["spillover_1"]["values"]
    want = expected(adata, matrix)
    before, scatter = adata.X, adata[:, ["FSC-A", "Time"]].X.copy()
    assert cc.pp.compensate(adata) is None
    assert adata.X is before
    assert adata.X.dtype == np.float32
    np.testing.assert_allclose(adata[:, MEASURED].X, want, rtol=1e-6, atol=0.02)
    np.testing.assert_array_equal(adata[:, ["FSC-A", "Time"]].X, scatter)
    table = adata.uns["cytoclust"]["compensate"]["files"]
    assert table["status"].tolist() == ["compensated", "compensated"]
    assert table["n_channels"].tolist() == [3, 3]
    assert table["condition"].iloc[0] == pytest.approx(np.linalg.cond(matrix))


def test_matched_by_name_whatever_the_order(study: Callable[..., AnnData]) -> None:
    one, other = study(), study()
    entry = record(other)["spillover"]["spillover_1"]
    order = [2, 0, 1]
    entry["channels"] = entry["channels"][order]
    entry["values"] = entry["values"][np.ix_(order, order)]
    cc.pp.compensate(one)
    cc.pp.compensate(other)
    np.testing.assert_allclose(one.X, other.X, rtol=1e-5, atol=1e-2)


def test_each_file_has_its_own_matrix(study: Callable[..., AnnData]) -> None:
    adata = study()
    values = np.array([[1.0, 0.4, 0], [0, 1, 0], [0, 0, 1]])
    entry = {"channels": np.array(MEASURED, dtype=object), "values": values}
    record(adata)["spillover"]["spillover_2"] = entry
    record(adata)["files"]["spillover_id"] = ["spillover_1", "spillover_2"]
    second = (adata.obs["sample"] == "P1/d7").to_numpy()
    want = expected(adata[second], values)
    cc.pp.compensate(adata)
    np.testing.assert_allclose(adata[second, MEASURED].X, want, rtol=1e-5, atol=0.02)


def test_shuffled_and_filtered_events(study: Callable[..., AnnData]) -> None:
    whole, part = study(), study()
    chosen = np.random.default_rng(0).permutation(part.n_obs)[:1500]
    part = part[chosen]
    cc.pp.compensate(whole)
    cc.pp.compensate(part)
    assert not part.is_view
    np.testing.assert_array_equal(part.X, whole.X[chosen])


def test_copy_leaves_the_original(study: Callable[..., AnnData]) -> None:
    adata = study()
    before = adata.X.copy()
    changed = cc.pp.compensate(adata, copy=True)
    assert changed is not None
    np.testing.assert_array_equal(adata.X, before)
    assert "compensate" not in adata.uns["cytoclust"]
    cc.pp.compensate(adata)
    np.testing.assert_array_equal(adata.X, changed.X)


def test_same_on_any_thread_count(study: Callable[..., AnnData]) -> None:
    one, two = study(), study()
    cc.pp.compensate(one, n_jobs=1)
    cc.pp.compensate(two, n_jobs=2)
    np.testing.assert_array_equal(one.X, two.X)


def test_not_twice_and_not_after_arcsinh(study: Callable[..., AnnData]) -> None:
    adata = study()
    cc.pp.compensate(adata)
    with pytest.raises(AlreadyAppliedError, match="compensate was already applied"):
        cc.pp.compensate(adata)
    adata = study()
    cc.pp.arcsinh(adata, 150)
    with pytest.raises(AlreadyAppliedError, match="Compensate first"):
        cc.pp.compensate(adata)


def test_interrupt_leaves_the_events_as_they_were(
    study: Callable[..., AnnData], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cytoclust.pp import compensation

    adata, calls = study(), []
    kernel = compensation.compensate_arcsinh

    def interrupted(*args: np.ndarray, **options: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return kernel(*args, **options)

    monkeypatch.setattr(compensation, "compensate_arcsinh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cc.pp.compensate(adata)
    np.testing.assert_allclose(adata.X, adata.layers["raw"], rtol=1e-5, atol=0.02)
    assert "compensate" not in adata.uns["cytoclust"]


def test_given_matrix(study: Callable[..., AnnData], tmp_path: Path) -> None:
    values = np.array([[1.0, 0.2], [0.1, 1.0]])
    table = pd.DataFrame(values, index=["FITC", "PE"], columns=["FITC-A", "PE-A"])
    adata, from_file, swapped = study(), study(), study()
    want = adata[:, ["FITC-A", "PE-A"]].X.astype(np.float64) @ np.linalg.inv(values)
    cc.pp.compensate(adata, table)
    np.testing.assert_allclose(adata[:, ["FITC-A", "PE-A"]].X, want, rtol=1e-5, atol=0.02)
    table.to_csv(tmp_path / "matrix.csv")
    cc.pp.compensate(from_file, tmp_path / "matrix.csv")
    np.testing.assert_array_equal(from_file.X, adata.X)
    named = table.set_axis(["FITC-A", "PE-A"], axis=0).iloc[::-1]
    cc.pp.compensate(swapped, named)
    np.testing.assert_array_equal(swapped.X, adata.X)


@pytest.mark.parametrize(
    ("values", "columns", "text"),
    [
        ([[1.0, 0.2]], ["FITC-A", "PE-A"], "square spillover matrix"),
        ([[100.0, 20], [5, 100]], ["FITC-A", "PE-A"], "Divide percentages by 100"),
        ([[1.0, 0.2], [0.1, 1]], ["FITC-A", "APC-A"], "'APC-A', which the study does not"),
        ([[1.0, 1], [1, 1]], ["FITC-A", "PE-A"], "most alike"),
        ([[1.0, np.nan], [0, 1]], ["FITC-A", "PE-A"], "the entry from FITC-A to PE-A"),
        ([["1", "x"], ["0", "1"]], ["FITC-A", "PE-A"], "expected numbers"),
    ],
)
def test_given_matrix_that_cannot_be(
    study: Callable[..., AnnData], values: list[list[float]], columns: list[str], text: str
) -> None:
    adata = study({"a": 50})
    before = adata.X.copy()
    with pytest.raises(StudyError, match=text):
        cc.pp.compensate(adata, pd.DataFrame(values, columns=columns))
    np.testing.assert_array_equal(adata.X, before)


def test_missing_matrix_file(study: Callable[..., AnnData], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is not a file"):
        cc.pp.compensate(study({"a": 50}), tmp_path / "nothing.csv")


def test_file_matrix_that_does_not_fit_names_file_and_channel(
    study: Callable[..., AnnData],
) -> None:
    adata = study()
    record(adata)["spillover"]["spillover_1"]["channels"][1] = "PE-Cy5-A"
    with pytest.raises(StudyError, match=r"P1/d0.fcs|d0\.fcs.*'PE-Cy5-A'"):
        cc.pp.compensate(adata)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])


def test_absent_channel_without_spillover_is_left_out(study: Callable[..., AnnData]) -> None:
    adata, plain = study(), study()
    entry = record(adata)["spillover"]["spillover_1"]
    bigger = np.eye(4)
    bigger[:3, :3] = entry["values"]
    entry["values"], entry["channels"] = bigger, np.array([*MEASURED, "APC-A"], dtype=object)
    cc.pp.compensate(adata)
    cc.pp.compensate(plain)
    np.testing.assert_array_equal(adata.X, plain.X)


def test_singular_file_matrix_and_recorded_problem(study: Callable[..., AnnData]) -> None:
    adata = study()
    record(adata)["spillover"]["spillover_1"]["values"] = np.ones((3, 3))
    with pytest.raises(StudyError, match=r"d0\.fcs.*condition number"):
        cc.pp.compensate(adata)
    adata = study()
    record(adata)["files"]["spillover_problem"] = ["", "SPILL: 3 names for 2 channels"]
    with pytest.raises(StudyError, match=r"d7\.fcs.*SPILL: 3 names"):
        cc.pp.compensate(adata)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])
    matrix = pd.DataFrame(np.eye(3), columns=MEASURED)
    cc.pp.compensate(adata, matrix)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])


def test_files_without_a_matrix_are_counted(study: Callable[..., AnnData]) -> None:
    adata = study()
    record(adata)["files"]["spillover_id"] = ["spillover_1", ""]
    second = (adata.obs["sample"] == "P1/d7").to_numpy()
    with pytest.warns(StudyWarning, match="1 of 2 samples have no spillover matrix"):
        cc.pp.compensate(adata)
    np.testing.assert_array_equal(adata.X[second], adata.layers["raw"][second])
    table = adata.uns["cytoclust"]["compensate"]["files"]
    assert table.loc["P1/d7", "reason"] == "the file has no spillover matrix"


def test_mass_cytometry_needs_none(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 100})
    adata.var.loc[MEASURED, "channel_type"] = "mass"
    record(adata)["files"]["spillover_id"] = ""
    cc.pp.compensate(adata)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])


def test_transformed_channels_are_never_compensated(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 100})
    adata.var["scale"] = "transformed"
    with pytest.raises(StudyError, match="all were exported after transformation"):
        cc.pp.compensate(adata, pd.DataFrame(np.eye(3), columns=MEASURED))
    cc.pp.compensate(adata)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])
    reason = adata.uns["cytoclust"]["compensate"]["files"]["reason"].iloc[0]
    assert "after transformation" in reason
    mixed = study({"a": 100})
    mixed.var.loc["PE-A", "scale"] = "transformed"
    with pytest.raises(StudyError, match=r"joins linear channels .*PE-A"):
        cc.pp.compensate(mixed)


def test_samples_without_events_and_round_trip(
    study: Callable[..., AnnData], tmp_path: Path
) -> None:
    import anndata

    adata = study({"empty": 0, "full/1": 200})
    cc.pp.compensate(adata)
    cc.pp.arcsinh(adata)
    adata.write_h5ad(tmp_path / "study.h5ad")
    back = anndata.read_h5ad(tmp_path / "study.h5ad")
    np.testing.assert_array_equal(back.X, adata.X)
    table = back.uns["cytoclust"]["compensate"]["files"]
    assert table["n_events"].tolist() == [0, 200]
    with pytest.raises(AlreadyAppliedError, match="already applied"):
        cc.pp.compensate(back)


def test_one_file_without_sample_column(study: Callable[..., AnnData]) -> None:
    adata, plain = study({"a": 50}), study({"a": 50})
    del adata.obs["sample"]
    cc.pp.compensate(adata)
    cc.pp.compensate(plain)
    np.testing.assert_array_equal(adata.X, plain.X)


def test_without_read_study(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 50})
    del adata.uns["cytoclust"]
    with pytest.warns(StudyWarning, match="no spillover matrix"):
        cc.pp.compensate(adata)
