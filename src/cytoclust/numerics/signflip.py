"""Sign-flip test of paired differences: exact where few, by Monte Carlo where many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["signflip_p_values"]

Floats = NDArray[np.float64]
EXACT = 16  # pairs up to which every one of the 2**(n - 1) distinct flips is taken
DRAWS = 65_535
CHUNK = 4096


def signflip_p_values(differences: Floats, rng: np.random.Generator) -> Floats:
    """Two-sided p-values that the differences of each row are symmetric about 0.

    Parameters
    ----------
    differences
        (K, n), NaN where a pair is missing.
    rng
        Draws the flips where there are more than 16 pairs; the same for all rows.

    Returns
    -------
    (K,) array
        Share of flips whose absolute sum is at least the observed one (itself counted); NaN in rows
        without a pair. Exact p-values are multiples of 2 / 2**n.
    """
    n = differences.shape[1]
    d = np.where(np.isfinite(differences), differences, 0.0)
    observed = np.abs(d.sum(axis=1))
    limit = observed - 1e-9 * np.abs(d).sum(axis=1)  # flips that only differ by rounding are ties
    reached, total = np.zeros(len(d)), 0
    for signs in _flips(n, rng):
        reached += (np.abs(signs @ d.T) >= limit).sum(axis=0)
        total += len(signs)
    if n > EXACT:
        reached, total = reached + 1, total + 1
    p = reached / max(total, 1)
    return np.where(np.isfinite(differences).any(axis=1), p, np.nan)


def _flips(n: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """Yield blocks of signs (m, n); the first sign is fixed where all are taken, by symmetry."""
    if n > EXACT:
        for start in range(0, DRAWS, CHUNK):
            yield rng.integers(0, 2, (min(CHUNK, DRAWS - start), n)) * 2.0 - 1.0
        return
    codes = np.arange(2 ** max(n - 1, 0))
    for start in range(0, len(codes), CHUNK):
        bits = (codes[start : start + CHUNK, None] >> np.arange(max(n - 1, 0))) & 1
        yield np.column_stack([np.ones(len(bits)), bits * 2.0 - 1.0])[:, :n]
