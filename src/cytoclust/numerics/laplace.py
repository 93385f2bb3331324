"""Laplace approximation of one block of binomial samples, with its derivatives."""

from __future__ import annotations

import numpy as np
from numba import njit

from cytoclust.numerics.small import invert, times

__all__ = ["add_block"]


@njit(cache=True)
def _log_ratio(p, share, excess):  # type: ignore[no-untyped-def]
    """Logarithm of ``p / share`` where ``p = share + excess``, exact where both are nearly equal."""
    if abs(excess) < 0.5 * share:
        return np.log1p(excess / share)
    return np.log(p / share) if p > 0 else -np.inf


@njit(cache=True)
def _log_likelihood(cells, trials, eta):  # type: ignore[no-untyped-def]
    """Binomial log-likelihood of one sample less that of its own share.

    The difference keeps its digits where millions of cells make either of them large: both terms use
    the same excess, so that their rounding cancels.
    """
    if trials == 0:
        return 0.0
    p, q = 1 / (1 + np.exp(-eta)), 1 / (1 + np.exp(eta))
    own, other = cells / trials, (trials - cells) / trials
    excess = p - own if own < 0.5 else other - q
    value = 0.0
    if cells > 0:
        value += cells * _log_ratio(p, own, excess)
    if cells < trials:
        value += (trials - cells) * _log_ratio(q, other, -excess)
    return value


@njit(cache=True)
def _weigh(cells, trials, eta, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Score, weight and derivative of the weight of one sample: ``out[0:3]``."""
    p, q = 1 / (1 + np.exp(-eta)), 1 / (1 + np.exp(eta))
    out[0] = cells - trials * p if p < 0.5 else trials * q - (trials - cells)
    out[1] = trials * p * q
    out[2] = out[1] * (q - p)


@njit(cache=True)
def _penalised(cells, trials, fixed, a, v):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Log-likelihood of a block at deviations ``v = S a``, less their penalty."""
    value = 0.0
    for i in range(len(a)):
        value += _log_likelihood(cells[i], trials[i], fixed[i] + v[i]) - 0.5 * a[i] * v[i]
    return value


@njit(cache=True)
def _mode(cells, trials, fixed, S, a, parts, inverse):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Most likely deviations of one block by Newton's method; (penalised log-likelihood, log det).

    On return ``parts`` (n, 3) holds score, weight and its derivative at the mode, and `inverse` the
    inverse of ``I + W^.5 S W^.5``, whose log determinant is the second value.
    """
    n = len(cells)
    v = times(S, a)
    value = _penalised(cells, trials, fixed, a, v)
    B = np.empty((n, n))
    for _ in range(100):
        for i in range(n):
            _weigh(cells[i], trials[i], fixed[i] + v[i], parts[i])
        log_det = _curvature(S, parts, B, inverse)
        target = a + _through_mode(parts[:, 0] - a, S, parts, inverse)
        step, shift = 1.0, 0.0
        while step > 1e-8:
            new = a + step * (target - a)
            moved = times(S, new)
            found = _penalised(cells, trials, fixed, new, moved)
            if found >= value - 1e-12 * (1 + abs(value)):
                shift = np.abs(moved - v).max()
                a[:] = new
                v[:] = moved
                value = found
                break
            step *= 0.5
        if shift < 1e-9:
            break
    for i in range(n):
        _weigh(cells[i], trials[i], fixed[i] + v[i], parts[i])
    log_det = _curvature(S, parts, B, inverse)
    return value, log_det


@njit(cache=True)
def _through_mode(x, S, parts, inverse):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Multiply with the inverse of ``I + W S``; with many cells no digits may cancel."""
    n = len(x)
    root = np.sqrt(parts[:, 1])
    out = np.zeros(n)
    if root.min() > 1e-4:
        for i in range(n):
            for j in range(n):
                out[i] += root[i] * inverse[i, j] * x[j] / root[j]
        return out
    Sx = times(S, x)
    for i in range(n):
        out[i] = x[i]
        for j in range(n):
            out[i] -= root[i] * inverse[i, j] * root[j] * Sx[j]
    return out


@njit(cache=True)
def _curvature(S, parts, B, inverse):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Invert ``I + W^.5 S W^.5``; its log determinant."""
    n = len(S)
    for i in range(n):
        for j in range(n):
            B[i, j] = np.sqrt(parts[i, 1] * parts[j, 1]) * S[i, j]
        B[i, i] += 1
    return invert(B, inverse)


@njit(cache=True)
def _covariance(inner, sds):  # type: ignore[no-untyped-def]
    """Covariance of a block's deviations, (n, n)."""
    n = len(inner)
    S = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            S[i, j] = sds[0] ** 2 + (sds[1] ** 2 if inner[i] == inner[j] else 0.0)
        S[i, i] += sds[2] ** 2
    return S


@njit(cache=True)
def add_block(cells, trials, fixed, X, inner, sds, a, gradient, information):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Add one block's gradient and expected information; returns its Laplace log-likelihood."""
    n, p = X.shape
    S = _covariance(inner, sds)
    parts, P = np.empty((n, 3)), np.empty((n, n))
    value, log_det = _mode(cells, trials, fixed, S, a, parts, P)
    pull = np.zeros(n)  # derivative of the halved log determinant by the linear predictor
    for i in range(n):
        if parts[i, 1] > 0:  # (1 - inverse) / W is the spread of the deviation around its mode
            pull[i] = -0.5 * (1 - P[i, i]) / parts[i, 1] * parts[i, 2]
    back = _through_mode(pull, S, parts, P)  # how the mode follows
    for i in range(n):
        for j in range(n):
            P[i, j] *= np.sqrt(parts[i, 1] * parts[j, 1])  # inverse of W^-1 + S
    for i in range(n):
        for q in range(p):
            gradient[q] += (parts[i, 0] + back[i]) * X[i, q]
            for j in range(n):
                for r in range(p):
                    information[q, r] += X[i, q] * P[i, j] * X[j, r]
    _deviations(P, inner, (sds, parts, back), gradient[p:], information[p:, p:])
    return value - 0.5 * log_det


@njit(cache=True)
def _deviations(P, inner, given, gradient, information):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Add a block's gradient and expected information of the standard deviations."""
    sds, parts, back = given
    n = len(inner)
    PE = np.zeros((3, n, n))
    for i in range(n):
        for j in range(n):
            for k in range(3):
                if (k == 1 and inner[i] != inner[j]) or (k == 2 and i != j):
                    continue
                gradient[k] += (
                    sds[k] * (parts[i, 0] * parts[j, 0] - P[i, j])
                    + 2 * sds[k] * back[i] * parts[j, 0]
                )
                for m in range(n):
                    PE[k, m, j] += 2 * sds[k] * P[m, i]
    for k in range(3):
        for m in range(3):
            for i in range(n):
                for j in range(n):
                    information[k, m] += 0.5 * PE[k, i, j] * PE[m, j, i]
