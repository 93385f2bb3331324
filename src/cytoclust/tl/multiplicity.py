"""Many tests at once: false discovery rate, Simes, Holm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["benjamini_hochberg", "holm", "simes"]

Floats = NDArray[np.float64]


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjust p-values to control the false discovery rate; NaN stays NaN and is not counted.

    References
    ----------
    Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    if len(tested):
        order = tested[np.argsort(p_values[tested], kind="stable")]
        steps = p_values[order] * (len(order) / np.arange(1, len(order) + 1))
        adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return adjusted


def simes(p_values: Floats) -> float:
    """Combine p-values of one unit (NaN left out); NaN if none.

    References
    ----------
    Simes 1986, doi:10.1093/biomet/73.3.751.
    """
    p = np.sort(p_values[np.isfinite(p_values)])
    return float(np.min(p * (len(p) / np.arange(1, len(p) + 1)))) if len(p) else float("nan")


def holm(p_values: Floats) -> Floats:
    """Adjust p-values to control the family-wise error; NaN stays NaN and is not counted."""
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
