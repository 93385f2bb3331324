"""Differential state: rows for everything, refusals, calibration, direction."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytoclust import tl
from cytoclust.errors import (
    ArgumentError,
    MissingSlotError,
    StatisticsWarning,
    StudyError,
    StudyWarning,
)

KEYS = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
VISITS = ("d0", "d7", "d28")


def simulated(
    seed: int = 0, *, n_donors: int = 10, n_populations: int = 8
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Medians with donor effects, cell-number noise and no change."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"P{p}_{place}_{visit}", f"P{p}", place, visit)
        for p in range(n_donors)
        for place in ("PB", "BM")
        for visit in VISITS
    ]
    sheet = pd.DataFrame(rows, columns=["sample", "patient", "compartment", "visit"])
    tables = []
    for k in range(n_populations):
        cells = np.exp(rng.uniform(np.log(8), np.log(20_000), len(sheet))).astype(int)
        for marker in ("PD-1", "CD39", "TIM-3"):
            donor = rng.normal(0, 0.3, (n_donors, 2))
            level = (
                2
                + donor[np.repeat(np.arange(n_donors), 6), np.tile(np.repeat([0, 1], 3), n_donors)]
            )
            noise = rng.normal(size=len(sheet)) * np.sqrt(0.02 + 1 / cells)
            tables.append(
                sheet[["sample"]].assign(
                    population=f"c{k}", marker=marker, median=level + noise, n_events=cells
                )
            )
    return pd.concat(tables, ignore_index=True), sheet


def by_key(result: pd.DataFrame) -> pd.DataFrame:
    return result.set_index(["population", "marker", "compartment", "contrast"]).sort_index()


def test_rows_are_complete() -> None:
    medians, sheet = simulated()
    result = tl.differential_state(medians, samples=sheet, **KEYS)
    assert len(result) == 8 * 3 * 3 * 3
    assert list(result.columns[:8]) == [
        "population",
        "level",
        "parent",
        "marker",
        "denominator",
        "compartment",
        "contrast",
        "difference",
    ]
    assert (result["status"] == "ok").all()
    assert result["n_paired"].max() <= 10
    assert result["n_paired"].min() < 10  # samples below 10 cells are not counted
    assert (result["fdr"] >= result["p_value"]).all()


def test_false_positive_rate() -> None:
    rates: dict[str, list[float]] = {"PB": [], "BM": [], "BM - PB": []}
    for seed in range(20):
        medians, sheet = simulated(seed)
        result = tl.differential_state(medians, samples=sheet, **KEYS)
        for place, found in rates.items():
            found.append((result.loc[result["compartment"] == place, "p_value"] < 0.05).mean())
    for place, found in rates.items():
        # 20 sets of 24 rows x 3 contrasts: standard error about 0.008
        assert 0.025 < np.mean(found) < 0.075, (place, np.mean(found))


def test_noisier_compartment_stays_calibrated() -> None:
    rates = []
    for seed in range(20):
        medians, sheet = simulated(100 + seed)
        marrow = medians["sample"].str.contains("_BM_")
        extra = np.random.default_rng(seed).normal(0, 0.4, int(marrow.sum()))
        medians.loc[marrow, "median"] += extra
        result = tl.differential_state(medians, samples=sheet, **KEYS)
        rates.append((result.loc[result["compartment"] == "BM", "p_value"] < 0.05).mean())
    assert 0.025 < np.mean(rates) < 0.075


def test_planted_shift_is_found() -> None:
    medians, sheet = simulated(3)
    here = (
        (medians["population"] == "c2")
        & (medians["marker"] == "CD39")
        & medians["sample"].str.endswith("PB_d28")
    )
    medians.loc[here, "median"] += 1.0
    result = by_key(tl.differential_state(medians, samples=sheet, **KEYS))
    row = result.loc[("c2", "CD39", "PB", "d28 - d0")]
    assert row["difference"] == pytest.approx(1.0, abs=0.3)
    assert row["fdr"] < 0.001
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert result.loc[("c2", "CD39", "BM - PB", "d28 - d0"), "difference"] < -0.5
    assert result.loc[("c2", "CD39", "BM", "d28 - d0"), "fdr"] > 0.05


def test_donor_offsets_do_not_matter() -> None:
    medians, sheet = simulated(4)
    expected = by_key(tl.differential_state(medians, samples=sheet, **KEYS))
    donor = medians["sample"].str.split("_").str[0]
    moved = medians.assign(median=medians["median"] + 5 * donor.str[1:].astype(float))
    found = by_key(
        tl.differential_state(moved.sample(frac=1, random_state=0), samples=sheet, **KEYS)
    )
    np.testing.assert_allclose(found["difference"], expected["difference"], atol=1e-8)
    np.testing.assert_allclose(found["p_value"], expected["p_value"], rtol=1e-5)


def test_rare_populations_keep_their_rows() -> None:
    medians, sheet = simulated(5)
    rare = medians["population"] == "c0"
    medians.loc[rare, "n_events"] = 4
    result = tl.differential_state(medians, samples=sheet, **KEYS)
    rows = result[result["population"] == "c0"]
    assert (rows["status"] == "too few").all()
    assert rows["reason"].iloc[0] == "10 cells in 0 of 30 samples"
    assert (rows["n_samples"] == 0).all()
    assert (result.loc[result["population"] != "c0", "status"] == "ok").all()


def test_arms_of_donors_with_one_sample_each() -> None:
    medians, sheet = simulated(6)
    sheet["arm"] = np.where(sheet["patient"].isin(["P0", "P1", "P2", "P3"]), "A", "B")
    alone = sheet[(sheet["compartment"] == "PB") & (sheet["visit"] == "d0")]
    table = medians[medians["sample"].isin(alone["sample"])]
    found = tl.differential_state(table, samples=alone, treatment_key="arm", donor_key="patient")
    assert (found["status"] == "ok").all()  # one sample per donor: nothing to block


def test_unpaired_contrast_is_not_estimable() -> None:
    medians, sheet = simulated(7)
    blood = sheet[sheet["compartment"] == "PB"]
    late = blood["patient"].isin([f"P{p}" for p in range(5)])
    blood = blood[(late & (blood["visit"] == "d28")) | (~late & (blood["visit"] != "d28"))]
    table = medians[medians["sample"].isin(blood["sample"])]
    result = by_key(
        tl.differential_state(
            table, samples=blood, treatment_key="visit", donor_key="patient", baseline="d0"
        )
    )
    row = result.loc[("c0", "PD-1", "all", "d28 - d0")]
    assert row["status"] in {"ok", "singular"}
    assert row["method"] == "lmm"
    assert row["n_paired"] == 0
    inner = result.loc[("c0", "PD-1", "all", "d7 - d0")]
    assert (inner["status"], inner["method"]) == ("ok", "limma_fixed")
    few = blood[blood["patient"].isin(["P0", "P8", "P9"])]
    few = few[(few["patient"] != "P9") | (few["visit"] == "d0")]
    result = by_key(
        tl.differential_state(
            medians[medians["sample"].isin(few["sample"])].assign(n_events=100),
            samples=few,
            treatment_key="visit",
            donor_key="patient",
            baseline="d0",
        )
    )
    row = result.loc[("c0", "PD-1", "all", "d28 - d0")]
    assert row["status"] == "not estimable"
    assert "compares donors with donors" in row["reason"]


def test_arms_of_followed_donors_use_a_mixed_model() -> None:
    """Closed form: with two equal samples per donor the mixed model is a t test of donor means."""
    rng = np.random.default_rng(20)
    sheet = pd.DataFrame(
        [(f"P{p}{k}", f"P{p}", "A" if p < 8 else "B", k) for p in range(16) for k in "xy"],
        columns=["sample", "patient", "arm", "visit"],
    )
    value = rng.normal(2, 0.5, 16)[np.repeat(np.arange(16), 2)] + rng.normal(0, 0.1, 32)
    table = sheet[["sample"]].assign(population="Treg", marker="PD-1", median=value, n_events=900)
    row = tl.differential_state(
        table, samples=sheet, treatment_key="arm", donor_key="patient", covariates=["visit"]
    ).iloc[0]
    means = value.reshape(16, 2).mean(axis=1)
    expected = stats.ttest_ind(means[8:], means[:8])
    assert row["method"] == "lmm"
    assert row["difference"] == pytest.approx(means[8:].mean() - means[:8].mean())
    assert row["statistic"] == pytest.approx(expected.statistic, rel=1e-3)
    assert row["df"] == pytest.approx(14, rel=1e-3)


def test_mixed_model_for_all_contrasts() -> None:
    medians, sheet = simulated(21, n_populations=3)
    medians["n_events"] = 500
    fixed = by_key(tl.differential_state(medians, samples=sheet, **KEYS))
    mixed = by_key(tl.differential_state(medians, samples=sheet, **KEYS, method="lmm"))
    assert set(mixed["method"]) == {"lmm"}
    # complete and equally weighted: both are the mean change within donors
    np.testing.assert_allclose(fixed["difference"], mixed["difference"], atol=1e-8)


def two_part_study(shift: float) -> anndata.AnnData:
    """Half of the cells positive at 4, the other half at 0; at d7 `shift` more of them."""
    rng = np.random.default_rng(22)
    rows = []
    for donor in range(8):
        for visit, share in (("d0", 0.4), ("d7", 0.4 + shift)):
            positive = rng.uniform(size=400) < share + rng.normal(0, 0.02)
            value = np.where(positive, rng.normal(4, 0.4, 400), rng.normal(0, 0.4, 400))
            rows.append(pd.DataFrame({"value": value, "sample": f"P{donor}{visit}"}))
            rows[-1] = rows[-1].assign(patient=f"P{donor}", visit=visit, phenotype="CD8 T")
    table = pd.concat(rows, ignore_index=True)
    table.index = table.index.astype(str)
    var = pd.DataFrame(
        {"marker": ["PD-1"], "marker_class": ["state"], "scale": ["transformed"]}, index=["V1"]
    )
    obs = table.drop(columns="value")
    return anndata.AnnData(table[["value"]].to_numpy(np.float32), obs=obs, var=var)


def test_two_parts_tell_a_fraction_from_an_intensity() -> None:
    keys = {"treatment_key": "visit", "donor_key": "patient", "measure": "two_part"}
    result = tl.differential_state(two_part_study(0.3), **keys, cutoffs={"PD-1": 2.0})
    rows = result.set_index("denominator")
    odds = np.log2(0.7 / 0.3) - np.log2(0.4 / 0.6)
    assert rows.loc["positive", "difference"] == pytest.approx(odds, abs=0.15)
    assert rows.loc["positive", "p_value"] < 1e-6
    assert abs(rows.loc["median_positive", "difference"]) < 0.1
    assert rows.loc["median_positive", "p_value"] > 0.01
    adata = two_part_study(0.0)
    tl.call_markers(adata)
    result = tl.differential_state(adata, **keys)
    assert (result["p_value"] > 0.01).all()
    with pytest.raises(MissingSlotError, match="no cut-off is known for marker 'PD-1'"):
        tl.differential_state(two_part_study(0.0), **keys)


def test_two_parts_of_a_table_and_of_all_negative_cells() -> None:
    medians, sheet = simulated(23, n_populations=2)
    medians["n_positive"] = np.where(medians["population"] == "c0", 0, medians["n_events"] // 2)
    with pytest.raises(ArgumentError, match=r"missing: \[median_positive\]"):
        tl.differential_state(medians, samples=sheet, **KEYS, measure="two_part")
    medians["median_positive"] = medians["median"]
    result = tl.differential_state(medians, samples=sheet, **KEYS, measure="two_part")
    assert set(result["denominator"]) == {"positive", "median_positive"}
    assert (result.loc[result["population"] == "c0", "status"] == "too few").all()
    assert len(result) == 2 * 2 * 3 * 3 * 3


def test_between_compartments() -> None:
    medians, sheet = simulated(8)
    first = sheet[sheet["visit"] == "d0"]
    table = medians[medians["sample"].isin(first["sample"])]
    marrow = table["sample"].str.contains("_BM_") & (table["marker"] == "PD-1")
    table.loc[marrow, "median"] += 2
    result = tl.differential_state(
        table, samples=first, treatment_key=None, compartment_key="compartment", donor_key="patient"
    )
    assert set(result["contrast"]) == {"BM - PB"}
    change = result.loc[(result["marker"] == "PD-1") & (result["status"] == "ok"), "difference"]
    assert change.median() == pytest.approx(2, abs=0.5)


def small_study() -> anndata.AnnData:
    rng = np.random.default_rng(9)
    sheet = pd.DataFrame(
        [(f"{p}{v}", p, v) for p in "abcde" for v in ("d0", "d7")],
        columns=["sample", "patient", "visit"],
    )
    obs = sheet.loc[np.repeat(np.arange(10), 60)].reset_index(drop=True)
    obs["phenotype"] = np.tile(np.repeat(["Treg", "NK cell"], 30), 10)
    obs.index = obs.index.astype(str)
    var = pd.DataFrame(
        {
            "marker": ["CD4", "PD-1"],
            "marker_class": ["type", "state"],
            "scale": ["transformed"] * 2,
        },
        index=["V1-A", "V2-A"],
    )
    X = rng.normal(2, 0.5, (600, 2))
    X[((obs["visit"] == "d7") & (obs["phenotype"] == "Treg")).to_numpy(), 1] += 1
    return anndata.AnnData(X.astype(np.float32), obs=obs, var=var)


def test_events_give_the_medians_that_are_tested() -> None:
    keys = {"treatment_key": "visit", "donor_key": "patient"}
    result = tl.differential_state(small_study(), **keys)
    assert len(result) == 2
    row = result.set_index("population").loc["Treg"]
    assert row["difference"] == pytest.approx(1, abs=0.3)
    assert row["p_value"] < 0.001
    assert (result["marker"] == "PD-1").all()


def test_type_markers_are_refused_unless_allowed() -> None:
    keys = {"treatment_key": "visit", "donor_key": "patient"}
    for name in ("CD4", "V1-A"):
        with pytest.raises(ArgumentError, match="must not have defined the populations"):
            tl.differential_state(small_study(), **keys, markers=[name])
    result = tl.differential_state(small_study(), **keys, markers=["CD4"], allow_type_markers=True)
    assert (result["status"] == "ok").all()


def test_untransformed_values_warn() -> None:
    adata = small_study()
    adata.var["scale"] = "linear"
    with pytest.warns(StatisticsWarning, match="taken of linear values"):
        tl.differential_state(adata, treatment_key="visit", donor_key="patient")


def test_bad_input_is_refused() -> None:
    medians, sheet = simulated(10, n_donors=3, n_populations=2)
    call = tl.differential_state
    with pytest.raises(ArgumentError, match="needs samples="):
        call(medians, **KEYS)
    with pytest.raises(ArgumentError, match=r"missing: \[n_events\]"):
        call(medians.drop(columns="n_events"), samples=sheet, **KEYS)
    with pytest.raises(ArgumentError, match=r"markers \[CD8\] are not in the table"):
        call(medians, samples=sheet, **KEYS, markers=["CD8"])
    with pytest.raises(StudyError, match="sheet does not have"):
        call(medians, samples=sheet.iloc[1:], **KEYS)
    adata = small_study()
    adata.var["marker_class"] = "type"
    with pytest.raises(MissingSlotError, match="no state marker"):
        call(adata, treatment_key="visit")


def test_one_pair_has_no_degrees_of_freedom() -> None:
    medians, sheet = simulated(11, n_donors=1, n_populations=3)
    result = tl.differential_state(medians, samples=sheet, **KEYS)
    assert (result["status"] == "not estimable").all()
    assert result["reason"].str.startswith("no replicates").all()


def test_three_patients() -> None:
    medians, sheet = simulated(12, n_donors=3)
    medians["n_events"] += 50
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = tl.differential_state(medians, samples=sheet, **KEYS)
    assert (result["status"] == "ok").all()
    assert set(result["n_paired"]) == {3}


def test_sample_without_design_is_reported() -> None:
    medians, sheet = simulated(13)
    sheet.loc[0, "visit"] = ""
    with pytest.warns(StudyWarning, match="take no part"):
        result = tl.differential_state(medians, samples=sheet, **KEYS)
    assert (result["status"] == "ok").all()
