"""Agreement with manual gates."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import tl
from cytoclust.errors import ArgumentError, MissingSlotError


@pytest.fixture
def adata() -> ad.AnnData:
    obs = pd.DataFrame(
        {
            "sample": ["a"] * 4 + ["b"] * 4,
            "phenotype": ["T", "T", "B", "B", "T", "B", "B", "B"],
            "gate": ["T", "T", "B", "T", "T", "B", "B", None],
        },
        index=[str(i) for i in range(8)],
    )
    return ad.AnnData(np.zeros((8, 1), dtype=np.float32), obs=obs)


def test_figures_by_hand(adata: ad.AnnData) -> None:
    found = tl.compare_gates(adata, "gate")
    table = found.populations
    # T: 3 of 4 gated found, 3 of 3 found right; B: 3 of 3, 3 of 4
    assert table.loc["T", "f1"] == pytest.approx(6 / 7)
    assert table.loc["B", "f1"] == pytest.approx(6 / 7)
    assert found.mean_f1 == pytest.approx(6 / 7)
    assert table.loc["T", "precision"] == 1.0
    assert table.loc["T", "recall"] == 0.75
    assert found.confusion.loc["T", "B"] == 1
    assert found.confusion.to_numpy().sum() == 7
    # percentages of T: sample a 75 by gate, 50 found; sample b 33.3 both
    assert table.loc["T", "bias"] == pytest.approx(-12.5)
    assert table.loc["T", "mean_absolute_error"] == pytest.approx(12.5)
    x, y = np.array([75, 100 / 3]), np.array([50, 100 / 3])
    lin = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert table.loc["T", "concordance"] == pytest.approx(lin)


def test_gates_by_event_name_in_any_order(adata: ad.AnnData) -> None:
    gates = adata.obs["gate"].sample(frac=1, random_state=0)
    assert tl.compare_gates(adata, gates).mean_f1 == tl.compare_gates(adata, "gate").mean_f1


def test_descendants_count_for_their_gate() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat([[5.0, 5, 0, 0], [5, 0, 5, 0], [0, 0, 0, 5]], 300, axis=0)
    cells = ad.AnnData((levels + rng.normal(0, 0.5, levels.shape)).astype(np.float32))
    cells.var["marker"] = ["CD3", "CD4", "CD8", "CD19"]
    tl.annotate_phenotypes(cells, cluster_key=None)
    cells.obs["gate"] = np.repeat(["T", "T", "B"], 300)
    found = tl.compare_gates(cells, "gate", names={"T": "T cell", "B": "B cell"})
    assert found.mean_f1 > 0.99
    with pytest.raises(ArgumentError, match="not defined"):
        tl.compare_gates(cells, "gate")


def test_errors(adata: ad.AnnData) -> None:
    with pytest.raises(MissingSlotError, match="manual"):
        tl.compare_gates(adata, "manual")
    with pytest.raises(ArgumentError, match="found none"):
        tl.compare_gates(adata, pd.Series(["T"], index=["other"]))
