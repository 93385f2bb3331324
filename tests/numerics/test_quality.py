"""Gates for margins, doublets, debris and dead cells on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from cytoclust.numerics.quality import (
    debris_cut,
    doublet_gate,
    ion_doublets,
    refined_cut,
    viability_cut,
)


def cells(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Small and large cells; the pulse of a large one is longer, as on a real instrument."""
    large = rng.random(n) < 0.3
    height = np.where(large, rng.normal(1.2e5, 1.2e4, n), rng.normal(5e4, 4e3, n))
    area = height * np.where(large, 1.35, 1.05) * rng.normal(1, 0.03, n)
    return area.astype(np.float32), height.astype(np.float32)


def test_doublets_are_caught_and_large_cells_kept() -> None:
    rng = np.random.default_rng(0)
    area, height = cells(rng, 20_000)
    is_doublet = np.zeros(20_000, bool)
    is_doublet[:1000] = True
    partner = rng.integers(1000, 20_000, 1000)
    area[:1000] += area[partner]
    height[:1000] = np.maximum(height[:1000], height[partner]) * rng.normal(1.05, 0.03, 1000)
    gate = doublet_gate(area, height)
    large = ~is_doublet & (height > 9e4)
    assert gate.flags[is_doublet].mean() > 0.8
    assert gate.flags[~is_doublet].mean() < 0.005
    assert gate.flags[large].mean() < 0.01
    assert 1.0 < gate.ratio < 1.15


def test_clean_file_has_no_doublets() -> None:
    area, height = cells(np.random.default_rng(1), 20_000)
    assert doublet_gate(area, height).flags.mean() < 0.005  # at the border of both sizes


def test_doublet_gate_ignores_what_cannot_be_a_ratio() -> None:
    area, height = cells(np.random.default_rng(2), 500)
    area[0], height[1], area[2], area[3] = -1, 0, np.nan, np.inf
    assert not doublet_gate(area, height).flags[:4].any()
    few = doublet_gate(area[:50], height[:50])
    assert np.isnan(few.ratio)
    assert not few.flags.any()


def test_ion_doublets_need_dna_and_length() -> None:
    rng = np.random.default_rng(3)
    dna = rng.lognormal(6, 0.15, 5000).astype(np.float32)
    length = rng.normal(30, 4, 5000).astype(np.float32)
    dna[:200] *= 2
    length[:200] += 15
    gate = ion_doublets(dna, length)
    assert gate.flags[:200].mean() > 0.85
    assert gate.flags[200:].mean() < 0.005
    assert ion_doublets(dna, None).flags[:200].mean() > 0.85
    assert not ion_doublets(dna[:50], None).flags.any()


def test_debris_is_cut_from_cells() -> None:
    rng = np.random.default_rng(4)
    size = np.log(np.concatenate([rng.lognormal(9.2, 0.4, 1000), rng.normal(7e4, 8e3, 9000)]))
    brightness = np.concatenate([rng.normal(0, 50, (1000, 2)), rng.lognormal(8, 1, (9000, 2))])
    valley, reason = debris_cut(size, brightness.astype(np.float32))
    assert reason == ""
    assert valley is not None
    assert 2e4 < np.exp(valley.cut) < 5.5e4


def test_lymphocytes_below_granulocytes_are_not_debris() -> None:
    rng = np.random.default_rng(5)
    size = np.log(np.concatenate([rng.normal(5e4, 4e3, 4000), rng.normal(1.4e5, 1.2e4, 6000)]))
    cd3 = np.concatenate([rng.lognormal(9, 0.4, 3000), rng.normal(0, 100, 7000)])
    valley, reason = debris_cut(size, cd3[:, None].astype(np.float32))
    assert valley is None
    assert "carry markers" in reason


def test_unimodal_cloud_is_never_cut() -> None:
    size = np.log(np.random.default_rng(6).lognormal(11, 0.5, 10_000))
    valley, reason = debris_cut(size, np.zeros((10_000, 0), np.float32))
    assert valley is None
    assert "one population" in reason


def test_mostly_debris_is_not_believed() -> None:
    rng = np.random.default_rng(7)
    size = np.log(np.concatenate([rng.lognormal(9, 0.3, 9000), rng.normal(7e4, 7e3, 1000)]))
    valley, reason = debris_cut(size, np.zeros((10_000, 0), np.float32))
    assert valley is None
    assert "would be debris" in reason


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_dead_cells_are_cut_from_live_ones(share: float) -> None:
    rng = np.random.default_rng(8)
    dead = int(20_000 * share)
    stain = np.concatenate([rng.normal(0.2, 0.4, 20_000 - dead), rng.normal(4.5, 0.6, dead)])
    valley, reason = viability_cut(stain)
    assert reason == ""
    assert valley is not None
    assert np.mean(stain[-dead:] > valley.cut) > 0.97
    assert np.mean(stain[:-dead] > valley.cut) < 0.005


def test_no_dead_cells_no_cut() -> None:
    valley, reason = viability_cut(np.random.default_rng(9).normal(0.2, 0.5, 20_000))
    assert valley is None
    assert "one population" in reason


def test_nearly_all_dead_is_not_believed() -> None:
    rng = np.random.default_rng(10)
    stain = np.concatenate([rng.normal(0.2, 0.4, 500), rng.normal(4.5, 0.6, 19_500)])
    valley, reason = viability_cut(stain)
    assert valley is None
    assert "over 90 %" in reason


def test_cut_follows_a_clear_valley_of_the_sample() -> None:
    rng = np.random.default_rng(11)
    pooled, _ = viability_cut(np.concatenate([rng.normal(0, 0.4, 9000), rng.normal(5, 0.6, 1000)]))
    assert pooled is not None
    shifted = np.concatenate([rng.normal(0.8, 0.4, 900), rng.normal(5.8, 0.6, 100)])
    cut, source = refined_cut(shifted, pooled, 0.2)
    assert source == "own valley"
    assert 1.8 < cut < 4.8
    assert refined_cut(rng.normal(0, 0.4, 900), pooled, 0.2) == (pooled.cut, "pooled")
    assert refined_cut(shifted[:100], pooled, 0.2) == (pooled.cut, "pooled")
