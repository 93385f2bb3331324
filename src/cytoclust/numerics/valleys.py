"""Histograms of one marker and the valleys in them.

A histogram is additive and of fixed size, so that everything here costs the same for 500 events
and for 10^8, and chunks or files can be counted apart and summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Histogram", "bandwidth", "count_values", "find_cuts"]

N_BINS = 400
MIN_GAP = 0.10  # log units below the chord: two equal normals 2.35 standard deviations apart
MIN_EVENTS = 20
MIN_SHARE = 2e-4
# standard deviations of counting noise that a dent's depth and its lack of events must exceed: where
# two levels may or may not be, and where a definition says that there are two
STRICT, EXPECTED = (3.5, 5.0), (2.5, 3.0)
MIN_SHOULDER = 0.01  # share of the events beyond a shoulder that never rises again
VALLEY_NOISE = 1.0  # standard deviations of counting noise that the rise beyond a valley exceeds
FINEST = 0.06  # kernel width, as a part of the usual distance of positives from negatives


@dataclass(frozen=True)
class Histogram:
    """Event counts of one marker in bins of equal width."""

    centers: np.ndarray
    counts: np.ndarray

    @property
    def n_events(self) -> int:
        """Number of events counted."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Width of one bin, in units of the values."""
        return float(self.centers[1] - self.centers[0])

    def quantile(self, probability: float) -> float:
        """Value below which this share of the events lies."""
        total = np.cumsum(self.counts)
        place = np.searchsorted(total, probability * total[-1])
        return float(self.centers[min(int(place), len(self.centers) - 1)])

    def part(self, low: float, high: float) -> Histogram:
        """Bins with centers in [low, high)."""
        keep = (self.centers >= low) & (self.centers < high)
        return Histogram(self.centers[keep], self.counts[keep])


def count_values(values: ArrayLike, limits: tuple[float, float] | None = None) -> Histogram:
    """Count finite values in `N_BINS` bins; limits default to the 0.02 and 99.98 % points."""
    data = np.ravel(np.asarray(values))
    if data.dtype != np.float32:
        data = data.astype(np.float64)
    # sorted once, the values give quantiles and counts faster than partitions and binning would
    data = np.sort(data[np.isfinite(data)]).astype(np.float64)
    if limits is None:
        if data.size == 0:
            return Histogram(np.linspace(0, 1, N_BINS), np.zeros(N_BINS))
        low, high = (sorted_quantile(data, p) for p in (2e-4, 1 - 2e-4))
        # a rare positive tail may lie wholly above the last quantile
        high = max(high, float(data[max(data.size - MIN_EVENTS // 2, 0)]))
        margin = 0.02 * (high - low) if high > low else 0.5
        limits = (low - margin, high + margin)
    edges = np.linspace(*limits, N_BINS + 1)
    places = np.searchsorted(data, edges)
    places[-1] = np.searchsorted(data, edges[-1], side="right")
    return Histogram((edges[:-1] + edges[1:]) / 2, np.diff(places).astype(np.float64))


def sorted_quantile(data: np.ndarray, probability: float) -> float:
    """Interpolate linearly between sorted values, as `numpy.quantile` does."""
    place = probability * (len(data) - 1)
    below = int(place)
    low, high = float(data[below]), float(data[min(below + 1, len(data) - 1)])
    part = place - below
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def bandwidth(histogram: Histogram, scale: float = 0.0) -> float:
    """Width of the smoothing kernel: Silverman's rule, kept within sensible parts of the range.

    `scale` is the usual distance of positives from negatives in the panel; what is much finer than
    that (the spike of zeros in mass cytometry) is no population.
    """
    spread = histogram.quantile(0.999) - histogram.quantile(0.001)
    middle = (histogram.quantile(0.75) - histogram.quantile(0.25)) / 1.34
    scale = min(middle, spread / 5) if middle > 0 else spread / 5
    rule = 0.9 * scale * max(histogram.n_events, 1) ** -0.2
    floor = max(spread / 60, FINEST * scale)
    return float(np.clip(rule, floor, max(spread / 15, floor))) or histogram.width


def smoothed(histogram: Histogram, kernel: float) -> np.ndarray:
    """Count events per kernel width, with one event of prior so that empty bins have a log."""
    sigma = max(kernel / histogram.width, 0.5)
    dense = gaussian_filter1d(histogram.counts, sigma, mode="constant")
    return np.asarray(dense * (2 * np.sqrt(np.pi) * sigma) + 1.0)


def concave_majorant(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least concave function nowhere below y, and its corners."""
    hull = upper_hull(x, y)
    return np.asarray(np.interp(x, x[hull], y[hull])), hull


@njit(cache=True)
def upper_hull(x, y):  # type: ignore[no-untyped-def]
    """Corners of the upper hull, by monotone chain."""
    hull = np.empty(len(x), dtype=np.int64)
    size = 0
    for i in range(len(x)):
        while size > 1:
            a, b = hull[size - 2], hull[size - 1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            size -= 1
        hull[size] = i
        size += 1
    return hull[:size]


def best_cut(
    histogram: Histogram, dense: np.ndarray, *, strictness: tuple[float, float] = STRICT
) -> tuple[float, float] | None:
    """Deepest significant dent of the log density: (cut, gap), or None if it is log-concave."""
    if histogram.n_events < 2 * MIN_EVENTS or len(histogram.centers) < 5:
        return None
    log_density = np.log(dense)
    majorant, corners = concave_majorant(histogram.centers, log_density)
    gap = majorant - log_density
    below = np.cumsum(histogram.counts)
    least = max(MIN_EVENTS, MIN_SHARE * below[-1])
    allowed = (below >= least) & (below[-1] - below >= least)
    # what a dent of this size would be by counting noise alone: of the valley and of its shores
    after = np.clip(np.searchsorted(corners, np.arange(len(dense))), 1, len(corners) - 1)
    shore = np.minimum(dense[corners[after - 1]], dense[corners[after]])
    noise = np.sqrt(1 / dense + 1 / shore)
    # and how many events are missing below the chord, in standard deviations
    deficit = (np.exp(majorant) - dense) / np.exp(majorant / 2)
    sure = (gap > MIN_GAP) & (gap > strictness[0] * noise) & (deficit > strictness[1])
    # few events beyond a mere shoulder are the tail of a heavy-tailed population
    smaller = np.minimum(below, below[-1] - below)
    sure &= (smaller >= MIN_SHOULDER * below[-1]) | in_valley(dense)
    score = np.where(allowed & sure, gap, -1.0)
    # a plateau of equal depth (an empty valley) is cut in its middle
    top = float(score.max())
    if top <= 0:
        return None
    flat = np.flatnonzero(score >= top - 1e-9)
    return float(histogram.centers[flat[len(flat) // 2]]), top


def in_valley(dense: np.ndarray) -> np.ndarray:
    """Whether the density rises again on both sides, by more than counting noise."""
    peak = np.minimum(np.maximum.accumulate(dense), np.maximum.accumulate(dense[::-1])[::-1])
    return np.asarray(peak - dense > VALLEY_NOISE * np.sqrt(peak + dense))


def find_cuts(
    histogram: Histogram,
    *,
    max_cuts: int = 3,
    scale: float = 0.0,
    strictness: tuple[float, float] = STRICT,
) -> list[tuple[float, float]]:
    """Cut the marker wherever its log density is not concave; (cut, gap) in rising order.

    A single population of any usual shape has a log-concave density. Two populations of equal
    spread leave a dent that depends on their distance alone and not on their sizes, so a rare tail
    is found as well as an even split.
    """
    kernel = bandwidth(histogram, scale)
    dense = smoothed(histogram, kernel)
    found: list[tuple[float, float]] = []
    pending = [(-np.inf, np.inf)]
    while pending and len(found) < max_cuts:
        low, high = pending.pop(0)
        keep = (histogram.centers >= low) & (histogram.centers < high)
        piece = Histogram(histogram.centers[keep], histogram.counts[keep])
        cut = best_cut(piece, dense[keep], strictness=strictness) if keep.sum() > 5 else None
        if cut is None:
            continue
        found.append(cut)
        left, right = shores(histogram.centers, np.log(dense), cut[0])
        pending += [(low, left), (right, high)]
    return sorted(found)


def shores(centers: np.ndarray, log_density: np.ndarray, cut: float) -> tuple[float, float]:
    """Where the log density turns concave on either side of a cut: the ends of its dent."""
    bend = np.gradient(np.gradient(log_density))
    place = int(np.searchsorted(centers, cut))
    left = right = min(place, len(centers) - 1)
    while left > 0 and bend[left] >= 0:
        left -= 1
    while right < len(centers) - 1 and bend[right] >= 0:
        right += 1
    return float(centers[left]), float(centers[right])
