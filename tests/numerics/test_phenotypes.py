"""States and components of marker calls, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from cytoclust.numerics.phenotypes import (
    BLOCK,
    Components,
    States,
    assign_events,
    choose_owner,
    fit_components,
    log_densities,
    probabilities,
    score_events,
    state_posteriors,
    take_column,
)

OWNERS = np.array([0, 1, -1, 1])


def model(n_markers: int, rng: np.random.Generator) -> tuple[Components, np.ndarray]:
    roots = rng.normal(0, 0.4, (4, n_markers, n_markers)) + np.eye(n_markers)
    spread = roots @ roots.transpose(0, 2, 1)
    factors = np.linalg.cholesky(spread)
    whitening = np.tril(np.linalg.inv(factors))
    log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    means = rng.normal(0, 2, (4, n_markers))
    return Components(means, whitening, np.log(shares) - log_det), spread


@pytest.mark.parametrize("n_events", [0, 1, BLOCK, 3 * BLOCK + 5])
def test_owners_are_those_of_normal_densities(n_events: int) -> None:
    rng = np.random.default_rng(n_events)
    components, spread = model(3, rng)
    values = rng.normal(0, 3, (n_events, 3)).astype(np.float32)
    guards = -rng.exponential(2, (n_events, 4)).astype(np.float32)
    out = np.zeros((n_events, 5), dtype=np.float32)
    assign_events(
        values, guards, components.means, components.whitening, components.offsets, OWNERS, 2, out
    )
    logs = np.column_stack(
        [
            stats.multivariate_normal.logpdf(values, mean, cov).reshape(n_events)
            for mean, cov in zip(components.means, spread, strict=True)
        ]
    )
    weights = softmax(logs + np.log([0.4, 0.3, 0.2, 0.1]) + guards, axis=1)
    sums = np.column_stack([weights[:, owner == OWNERS].sum(axis=1) for owner in (-1, 0, 1)])
    np.testing.assert_array_equal(out[:, 0], sums.argmax(axis=1) - 1)
    np.testing.assert_allclose(out[:, 1], sums.max(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(out[:, 2], np.argsort(sums, axis=1)[:, 1] - 1)
    deviations = values[:, None] - components.means
    squares = np.einsum("nki,kij,nkj->nk", deviations, np.linalg.inv(spread), deviations)
    np.testing.assert_allclose(out[:, 3], squares[:, OWNERS >= 0].min(axis=1), rtol=1e-5)
    own = np.where(out[:, :1] == OWNERS, guards, -np.inf).max(axis=1)
    np.testing.assert_array_equal(out[:, 4], own)


def test_kernels_without_numba_give_the_same() -> None:
    rng = np.random.default_rng(1)
    components, _ = model(2, rng)
    x = rng.normal(0, 2, (5, 2)).astype(np.float32)
    found = []
    for score, choose in (
        (score_events, choose_owner),
        (score_events.py_func, choose_owner.py_func),
    ):
        logs, nearest, out = np.empty((4, 8)), np.empty(8), np.zeros(5)
        score(
            x, components.means, components.whitening, components.offsets, OWNERS,
            np.empty((2, 8)), np.empty((2, 8)), logs, nearest,
        )  # fmt: skip
        choose(logs[:, 0].copy(), np.zeros(4), OWNERS, np.empty(3), out)
        found.append((logs[:, :5], nearest[:5], out))
    for compiled, plain in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-12)
    np.testing.assert_allclose(found[0][0], log_densities(x.astype(float), components), rtol=1e-10)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("take", [take_column, take_column.py_func])
def test_column_of_some_rows(order: str, take) -> None:
    values = np.asarray(
        np.random.default_rng(0).normal(size=(50, 3)), dtype=np.float32, order=order
    )
    rows = np.array([4, 4, 0, 49])
    out = np.empty(4, dtype=np.float32)
    take(values, 1, rows, out)
    np.testing.assert_array_equal(out, values[rows, 1])


def test_states_have_the_product_of_their_markers_densities() -> None:
    rng = np.random.default_rng(2)
    ratios = rng.normal(0, 8, (40, 3))
    bits = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    expected = softmax(np.clip(ratios, -12, 12) @ bits.T + np.log(weights), axis=1)
    np.testing.assert_allclose(state_posteriors(ratios, States(bits, weights)), expected, rtol=1e-9)


def test_probabilities_do_not_overflow() -> None:
    found = probabilities(np.array([[800.0, -800.0], [799.0, -2000.0]]))
    np.testing.assert_allclose(found, [[0.7310586, 1.0], [0.2689414, 0.0]], rtol=1e-6)


def test_components_are_found_from_a_rough_start() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1], [3000, 1000])
    values = rng.normal(0, [[1.0, 0.5]], (4000, 2)) + np.where(truth[:, None], [4.0, 2.0], 0.0)
    rough = np.where((truth == 1) ^ (rng.random(4000) < 0.2), 0.9, 0.1)
    found = fit_components(values, np.column_stack([1 - rough, rough]), n_iter=20)
    np.testing.assert_allclose(found.means, [[0, 0], [4, 2]], atol=0.12)
    owned = log_densities(values, found).argmax(axis=0)
    assert (owned == truth).mean() > 0.99
