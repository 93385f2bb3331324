"""arcsinh on an AnnData, and where its cofactors come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import AlreadyAppliedError, ArgumentError
from cytoclust.numerics.arcsinh import inverse_arcsinh

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

MEASURED = ["FITC-A", "PE-A", "V500-A"]


def test_one_cofactor_in_place(study: Callable[..., AnnData]) -> None:
    adata = study()
    before, raw = adata.X, adata.X.copy()
    assert cc.pp.arcsinh(adata, 150) is None
    assert adata.X is before
    assert adata.X.dtype == np.float32
    assert adata.X.flags.c_contiguous
    np.testing.assert_allclose(adata.X[:, 3:6], np.arcsinh(raw[:, 3:6] / 150), rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(adata.X[:, [0, 1, 2, 6]], raw[:, [0, 1, 2, 6]])
    assert adata.var["cofactor"].loc[MEASURED].tolist() == [150.0] * 3
    assert adata.var["cofactor"].isna().sum() == 4


def test_cofactors_by_channel_and_marker(study: Callable[..., AnnData]) -> None:
    adata, again = study(), study()
    adata.var.loc["V500-A", "cofactor"] = 300.0
    again.var.loc["V500-A", "cofactor"] = 300.0
    cc.pp.arcsinh(adata, {"FITC-A": 100, "CD19": 200})
    assert adata.var["cofactor"].loc[MEASURED].tolist() == [100, 200, 300]
    table = adata.uns["cytoclust"]["arcsinh"]["cofactors"]
    assert table["source"].loc[MEASURED].tolist() == ["given", "given", "panel"]
    cc.pp.arcsinh(again, pd.Series({"FITC-A": 100, "CD19": 200}))
    np.testing.assert_array_equal(again.X, adata.X)


def test_missing_cofactors_are_estimated(study: Callable[..., AnnData]) -> None:
    adata = study()
    adata.var.loc["PE-A", "cofactor"] = 77.0
    cc.pp.compensate(adata)
    cc.pp.arcsinh(adata)
    widths = adata.var["cofactor"]
    assert widths["PE-A"] == 77.0
    assert 130 < widths["FITC-A"] < 260  # noise of 60
    sources = adata.uns["cytoclust"]["arcsinh"]["cofactors"]["source"]
    assert sources.loc[["FITC-A", "PE-A", "FSC-A"]].tolist() == ["estimated", "panel", "none"]


def test_estimate_is_the_same_before_and_after_compensation(
    study: Callable[..., AnnData],
) -> None:
    before, after = study(), study()
    cc.pp.estimate_cofactors(before)
    cc.pp.compensate(after)
    cc.pp.estimate_cofactors(after)
    np.testing.assert_array_equal(before.var["cofactor"], after.var["cofactor"])
    np.testing.assert_array_equal(before.X, before.layers["raw"])
    table = after.uns["cytoclust"]["estimate_cofactors"]["cofactors"]
    assert table.index.tolist() == MEASURED
    assert table["source"].tolist() == ["noise"] * 3
    cc.pp.arcsinh(after)
    assert after.uns["cytoclust"]["arcsinh"]["cofactors"].loc["PE-A", "source"] == "estimated"


def test_mass_cytometry_gets_about_five(study: Callable[..., AnnData]) -> None:
    adata = study()
    rng = np.random.default_rng(0)
    adata.X[:, 3:6] = rng.poisson(rng.choice([0.2, 50, 500], (adata.n_obs, 3)))
    adata.var["channel_type"] = ["scatter"] * 3 + ["mass", "mass", "viability", "time"]
    adata.uns["cytoclust"]["read_study"]["files"]["spillover_id"] = ""
    cc.pp.estimate_cofactors(adata)
    np.testing.assert_allclose(adata.var["cofactor"].loc[MEASURED], 5, rtol=0.1)


def test_inverse_brings_the_values_back(study: Callable[..., AnnData]) -> None:
    adata = study()
    cc.pp.arcsinh(adata)
    back = inverse_arcsinh(adata.X, adata.var["cofactor"])
    np.testing.assert_allclose(back, adata.layers["raw"], rtol=1e-5, atol=1e-3)


def test_not_twice(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 100})
    cc.pp.arcsinh(adata, 150)
    with pytest.raises(AlreadyAppliedError, match="arcsinh was already applied"):
        cc.pp.arcsinh(adata, 150)
    with pytest.raises(AlreadyAppliedError, match="arcsinh was already applied"):
        cc.pp.estimate_cofactors(adata)


def test_copy_view_and_threads(study: Callable[..., AnnData]) -> None:
    adata = study()
    changed = cc.pp.arcsinh(adata, 150, copy=True)
    assert changed is not None
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])
    view = adata[::2]
    cc.pp.arcsinh(view, 150, n_jobs=1)
    np.testing.assert_array_equal(view.X, changed.X[::2])
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])


def test_transformed_channels_stay(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 100})
    adata.var["scale"] = "transformed"
    cc.pp.estimate_cofactors(adata)
    cc.pp.arcsinh(adata)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])
    assert adata.var["cofactor"].isna().all()


def test_other_dtypes_and_layouts_become_the_contract(study: Callable[..., AnnData]) -> None:
    adata, plain = study({"a": 100}), study({"a": 100})
    adata.X = np.asfortranarray(adata.X.astype(np.float64))
    cc.pp.arcsinh(adata, 150)
    cc.pp.arcsinh(plain, 150)
    assert adata.X.dtype == np.float32
    assert adata.X.flags.c_contiguous
    np.testing.assert_array_equal(adata.X, plain.X)


def test_nan_and_infinity_stay(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 100})
    adata.X[0, 3], adata.X[1, 3], adata.X[2, 3] = np.nan, np.inf, -np.inf
    cc.pp.arcsinh(adata, 150)
    assert np.isnan(adata.X[0, 3])
    assert adata.X[1, 3] == np.inf
    assert adata.X[2, 3] == -np.inf


@pytest.mark.parametrize(
    ("cofactor", "text"),
    [
        (0, "cofactor must be a finite number above 0"),
        (-5.0, "cofactor must be a finite number above 0"),
        (np.nan, "cofactor must be a finite number above 0"),
        ({"FITC-A": 0}, "cofactor of 'FITC-A'"),
        ({"CD99": 5}, "neither channel nor marker"),
    ],
)
def test_bad_cofactors(study: Callable[..., AnnData], cofactor: object, text: str) -> None:
    adata = study({"a": 50})
    with pytest.raises(ArgumentError, match=text):
        cc.pp.arcsinh(adata, cofactor)
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])


def test_cofactors_of_another_study(study: Callable[..., AnnData]) -> None:
    first, later = study({"a": 500}), study({"b": 500})
    cc.pp.arcsinh(first)
    assert first.var["cofactor"].isna().any(), "scatter and time have none"
    cc.pp.arcsinh(later, first.var["cofactor"])
    np.testing.assert_array_equal(later.var["cofactor"], first.var["cofactor"])
    nameless = first.var["cofactor"].copy()
    nameless["FITC-A"] = np.nan
    with pytest.raises(ArgumentError, match="cofactor of 'FITC-A' must be a finite number"):
        cc.pp.arcsinh(study({"c": 50}), nameless)


def test_ambiguous_marker_and_bad_panel(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 50})
    adata.var["marker"] = ["", "", "", "CD3", "CD3", "", ""]
    with pytest.raises(ArgumentError, match="stands for 2 channels"):
        cc.pp.arcsinh(adata, {"CD3": 100})
    adata.var.loc["PE-A", "cofactor"] = -1.0
    with pytest.raises(ArgumentError, match=r"var\['cofactor'\] must be above 0.*PE-A"):
        cc.pp.arcsinh(adata)


def test_no_events(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 0})
    cc.pp.arcsinh(adata)
    assert adata.X.shape == (0, 7)
    assert (adata.var["cofactor"].loc[MEASURED] > 0).all()
