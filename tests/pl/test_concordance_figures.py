"""Figures of the agreement with gates say what the tables hold."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import pl, tl


@pytest.fixture
def result() -> tl.Concordance:
    gate = np.array(["T"] * 60 + ["B"] * 30 + ["NK"] * 10)
    found = gate.copy()
    found[:6] = "B"
    obs = pd.DataFrame(
        {"phenotype": found, "gate": gate, "sample": np.tile(["s1", "s2"], 50)},
        index=[str(i) for i in range(100)],
    )
    return tl.compare_gates(ad.AnnData(np.zeros((100, 1)), obs=obs), "gate")


def test_scores_are_ordered_by_f1(result: tl.Concordance) -> None:
    ax = pl.gate_scores(result)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["NK", "T", "B"]
    widths = [patch.get_width() for patch in ax.patches]
    assert widths == pytest.approx(sorted(result.populations["f1"], reverse=True))


def test_confusion_shows_percentages_of_each_gate(result: tl.Concordance) -> None:
    ax = pl.confusion(result)
    assert sorted(text.get_text() for text in ax.texts) == ["10", "100", "100", "90"]


def test_limits_of_agreement_are_drawn(result: tl.Concordance) -> None:
    ax = pl.bland_altman(result, "T")
    drawn = sorted(line.get_ydata()[0] for line in ax.lines)
    row = result.populations.loc["T"]
    assert drawn == pytest.approx([row["limit_low"], row["bias"], row["limit_high"]])
    assert len(pl.bland_altman(result).collections[0].get_offsets()) == 6
    assert "no gate" in pl.bland_altman(result, "X").texts[0].get_text()
