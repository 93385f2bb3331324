"""Cuts that known negatives inform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from cytoclust.numerics.mixtures import Baseline, count_values, split_marker
from cytoclust.numerics.references import (
    Reference,
    has_own_peak,
    known_negatives,
    share_above,
    split_with_reference,
)

SCALE = Baseline(0.0, 4.0)


def test_tail_share_of_exponential_negatives_is_exponential() -> None:
    values = np.random.default_rng(0).exponential(1.0, 200_000)
    tail = count_values(values)
    places = np.array([1.0, 3.0, 6.0])
    found = np.interp(places, tail.centers, share_above(tail))
    assert found == pytest.approx(np.exp(-places), rel=0.12)


def test_positives_among_the_reference_do_not_raise_its_tail() -> None:
    rng = np.random.default_rng(1)
    values = np.r_[rng.normal(0, 0.5, 9_700), rng.normal(4, 0.5, 300)]
    tail = count_values(values)
    assert np.interp(4.0, tail.centers, share_above(tail)) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_no_more_than_a_fifth_of_the_positives_are_the_negatives_tail(seed: int) -> None:
    rng = np.random.default_rng(seed)
    background = rng.exponential(0.5, 30_000)
    positives = np.clip(rng.normal(3.0, 1.1, 1_500), 0, None)
    values = np.r_[background, positives]
    negative, tail = known_negatives(rng.exponential(0.5, 5_000), least_spread=0.3)
    found = split_with_reference(
        count_values(values), Reference(negative, tail), baseline=Baseline(0.2, 3.0)
    )
    if found.informative:
        assert np.mean(background > found.cut) * 30_000 <= 0.27 * np.sum(values > found.cut)
    alone = split_marker(count_values(values), baseline=Baseline(0.2, 3.0), expected=True)
    assert not alone.informative or found.status == "all_negative" or found.cut >= alone.cut - 1e-9


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [3.0, 4.5])
def test_negatives_of_the_lineage_set_the_cut_of_a_tail(seed: int, distance: float) -> None:
    # normal negatives and a wide normal tail: a fifth of the positives false, in closed form
    rng = np.random.default_rng(seed)
    values = np.r_[rng.normal(0, 1, 36_000), rng.normal(distance, 1.5, 4_000)]
    wanted = brentq(
        lambda x: 0.9 * norm.sf(x) - 0.2 * (0.9 * norm.sf(x) + 0.1 * norm.sf(x, distance, 1.5)),
        0,
        4,
    )
    reference = Reference(*known_negatives(rng.normal(0, 1, 20_000), least_spread=0.5), kin=True)
    found = split_with_reference(count_values(values), reference, baseline=Baseline(0.0, 6.0))
    assert found.method == "negatives of the lineage"
    # the tail beyond the 95 % point is taken as exponential, which is heavier than normal
    assert wanted - 0.1 <= found.cut <= wanted + 0.6
    assert np.mean(values[36_000:] > found.cut) > 0.55


def test_nothing_but_the_lineages_negatives_is_negative() -> None:
    rng = np.random.default_rng(8)
    reference = Reference(*known_negatives(rng.normal(0, 1, 9_000), least_spread=0.5), kin=True)
    found = split_with_reference(
        count_values(rng.normal(0.1, 1, 20_000)), reference, baseline=Baseline(0.0, 6.0)
    )
    assert found.status == "all_negative"
    assert "tail of the known negatives" in found.reason


def test_what_is_like_the_negatives_is_negative() -> None:
    rng = np.random.default_rng(3)
    negative, tail = known_negatives(rng.exponential(0.6, 5_000), least_spread=0.3)
    found = split_with_reference(
        count_values(rng.exponential(0.6, 20_000)), Reference(negative, tail), baseline=SCALE
    )
    assert found.status == "all_negative"


def test_a_population_with_a_peak_of_its_own_keeps_its_cut() -> None:
    rng = np.random.default_rng(4)
    values = np.r_[rng.normal(0, 0.5, 9_000), rng.normal(3.5, 0.5, 1_000)]
    histogram = count_values(values)
    alone = split_marker(histogram, baseline=SCALE, expected=True)
    assert has_own_peak(histogram, alone.cut, scale=4.0)
    wide = known_negatives(rng.normal(1.5, 1.0, 5_000), least_spread=0.3)
    found = split_with_reference(histogram, Reference(*wide), baseline=SCALE)
    assert found.informative
    assert found.cut == pytest.approx(alone.cut, abs=0.4)
