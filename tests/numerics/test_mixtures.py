"""Cuts along one marker: found where there are two populations, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoclust.numerics.mixtures import (
    Baseline,
    Group,
    count_values,
    find_cuts,
    log_ratio,
    split_marker,
)

SCALE = Baseline(0.0, 4.0)


def two(rng: np.random.Generator, n: int, share: float, distance: float) -> np.ndarray:
    n_high = max(1, round(n * share))
    return np.r_[rng.normal(0, 0.5, n - n_high), rng.normal(distance, 0.5, n_high)]


@pytest.mark.parametrize("n_events", [500, 5_000, 200_000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_two_populations_are_cut_between(n_events: int, share: float) -> None:
    values = two(np.random.default_rng(1), n_events, share, 4.0)
    found = split_marker(count_values(values), baseline=SCALE)
    assert found.informative
    wrong = np.mean((values > found.cut) != (np.arange(n_events) >= n_events - n_events * share))
    assert wrong < 0.005
    assert found.band[0] < found.cut < found.band[1]


@pytest.mark.parametrize("n_events", [50_000, 400_000])
def test_a_tail_of_one_in_a_thousand_is_found(n_events: int) -> None:
    values = two(np.random.default_rng(2), n_events, 0.001, 5.0)
    found = split_marker(count_values(values), baseline=SCALE)
    assert found.informative
    assert 1.5 < found.cut < 4.5
    assert found.high.weight == pytest.approx(0.001, rel=0.3)


@pytest.mark.parametrize("n_events", [500, 20_000, 200_000])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(1, 0.7, n),
        lambda rng, n: rng.logistic(1, 0.4, n),
        lambda rng, n: rng.uniform(0, 3, n),
        lambda rng, n: rng.gamma(4, 0.3, n),
        lambda rng, n: rng.exponential(1.0, n),
    ],
    ids=["normal", "logistic", "uniform", "gamma", "exponential"],
)
def test_one_population_is_never_cut(draw: object, n_events: int) -> None:
    for seed in range(5):
        values = draw(np.random.default_rng(seed), n_events)  # type: ignore[operator]
        found = split_marker(count_values(values))
        assert not found.informative, f"cut at {found.cut}"
        assert found.reason


def test_position_tells_what_one_population_is() -> None:
    rng = np.random.default_rng(3)
    status = {
        place: split_marker(count_values(rng.normal(place, 0.4, 5_000)), baseline=SCALE).status
        for place in (0.0, 1.6, 4.0)
    }
    assert status == {0.0: "all_negative", 1.6: "undetermined", 4.0: "all_positive"}


def test_too_few_events_are_left_undetermined() -> None:
    found = split_marker(count_values(np.arange(10.0)))
    assert found.status == "undetermined"
    assert "only" in found.reason


@pytest.mark.parametrize("values", [np.array([]), np.full(100, np.nan), np.full(100, 2.0)])
def test_empty_and_constant_markers_are_uninformative(values: np.ndarray) -> None:
    assert not split_marker(count_values(values), baseline=SCALE).informative


def test_known_negatives_tell_a_dim_shoulder() -> None:
    rng = np.random.default_rng(4)
    values = np.r_[rng.normal(0.5, 0.5, 6_000), rng.normal(1.6, 0.5, 4_000)]
    histogram = count_values(values)
    assert split_marker(histogram, baseline=SCALE).status != "split"
    found = split_marker(histogram, baseline=SCALE, negative=Group(0.5, 0.5, 1.0))
    assert found.method == "reference"
    assert 0.8 < found.cut < 1.6


def test_dim_and_bright_are_cut_apart_when_high_is_asked_for() -> None:
    rng = np.random.default_rng(5)
    values = np.r_[rng.normal(4.5, 0.4, 9_000), rng.normal(6.2, 0.4, 900)]
    found = split_marker(count_values(values), baseline=SCALE, upper=True)
    assert found.informative
    assert 5.0 < found.cut < 5.8


def test_zeros_of_mass_cytometry_are_one_group_with_faint_signal() -> None:
    rng = np.random.default_rng(6)
    faint = np.arcsinh(rng.exponential(0.6, 20_000))
    zeros = rng.uniform(-0.07, 0.0, 20_000)
    found = split_marker(
        count_values(np.r_[zeros, faint, rng.normal(3, 0.4, 10_000)]), baseline=SCALE
    )
    assert found.informative
    assert 1.2 < found.cut < 2.6


def test_log_ratio_is_monotone_whatever_the_spreads() -> None:
    x = np.linspace(-10, 15, 2_001)
    for sds in [(0.2, 1.5), (1.5, 0.2), (0.5, 0.5)]:
        ratio = log_ratio(x, Group(0.0, sds[0], 0.5), Group(3.0, sds[1], 0.5))
        assert (np.diff(ratio) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(
    factor=st.floats(0.01, 1000),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 20),
)
def test_cuts_follow_units_and_ignore_order(factor: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = two(rng, 4_000, 0.3, 4.0)
    cuts = find_cuts(count_values(values))
    moved = find_cuts(count_values(rng.permutation(values) * factor + shift))
    assert len(cuts) == len(moved)
    tolerance = 0.05 * factor
    for (cut, _), (other, _) in zip(cuts, moved, strict=True):
        assert abs(cut * factor + shift - other) <= tolerance


def test_spread_of_compensation_about_zero_is_one_population() -> None:
    # arcsinh of wide noise about zero has two humps and a dip at zero
    for seed in range(5):
        rng = np.random.default_rng(seed)
        values = np.arcsinh(rng.normal(0, 350, 20_000) / 150)
        assert not split_marker(count_values(values), baseline=SCALE, expected=True).informative


def test_tail_of_a_heavy_tailed_population_is_not_cut_off() -> None:
    for seed in range(5):
        values = 0.5 * np.random.default_rng(seed).standard_t(5, 50_000)
        found = split_marker(count_values(values), baseline=SCALE)
        assert not found.informative


def test_zeros_of_mass_cytometry_are_no_population() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        counts = rng.poisson(rng.exponential(3.0, 20_000) * (rng.random(20_000) > 0.45)) * 1.0
        values = np.arcsinh((counts - rng.random(20_000) * (counts >= 0)) / 5)
        assert not split_marker(count_values(values), baseline=SCALE).informative


def test_what_is_positive_by_the_wider_cut_is_not_called_negative() -> None:
    rng = np.random.default_rng(0)
    wider = split_marker(count_values(two(rng, 20_000, 0.3, 4.4)), baseline=SCALE)
    dim_and_bright = np.r_[rng.normal(4.4, 0.4, 2_000), rng.normal(6.4, 0.4, 200)]
    found = split_marker(
        count_values(dim_and_bright), baseline=SCALE, inherited=wider, expected=True
    )
    assert found.status == "all_positive"
    levels = split_marker(
        count_values(dim_and_bright), baseline=SCALE, inherited=wider, upper=True, expected=True
    )
    assert 4.9 < levels.cut < 6.0


@pytest.mark.parametrize("seed", range(3))
def test_dim_is_negative_only_where_definitions_divide_these_events(seed: int) -> None:
    # memory T cells have more CD45RA than granulocytes, which set the cut among all events
    rng = np.random.default_rng(seed)
    values = np.r_[rng.normal(2.6, 0.7, 6_000), rng.normal(4.9, 0.5, 6_000)]
    wider = np.r_[rng.normal(0.5, 0.3, 30_000), values]
    parents = split_marker(count_values(wider), baseline=Baseline(0.3, 3.4))
    assert parents.cut < 1.7
    own = {
        both: split_marker(
            count_values(values), baseline=Baseline(0.3, 3.4), inherited=parents,
            positive=parents.high.mean, expected=True, both=both,
        )
        for both in (False, True)
    }  # fmt: skip
    assert own[True].cut == pytest.approx(3.85, abs=0.3)
    assert own[False].status != "split" or own[False].cut == parents.cut
