"""Drift within one file."""

from __future__ import annotations

import numpy as np
import pytest

from cytoclust.numerics.drift import acquisition_order, find_drift


def steady(rng: np.random.Generator, n: int, n_channels: int = 6) -> np.ndarray:
    """A mixture of populations in random order: what a steady acquisition gives."""
    population = rng.choice(4, n, p=[0.6, 0.3, 0.09, 0.01])
    centers = rng.normal(0, 2, (4, n_channels))
    values = centers[population] + rng.normal(0, 0.5, (n, n_channels))
    values[:, -1] = np.round(np.maximum(values[:, -1], 0))  # zeros and ties, as ion counts have
    return values.astype(np.float32)


@pytest.mark.parametrize("n", [1000, 3000, 20_000])
def test_steady_files_are_left_alone(n: int) -> None:
    flagged = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        time = np.cumsum(rng.exponential(1, n)).astype(np.float32)
        flagged.append(find_drift(steady(rng, n), time).flags.mean())
    assert np.mean(flagged) < 0.01


def test_stretch_with_a_shift_is_found() -> None:
    rng = np.random.default_rng(0)
    values = steady(rng, 20_000)
    values[8000:11_000, 2] -= 1.5
    found = find_drift(values, np.arange(20_000, dtype=np.float32))
    assert found.flags[8300:10_700].all()
    assert found.flags[:7500].sum() == 0
    assert found.flags[11_500:].sum() == 0
    assert found.channel == 2
    assert found.shift < 0


def test_events_out_of_order_are_sorted_by_time() -> None:
    rng = np.random.default_rng(1)
    values = steady(rng, 20_000)
    values[8000:11_000, 2] -= 1.5
    time = np.arange(20_000, dtype=np.float32)
    plain = find_drift(values, time)
    mixed = rng.permutation(20_000)
    found = find_drift(values[mixed], time[mixed])
    np.testing.assert_array_equal(found.flags, plain.flags[mixed])
    assert "sorted by time" in found.reason


def test_monotone_scale_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    values = steady(rng, 10_000)
    values[2000:4000] += 1
    again = find_drift(np.exp(values), None).flags
    np.testing.assert_array_equal(find_drift(values, None).flags, again)
    assert 1500 < again.sum() < 2500


def test_slow_trend_is_reported_and_kept() -> None:
    rng = np.random.default_rng(3)
    values = steady(rng, 20_000)
    values[:, 1] += np.linspace(0, 1, 20_000, dtype=np.float32)
    found = find_drift(values, None)
    assert found.flags.sum() == 0
    assert found.trend_channel == 1
    assert found.trend > 0.1


def test_burst_is_flagged_and_gap_reported() -> None:
    rng = np.random.default_rng(4)
    values = steady(rng, 20_000)
    steps = rng.exponential(1, 20_000)
    steps[5000:6000] /= 20
    steps[15_000] = 4000
    found = find_drift(values, np.cumsum(steps).astype(np.float32))
    assert found.n_bursts >= 2
    assert found.flags[5300:5700].all()
    assert found.flags.sum() < 2000
    assert found.longest_gap > 0.1


@pytest.mark.parametrize(
    ("time", "remark"),
    [
        (None, "no time channel"),
        (np.zeros(5000), "constant"),
        (np.arange(5000.0)[::-1], "backwards"),
        (np.where(np.arange(5000) > 4000, np.nan, np.arange(5000.0)), "not a number"),
        (np.arange(5000.0) % 1000, "backwards"),
    ],
)
def test_time_that_cannot_be_used(time: np.ndarray | None, remark: str) -> None:
    values = steady(np.random.default_rng(5), 5000)
    values[1000:2000] += 1
    clock = None if time is None else time.astype(np.float32)
    found = find_drift(values, clock)
    assert remark in found.reason
    assert 750 <= found.flags.sum() <= 1500
    order, ticks, _ = acquisition_order(clock, 5000)
    np.testing.assert_array_equal(order, np.arange(5000))
    assert ticks is None


def test_files_that_cannot_be_judged() -> None:
    rng = np.random.default_rng(6)
    small = find_drift(steady(rng, 300), None)
    assert small.flags.sum() == 0
    assert "fewer than 1000" in small.reason
    constant = find_drift(np.ones((2000, 3), np.float32), None)
    assert constant.reason == "every channel is constant"
    assert find_drift(np.full((2000, 1), np.nan, np.float32), None).flags.sum() == 0


def test_nan_in_some_events_is_no_drift() -> None:
    rng = np.random.default_rng(7)
    values = steady(rng, 5000)
    values[rng.random(values.shape) < 0.01] = np.nan
    assert find_drift(values, None).flags.sum() == 0


def test_events_sorted_by_population_are_not_judged() -> None:
    rng = np.random.default_rng(8)
    population = np.sort(rng.choice(4, 10_000, p=[0.6, 0.3, 0.09, 0.01]))
    values = (rng.normal(0, 2, (4, 6))[population] + rng.normal(0, 0.5, (10_000, 6))).astype("f4")
    found = find_drift(values, np.arange(10_000, dtype=np.float32))
    assert found.flags.sum() == 0
    assert "sorted by what they are" in found.reason
    mixed = find_drift(values[rng.permutation(10_000)], np.arange(10_000, dtype=np.float32))
    assert mixed.reason == ""


def test_no_steady_part_to_compare_with() -> None:
    rng = np.random.default_rng(9)
    values = steady(rng, 40_000)
    step = np.repeat(rng.permutation(np.tile([0, 0, 1, -1, 2, -2], 6)), 1200)[:40_000]
    values[: step.size] += 0.8 * step[:, None].astype(np.float32)
    found = find_drift(values, None)
    assert found.flags.mean() <= 0.5
