"""Tables of a lazy AnnData: those of the same events in memory, bit for bit."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest

from cytoclust import chunks, get
from cytoclust.get.intensities import population_medians
from cytoclust.numerics import tallies


@pytest.fixture
def pair() -> tuple[ad.AnnData, ad.AnnData]:
    """Events of five samples, one of them empty: in memory, and as a Dask array."""
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2, 4], [400, 30, 700, 5]).astype(np.int8)
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical.from_codes(codes, categories=list("abcde")),
            "phenotype": pd.Categorical.from_codes(
                rng.integers(-1, 3, len(codes)), categories=["T", "B", "NK"]
            ),
            "tissue": pd.Categorical.from_codes(codes % 2, categories=["PB", "BM"]),
        }
    )
    var = pd.DataFrame(
        {"marker": ["PD-1", "CD3", "CD39"], "marker_class": ["state", "type", "state"]}
    )
    X = rng.normal(size=(len(codes), 3)).astype(np.float32)
    whole = ad.AnnData(X, obs=obs.set_axis(obs.index.astype(str)), var=var.set_axis(list("xyz")))
    lazy = ad.AnnData(np.zeros((0, 3), np.float32), var=whole.var.copy())
    values = da.from_array(X, chunks=((250, 150, 30, 699, 6), 3))
    chunks.put_events(lazy, obs, values=values, layers={})
    return whole, lazy


def test_counts_and_shares(
    pair: tuple[ad.AnnData, ad.AnnData], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, lazy = pair
    expected = pd.crosstab(
        whole.obs["phenotype"].cat.add_categories("unassigned").fillna("unassigned"),
        whole.obs["sample"], dropna=False,
    )  # fmt: skip
    monkeypatch.setattr(tallies, "EVENTS_AT_ONCE", 100)
    np.testing.assert_array_equal(get.counts(lazy), expected)
    pd.testing.assert_frame_equal(get.counts(lazy), get.counts(whole))
    pd.testing.assert_frame_equal(get.proportions(lazy), get.proportions(whole))


def test_medians(pair: tuple[ad.AnnData, ad.AnnData]) -> None:
    whole, lazy = pair
    tidy = get.medians(lazy)
    pd.testing.assert_frame_equal(tidy, get.medians(whole))
    mine = (whole.obs["sample"] == "c") & (whole.obs["phenotype"] == "NK")
    found = tidy.set_index(["sample", "population", "marker"]).loc[("c", "NK", "CD39")]
    assert found["median"] == np.median(whole.X[mine, 2])
    assert found["n_events"] == mine.sum()
    assert len(tidy) == 5 * 4 * 2


def test_medians_of_samples_that_are_not_side_by_side(pair: tuple[ad.AnnData, ad.AnnData]) -> None:
    whole, _ = pair
    mixed = whole[np.random.default_rng(1).permutation(whole.n_obs)].copy()
    mixed.obs["sample"] = mixed.obs["sample"].cat.set_categories(list("abcde"))
    pd.testing.assert_frame_equal(get.medians(mixed), get.medians(whole))


def test_medians_above_a_limit_of_each_level(pair: tuple[ad.AnnData, ad.AnnData]) -> None:
    whole, lazy = pair
    above = np.array([[0.0, 0.5], [-1.0, 1.0]])
    found = population_medians(
        lazy, "phenotype", [0, 2], min_events=1, above=above,
        level_codes=lazy.obs["tissue"].cat.codes.to_numpy(),
    )  # fmt: skip
    for i, sample in enumerate(found.samples):
        mine = (whole.obs["sample"] == sample) & (whole.obs["phenotype"] == "T")
        for j, column in enumerate([0, 2]):
            limit = above[whole.obs["tissue"].cat.codes.to_numpy()[mine], j]
            values = whole.X[mine, column][whole.X[mine, column] > limit]
            assert found.n_events[0, j, i] == len(values)
            if len(values):
                assert found.medians[0, j, i] == np.median(values)
