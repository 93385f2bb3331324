"""Marker enrichment modelling: what sets a cluster off from all other events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["enrichment_labels", "enrichment_scores"]

LEAST_SPREAD: Final = 0.5  # of the interquartile range, in units of arcsinh
LARGEST: Final = 10.0


def enrichment_scores(
    inside: Sequence[NDArray[np.floating]],
    outside: Sequence[NDArray[np.floating]],
    *,
    unit: float = 1.0,
) -> NDArray[np.float64]:
    """Score every marker of every cluster from -10 (lacking) to 10 (enriched).

    Parameters
    ----------
    inside, outside
        Per cluster, values of its events and of the other events, (n_events, n_markers) each.
    unit
        One unit of arcsinh on the scale of the values.

    Returns
    -------
    ndarray
        (n_clusters, n_markers).

    Notes
    -----
    Difference of medians plus the ratio of the interquartile ranges less one, signed as the
    difference and scaled so that the largest score is 10. Ranges below half a unit count as that.

    References
    ----------
    Diggins et al. 2017, doi 10.1038/nmeth.4149.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> high, low = rng.normal(5, 1, (90, 1)), rng.normal(0, 1, (90, 1))
    >>> enrichment_scores([high, low], [low, high]).round()
    array([[ 10.],
           [-10.]])
    """
    scores = np.array([raw_scores(a, b, unit) for a, b in zip(inside, outside, strict=True)])
    largest = np.abs(scores).max(initial=0.0)
    return np.asarray(LARGEST * scores / largest if largest > 0 else scores)


def raw_scores(inside: ArrayLike, outside: ArrayLike, unit: float) -> NDArray[np.float64]:
    """Score one cluster, unscaled."""
    low, middle, high = np.nanquantile(
        np.asarray(inside, dtype=float) / unit, [0.25, 0.5, 0.75], axis=0
    )
    low_, middle_, high_ = np.nanquantile(
        np.asarray(outside, dtype=float) / unit, [0.25, 0.5, 0.75], axis=0
    )
    narrow = np.maximum(high_ - low_, LEAST_SPREAD) / np.maximum(high - low, LEAST_SPREAD) - 1
    difference = middle - middle_
    score = np.sign(difference) * np.maximum(np.abs(difference) + narrow, 0.0)
    # a marker that differs by less than a spread is not enriched because it is narrow
    return np.where(np.abs(difference) < LEAST_SPREAD, 0.0, score)


def enrichment_labels(
    scores: NDArray[np.floating], markers: Sequence[str], *, least: int = 2, most: int = 6
) -> list[str]:
    """Write the markers with the largest scores, such as ``CD14+9 CD16-3``.

    Parameters
    ----------
    scores
        (n_clusters, n_markers), from `enrichment_scores`.
    markers
        Their names.
    least, most
        Smallest rounded score that is named, and how many markers at most.
    """
    labels = []
    for row in np.rint(scores).astype(int):
        order = sorted(range(len(row)), key=lambda j: (-abs(row[j]), markers[j]))[:most]
        labels.append(" ".join(f"{markers[j]}{row[j]:+d}" for j in order if abs(row[j]) >= least))
    return labels
