"""Many tests at once: false discovery rate, Simes, Holm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["benjamini_hochberg", "holm", "simes", "tree_adjusted"]

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


GRID = np.sort(np.append(np.logspace(-15, 0, 4000), [0.01, 0.05, 0.1]))  # levels that are tried


def tree_adjusted(p_values: Floats, parents: Sequence[int]) -> Floats:
    """Adjust p-values along a hierarchy: a test counts only where its whole branch is significant.

    Parameters
    ----------
    p_values
        (n,) one test per node, inner nodes included; NaN where not tested.
    parents
        (n,) position of each node's parent, -1 at a root.

    Returns
    -------
    (n,) array
        Smallest level at which the node's own test is rejected, rounded up by at most 1 %; NaN stays
        NaN.

    Notes
    -----
    Each inner node stands for itself and all below it (Simes' test). Its members are tested by
    Benjamini-Hochberg if it is rejected, at the level times the shares rejected along its branch;
    this controls the false discovery rate of the selected families at every depth.

    References
    ----------
    Bogomolov, Peterson, Benjamini and Sabatti 2021, doi:10.1093/biomet/asaa086.
    """
    below: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        below.setdefault(parent, []).append(node)
    adjusted = np.full(len(p_values), np.nan)

    def combined(node: int) -> float:
        return simes(
            np.array([p_values[node], *(combined(child) for child in below.get(node, []))])
        )

    def descend(owner: int, level: Floats) -> None:
        members = below.get(owner, [])
        tests = [combined(child) if child in below else p_values[child] for child in members]
        own = [] if owner < 0 else [p_values[owner]]
        fdr = benjamini_hochberg(np.array([*own, *tests]))
        passed = fdr[:, None] <= level
        share = passed.sum(axis=0) / max(int(np.isfinite(fdr).sum()), 1)
        for i, node in enumerate([*([owner] if own else []), *members]):
            if node in below and node != owner:
                descend(node, np.where(passed[i], level * share, 0.0))
            elif np.isfinite(fdr[i]):
                adjusted[node] = GRID[np.argmax(passed[i])] if passed[i].any() else 1.0

    descend(-1, GRID)
    return adjusted
