"""Mixed models against lme4 and lmerTest (golden files), closed forms and SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from cytoclust.numerics.mixed import fit_linear, full_rank
from cytoclust.numerics.mixed_binomial import fit_binomial
from cytoclust.numerics.signflip import signflip_p_values
from cytoclust.numerics.small import invert, times
from cytoclust.numerics.threads import thread_limit

if TYPE_CHECKING:
    from pathlib import Path

TIMES = ["d0", "d7", "d15", "d28"]
CELLS = [f"{place}_{time}" for place in ("PB", "BM") for time in TIMES]


def cell_means(sheet: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Design with a mean per compartment and time, and the contrasts of the golden files."""
    label = (sheet["compartment"] + "_" + sheet["time"]).to_numpy()
    design = (label[:, None] == np.array(CELLS)).astype(float)
    unit = dict(zip(CELLS, np.eye(8), strict=True))
    found = {}
    for place in ("PB", "BM"):
        for time in TIMES[1:]:
            found[f"{place}_{time}"] = unit[f"{place}_{time}"] - unit[f"{place}_d0"]
        found[f"{place}_28v7"] = unit[f"{place}_d28"] - unit[f"{place}_d7"]
    for time in TIMES[1:]:
        found[f"INT_{time}"] = found[f"BM_{time}"] - found[f"PB_{time}"]
    return design, found


@pytest.mark.parametrize(("name", "inner"), [(".", True), ("null", True), (".", False)])
def test_binomial_agrees_with_lme4(shared: Path, name: str, inner: bool) -> None:  # noqa: FBT001
    folder = shared / "stats" / name
    counts = pd.read_csv(folder / "counts.csv", index_col=0)
    sheet = pd.read_csv(folder / "samples.csv")
    cells = counts.to_numpy(float)
    design, contrasts = cell_means(sheet)
    donor = pd.factorize(sheet["patient"])[0].astype(np.int64)
    place = pd.factorize(sheet["patient"] + sheet["compartment"])[0].astype(np.int64)
    fit = fit_binomial(
        cells,
        np.broadcast_to(cells.sum(axis=0), cells.shape),
        design,
        contrasts=np.array(list(contrasts.values())).T,
        blocks=donor,
        inner=place if inner else None,
    )
    assert fit.converged.all()
    golden = pd.read_csv(folder / f"r_glmer_p{'_pc' if inner else ''}_o.csv")
    table = golden.pivot_table(index="cluster", columns="contrast", values=["est", "z"])
    table = table.loc[counts.index]
    for j, contrast in enumerate(contrasts):
        z = fit.estimate[:, j] / fit.std_error[:, j]
        np.testing.assert_allclose(fit.estimate[:, j], table["est"][contrast], atol=0.005)
        np.testing.assert_allclose(z, table["z"][contrast], atol=0.02)
    first = golden.drop_duplicates("cluster").set_index("cluster").loc[counts.index]
    for k, column in enumerate(("sd_patient", "sd_pc", "sd_olre")):
        if inner or column != "sd_pc":
            np.testing.assert_allclose(fit.deviations[:, k], first[column], atol=0.003)


def test_linear_agrees_with_lmertest(shared: Path) -> None:
    folder = shared / "stats"
    medians = pd.read_csv(folder / "medians.csv", index_col=0)
    sheet = pd.read_csv(folder / "samples.csv").set_index("sample").loc[medians.columns]
    design, contrasts = cell_means(sheet)
    fit = fit_linear(
        medians.to_numpy(float),
        design,
        contrasts=np.array(list(contrasts.values())).T,
        blocks=pd.factorize(sheet["patient"])[0].astype(np.int64),
        inner=pd.factorize(sheet["patient"] + sheet["compartment"])[0].astype(np.int64),
    )
    golden = pd.read_csv(folder / "r_ds_lmm.csv").pivot_table(
        index="cluster", columns="contrast", values=["est", "df", "p"]
    )
    golden = golden.loc[medians.index]
    p = 2 * stats.t.sf(np.abs(fit.estimate / fit.std_error), fit.df)
    for j, contrast in enumerate(contrasts):
        np.testing.assert_allclose(fit.estimate[:, j], golden["est"][contrast], atol=1e-4)
        np.testing.assert_allclose(fit.df[:, j], golden["df"][contrast], atol=0.15)
        np.testing.assert_allclose(np.log10(p[:, j]), np.log10(golden["p"][contrast]), atol=0.005)


def paired_data(seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(n), 2)
    y = rng.normal(size=(5, n))[:, blocks] + rng.normal(size=(5, 2 * n)) * 0.5
    return y, np.tile(np.eye(2), (n, 1)), blocks


def test_linear_is_the_paired_t_test() -> None:
    y, design, blocks = paired_data(0)
    fit = fit_linear(y, design, contrasts=np.array([[-1.0], [1.0]]), blocks=blocks)
    expected = stats.ttest_rel(y[:, 1::2], y[:, ::2], axis=1)
    np.testing.assert_allclose(
        fit.estimate[:, 0] / fit.std_error[:, 0], expected.statistic, rtol=1e-5
    )
    np.testing.assert_allclose(fit.df, 11, rtol=1e-4)
    assert not fit.singular.any()


def test_linear_does_not_care_about_units() -> None:
    y, design, blocks = paired_data(1)
    C = np.array([[-1.0], [1.0]])
    small = fit_linear(y, design, contrasts=C, blocks=blocks)
    large = fit_linear(1e6 * y, design, contrasts=C, blocks=blocks)
    np.testing.assert_allclose(large.estimate, 1e6 * small.estimate, rtol=1e-8)
    np.testing.assert_allclose(large.std_error, 1e6 * small.std_error, rtol=1e-6)


def test_linear_without_block_variance_is_singular() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(1, 24))
    blocks = np.repeat(np.arange(12), 2)
    y[:, 1::2] -= y[:, 1::2] * 0.5 + y[:, ::2]  # pairs are negatively correlated
    fit = fit_linear(
        y, np.tile(np.eye(2), (12, 1)), contrasts=np.array([[-1.0], [1.0]]), blocks=blocks
    )
    assert fit.singular.all()
    expected = stats.ttest_ind(y[0, 1::2], y[0, ::2])
    assert fit.estimate[0, 0] / fit.std_error[0, 0] == pytest.approx(expected.statistic, rel=1e-4)
    assert fit.df[0, 0] == pytest.approx(22, rel=1e-3)


def test_linear_rows_without_their_samples_are_nan() -> None:
    y, design, blocks = paired_data(3)
    y[0, 1::2] = np.nan
    y[1] = 4.0
    fit = fit_linear(y, design, contrasts=np.array([[-1.0], [1.0]]), blocks=blocks)
    assert np.isnan(fit.estimate[:2]).all()
    assert np.isfinite(fit.estimate[2:]).all()


def small_counts(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(20), 2)
    design = np.tile(np.eye(2), (20, 1))
    trials = rng.integers(200, 4000, (1, 40)).astype(float)
    eta = -3 + rng.normal(0, 0.7, 20)[blocks] + rng.normal(0, 0.4, 40) + 0.8 * design[:, 1]
    cells = rng.binomial(trials.astype(int), special.expit(eta)).astype(float)
    return cells, trials, design, blocks


def test_binomial_maximises_the_laplace_likelihood() -> None:
    """The likelihood is written out with dense matrices and maximised by SciPy."""
    cells, trials, design, blocks = small_counts(4)

    def minus_log_likelihood(x: np.ndarray) -> float:
        S0 = x[2] ** 2 + x[3] ** 2 * np.eye(2)
        total = 0.0
        for b in range(20):
            at = blocks == b
            y, n, fixed = cells[0, at], trials[0, at], design[at] @ x[:2]
            v = special.logit(y / n) - fixed
            for _ in range(30):
                p = special.expit(fixed + v)
                H = np.linalg.inv(S0) + np.diag(n * p * (1 - p))
                v = v + np.linalg.solve(H, y - n * p - np.linalg.solve(S0, v))
            eta = fixed + v
            W = n * special.expit(eta) * (1 - special.expit(eta))
            own = special.logit(y / n)
            total -= (y * own - n * np.log1p(np.exp(own))).sum()
            total += (y * eta - n * np.log1p(np.exp(eta))).sum() - v @ np.linalg.solve(S0, v) / 2
            total -= np.linalg.slogdet(np.eye(2) + S0 * W)[1] / 2
        return -total

    fit = fit_binomial(cells, trials, design, contrasts=np.eye(2), blocks=blocks)
    start = np.array([*fit.estimate[0], *fit.deviations[0, [0, 2]]])
    assert fit.log_likelihood[0] == pytest.approx(-minus_log_likelihood(start), abs=1e-6)
    slope = optimize.approx_fprime(start, minus_log_likelihood, 1e-4)
    curve = np.array([1 / s**2 for s in fit.std_error[0]])
    np.testing.assert_allclose(slope[:2] / curve, 0, atol=2e-3)
    for k in (2, 3):  # standard deviations: higher than on either side
        for side in (-0.02, 0.02):
            assert minus_log_likelihood(start + side * np.eye(4)[k]) > -fit.log_likelihood[0]


def test_binomial_of_single_samples_is_near_the_exact_likelihood() -> None:
    """With one sample per block the integral can be done by quadrature; Laplace is close to it."""
    rng = np.random.default_rng(5)
    trials = np.full((1, 30), 2000.0)
    cells = rng.binomial(2000, special.expit(rng.normal(-2, 0.5, 30))).astype(float)[None]
    fit = fit_binomial(cells, trials, np.ones((30, 1)), contrasts=np.ones((1, 1)), blocks=None)

    nodes, weights = np.polynomial.legendre.leggauss(120)
    mode = special.logit((cells[0] + 0.5) / 2001)[:, None]
    eta = mode + nodes
    top = cells.T * mode - 2000 * np.log1p(np.exp(mode))
    likelihood = np.exp(cells.T * eta - 2000 * np.log1p(np.exp(eta)) - top)

    def minus(x: np.ndarray) -> float:
        density = likelihood * stats.norm.pdf(eta, x[0], abs(x[1]))
        return -float(np.log(density @ weights).sum())

    best = optimize.minimize(minus, [-2.0, 0.5], method="Nelder-Mead")
    assert fit.estimate[0, 0] == pytest.approx(best.x[0], abs=2e-3)
    assert fit.deviations[0, 2] == pytest.approx(abs(best.x[1]), abs=2e-3)


def test_binomial_without_extra_variance_is_singular_and_pooled() -> None:
    rng = np.random.default_rng(6)
    design, blocks = np.tile(np.eye(2), (15, 1)), np.repeat(np.arange(15), 2)
    trials = np.full((1, 30), 5000.0)
    cells = rng.binomial(5000, np.tile([0.02, 0.03], 15)).astype(float)[None]
    fit = fit_binomial(cells, trials, design, contrasts=np.array([[-1.0], [1.0]]), blocks=blocks)
    pooled = special.logit(cells[0].reshape(-1, 2).sum(axis=0) / 75_000)
    assert fit.singular[0]
    assert fit.estimate[0, 0] == pytest.approx(pooled[1] - pooled[0], abs=2e-3)


def test_offset_shifts_the_log_odds() -> None:
    cells, trials, design, blocks = small_counts(7)
    C = np.array([[-1.0], [1.0]])
    plain = fit_binomial(cells, trials, design, contrasts=C, blocks=blocks)
    shifted = fit_binomial(
        cells, trials, design, contrasts=C, blocks=blocks, offset=design[:, 1] * 0.5
    )
    assert plain.estimate[0, 0] - shifted.estimate[0, 0] == pytest.approx(0.5, abs=1e-5)
    assert plain.std_error[0, 0] == pytest.approx(shifted.std_error[0, 0], rel=1e-4)


def test_mixed_models_do_not_depend_on_order_or_threads() -> None:
    rng = np.random.default_rng(8)
    cells, trials, design, blocks = small_counts(8)
    cells = np.vstack([cells, cells * 2, np.roll(cells, 2)])
    trials = np.broadcast_to(trials * 2, cells.shape)
    C = np.array([[-1.0], [1.0]])
    fits = []
    for threads in (1, 2):
        with thread_limit(threads):
            fits.append(fit_binomial(cells, trials, design, contrasts=C, blocks=blocks).estimate)
    np.testing.assert_array_equal(fits[0], fits[1])
    order, rows = rng.permutation(40), rng.permutation(3)
    shuffled = fit_binomial(
        cells[rows][:, order], trials[:, order], design[order], contrasts=C, blocks=blocks[order]
    )
    np.testing.assert_allclose(shuffled.estimate, fits[0][rows], rtol=1e-5)
    y = np.log2(cells + 0.5)
    linear = fit_linear(y, design, contrasts=C, blocks=blocks)
    again = fit_linear(y[rows][:, order], design[order], contrasts=C, blocks=blocks[order])
    np.testing.assert_allclose(again.std_error, linear.std_error[rows], rtol=1e-7)


def test_rank_deficient_design_keeps_its_contrasts() -> None:
    design = np.column_stack([np.tile(np.eye(2), (6, 1)), np.ones(12)])
    C = np.array([[-1.0], [1.0], [0.0]])
    X, c = full_rank(design, C)
    assert X.shape == (12, 2)
    y = np.random.default_rng(9).normal(size=12)
    expected = np.linalg.pinv(design) @ y @ C
    np.testing.assert_allclose(np.linalg.lstsq(X, y, rcond=None)[0] @ c, expected)


def test_small_matrices_against_numpy() -> None:
    rng = np.random.default_rng(10)
    root = rng.normal(size=(5, 5))
    A = root @ root.T + np.eye(5)
    for kernel in (invert, invert.py_func):
        out = np.empty((5, 5))
        assert kernel(A.copy(), out) == pytest.approx(np.linalg.slogdet(A)[1])
        np.testing.assert_allclose(out, np.linalg.inv(A), rtol=1e-9)
        assert np.isnan(kernel(-A, out))
    np.testing.assert_allclose(times(A, root[0]), A @ root[0])
    np.testing.assert_allclose(times.py_func(A, root[0]), A @ root[0])


def test_signflip_is_exact_where_it_can_be() -> None:
    rng = np.random.default_rng(11)
    d = rng.normal(0.4, 1, (3, 9))
    found = signflip_p_values(d, rng)
    for row, p in zip(d, found, strict=True):
        expected = stats.permutation_test(
            (row,), np.sum, permutation_type="samples", n_resamples=np.inf
        )
        assert p == pytest.approx(expected.pvalue, abs=1e-12)
    assert signflip_p_values(np.ones((1, 6)), rng)[0] == pytest.approx(2 / 2**6)


def test_signflip_by_monte_carlo_is_near_the_normal_limit() -> None:
    rng = np.random.default_rng(12)
    d = rng.normal(0.3, 1, (20, 40))
    found = signflip_p_values(d, np.random.default_rng(0))
    z = d.sum(axis=1) / np.sqrt((d**2).sum(axis=1))
    np.testing.assert_allclose(found, 2 * stats.norm.sf(np.abs(z)), atol=0.02)
    again = signflip_p_values(d[::-1], np.random.default_rng(0))[::-1]
    np.testing.assert_array_equal(found, again)
