"""Detectable changes against the noncentral t distribution, simulation and a real result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytoclust import tl
from cytoclust.errors import ArgumentError, MissingSlotError


def table(std_error: list[float], df: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"std_error": std_error, "df": df, "compartment": "PB", "contrast": "d7 - d0"}
    )


@pytest.mark.parametrize(("power", "alpha"), [(0.8, 0.05), (0.9, 0.01), (0.5, 0.2)])
def test_power_at_the_detectable_change_is_as_asked(power: float, alpha: float) -> None:
    rows = table([0.2, 0.5, 1.0, 0.1], [3.0, 11.0, 250.0, 1e6])
    found = tl.detectable_changes(rows, power=power, alpha=alpha)
    for column, level in (("detectable_change", alpha), ("detectable_change_fdr", alpha / 4)):
        shift = found[column] / rows["std_error"]
        limit = stats.t.isf(level / 2, rows["df"])
        reached = stats.nct.sf(limit, rows["df"], shift)
        np.testing.assert_allclose(reached, power, atol=1e-4)


def test_simulated_paired_tests_have_the_power() -> None:
    rng = np.random.default_rng(0)
    std_error = 0.7 / np.sqrt(10)
    change = tl.detectable_changes(table([std_error], [9.0]))["detectable_change"].item()
    found = stats.ttest_1samp(rng.normal(change, 0.7, (10, 20_000)), 0).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_rows_without_a_test_have_none_and_do_not_count() -> None:
    rows = table([0.2, np.nan, 0.2], [10.0, np.nan, 10.0])
    found = tl.detectable_changes(rows)
    assert found["detectable_change"].isna().tolist() == [False, True, False]
    two = tl.detectable_changes(rows.dropna())
    assert found["detectable_change_fdr"].iloc[0] == two["detectable_change_fdr"].iloc[0]
    assert list(rows.columns) == ["std_error", "df", "compartment", "contrast"]


def test_more_donors_detect_less() -> None:
    changes = []
    for n in (6, 24):
        rng = np.random.default_rng(1)
        sheet = pd.DataFrame(
            [(f"P{p}{v}", f"P{p}", v) for p in range(n) for v in ("d0", "d7")],
            columns=["sample", "patient", "visit"],
        )
        counts = pd.DataFrame(
            rng.poisson(300 * np.exp(rng.normal(0, 0.4, (8, 2 * n)))),
            index=[f"c{k}" for k in range(8)],
            columns=sheet["sample"],
        )
        result = tl.differential_abundance(
            counts, samples=sheet, treatment_key="visit", donor_key="patient"
        )
        changes.append(tl.detectable_changes(result)["detectable_change"].median())
    assert changes[1] < 0.75 * changes[0]  # about half, by the square root of 4


def test_bad_input_is_refused() -> None:
    with pytest.raises(MissingSlotError, match=r"missing columns: \[df\]"):
        tl.detectable_changes(table([0.1], [3.0]).drop(columns="df"))
    with pytest.raises(ArgumentError, match="power must lie between 0 and 1; got 80"):
        tl.detectable_changes(table([0.1], [3.0]), power=80)
