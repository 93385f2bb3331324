"""Differential abundance: agreement with R, rows for everything, invariance, calibration."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import pytest

from cytoclust import tl
from cytoclust.errors import (
    ArgumentError,
    MissingSlotError,
    StatisticsWarning,
    StudyError,
    StudyWarning,
)

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = [
    "population", "level", "parent", "denominator", "compartment", "contrast", "log2_fold_change",
    "ci_low", "ci_high", "std_error", "df", "statistic", "p_value", "fdr", "n_samples", "n_paired",
    "method", "status", "reason", "n_events", "size_factor", "alarm",
]  # fmt: skip
KEYS = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
VISITS = ("d0", "d7", "d28")


def simulated(
    seed: int = 0,
    *,
    n_donors: int = 8,
    n_populations: int = 12,
    places: tuple[str, ...] = ("PB", "BM"),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Logistic-normal counts with donor effects and no change."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(-3, 1, n_populations)
    rows, columns = [], []
    for p in range(n_donors):
        donor = rng.normal(0, 0.5, n_populations)
        for place in places:
            for visit in VISITS:
                share = np.exp(base + donor + rng.normal(0, 0.4, n_populations))
                columns.append(rng.multinomial(rng.integers(5_000, 60_000), share / share.sum()))
                rows.append((f"P{p}_{place}_{visit}", f"P{p}", place, visit))
    sheet = pd.DataFrame(rows, columns=["sample", "patient", "compartment", "visit"])
    names = [f"c{k:02d}" for k in range(n_populations)]
    return pd.DataFrame(np.array(columns).T, index=names, columns=sheet["sample"]), sheet


def by_key(result: pd.DataFrame) -> pd.DataFrame:
    return result.set_index(["population", "compartment", "contrast"]).sort_index()


@pytest.mark.parametrize("name", [".", "null", "bystander"])
def test_agrees_with_r(shared: Path, name: str) -> None:
    folder = shared / "stats" / name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = tl.differential_abundance(
            folder / "counts.csv",
            samples=folder / "samples.csv",
            treatment_key="time",
            donor_key="patient",
            compartment_key="compartment",
        )
    assert list(result.columns) == COLUMNS
    golden = pd.read_csv(folder / "r_bycomp.csv").query("method == 'voom'")
    short = {"d7 - d0": "d7", "d15 - d0": "d15", "d28 - d0": "d28", "d28 - d7": "28v7"}
    place = result["compartment"].replace({"BM - PB": "INT"})
    result["contrast"] = place + "_" + result["contrast"].map(short)
    joined = result.merge(
        golden, left_on=["population", "contrast"], right_on=["cluster", "contrast"]
    )
    assert len(joined) == 330
    np.testing.assert_allclose(np.log10(joined["p_value"]), np.log10(joined["p"]), atol=1e-6)
    np.testing.assert_allclose(joined["log2_fold_change"], joined["log2fc"], atol=1e-9)


def test_rows_are_complete_and_consistent() -> None:
    counts, sheet = simulated()
    result = tl.differential_abundance(counts, samples=sheet, **KEYS)
    assert len(result) == 12 * 3 * 3
    assert not result.duplicated(["population", "compartment", "contrast"]).any()
    assert (result["status"] == "ok").all()
    assert (result["ci_low"] < result["log2_fold_change"]).all()
    assert (result["ci_high"] > result["log2_fold_change"]).all()
    assert (result["fdr"] >= result["p_value"]).all()
    assert set(result["n_paired"]) == {8}
    excludes_zero = (result["ci_low"] > 0) | (result["ci_high"] < 0)
    assert (excludes_zero == (result["p_value"] < 0.05)).all()
    for name in ("population", "level", "parent", "compartment", "contrast", "status", "reason"):
        assert pd.api.types.is_string_dtype(result[name]), name


def test_does_not_depend_on_order_of_samples_or_populations() -> None:
    counts, sheet = simulated(1)
    sheet["visit"] = pd.Categorical(sheet["visit"], categories=VISITS)
    sheet["compartment"] = pd.Categorical(sheet["compartment"], categories=["PB", "BM"])
    expected = by_key(tl.differential_abundance(counts, samples=sheet, **KEYS))
    rng = np.random.default_rng(2)
    shuffled = counts.iloc[rng.permutation(len(counts)), rng.permutation(counts.shape[1])]
    found = by_key(
        tl.differential_abundance(shuffled, samples=sheet.sample(frac=1, random_state=3), **KEYS)
    )
    for column in ("log2_fold_change", "std_error", "df", "p_value", "fdr"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-8)


def test_planted_change_is_found_in_its_compartment_only() -> None:
    counts, sheet = simulated(4, n_donors=12)
    here = ((sheet["compartment"] == "PB") & (sheet["visit"] == "d7")).to_numpy()
    counts.loc["c03", counts.columns[here]] *= 4
    result = by_key(tl.differential_abundance(counts, samples=sheet, **KEYS))
    row = result.loc[("c03", "PB", "d7 - d0")]
    assert row["log2_fold_change"] == pytest.approx(2.0, abs=0.7)
    assert row["fdr"] < 0.001
    assert result.loc[("c03", "BM - PB", "d7 - d0"), "log2_fold_change"] < -1
    assert result.loc[("c03", "BM", "d7 - d0"), "fdr"] > 0.05


def test_counts_csv_of_a_run_goes_straight_in(tmp_path: Path) -> None:
    counts, sheet = simulated(5)
    counts.rename_axis("population").to_csv(tmp_path / "counts.csv")
    sheet.to_csv(tmp_path / "samples.csv", index=False)
    expected = tl.differential_abundance(counts, samples=sheet, **KEYS)
    for data in (tmp_path / "counts.csv", pd.read_csv(tmp_path / "counts.csv")):
        found = tl.differential_abundance(data, samples=tmp_path / "samples.csv", **KEYS)
        pd.testing.assert_frame_equal(found, expected)


def test_anndata_and_table_give_the_same() -> None:
    counts, sheet = simulated(6, n_donors=4, places=("PB",))
    counts //= 50
    sample = np.repeat(counts.columns.to_numpy(), counts.sum())
    population = np.concatenate([np.repeat(counts.index, counts[name]) for name in counts.columns])
    obs = pd.DataFrame(
        {"sample": pd.Categorical(sample, categories=list(counts.columns)), "phenotype": population}
    )
    obs.index = obs.index.astype(str)
    for key in ("patient", "visit"):
        obs[key] = obs["sample"].map(sheet.set_index("sample")[key]).astype(str)
    adata = anndata.AnnData(np.zeros((len(obs), 1), np.float32), obs=obs)
    keys = {"treatment_key": "visit", "donor_key": "patient"}
    found = tl.differential_abundance(adata, **keys)
    expected = tl.differential_abundance(counts, samples=sheet, **keys)
    assert (found["compartment"] == "all").all()
    np.testing.assert_allclose(
        by_key(found)["p_value"].to_numpy(), by_key(expected)["p_value"].to_numpy(), rtol=1e-8
    )


def test_all_zero_and_rare_populations_keep_their_rows() -> None:
    counts, sheet = simulated(7)
    counts.loc["zero"] = 0
    counts.loc["rare"] = 0
    counts.loc["rare", counts.columns[:2]] = 5
    result = by_key(tl.differential_abundance(counts, samples=sheet, **KEYS))
    for name in ("zero", "rare"):
        assert (result.loc[name, "status"] == "too few").all()
        assert result.loc[name, "p_value"].isna().all()
    assert result.loc[("zero", "PB", "d7 - d0"), "reason"] == "3 cells in 0 of 24 samples; needs 8"
    assert (result.loc["c00", "status"] == "ok").all()


def test_population_of_one_compartment() -> None:
    counts, sheet = simulated(8)
    counts.loc["c05", counts.columns[(sheet["compartment"] == "BM").to_numpy()]] = 0
    result = by_key(tl.differential_abundance(counts, samples=sheet, **KEYS))
    assert result.loc[("c05", "PB", "d7 - d0"), "status"] == "ok"
    assert result.loc[("c05", "BM", "d7 - d0"), "status"] == "too few"
    assert result.loc[("c05", "BM - PB", "d7 - d0"), "status"] == "too few"


def test_one_visit_in_a_compartment() -> None:
    counts, sheet = simulated(9)
    keep = ~((sheet["compartment"] == "BM") & (sheet["visit"] != "d0"))
    with pytest.warns(StudyWarning, match="not in the sample sheet"):
        result = by_key(tl.differential_abundance(counts, samples=sheet[keep], **KEYS))
    assert (result.loc[("c00", "PB"), "status"] == "ok").all()
    assert (result.loc[("c00", "BM"), "status"] == "not estimable").all()
    assert result.loc[("c00", "BM", "d7 - d0"), "reason"] == "no sample at d7 in BM"
    assert result.loc[("c00", "BM - PB", "d7 - d0"), "reason"] == "no sample at d7 in BM"


def test_one_patient() -> None:
    counts, sheet = simulated(10, n_donors=1)
    result = tl.differential_abundance(counts, samples=sheet, **KEYS)
    assert (result["status"] == "not estimable").all()
    assert result["reason"].str.startswith("no replicates").all()


def test_three_patients_and_unpaired_patients() -> None:
    counts, sheet = simulated(11, n_donors=3)
    result = tl.differential_abundance(counts, samples=sheet, **KEYS)
    assert (result["status"] == "ok").all()
    assert set(result["n_paired"]) == {3}
    counts, sheet = simulated(12, n_donors=9)
    order = dict(zip(sorted(sheet["patient"].unique()), np.tile(VISITS, 3), strict=True))
    single = sheet[sheet["visit"] == sheet["patient"].map(order)]
    with pytest.warns(StudyWarning):
        alone = tl.differential_abundance(counts, samples=single, **KEYS)
    assert (alone["status"] == "ok").all()
    assert set(alone["n_paired"]) == {0}


def test_patients_in_one_compartment_only() -> None:
    counts, sheet = simulated(13)
    keep = (sheet["compartment"] == "PB") == sheet["patient"].isin(["P0", "P1", "P2", "P3"])
    with pytest.warns(StudyWarning):
        result = by_key(tl.differential_abundance(counts, samples=sheet[keep], **KEYS))
    assert (result["status"] == "ok").all()
    assert result.loc[("c00", "PB", "d7 - d0"), "n_paired"] == 4
    assert result.loc[("c00", "BM - PB", "d7 - d0"), "n_paired"] == 0


def test_treatment_without_donors_and_a_sample_without_design() -> None:
    counts, sheet = simulated(14)
    sheet.loc[0, "visit"] = None
    with pytest.warns(StudyWarning, match=r"take no part in the tests: P0_PB_d0 \(empty"):
        result = tl.differential_abundance(
            counts, samples=sheet, treatment_key="visit", covariates=["compartment"]
        )
    assert (result["status"] == "ok").all()
    assert (result["compartment"] == "all").all()
    assert set(result["n_paired"]) == {0}


def test_compartments_without_treatment() -> None:
    counts, sheet = simulated(15)
    first = sheet["visit"] == "d0"
    names = sheet.loc[first, "sample"]
    result = tl.differential_abundance(
        counts[names],
        samples=sheet[first],
        treatment_key=None,
        compartment_key="compartment",
        donor_key="patient",
    )
    assert result[["compartment", "contrast"]].drop_duplicates().to_numpy().tolist() == [
        ["all", "BM - PB"]
    ]
    assert set(result["n_paired"]) == {8}
    assert (result["status"] == "ok").all()


def test_batch_as_covariate_and_confounded_batch() -> None:
    counts, sheet = simulated(16)
    half = sheet["patient"].isin(["P0", "P1", "P2", "P3"])
    apart = sheet.assign(batch=np.where(half, "b1", "b2"))
    adjusted = tl.differential_abundance(counts, samples=apart, **KEYS, covariates=["batch"])
    assert (adjusted["status"] == "ok").all()
    confounded = sheet.assign(batch=np.where(sheet["visit"] == "d28", "b1", "b2"))
    result = by_key(
        tl.differential_abundance(counts, samples=confounded, **KEYS, covariates=["batch"])
    )
    row = result.loc[("c00", "PB", "d28 - d0")]
    assert (row["status"], row["reason"]) == (
        "not estimable",
        "confounded with the covariates in PB",
    )
    assert result.loc[("c00", "PB", "d7 - d0"), "status"] == "ok"


def test_counts_above_two_to_the_31() -> None:
    counts, sheet = simulated(17)
    expected = by_key(tl.differential_abundance(counts * 1000, samples=sheet, **KEYS))
    found = by_key(
        tl.differential_abundance(counts.astype(np.int64) * 10**7, samples=sheet, **KEYS)
    )
    assert (counts.to_numpy().max() * 10**7) > 2**31
    np.testing.assert_allclose(found["log2_fold_change"], expected["log2_fold_change"], atol=0.01)


def test_sample_without_events_is_left_out() -> None:
    counts, sheet = simulated(18)
    counts.iloc[:, 3] = 0
    with pytest.warns(StudyWarning, match="no events"):
        result = tl.differential_abundance(counts, samples=sheet, **KEYS)
    assert (result["status"] == "ok").all()
    row = by_key(result).loc[("c00", "BM", "d7 - d0")]
    assert (row["n_samples"], row["n_paired"]) == (15, 7)


def test_composition_is_corrected_and_total_is_not() -> None:
    counts, sheet = simulated(19, n_donors=10, places=("PB",))
    big = counts.sum(axis=1).idxmax()
    later = (sheet["visit"] == "d7").to_numpy()
    counts.loc[big, counts.columns[later]] *= 6
    keys = {"treatment_key": "visit", "donor_key": "patient"}
    total = counts.sum().rename("total").reset_index()
    sheet = sheet.merge(total.set_axis(["sample", "total"], axis=1))
    with pytest.warns(StatisticsWarning, match="denominators disagree on 11 changes"):
        result = tl.differential_abundance(
            counts, samples=sheet, **keys, denominator=("log_ratio", "total"), contrasts=["d7 - d0"]
        )
    alarms = result.set_index(["population", "denominator"])["alarm"]
    assert alarms[big, "log_ratio"] == ""
    others = next(name for name in counts.index if name != big)
    assert "log_ratio no change shown, total down" in alarms[others, "log_ratio"]
    assert "phenotypes down" in alarms[others, "total"]
    others = result[result["population"] != big].groupby("denominator")["log2_fold_change"].median()
    assert abs(others["log_ratio"]) < 0.3
    assert others["total"] < -0.5


def test_absolute_counts() -> None:
    counts, sheet = simulated(20, places=("PB",))
    volume = np.where(sheet["visit"] == "d7", 4.0, 1.0)
    sheet["per_ul"] = volume * counts.sum().to_numpy() / counts.sum().to_numpy().mean()
    keys = {"treatment_key": "visit", "donor_key": "patient", "denominator": "absolute"}
    result = tl.differential_abundance(
        counts, samples=sheet, **keys, absolute_key="per_ul", contrasts=["d7 - d0"]
    )
    assert result["log2_fold_change"].median() > 1.5
    with pytest.raises(ArgumentError, match="needs absolute_key"):
        tl.differential_abundance(counts, samples=sheet, **keys)


def test_parents_and_shares_of_parents() -> None:
    counts, sheet = simulated(21, places=("PB",))
    tree = {f"c{k:02d}": "T cell" if k < 6 else "B cell" for k in range(11)} | {
        "c00": "c01",
        "c11": "",
    }
    tree |= {"T cell": "", "B cell": ""}
    keys = {"treatment_key": "visit", "donor_key": "patient", "hierarchy": tree}
    result = tl.differential_abundance(
        counts,
        samples=sheet,
        **keys,
        levels=("leaf", "parent"),
        denominator=("log_ratio", "total", "parent"),
    )
    names = set(result["population"])
    assert {"T cell", "B cell", "c01", "c01, not named further"} <= names
    assert not result.duplicated(["population", "denominator", "compartment", "contrast"]).any()
    rows = result.set_index(["population", "denominator", "contrast"])
    assert rows.loc[("c02", "parent", "d7 - d0"), "parent"] == "T cell"
    assert rows.loc[("T cell", "parent", "d7 - d0"), "parent"] == ""
    change = rows["log2_fold_change"]
    shift = change[("T cell", "total", "d7 - d0")] + change[("c02", "parent", "d7 - d0")]
    assert change[("c02", "total", "d7 - d0")] == pytest.approx(shift, abs=0.35)
    with pytest.raises(ArgumentError, match="needs a phenotype hierarchy"):
        tl.differential_abundance(
            counts, samples=sheet, treatment_key="visit", donor_key="patient", denominator="parent"
        )


def test_alarm_when_most_populations_move_the_same_way() -> None:
    counts, sheet = simulated(22, n_donors=12, places=("PB",))
    later = (sheet["visit"] == "d7").to_numpy()
    counts.loc[counts.index[:6], counts.columns[later]] *= 8
    with pytest.warns(StatisticsWarning, match="d7 - d0 50% of 12 phenotypes up"):
        tl.differential_abundance(counts, samples=sheet, treatment_key="visit", donor_key="patient")


def golden_contrast(result: pd.DataFrame) -> pd.Series:
    short = {"d7 - d0": "d7", "d15 - d0": "d15", "d28 - d0": "d28", "d28 - d7": "28v7"}
    return result["compartment"].replace({"BM - PB": "INT"}) + "_" + result["contrast"].map(short)


def on_fixture(folder: Path, **options: object) -> pd.DataFrame:
    result = tl.differential_abundance(
        folder / "counts.csv",
        samples=folder / "samples.csv",
        treatment_key="time",
        donor_key="patient",
        compartment_key="compartment",
        min_cells=0,
        **options,  # type: ignore[arg-type]
    )
    return result.assign(cluster=result["population"], contrast=golden_contrast(result))


def test_joint_binomial_model_agrees_with_lme4(shared: Path) -> None:
    result = on_fixture(shared / "stats", method="glmm", joint=True, denominator="total")
    golden = pd.read_csv(shared / "stats" / "r_glmer_p_pc_o.csv")
    both = result.merge(golden, on=["cluster", "contrast"])
    assert len(both) == 330
    np.testing.assert_allclose(both["log2_fold_change"] * np.log(2), both["est"], atol=0.005)
    np.testing.assert_allclose(both["statistic"], both["z"], atol=0.02)
    assert set(both["method"] if "method" in both else both["method_x"]) == {"glmm_joint"}


@pytest.mark.parametrize("name", [".", "null", "bystander"])
def test_joint_voom_agrees_with_r(shared: Path, name: str) -> None:
    folder = shared / "stats" / name
    result = on_fixture(folder, joint=True, normalization="tmm")
    golden = pd.read_csv(folder / "r_da.csv").query("method == 'voom_dupcorPC_TMM'")
    both = result.merge(golden, on=["cluster", "contrast"])
    assert len(both) == 330
    np.testing.assert_allclose(np.log10(both["p_value"]), np.log10(both["p"]), atol=1e-6)


@pytest.mark.filterwarnings("ignore::Warning:edgepython")
def test_edger_agrees_with_r(shared: Path) -> None:
    pytest.importorskip("edgepython")
    result = on_fixture(shared / "stats", method="edger", joint=True, normalization="tmm")
    golden = pd.read_csv(shared / "stats" / "r_da.csv").query("method == 'edgeR_QLF_fixPC_TMM'")
    both = result.merge(golden, on=["cluster", "contrast"])
    assert len(both) == 330
    np.testing.assert_allclose(both["log2_fold_change"], both["log2fc"], atol=1e-4)
    np.testing.assert_allclose(np.log10(both["p_value"]), np.log10(both["p"]), atol=1e-3)


def test_edger_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, sheet = simulated(30, n_donors=2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"Install cytoclust\[edger\]"):
        tl.differential_abundance(counts, samples=sheet, **KEYS, method="edger")


@pytest.mark.parametrize("method", ["glmm", "lmm", "signflip"])
def test_other_methods_find_the_planted_change_and_nothing_else(method: str) -> None:
    counts, sheet = simulated(31, n_donors=16)
    here = ((sheet["compartment"] == "PB") & (sheet["visit"] == "d7")).to_numpy()
    counts.loc["c03", counts.columns[here]] *= 4
    result = tl.differential_abundance(counts, samples=sheet, **KEYS, method=method)  # type: ignore[arg-type]
    rows = by_key(result)
    row = rows.loc[("c03", "PB", "d7 - d0")]
    assert row["log2_fold_change"] == pytest.approx(2.0, abs=0.5)
    assert row["fdr"] < 0.01
    assert row["ci_low"] < row["log2_fold_change"] < row["ci_high"]
    assert rows.loc[("c03", "BM - PB", "d7 - d0"), "log2_fold_change"] < -1
    other = result[result["population"] != "c03"]
    assert (other["p_value"] < 0.05).mean() < 0.1
    assert set(result["status"]) <= {"ok", "singular"}


@pytest.mark.parametrize("method", ["glmm", "lmm", "signflip"])
def test_other_methods_do_not_depend_on_order(method: str) -> None:
    counts, sheet = simulated(32, n_donors=18, n_populations=8)
    sheet["visit"] = pd.Categorical(sheet["visit"], categories=VISITS)
    sheet["compartment"] = pd.Categorical(sheet["compartment"], categories=["PB", "BM"])
    expected = by_key(
        tl.differential_abundance(counts, samples=sheet, **KEYS, method=method)  # type: ignore[arg-type]
    )
    rng = np.random.default_rng(33)
    shuffled = counts.iloc[rng.permutation(len(counts)), rng.permutation(counts.shape[1])]
    found = by_key(
        tl.differential_abundance(
            shuffled,
            samples=sheet.sample(frac=1, random_state=3),
            **KEYS,
            method=method,  # type: ignore[arg-type]
        )
    )
    for column in ("log2_fold_change", "std_error", "df", "p_value", "fdr"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:method 'glmm' estimates")
def test_separated_cells_are_tested_and_flagged() -> None:
    counts, sheet = simulated(34, n_donors=14, places=("PB",))
    gone = (sheet["visit"] == "d7").to_numpy()
    counts.loc["c02", counts.columns[gone]] = 0
    keys = {"treatment_key": "visit", "donor_key": "patient"}
    result = by_key(tl.differential_abundance(counts, samples=sheet, **keys, method="glmm"))
    row = result.loc[("c02", "all", "d7 - d0")]
    assert row["status"] == "separated"
    assert "likelihood-ratio" in row["reason"]
    assert row["p_value"] < 1e-6
    assert -30 < row["log2_fold_change"] < -5
    assert row["ci_high"] < 0
    assert result.loc[("c02", "all", "d28 - d0"), "status"] in {"ok", "singular"}
    counts.loc["c02", counts.columns[(sheet["visit"] == "d0").to_numpy()]] = 0
    counts.loc["c02", counts.columns[(sheet["visit"] == "d28").to_numpy()]] += 10
    result = by_key(tl.differential_abundance(counts, samples=sheet, **keys, method="glmm"))
    row = result.loc[("c02", "all", "d7 - d0")]
    assert (row["status"], row["reason"]) == (
        "not estimable",
        "no cells at any of the levels compared",
    )
    voom = by_key(tl.differential_abundance(counts, samples=sheet, **keys))
    assert voom.loc[("c02", "all", "d28 - d0"), "p_value"] < 1e-6


def test_binomial_variation_only_is_singular() -> None:
    rng = np.random.default_rng(35)
    _, sheet = simulated(35, n_donors=16, places=("PB",))
    counts = pd.DataFrame(
        rng.multinomial(20_000, np.full(10, 0.1), size=len(sheet)).T,
        index=[f"c{k}" for k in range(10)],
        columns=sheet["sample"],
    )
    result = tl.differential_abundance(
        counts,
        samples=sheet,
        treatment_key="visit",
        donor_key="patient",
        method="glmm",
        denominator="total",
    )
    singular = result["status"] == "singular"
    assert singular.mean() > 0.5
    assert result.loc[singular, "reason"].str.contains("no variance").all()
    assert result["p_value"].notna().all()


def test_signflip_needs_six_pairs() -> None:
    counts, sheet = simulated(36, n_donors=5)
    result = tl.differential_abundance(counts, samples=sheet, **KEYS, method="signflip")
    assert (result["status"] == "too few").all()
    assert result["reason"].str.contains("5 donors paired; a sign-flip test needs 6").all()
    assert result["p_value"].isna().all()


def test_few_donors_warn_with_a_binomial_model() -> None:
    counts, sheet = simulated(37, n_donors=8, n_populations=5, places=("PB",))
    with pytest.warns(StatisticsWarning, match="variance between donors from 8"):
        tl.differential_abundance(
            counts, samples=sheet, treatment_key="visit", donor_key="patient", method="glmm"
        )


def test_bead_counts_are_absolute_counts() -> None:
    counts, sheet = simulated(38, places=("PB",))
    total = counts.sum().to_numpy()
    factor = np.where(sheet["visit"] == "d7", 4.0, 1.0)  # fourfold cells per volume at d7
    sheet["beads"] = (total / factor / 10).round() + 1
    sheet["per_ul"] = total / sheet["beads"]
    keys = {"treatment_key": "visit", "donor_key": "patient", "denominator": "absolute"}
    by_beads = tl.differential_abundance(counts, samples=sheet, **keys, beads_key="beads")
    by_blood = tl.differential_abundance(counts, samples=sheet, **keys, absolute_key="per_ul")
    change = by_key(by_beads).xs("d7 - d0", level="contrast")["log2_fold_change"]
    assert change.median() == pytest.approx(2.0, abs=0.3)
    np.testing.assert_allclose(
        by_beads["log2_fold_change"], by_blood["log2_fold_change"], rtol=1e-6
    )
    with pytest.raises(ArgumentError, match="got both"):
        tl.differential_abundance(
            counts, samples=sheet, **keys, absolute_key="per_ul", beads_key="beads"
        )
    sheet.loc[0, "beads"] = 0
    with pytest.warns(StatisticsWarning, match="1 samples without a number above 0 in 'beads'"):
        tl.differential_abundance(counts, samples=sheet, **keys, beads_key="beads")


def test_size_factor_and_events_stand_behind_each_row() -> None:
    counts, sheet = simulated(39, places=("PB",))
    keys = {"treatment_key": "visit", "donor_key": "patient", "min_cells": 0}
    result = tl.differential_abundance(counts, samples=sheet, **keys, method="lmm")
    plain = tl.differential_abundance(
        counts, samples=sheet, **keys, method="lmm", denominator="total"
    )
    rows = by_key(result)
    at = sheet["visit"].isin(["d0", "d7"]).to_numpy()
    expected = counts.loc["c04", counts.columns[at]].sum()
    assert rows.loc[("c04", "all", "d7 - d0"), "n_events"] == expected
    assert (plain["size_factor"] == 1).all()
    moved = plain["log2_fold_change"] - np.log2(result["size_factor"])
    np.testing.assert_allclose(result["log2_fold_change"], moved, atol=0.02)  # balanced design


def test_percentages_of_gated_data() -> None:
    counts, sheet = simulated(40, n_donors=10, places=("PB",))
    percent = 100 * counts / counts.sum()
    later = (sheet["visit"] == "d28").to_numpy()
    percent.loc["c01", percent.columns[later]] /= 3
    percent.iloc[2, 4] = np.nan
    keys = {"treatment_key": "visit", "donor_key": "patient", "values": "percent"}
    for method in ("voom", "lmm", "signflip"):
        result = tl.differential_abundance(percent, samples=sheet, **keys, method=method)  # type: ignore[arg-type]
        row = by_key(result).loc[("c01", "all", "d28 - d0")]
        assert row["log2_fold_change"] == pytest.approx(-np.log2(3), abs=0.5)
        assert row["fdr"] < 0.05
        assert set(result["denominator"]) == {"parent"}
        missing = by_key(result).loc[("c02", "all", "d7 - d0")]
        assert missing["n_paired"] == 9
    with pytest.raises(ArgumentError, match="needs numbers of cells; got percentages"):
        tl.differential_abundance(percent, samples=sheet, **keys, method="glmm")
    with pytest.raises(ArgumentError, match="between 0 and 100"):
        tl.differential_abundance(percent * 10, samples=sheet, **keys)
    with pytest.raises(ArgumentError, match="shares of their own gates"):
        tl.differential_abundance(percent, samples=sheet, **keys, denominator="total")


def test_radium_223_table_runs_as_it_is(shared: Path) -> None:
    table = pd.read_csv(shared / "data" / "radium223" / "panel_a_subset.csv")
    table.insert(0, "sample", table["study_code"].astype(str) + " " + table["time"].astype(str))
    sheet = table[["sample", "study_code", "time"]]
    percent = table.set_index("sample").drop(columns=["study_code", "time"]).T
    result = tl.differential_abundance(
        percent,
        samples=sheet,
        treatment_key="time",
        donor_key="study_code",
        baseline="1",
        values="percent",
    )
    assert len(result) == len(percent) * 4
    assert (result["status"] == "ok").mean() > 0.9
    assert result["n_paired"].max() <= 30


def test_tree_aware_discoveries() -> None:
    counts, sheet = simulated(41, n_donors=12, places=("PB",))
    later = (sheet["visit"] == "d7").to_numpy()
    counts.loc[["c00", "c01"], counts.columns[later]] *= 3
    tree = {f"c{k:02d}": f"group {k // 4}" for k in range(12)} | {
        f"group {g}": "" for g in range(3)
    }
    keys = {"treatment_key": "visit", "donor_key": "patient", "hierarchy": tree}
    levels = ("leaf", "parent")
    plain = tl.differential_abundance(counts, samples=sheet, **keys, levels=levels)
    along = tl.differential_abundance(
        counts, samples=sheet, **keys, levels=levels, multiplicity="tree"
    )
    np.testing.assert_array_equal(plain["p_value"], along["p_value"])
    found = along[along["contrast"] == "d7 - d0"].set_index("population")["fdr"]
    assert (found[["c00", "c01"]] < 0.05).all()
    assert found.notna().all()
    with pytest.raises(ArgumentError, match="needs a phenotype hierarchy"):
        tl.differential_abundance(
            counts, samples=sheet, treatment_key="visit", donor_key="patient", multiplicity="tree"
        )


def test_five_thousand_populations() -> None:
    rng = np.random.default_rng(42)
    _, sheet = simulated(42, n_donors=4, places=("PB",))
    counts = pd.DataFrame(
        rng.poisson(rng.gamma(2, 10, (5000, 1)), (5000, len(sheet))),
        index=[f"c{k}" for k in range(5000)],
        columns=sheet["sample"],
    )
    result = tl.differential_abundance(
        counts, samples=sheet, treatment_key="visit", donor_key="patient"
    )
    assert len(result) == 5000 * 3
    assert result["status"].isin(["ok", "too few"]).all()
    assert (result.loc[result["status"] == "ok", "p_value"] < 0.05).mean() == pytest.approx(
        0.05, abs=0.02
    )


def test_three_samples_per_group_without_donors() -> None:
    counts, sheet = simulated(43, n_donors=3, places=("PB",))
    sheet = sheet[sheet["visit"] != "d28"]
    for method in ("voom", "lmm"):
        result = tl.differential_abundance(
            counts[sheet["sample"]],
            samples=sheet,
            treatment_key="visit",
            method=method,  # type: ignore[arg-type]
        )
        assert (result["status"] == "ok").all()
        assert set(result["n_samples"]) == {6}


def test_few_populations_warn() -> None:
    counts, sheet = simulated(23, n_populations=2, places=("PB",))
    with pytest.warns(StatisticsWarning, match="rest on 2 populations"):
        tl.differential_abundance(counts, samples=sheet, treatment_key="visit", donor_key="patient")


def test_bad_tables_are_refused() -> None:
    counts, sheet = simulated(24, n_donors=2)
    call = tl.differential_abundance
    with pytest.raises(ArgumentError, match="needs samples="):
        call(counts, **KEYS)
    with pytest.raises(
        ArgumentError, match=r"method must be one of \[voom, glmm, lmm, signflip, edger\]"
    ):
        call(counts, samples=sheet, **KEYS, method="ttest")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="not below 0"):
        call(-counts, samples=sheet, **KEYS)
    with pytest.raises(ArgumentError, match="whole numbers"):
        call(counts / 3, samples=sheet, **KEYS)
    with pytest.raises(ArgumentError, match="listed twice"):
        call(pd.concat([counts, counts.head(1)]), samples=sheet, **KEYS)
    with pytest.raises(StudyError, match="must name the same samples"):
        call(counts.add_prefix("x"), samples=sheet, **KEYS)
    with pytest.raises(ArgumentError, match="at least the sum"):
        call(counts, samples=sheet.assign(total=5), **KEYS)
    with pytest.raises(ArgumentError, match="denominator must be one of"):
        call(counts, samples=sheet, **KEYS, denominator="cells")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="needs an AnnData"):
        call(counts, samples=sheet, **KEYS, levels="cluster")
    adata = anndata.AnnData(
        np.zeros((2, 1)), obs=pd.DataFrame({"sample": ["a", "b"]}, index=["0", "1"])
    )
    with pytest.raises(MissingSlotError, match=r"obs\['phenotype'\] not found"):
        call(adata, **KEYS)


def test_permuted_labels_give_uniform_p_values() -> None:
    """Every data set is its own; labels are permuted within donor and compartment."""
    rng = np.random.default_rng(25)
    hits = {"PB": [], "BM": [], "BM - PB": []}
    for seed in range(25):
        counts, sheet = simulated(100 + seed, n_donors=10, n_populations=15)
        sheet["visit"] = sheet.groupby(["patient", "compartment"])["visit"].transform(
            lambda visits: rng.permutation(visits.to_numpy())
        )
        sheet["visit"] = pd.Categorical(sheet["visit"], categories=VISITS)
        result = tl.differential_abundance(counts, samples=sheet, **KEYS)
        for place, rates in hits.items():
            rates.append((result.loc[result["compartment"] == place, "p_value"] < 0.05).mean())
    for place, rates in hits.items():
        # 25 sets of 15 populations x 3 contrasts: standard error about 0.008
        assert 0.025 < np.mean(rates) < 0.075, (place, np.mean(rates))


def vanishing_lineage(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sixteen populations of 20 donors; the last five fall to 1/30 at d7, the others stay."""
    rng = np.random.default_rng(seed)
    samples = pd.DataFrame(
        [(f"P{p}_{visit}", f"P{p}", visit) for p in range(20) for visit in ("d0", "d7")],
        columns=["sample", "patient", "visit"],
    )
    base = rng.normal(6, 0.5, size=(16, 1)) + rng.normal(0, 0.3, size=(16, len(samples)))
    base[11:, samples["visit"] == "d7"] -= np.log(30)
    cells = rng.multinomial(20_000, (np.exp(base) / np.exp(base).sum(axis=0)).T).T
    names = pd.Index([f"c{k:02d}" for k in range(16)], name="population")
    return pd.DataFrame(cells, index=names, columns=samples["sample"]), samples


def test_vanishing_lineage_does_not_shift_the_others() -> None:
    shifts = []
    for seed in range(8):
        counts, samples = vanishing_lineage(seed)
        table = tl.differential_abundance(
            counts, samples=samples, treatment_key="visit", donor_key="patient"
        )
        effect = table.set_index("population")["log2_fold_change"]
        np.testing.assert_allclose(effect[11:], -np.log2(30), atol=0.8)
        shifts.append(effect[:11].mean())
    # closed form: the others are unchanged; with the lineage in the reference they rise by 1.1
    assert abs(np.mean(shifts)) < 0.05
