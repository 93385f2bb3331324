"""The design object: who was seen when and where, what can be compared, and what is refused."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from cytoclust import tl
from cytoclust.errors import DesignError, StudyWarning

if TYPE_CHECKING:
    from pathlib import Path


def trial(n_donors: int = 4) -> pd.DataFrame:
    rows = [
        (f"P{p}_{place}_{visit}", f"P{p}", place, visit)
        for p in range(n_donors)
        for place in ("PB", "BM")
        for visit in ("d0", "d7", "d28")
    ]
    return pd.DataFrame(rows, columns=["sample", "patient", "compartment", "visit"])


KEYS = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}


def test_defaults_of_order_and_sign() -> None:
    plan = tl.design(trial(), **KEYS)
    assert [c.name for c in plan.contrasts] == ["d7 - d0", "d28 - d0", "d28 - d7"]
    assert plan.compartments == ("PB", "BM")
    assert [label for label, _, _ in plan.interactions()] == ["BM - PB"]
    assert plan.baseline == "d0"
    assert plan.summary()["n_paired"].tolist() == [4] * 9
    assert plan.summary()["estimable"].all()


def test_categorical_order_wins_over_appearance() -> None:
    sheet = trial()
    sheet["visit"] = pd.Categorical(sheet["visit"], categories=["d28", "d7", "d0", "d99"])
    plan = tl.design(sheet, **KEYS)
    assert plan.levels == ("d28", "d7", "d0")
    assert plan.contrasts[0].name == "d7 - d28"
    other = tl.design(sheet, **KEYS, baseline="d7")
    assert [c.name for c in other.contrasts] == ["d28 - d7", "d0 - d7", "d0 - d28"]


def test_numbers_are_read_as_levels() -> None:
    sheet = trial().assign(visit=lambda s: s["visit"].str[1:].astype(float))
    plan = tl.design(sheet, **KEYS, baseline=0)
    assert plan.levels == ("0", "7", "28")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"treatment_key": "vist"}, r"treatment_key 'vist' is not a column.*Did you mean 'visit'"),
        ({"compartment_key": "tissue"}, r"compartment_key 'tissue' is not a column"),
        ({"donor_key": "pateint"}, r"Did you mean 'patient'"),
        ({"covariates": ["batch"]}, r"covariate 'batch' is not a column"),
        ({"covariates": ["patient +"]}, r"covariates must be columns or formula terms"),
        ({"baseline": "d1"}, r"baseline 'd1' is not a level of 'visit'; levels: \[d0, d7, d28\]"),
        ({"contrasts": ["d7-d0"]}, r"must read 'later - earlier'"),
        ({"contrasts": ["d7 - d9"]}, r"levels of \[d0, d7, d28\]"),
        ({"contrasts": []}, r"at least one comparison"),
        ({"contrasts": {"mean": {"d7": 1, "d0": -0.5}}}, r"sum to 0; got weights that sum to 0.5"),
        ({"contrasts": {"mean": {"d9": 1, "d0": -1}}}, r"unknown levels \[d9\]"),
        (
            {"treatment_key": None, "compartment_key": None},
            r"needs treatment_key or compartment_key",
        ),
        (
            {"compartment_key": None},
            r"one sample per treatment and compartment.*P0 d0: P0_PB_d0 and P0_BM_d0",
        ),
    ],
)
def test_refusals(change: dict[str, object], text: str) -> None:
    with pytest.raises(DesignError, match=text):
        tl.design(trial(), **{**KEYS, **change})


def test_sample_listed_twice_and_single_level() -> None:
    sheet = trial()
    with pytest.raises(DesignError, match="listed twice"):
        tl.design(pd.concat([sheet, sheet.head(1)]), **KEYS)
    with pytest.raises(DesignError, match="at least two levels"):
        tl.design(sheet[sheet["visit"] == "d0"], **KEYS)


def test_replicates_without_donors_are_fine() -> None:
    plan = tl.design(trial(), treatment_key="visit", compartment_key="compartment")
    assert not plan.has_donors
    assert plan.unit("PB").blocks is None
    assert plan.summary()["n_paired"].tolist() == [0] * 9


def test_likely_typos_are_reported() -> None:
    sheet = trial().astype({"visit": object})
    sheet.loc[1, "visit"] = "D7 "
    with pytest.warns(StudyWarning, match="'D7'.*'d7'.*one level spelt in two ways"):
        tl.design(sheet, **KEYS)
    places = trial().replace({"compartment": {"BM": "bone_marrow", "PB": "blood"}})
    places.loc[3, "compartment"] = "bone_marow"
    with pytest.warns(StudyWarning, match="bone_marow"):
        tl.design(places, **KEYS)


@pytest.mark.parametrize(
    "levels",
    [
        ("d0", "d7", "d28"),
        ("Stim-A", "Stim-B", "Stim-C"),
        ("-1", "1", "10"),
        ("CD3-", "CD3+", "CD8+"),
    ],
)
def test_distinct_levels_are_no_typos(levels: tuple[str, ...]) -> None:
    sheet = trial(1).replace({"visit": dict(zip(("d0", "d7", "d28"), levels, strict=True))})
    sheet = pd.concat(
        [sheet, trial(2).iloc[6:].assign(visit=levels[0], patient=[f"Q{i}" for i in range(6)])]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tl.design(sheet, **KEYS)


def test_empty_design_values_are_left_out_and_reported() -> None:
    sheet = trial()
    sheet.loc[0, "visit"] = None
    sheet.loc[5, "patient"] = " "
    plan = tl.design(sheet, **KEYS)
    assert plan.excluded["sample"].tolist() == ["P0_PB_d0", "P0_BM_d28"]
    assert plan.excluded["reason"].tolist() == [
        "empty in the sample sheet: visit",
        "empty in the sample sheet: patient",
    ]
    assert len(plan.table) == len(sheet) - 2
    assert "P0_PB_d0: empty in the sample sheet: visit" in str(plan)


def test_an_empty_covariate_is_named() -> None:
    sheet = trial().assign(batch="a", dose=[0.5, 1.5] * (len(trial()) // 2))
    sheet.loc[2, "dose"] = None
    plan = tl.design(sheet, covariates=["batch", "dose"], **KEYS)
    assert plan.excluded["reason"].tolist() == ["empty in the sample sheet: dose"]


def test_missing_cells_are_not_estimable_with_the_reason() -> None:
    sheet = trial()
    sheet = sheet[~((sheet["compartment"] == "BM") & (sheet["visit"] == "d28"))]
    table = tl.design(sheet, **KEYS).summary().set_index(["compartment", "contrast"])
    assert table.loc[("BM", "d28 - d0"), "reason"] == "no sample at d28 in BM"
    assert table.loc[("BM - PB", "d28 - d0"), "reason"] == "no sample at d28 in BM"
    assert table.loc[("PB", "d28 - d0"), "estimable"]
    assert table.loc[("BM", "d7 - d0"), "estimable"]


def test_confounded_batch_is_found() -> None:
    sheet = trial().assign(batch=lambda s: np.where(s["visit"] == "d28", "b2", "b1"))
    table = (
        tl.design(sheet, **KEYS, covariates=["batch"])
        .summary()
        .set_index(["compartment", "contrast"])
    )
    assert table.loc[("PB", "d28 - d0"), "reason"] == "confounded with the covariates in PB"
    assert table.loc[("PB", "d7 - d0"), "estimable"]


def test_one_patient_has_no_replicates() -> None:
    table = tl.design(trial(1), **KEYS).summary()
    assert not table["estimable"].any()
    assert table.loc[0, "reason"] == "no replicates in PB: 3 samples for 3 parameters"


def test_covariates_say_how_they_are_taken() -> None:
    sheet = trial(6).assign(
        age=lambda s: s["patient"].map({f"P{p}": str(30.5 + p) for p in range(6)}),
        batch=lambda s: s["patient"].map({f"P{p}": str(p % 3) for p in range(6)}),
    )
    plan = tl.design(sheet, **KEYS, covariates=["age", "batch"])
    assert plan.covariates.shape[1] == 1 + 2
    assert "covariate age is taken as a quantity" in plan.notes
    assert "covariate batch is taken as categories" in plan.notes
    unit = plan.unit("PB")
    np.testing.assert_allclose(unit.matrix[:, 3:].mean(axis=0), 0, atol=1e-12)
    odd = sheet.rename(columns={"age": "age (years)"})
    assert tl.design(odd, **KEYS, covariates=["age (years)"]).covariates.shape[1] == 1


def test_without_treatment_compartments_are_compared(shared: Path) -> None:
    plan = tl.design(
        shared / "data/blood_marrow_cd8/samples.csv",
        compartment_key="compartment",
        donor_key="donor",
    )
    assert [c.name for c in plan.contrasts] == ["bone_marrow - blood"]
    assert plan.summary()[["compartment", "n_paired"]].to_numpy().tolist() == [["all", 6]]


def test_grid_and_text(shared: Path) -> None:
    sheet = pd.read_csv(shared / "stats/samples.csv")
    plan = tl.design(
        sheet, treatment_key="time", compartment_key="compartment", donor_key="patient"
    )
    grid = plan.grid()
    assert grid.shape == (29, 8)
    assert grid.to_numpy().sum() == len(sheet)
    assert grid.loc["P02", ("BM", "d7")] == 0
    text = str(plan)
    assert "69 of 232 visits missing" in text
    assert "BM: d28 - d7  (26 samples, 4 donors paired)" in text


def test_general_contrasts() -> None:
    plan = tl.design(trial(), **KEYS, contrasts={"treated": {"d7": 0.5, "d28": 0.5, "d0": -1}})
    assert plan.summary()["n_paired"].tolist() == [4, 4, 4]
    np.testing.assert_allclose(plan.unit("PB").contrasts[:, 0], [-1, 0.5, 0.5])


def two_arms() -> pd.DataFrame:
    rows = [
        (f"P{p}{v}", f"P{p}", "low" if p < 4 else "high", v)
        for p in range(8)
        for v in ("d0", "d7", "d28")
    ]
    return pd.DataFrame(rows, columns=["sample", "patient", "dose", "visit"])


def test_treatment_of_arms_and_visits() -> None:
    plan = tl.design(two_arms(), treatment_key=("dose", "visit"), donor_key="patient")
    assert plan.levels[:3] == ("low d0", "low d7", "low d28")
    names = [contrast.name for contrast in plan.contrasts]
    assert names[:3] == ["low d7 - low d0", "low d28 - low d0", "low d28 - low d7"]
    assert names[-1] == "(high d28 - high d7) - (low d28 - low d7)"
    assert len(names) == 9
    summary = plan.summary().set_index("contrast")
    assert summary["estimable"].all()
    assert summary.loc["high d7 - high d0", "n_paired"] == 4
    other = tl.design(two_arms(), treatment_key=["dose", "visit"], baseline="d7")
    assert other.contrasts[0].name == "low d0 - low d7"
    same = tl.design(two_arms(), treatment_key=["visit"], donor_key="patient")
    assert same.levels == ("d0", "d7", "d28")


def test_difference_of_changes_is_estimated() -> None:
    sheet = two_arms()
    rng = np.random.default_rng(0)
    share = np.exp(rng.normal(0, 0.2, (10, len(sheet))))
    share[3, ((sheet["dose"] == "high") & (sheet["visit"] == "d7")).to_numpy()] *= 4
    counts = pd.DataFrame(
        rng.poisson(400 * share), index=[f"c{k}" for k in range(10)], columns=sheet["sample"]
    )
    table = tl.differential_abundance(
        counts, samples=sheet, treatment_key=("dose", "visit"), donor_key="patient"
    )
    row = table.set_index(["population", "contrast"]).loc[
        ("c3", "(high d7 - high d0) - (low d7 - low d0)")
    ]
    assert row["log2_fold_change"] == pytest.approx(2, abs=0.4)
    assert row["fdr"] < 0.001


def test_bad_treatments_are_refused() -> None:
    with pytest.raises(DesignError, match="one column or two"):
        tl.design(two_arms(), treatment_key=("dose", "visit", "patient"))
    with pytest.raises(DesignError, match="'arm' is not a column"):
        tl.design(two_arms(), treatment_key=("arm", "visit"))


def test_repeats_that_a_covariate_tells_apart_are_no_copies() -> None:
    plan = tl.design(two_arms(), treatment_key="dose", donor_key="patient", covariates=["visit"])
    assert len(plan.table) == 24
    with pytest.raises(DesignError, match="one sample per treatment and compartment"):
        tl.design(two_arms(), treatment_key="dose", donor_key="patient")
