"""What is kept of quality control: counts add up, drift is seen, exclusions are told apart."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust import schema


def two_samples(n: int = 3_000) -> ad.AnnData:
    """Sample a drifts in CD3 during its last fifth, which is flagged; b has no events."""
    rng = np.random.default_rng(4)
    clock = np.arange(n, dtype=np.float32)
    late = clock >= 0.8 * n
    signal = 1000 * np.exp(rng.normal(0, 0.3, n)) * np.where(late, 8.0, 1.0)
    scatter = rng.uniform(10, 200, (n, 2))
    values = np.column_stack([scatter, signal, rng.normal(500, 50, n), clock]).astype(np.float32)
    kinds = ["scatter", "scatter", "fluorescence", "fluorescence", "time"]
    var = pd.DataFrame(
        {"channel_type": kinds, "marker": ["", "", "CD3", "CD4", ""], "scale": "linear"},
        index=["FSC-A", "SSC-A", "FITC-A", "PE-A", "Time"],
    )
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(["a"] * n, categories=["a", "b"]),
            schema.QC_TIME: late,
        },
        index=[str(i) for i in range(n)],
    )
    return ad.AnnData(values, obs=obs, var=var)


def profile(adata: ad.AnnData, **options: int) -> dict[str, np.ndarray]:
    cc.pp.profile_quality(adata, **options)
    return adata.uns[schema.UNS][schema.PROFILE_QUALITY]


def test_every_event_is_counted_once() -> None:
    adata = two_samples()
    found = profile(adata)
    assert list(found["samples"]) == ["a", "b"]
    excluded = int(adata.obs[schema.QC_TIME].sum())
    for counts in (found["scatter"][0].sum(axis=(1, 2)), found["rate"][0].sum(axis=1)):
        assert counts.tolist() == [adata.n_obs - excluded, excluded]
    assert found["rate"][1].sum() == 0
    assert np.isnan(found["signal"][1]).all()


def test_means_over_time_are_those_of_numpy() -> None:
    adata = two_samples()
    found = profile(adata, n_bins=5)
    assert list(found["signal_channels"]) == ["CD3", "CD4"]
    fifth = adata.n_obs // 5
    for i in range(5):
        block = adata.X[i * fifth : (i + 1) * fifth, 2:4]
        np.testing.assert_allclose(
            found["signal"][0, i], np.arcsinh(block / 150).mean(axis=0), atol=5e-3
        )
    assert found["rate"][0, 1].tolist()[:4] == [0, 0, 0, 0]


def test_transformed_channels_are_taken_as_they_are() -> None:
    adata = two_samples()
    adata.var["scale"] = "transformed"
    found = profile(adata, n_bins=1)
    np.testing.assert_allclose(found["signal"][0, 0], adata.X[:, 2:4].mean(axis=0), rtol=1e-5)


def test_without_time_the_order_of_the_file_is_taken() -> None:
    adata = two_samples()
    in_order = profile(adata[:, :4].copy(), n_bins=5)
    np.testing.assert_array_equal(in_order["rate"][0].sum(axis=0), [600] * 5)


def test_values_that_are_not_finite_do_no_harm() -> None:
    adata = two_samples()
    adata.X[:10] = np.nan
    adata.X[10:20, 0] = np.inf
    found = profile(adata)
    assert found["scatter"].sum() == adata.n_obs
    assert np.isfinite(found["signal"][0]).all()


def test_it_survives_filtering_and_a_file(tmp_path: object) -> None:
    adata = two_samples()
    before = {k: v for k, v in profile(adata).items() if isinstance(v, np.ndarray)}
    cc.pp.filter_events(adata)
    path = f"{tmp_path}/a.h5ad"
    adata.write_h5ad(path)
    after = ad.read_h5ad(path).uns[schema.UNS][schema.PROFILE_QUALITY]
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    figure = cc.pl.quality_page(ad.read_h5ad(path), "a")
    assert "600 of 3,000 events excluded (20.0 %): time drift 600" in figure.get_suptitle()


def test_page_names_what_drifts_and_colours_what_is_excluded() -> None:
    adata = two_samples()
    profile(adata)
    figure = cc.pl.quality_page(adata, "a")
    scatter, rate, signal = figure.axes
    assert scatter.get_xlabel() == "FSC-A"
    assert next(text.get_text() for text in signal.get_legend().get_texts()) == "CD3"
    heights = [bar.get_height() for bar in rate.patches]
    assert sum(heights) == adata.n_obs
    assert len(cc.pl.quality_page(adata, "b").axes) == 3  # a sample without events


def test_wrong_requests_are_named() -> None:
    adata = two_samples()
    with pytest.raises(cc.errors.MissingSlotError, match=r"pp\.profile_quality"):
        cc.pl.quality_page(adata, "a")
    with pytest.raises(cc.errors.ArgumentError, match="n_bins"):
        cc.pp.profile_quality(adata, n_bins=0)
    profile(adata)
    with pytest.raises(cc.errors.ArgumentError, match=r"samples: \[a, b\]"):
        cc.pl.quality_page(adata, "c")
