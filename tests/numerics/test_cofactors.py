"""Cofactors: from the noise of the negatives, alike for every instrument."""

from __future__ import annotations

import numpy as np
import pytest

from cytoclust.numerics.cofactors import estimate_cofactors, negative_noise

N = 20_000


def fluorescence(
    rng: np.random.Generator, noise: float, positive: float, level: float
) -> np.ndarray:
    """Noise around zero, and a share of cells with a spread of a third around a level."""
    n_positive = int(N * positive)
    bright = level * rng.lognormal(0, 0.32, n_positive)
    return np.concatenate([np.zeros(N - n_positive), bright]) + rng.normal(0, noise, N)


@pytest.mark.parametrize("noise", [15.0, 50.0, 200.0, 900.0])
@pytest.mark.parametrize("positive", [0.0, 0.05, 0.4, 0.8])
def test_noise_is_found_whatever_else_is_there(noise: float, positive: float) -> None:
    values = fluorescence(np.random.default_rng(0), noise, positive, 60 * noise)
    found = negative_noise(values)
    assert found.reason == ""
    assert found.spread == pytest.approx(noise, rel=0.15)
    assert abs(found.center) < 0.5 * noise


def test_cofactor_scales_with_the_detector() -> None:
    values = fluorescence(np.random.default_rng(1), 50, 0.3, 5000)[:, None]
    one, _, _ = estimate_cofactors(values, [False])
    ten, _, _ = estimate_cofactors(10 * values, [False])
    assert ten[0] == pytest.approx(10 * one[0], rel=0.02)
    assert 130 < one[0] < 190


def test_variance_is_stable_after_the_transformation() -> None:
    rng = np.random.default_rng(2)
    cofactors, _, _ = estimate_cofactors(fluorescence(rng, 80, 0.4, 2e4)[:, None], [False])
    negative = np.arcsinh(rng.normal(0, 80, N) / cofactors[0])
    bright = np.arcsinh((2e4 * rng.lognormal(0, 0.32, N) + rng.normal(0, 80, N)) / cofactors[0])
    assert negative.std() == pytest.approx(bright.std(), rel=0.2)


@pytest.mark.parametrize("inflation", [0.0, 0.5, 0.9])
def test_ion_counts_give_about_five(inflation: float) -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.choice([0.3, 30.0, 400.0], N, p=[0.6, 0.2, 0.2])).astype(float)
    counts[rng.random(N) < inflation] = 0
    cofactors, _, sources = estimate_cofactors(counts[:, None], [True])
    assert cofactors[0] == pytest.approx(5, rel=0.1)
    assert sources == ["counting"]
    randomised = counts - rng.random(N)
    assert 4.9 < estimate_cofactors(randomised[:, None], [True])[0][0] < 8


@pytest.mark.parametrize("sd", [0.2, 0.3, 0.6])
def test_channel_without_negatives_takes_the_panel_median(sd: float) -> None:
    rng = np.random.default_rng(4)
    positives = 2e4 * rng.lognormal(0, sd, N)
    values = np.stack(
        [rng.normal(0, 50, N), rng.normal(0, 70, N), rng.normal(0, 60, N), positives], axis=1
    )
    cofactors, noise, sources = estimate_cofactors(values, [False] * 4)
    assert sources == ["noise", "noise", "noise", "panel median"]
    assert cofactors[3] == np.median(cofactors[:3])
    assert noise[3].reason == "no negative population"


def test_autofluorescence_above_zero_is_a_negative_population() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(250, 60, N), 4e4 * rng.lognormal(0, 0.3, N // 4)])
    found = negative_noise(values)
    assert found.reason == ""
    assert found.spread == pytest.approx(60, rel=0.2)


def test_detector_that_cuts_off_at_zero() -> None:
    rng = np.random.default_rng(6)
    values = np.maximum(fluorescence(rng, 50, 0.2, 1e4), 0)
    assert negative_noise(values).spread == pytest.approx(50, rel=0.2)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(500), "constant"),
        (np.full(500, 7.0), "constant"),
        (np.full(500, np.nan), "only 0 finite"),
        (np.arange(10.0), "only 10 finite"),
    ],
)
def test_channels_that_say_nothing(values: np.ndarray, reason: str) -> None:
    assert reason in negative_noise(values).reason
    cofactors, _, sources = estimate_cofactors(values[:, None], [False])
    assert cofactors[0] > 0
    assert sources == ["usual"]


def test_not_finite_values_and_outliers_do_not_matter() -> None:
    rng = np.random.default_rng(7)
    values = fluorescence(rng, 50, 0.3, 5000)
    clean = negative_noise(values).spread
    values[:20] = np.nan
    values[20:40] = np.inf
    values[40:60] = -5e6
    assert negative_noise(values).spread == pytest.approx(clean, rel=0.05)
