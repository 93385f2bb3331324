"""Peaks of a smoothed histogram and the valleys between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Valley", "find_valleys"]

BINS_PER_KERNEL: Final = 5
MOST_BINS: Final = 4000
LEAST_PEAK: Final = 10.0  # events within one kernel width


@dataclass(frozen=True)
class Valley:
    """A minimum of the density between two peaks.

    Attributes
    ----------
    cut
        Where the minimum is.
    left, right
        Where the highest peaks on both sides of it are, as far as the next valley.
    depth
        Density at the cut as a part of the lower of both peaks: 0 empty, 1 no valley.
    share_below, share_above
        Shares of the events on both sides.
    """

    cut: float
    left: float
    right: float
    depth: float
    share_below: float
    share_above: float


def find_valleys(
    values: NDArray[np.float64], kernel: float, *, deepest: float = 0.7
) -> list[Valley]:
    """Find the clear valleys in the density of one variable.

    Parameters
    ----------
    values
        Finite values, (n_events,).
    kernel
        Standard deviation of the Gaussian that smooths the density, in units of the values.
    deepest
        A valley is kept where the density falls below this part of the lower adjacent peak.

    Returns
    -------
    list of Valley
        In rising order. Shallow valleys are filled first, shallowest first, so that a ripple does
        not split a peak.

    Notes
    -----
    Linear in events. The outermost 0.05 % on both sides do not stretch the histogram. Valleys that
    counting noise alone would make are not kept: the step down to them is at least 4 standard
    deviations of the counts.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = np.concatenate([rng.normal(0, 1, 900), rng.normal(8, 1, 100)])
    >>> [round(valley.share_above, 1) for valley in find_valleys(values, 0.4)]
    [0.1]
    """
    if values.size < 2:
        return []
    low, high = np.quantile(values, (0.0005, 0.9995))
    low, high = low - 4 * kernel, high + 4 * kernel
    n_bins = int(np.clip((high - low) / kernel * BINS_PER_KERNEL, 20, MOST_BINS))
    counts, edges = np.histogram(values, bins=n_bins, range=(low, high))
    step = edges[1] - edges[0]
    centers = 0.5 * (edges[1:] + edges[:-1])
    per_kernel = max(kernel / step, 0.5)
    dense = gaussian_filter1d(counts.astype(np.float64), per_kernel, mode="constant") * per_kernel
    peaks = _peaks(dense)
    _fill_shallow(dense, peaks, deepest=deepest)
    cuts = _lowest_between(dense, peaks)
    below = np.cumsum(counts) / max(int(counts.sum()), 1)
    return [
        Valley(
            float(centers[cut]),
            float(centers[peaks[i]]),
            float(centers[peaks[i + 1]]),
            float(dense[cut] / min(dense[peaks[i]], dense[peaks[i + 1]])),
            float(below[cut]),
            float(1 - below[cut]),
        )
        for i, cut in enumerate(cuts)
    ]


def _peaks(dense: NDArray[np.float64]) -> list[int]:
    inner = (dense[1:-1] > dense[:-2]) & (dense[1:-1] >= dense[2:]) & (dense[1:-1] >= LEAST_PEAK)
    return [int(place) + 1 for place in np.flatnonzero(inner)]


def _lowest_between(dense: NDArray[np.float64], peaks: list[int]) -> list[int]:
    return [int(a + np.argmin(dense[a : b + 1])) for a, b in pairwise(peaks)]


def _fill_shallow(dense: NDArray[np.float64], peaks: list[int], *, deepest: float) -> None:
    """Join peaks, in place, until only clear valleys are left; the lower peak of each pair goes."""
    while len(peaks) > 1:
        lower = np.array([min(dense[a], dense[b]) for a, b in pairwise(peaks)])
        bottom = dense[_lowest_between(dense, peaks)]
        noise = 4 * np.sqrt(0.28 * (lower + bottom))  # a Gaussian kernel averages 3.5 sd of events
        excess = np.maximum(bottom / lower - deepest, (bottom + noise - lower) / lower)
        worst = int(np.argmax(excess))
        if excess[worst] <= 0:
            return
        first, second = peaks[worst], peaks[worst + 1]
        peaks.remove(first if dense[first] < dense[second] else second)
