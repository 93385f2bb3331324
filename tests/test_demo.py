"""Scores of a run against planted truth, on tables small enough to count by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from cytoclust import demo

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["population", "compartment", "contrast"]


def results() -> pd.DataFrame:
    rows = [
        ("Treg", "PB", "d7 - d0", 1.4, 0.2, 0.001),  # planted, found
        ("Treg", "BM", "d7 - d0", 0.1, 0.2, 0.8),  # not planted, not found
        ("NK cell", "PB", "d7 - d0", -1.0, 0.2, 0.01),  # planted the other way: a false finding
        ("NK cell", "BM", "d7 - d0", 0.9, 0.2, 0.02),  # not planted: a false finding
        ("NK cell", "BM - PB", "d7 - d0", 1.9, 0.3, 0.001),  # an interaction does not count
    ]
    table = pd.DataFrame(rows, columns=[*KEYS, "log2_fold_change", "std_error", "fdr"])
    return table.assign(df=50.0)


def write_effects(folder: Path, rows: list[tuple[object, ...]]) -> None:
    pd.DataFrame(rows, columns=[*KEYS, "log2_fold_change"]).to_csv(
        folder / "effects.csv", index=False
    )


def test_effects_and_findings(tmp_path: Path) -> None:
    write_effects(tmp_path, [("Treg", "PB", "d7 - d0", 1.5), ("NK cell", "PB", "d7 - d0", 1.2)])
    effects, findings = demo.compare_effects(results(), tmp_path)
    assert effects["found"].tolist() == [True, False]
    assert findings["true"].tolist() == [True, False, False]
    assert (effects["power"] > 0.99).all()


def test_nothing_planted(tmp_path: Path) -> None:
    write_effects(tmp_path, [])
    effects, findings = demo.compare_effects(results(), tmp_path)
    assert effects.empty
    assert not findings["true"].any()


def test_power_at_the_limit_of_detection() -> None:
    # closed form: with many degrees of freedom an effect of 1.96 + 1.2816 standard errors has power 0.9
    table = pd.DataFrame({"df": [1e6], "std_error": [0.5]})
    power = demo.detection_power(table, pd.Series([0.5 * (1.959964 + 1.281552)]))
    assert power[0] == pytest.approx(0.9, abs=1e-4)


def test_populations_are_scored_by_name() -> None:
    joined = pd.DataFrame(
        {
            "population": ["naive B", "naive B", "naive B", "CD4 EM", "CD4 EM", "naive B"],
            "phenotype": ["naive B", "naive B", "CD4 EM", "CD4 EM", "", "naive B"],
            "kind": ["cell"] * 5 + ["dead"],
            "n_events": 1,
        }
    )
    _, lineages, populations = demo.score_populations(joined)
    # the excluded event and the dead cell do not count: 3 naive B of which 2 named, 1 CD4 EM named twice
    assert populations.loc["naive B", "f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert populations.loc["CD4 EM", "f1"] == pytest.approx(2 * 1 / (1 + 2))
    assert lineages.loc["B", "recall"] == pytest.approx(2 / 3)
    assert np.isfinite(lineages.to_numpy()).all()


@given(seed=st.integers(0, 1000), n_events=st.integers(2, 300))
def test_adjusted_rand_is_that_of_scikit_learn(seed: int, n_events: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, n_events)
    second = np.where(rng.random(n_events) < 0.5, first, rng.integers(0, 3, n_events))
    counts = pd.crosstab(first, second).to_numpy()
    assert demo.adjusted_rand(counts) == pytest.approx(adjusted_rand_score(first, second))


def test_truth_is_joined_event_by_event(tmp_path: Path) -> None:
    truth = pd.DataFrame(
        {
            "sample": ["a"] * 3 + ["b"] * 2,
            "event": np.array([0, 1, 2, 0, 1], dtype=np.int32),
            "population": ["T", "B", "T", "B", ""],
            "kind": ["cell", "cell", "cell", "cell", "debris"],
        }
    )
    truth.to_parquet(tmp_path / "events.parquet", index=False)
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(["b", "a", "a"], categories=["b", "a"]),
            "event": np.array([0, 2, 1], dtype=np.int32),
            "phenotype": pd.Categorical(["B", "T", "T"]),
        },
        index=list("xyz"),
    )
    joined = demo.join_truth(anndata.AnnData(np.zeros((3, 1), np.float32), obs=obs), tmp_path)
    found = joined.set_index(["population", "kind", "phenotype"])["n_events"].to_dict()
    assert found == {
        ("T", "cell", "T"): 1,
        ("T", "cell", ""): 1,
        ("B", "cell", "T"): 1,
        ("B", "cell", "B"): 1,
        ("", "debris", ""): 1,
    }
