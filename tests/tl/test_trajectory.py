"""Trajectory calls on constructed results, each shape by its definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytoclust import tl
from cytoclust.errors import ArgumentError, MissingSlotError, StatisticsWarning
from cytoclust.tl.multiplicity import benjamini_hochberg, holm, simes

VISITS = ("d7", "d15", "d28")


def rows(
    name: str,
    effects: tuple[float, ...],
    *,
    std_error: float = 0.12,
    place: str = "PB",
    visits: tuple[str, ...] = VISITS,
) -> pd.DataFrame:
    """Result rows of one population from its changes against d0."""
    changes = {f"{visit} - d0": effect for visit, effect in zip(visits, effects, strict=True)}
    if len(visits) > 1:
        changes[f"{visits[-1]} - {visits[0]}"] = effects[-1] - effects[0]
    table = pd.DataFrame({"contrast": list(changes), "log2_fold_change": list(changes.values())})
    table = table.assign(
        population=name, compartment=place, std_error=std_error, df=60.0, status="ok", reason=""
    )
    t = table["log2_fold_change"] / std_error
    return table.assign(p_value=2 * stats.t.sf(np.abs(t), 60), fdr=lambda x: x["p_value"])


SHAPES = {
    "persistent": (1.5, 1.4, 1.4),
    "partial": (2.0, 1.5, 0.9),
    "transient": (1.5, 0.6, 0.0),
    "transient?": (1.5, 0.8, 0.3),
    "late": (0.05, 0.6, 1.5),
    "biphasic": (1.2, 0.0, -1.2),
    "changed, unresolved": (0.1, 1.2, 0.1),
    "stable": (0.02, -0.01, 0.03),
}


@pytest.mark.parametrize("sign", [1, -1])
def test_every_shape_is_called(sign: int) -> None:
    table = pd.concat(
        [
            rows(name, tuple(sign * e for e in effects), std_error=0.3 if "?" in name else 0.12)
            for name, effects in SHAPES.items()
        ]
    )
    wide = rows("no change detected", (0.3, -0.2, 0.3), std_error=0.6)
    calls = tl.classify_trajectories(pd.concat([table, wide])).set_index("population")
    assert calls["call"].to_dict() == {name: name for name in (*SHAPES, "no change detected")}
    assert calls.loc["biphasic", "early_change"] == pytest.approx(sign * 1.2)
    assert calls.loc["changed, unresolved", "peak"] == "d15"
    assert "d15 - d0" in calls.loc["changed, unresolved", "reason"]
    assert "equivalence" in calls.loc["transient?", "reason"]


def test_early_only_is_not_called_transient_without_a_way_back() -> None:
    table = rows("a", (0.55, 0.3, 0.25), std_error=0.13)
    early, late = table["p_value"].iloc[0], table["p_value"].iloc[2]
    assert early < 0.001
    assert late > 0.05
    assert tl.classify_trajectories(table)["call"].item() == "changed, unresolved"


def test_single_level_gives_changed_or_not() -> None:
    table = pd.concat(
        [
            rows("up", (1.5,), visits=("d7",)),
            rows("flat", (0.0,), visits=("d7",)),
            rows("unclear", (0.4,), visits=("d7",), std_error=0.5),
        ]
    )
    calls = tl.classify_trajectories(table).set_index("population")["call"]
    assert calls.to_dict() == {"up": "changed", "flat": "stable", "unclear": "no change detected"}


def test_rows_that_were_not_tested() -> None:
    lost = rows("lost", (1.0, 1.0, 1.0)).assign(
        status="too few",
        reason="3 cells in 0 of 9 samples",
        log2_fold_change=np.nan,
        std_error=np.nan,
        df=np.nan,
        p_value=np.nan,
        fdr=np.nan,
    )
    half = rows("half", (1.5, 1.5, 1.5))
    half.loc[
        half["contrast"].isin(["d28 - d0", "d28 - d7"]),
        ["log2_fold_change", "std_error", "df", "p_value"],
    ] = np.nan
    calls = tl.classify_trajectories(
        pd.concat([lost, half, rows("ok", (1.5, 1.4, 1.4))])
    ).set_index("population")
    assert calls.loc["lost", "call"] == "not tested"
    assert "3 cells in 0 of 9 samples" in calls.loc["lost", "reason"]
    assert calls.loc["half", "call"] == "changed, unresolved"
    assert calls.loc["half", "reason"] == "not tested: [d28 - d0, d28 - d7]"
    assert calls.loc["ok", "call"] == "persistent"


def test_compartments_and_their_difference() -> None:
    table = pd.concat(
        [
            rows("a", (1.5, 1.5, 1.5)),
            rows("a", (0.0, 0.0, 0.0), place="BM"),
            rows("a", (-1.5, -1.5, -1.5), place="BM - PB", std_error=0.2),
        ]
    )
    calls = tl.classify_trajectories(table).set_index("compartment")
    assert calls["call"].to_dict() == {"PB": "persistent", "BM": "stable"}
    assert (calls["compartment_fdr"] < 0.001).all()
    assert calls["only_here"].to_dict() == {"PB": "shown", "BM": ""}


def test_only_here_needs_the_difference_or_equivalence() -> None:
    """Significant in blood and not in marrow shows nothing about their difference."""

    def called(marrow: tuple[float, ...], *, spread: float, difference: float) -> pd.Series:
        table = pd.concat(
            [
                rows("a", (1.0, 1.0, 1.0)),
                rows("a", marrow, place="BM", std_error=spread),
                rows("a", (difference,) * 3, place="BM - PB", std_error=0.3),
            ]
        )
        calls = tl.classify_trajectories(table).set_index("compartment")
        assert calls.loc["PB", "call"] == "persistent"
        return calls["only_here"]

    assert called((0.5, 0.5, 0.5), spread=0.5, difference=-0.5)["PB"] == "not shown"
    assert called((0.0, 0.0, 0.0), spread=0.5, difference=-1.5)["PB"] == "shown"
    assert called((0.0, 0.0, 0.0), spread=0.1, difference=-0.5)["PB"] == "shown"  # equivalent
    stronger = called((3.0, 3.0, 3.0), spread=0.1, difference=2.0)
    assert stronger.to_dict() == {"PB": "not shown", "BM": "shown"}


def test_without_a_second_compartment_there_is_no_only_here() -> None:
    assert tl.classify_trajectories(rows("a", (1.0, 1.0, 1.0)))["only_here"].item() == ""


def test_levels_and_compartments_that_hold_a_minus() -> None:
    visits = ("cycle - 1", "cycle - 2")
    table = pd.concat(
        [
            rows("a", (1.5, 1.5), visits=visits, place="blood - left"),
            rows("a", (0.0, 0.0), visits=visits, place="marrow"),
            rows("a", (-1.5, -1.5), visits=visits, place="marrow - blood - left", std_error=0.2),
        ]
    )
    calls = tl.classify_trajectories(table).set_index("compartment")
    assert calls["call"].to_dict() == {"blood - left": "persistent", "marrow": "stable"}
    assert set(calls["peak"]) <= set(visits)
    assert (calls["compartment_fdr"] < 0.001).all()


def test_named_levels_and_refusals() -> None:
    table = rows("a", (1.5, 1.5, 1.5))
    with pytest.raises(ArgumentError, match="'d15 - d7' is needed"):
        tl.classify_trajectories(table, late="d15")
    with pytest.raises(
        ArgumentError, match=r"early 'd3' is not an on-treatment level; levels: \[d7, d15, d28\]"
    ):
        tl.classify_trajectories(table, early="d3")
    with pytest.raises(ArgumentError, match="early must come before late"):
        tl.classify_trajectories(table, early="d28", late="d7")
    with pytest.raises(MissingSlotError, match="missing columns"):
        tl.classify_trajectories(table.drop(columns="df"))
    state = table.rename(columns={"log2_fold_change": "difference"}).assign(marker="PD-1")
    with pytest.raises(ArgumentError, match="margin= must be given"):
        tl.classify_trajectories(state)
    assert tl.classify_trajectories(state, margin=0.3)["marker"].tolist() == ["PD-1"]


def test_takes_the_abundance_table_as_it_is() -> None:
    rng = np.random.default_rng(0)
    sheet = pd.DataFrame(
        [(f"P{p}{v}", f"P{p}", v) for p in range(12) for v in ("d0", "d7", "d28")],
        columns=["sample", "patient", "visit"],
    )
    share = np.exp(rng.normal(0, 0.3, (8, 36)))
    share[2, (sheet["visit"] != "d0").to_numpy()] *= 6
    counts = pd.DataFrame(
        rng.poisson(500 * share), index=[f"c{k}" for k in range(8)], columns=sheet["sample"]
    )
    with pytest.warns(StatisticsWarning, match="disagree"):
        result = tl.differential_abundance(
            counts,
            samples=sheet,
            treatment_key="visit",
            donor_key="patient",
            denominator=("log_ratio", "total"),
        )
    calls = tl.classify_trajectories(result)
    assert len(calls) == 8 * 2
    picked = calls.set_index(["denominator", "population"])["call"]
    assert picked["log_ratio", "c2"] == "persistent"


def test_multiplicity_against_scipy() -> None:
    p = np.array([0.01, 0.5, 0.03, 0.002, 1.0])
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    with_gap = np.insert(p, 2, np.nan)
    np.testing.assert_allclose(np.delete(benjamini_hochberg(with_gap), 2), benjamini_hochberg(p))
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    assert simes(np.array([0.01, 0.04, 0.03, np.nan])) == pytest.approx(0.03)
    assert np.isnan(simes(np.array([np.nan])))
