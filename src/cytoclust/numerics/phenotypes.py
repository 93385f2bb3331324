"""Populations in several markers at once: states of marker calls, refined as normal components.

First every combination of marker calls (a state) gets its share of the events by expectation
maximisation with the one-dimensional densities held fixed. That problem is convex, so the answer
does not depend on where it starts. Then each frequent state becomes a normal component with its own
mean and covariance in every marker that matters, so that overlap in one marker is resolved by the
others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

__all__ = [
    "Components",
    "States",
    "assign_events",
    "fit_components",
    "fit_states",
    "state_posteriors",
]

MIN_STATE_EVENTS = 15
MAX_SHARE_EVENTS = 20_000
BLOCK = 128  # events scored together: what belongs to them stays in the first-level cache


@dataclass(frozen=True)
class States:
    """Combinations of marker calls and the share of events of each.

    Attributes
    ----------
    bits
        (n_states, n_markers) bool, True where the marker is in its upper group.
    weights
        (n_states,) shares, summing to 1.
    """

    bits: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Components:
    """Normal components in the markers of one compartment of the hierarchy.

    Attributes
    ----------
    means
        (n_components, n_markers).
    whitening
        (n_components, n_markers, n_markers): lower triangular W with W S W' = 1.
    offsets
        (n_components,): log share minus half the log determinant of the covariance.
    """

    means: np.ndarray
    whitening: np.ndarray
    offsets: np.ndarray


def fit_states(log_ratios: np.ndarray, *, max_states: int = 96, n_iter: int = 20) -> States:
    """Find the states that occur and their shares.

    Parameters
    ----------
    log_ratios
        (n_events, n_markers) log density of the upper over the lower group of each marker.
    max_states, n_iter
        The most frequent states kept, and steps of expectation maximisation.

    Returns
    -------
    States
        States in falling order of their share.
    """
    n_events, n_markers = log_ratios.shape
    if n_markers == 0 or n_events == 0:
        return States(np.zeros((1, n_markers), dtype=bool), np.ones(1))
    codes = (log_ratios > 0) @ (np.int64(1) << np.arange(n_markers, dtype=np.int64))
    found, counts = np.unique(codes, return_counts=True)
    order = np.lexsort((found, -counts))[:max_states]
    found, counts = found[order], counts[order]
    bits = ((found[:, None] >> np.arange(n_markers)) & 1).astype(bool)
    weights = counts / counts.sum()
    # shares are known well enough from part of the events
    part = log_ratios[:: max(1, n_events // MAX_SHARE_EVENTS)]
    for _ in range(n_iter):
        posterior = state_posteriors(part, States(bits, weights))
        updated = posterior.mean(axis=0)
        done = np.abs(updated - weights).max() < 1e-4
        weights = updated
        if done:
            break
    keep = weights * n_events >= 0.5
    bits, weights = bits[keep], weights[keep]
    order = np.argsort(-weights, kind="stable")
    return States(bits[order], weights[order] / weights.sum())


def state_posteriors(log_ratios: np.ndarray, states: States) -> np.ndarray:
    """(n_events, n_states) probability of each state given the events' marker values."""
    # beyond 12 a single marker would overrule all others
    bounded = np.clip(log_ratios, -12.0, 12.0)
    # state after state in memory: sums over states then run through the events in order
    logs = states.bits.astype(bounded.dtype) @ bounded.T
    logs += np.log(states.weights + 1e-300)[:, None]
    return probabilities(logs).T


def probabilities(logs: np.ndarray) -> np.ndarray:
    """Turn (n_groups, n_events) log weights, in place, into probabilities of the groups."""
    logs -= logs.max(axis=0)
    np.exp(logs, out=logs)
    logs /= logs.sum(axis=0)
    return logs


def covariances(
    values: np.ndarray, shares: np.ndarray, *, prior: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted means and covariances of every component, shrunk towards the prior variances."""
    n_components, n_markers = shares.shape[1], values.shape[1]
    sizes = shares.sum(axis=0)
    means = (shares.T @ values) / np.maximum(sizes, 1e-9)[:, None]
    spread = np.empty((n_components, n_markers, n_markers))
    for k in range(n_components):
        centered = values - means[k]
        moment = (centered * shares[:, k : k + 1]).T @ centered
        spread[k] = (moment + strength * np.diag(prior)) / (sizes[k] + strength)
    return sizes, means, spread


def components_from(sizes: np.ndarray, means: np.ndarray, spread: np.ndarray) -> Components:
    """Turn moments into what `assign_events` needs."""
    n_markers = means.shape[1]
    factors = np.linalg.cholesky(spread)
    whitening = np.linalg.solve(factors, np.broadcast_to(np.eye(n_markers), factors.shape))
    log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    offsets = np.log(np.maximum(sizes, 1e-9) / sizes.sum()) - log_det
    return Components(means, np.tril(whitening), offsets)


def fit_components(
    values: np.ndarray, shares: np.ndarray, *, n_iter: int = 8, guard: np.ndarray | None = None
) -> Components:
    """Refine states as normal components by expectation maximisation.

    Parameters
    ----------
    values
        (n_events, n_markers).
    shares
        (n_events, n_components) probabilities to start from.
    n_iter
        Steps. Few, so that components stay the populations they started as.
    guard
        (n_events, n_components) factors on the probabilities, for what marker calls rule out.

    Returns
    -------
    Components
        Means, whitening matrices and log weights.
    """
    data = np.asarray(values, dtype=np.float64)
    within = np.zeros(data.shape[1])
    sizes, means, _ = covariances(data, shares, prior=np.ones(data.shape[1]), strength=1.0)
    for k in range(shares.shape[1]):
        within += shares[:, k] @ (data - means[k]) ** 2
    prior = within / max(float(sizes.sum()), 1.0) + 1e-6 * (data.var(axis=0) + 1e-9)
    strength = 2.0 + data.shape[1]
    for step in range(n_iter + 1):
        model = components_from(*covariances(data, shares, prior=prior, strength=strength))
        if step < n_iter:
            logs = log_densities(data, model)
            if guard is not None:
                logs += guard.T
            shares = probabilities(logs).T
    return model


def log_densities(values: np.ndarray, model: Components) -> np.ndarray:
    """(n_components, n_events) log share times density, without the constant."""
    logs = np.empty((len(model.offsets), len(values)))
    for k, offset in enumerate(model.offsets):
        z = (values - model.means[k]) @ model.whitening[k].T
        logs[k] = offset - 0.5 * np.einsum("ij,ij->i", z, z)
    return logs


@numba.njit(
    cache=True
)  # called thousands of times: on a busy machine waiting for threads costs more
def take_column(values, column, rows, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Copy one column of some rows; out (n_rows,)."""
    for i in range(len(rows)):
        out[i] = values[rows[i], column]


@numba.njit(cache=True)
def score_events(x, means, whitening, offsets, owners, deviations, z, logs, nearest):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Fill in the log densities of some events, and the squared distance to the nearest component.

    `x` (n_events, n_markers); `deviations` (n_markers, n_events), `z` (2, n_events) are room to work
    in, event after event, so that vector units take several events at once; `logs` (n_components,
    n_events).
    """
    n_events, n_markers = x.shape
    nearest[:n_events] = np.inf
    part, total = z[0, :n_events], z[1, :n_events]
    for k in range(len(means)):
        for j in range(n_markers):
            deviation = deviations[j, :n_events]
            for e in range(n_events):
                deviation[e] = x[e, j] - means[k, j]
        total[:] = 0.0
        for i in range(n_markers):
            part[:] = 0.0
            for j in range(i + 1):
                weight = whitening[k, i, j]
                deviation = deviations[j, :n_events]
                for e in range(n_events):
                    part[e] += weight * deviation[e]
            for e in range(n_events):
                total[e] += part[e] * part[e]
        for e in range(n_events):
            logs[k, e] = offsets[k] - 0.5 * total[e]
        if owners[k] >= 0:
            for e in range(n_events):
                nearest[e] = min(nearest[e], total[e])


@numba.njit(cache=True)
def choose_owner(logs, guards, owners, sums, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Fill in owner, its probability, runner-up and guard of one event; `logs` become their sums."""
    n_components, n_owners = len(logs), len(sums) - 1
    for k in range(n_components):
        logs[k] += guards[k]
    top = logs.max()
    sums[:] = 0.0
    for k in range(n_components):
        sums[owners[k] + 1] += np.exp(logs[k] - top)
    best = 0
    for c in range(1, n_owners + 1):
        if sums[c] > sums[best]:
            best = c
    second = -1
    for c in range(n_owners + 1):
        if c != best and (second < 0 or sums[c] > sums[second]):
            second = c
    guard = -np.inf
    for k in range(n_components):
        if owners[k] == best - 1 and guards[k] > guard:
            guard = guards[k]
    out[0] = best - 1
    out[1] = sums[best] / sums.sum()
    out[2] = second - 1
    out[4] = guard


@numba.njit(cache=True, parallel=True)
def assign_events(values, guards, means, whitening, offsets, owners, n_owners, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Most probable owner of each event.

    Parameters
    ----------
    values
        (n_events, n_markers) float32.
    guards
        (n_events, n_components) float32, at most 0: how far the marker calls speak against it.
    means, whitening, offsets
        As in `Components`.
    owners
        (n_components,) int64: the population of each component, -1 for none.
    n_owners
        Number of populations.
    out
        (n_events, 5) float32, filled with owner (-1 none), its probability, the runner-up, the
        squared distance to the nearest component of any population, and the owner's best guard.
    """
    n_events, n_markers = values.shape
    n_components = len(means)
    for block in numba.prange((n_events + BLOCK - 1) // BLOCK):
        deviations = np.empty((n_markers, BLOCK))
        z = np.empty((2, BLOCK))
        logs = np.empty((n_components, BLOCK))
        nearest = np.empty(BLOCK)
        own = np.empty(n_components)
        sums = np.empty(n_owners + 1)
        first, last = block * BLOCK, min(n_events, (block + 1) * BLOCK)
        score_events(
            values[first:last], means, whitening, offsets, owners, deviations, z, logs, nearest
        )
        for e in range(last - first):
            for k in range(n_components):
                own[k] = logs[k, e]
            choose_owner(own, guards[first + e], owners, sums, out[first + e])
            out[first + e, 3] = nearest[e]
