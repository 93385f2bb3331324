"""arcsinh cofactors from the events: the width at which noise gives way to proportional spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["NoiseEstimate", "estimate_cofactors", "negative_noise"]

POSITIVE_VARIANCE: Final = 0.1  # (coefficient of variation of a positive population)^2, 32 %
USUAL_FLUORESCENCE: Final = 150.0
FEWEST_EVENTS: Final = 50
MAD_TO_SD: Final = 1.4826
SMOOTHING: Final = 0.15  # arcsinh units; the noise itself is 0.32 wide there
BIN: Final = 0.03
LOWEST_PEAK: Final = 0.1  # of the highest
ROUNDS: Final = 12


@dataclass(frozen=True)
class NoiseEstimate:
    """Spread of the negative events of one channel.

    Attributes
    ----------
    center, spread
        Mode and standard deviation of the negative population, in intensity units; NaN if unknown.
    reason
        Why there is no estimate; empty if there is one.
    """

    center: float
    spread: float
    reason: str


def negative_noise(values: ArrayLike) -> NoiseEstimate:
    """Find the population around zero in one channel and how wide its noise is.

    Parameters
    ----------
    values
        Compensated linear intensities of one channel, (n_events,); values that are not finite are
        left out.

    Returns
    -------
    NoiseEstimate
        Center and spread of the negative population, or the reason why there is none.

    Notes
    -----
    The peak of the density nearest to zero is looked for on an arcsinh scale that starts wide and
    narrows to the spread found. Spread is taken from the events below the peak, where no dim
    positive event lies, and from the first events above it where a detector cuts off at zero.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if x.size < FEWEST_EVENTS:
        return NoiseEstimate(np.nan, np.nan, f"only {x.size} finite events")
    top = float(np.quantile(np.abs(x), 0.995))
    if top == 0 or x.max() == x.min():
        return NoiseEstimate(np.nan, np.nan, "constant")
    width, center, spread, peaks = 0.03 * top, 0.0, 0.0, 1
    for _ in range(ROUNDS):
        center, peaks = _peak_nearest_zero(x, width)
        spread = _spread_below(x, center)
        if spread <= 0:
            return NoiseEstimate(center, np.nan, "no spread around its lowest peak")
        before, width = width, spread / np.sqrt(POSITIVE_VARIANCE)
        if abs(width - before) < 0.02 * before:
            break
    offset = center <= 0.01 * top and peaks > 1  # autofluorescence below a positive population
    around_zero = abs(center) <= 2 * spread and _reaches_below_zero(x, center, spread)
    if not around_zero and not offset:
        return NoiseEstimate(center, np.nan, "no negative population")
    return NoiseEstimate(center, spread, "")


def _peak_nearest_zero(x: NDArray[np.float64], width: float) -> tuple[float, int]:
    """Return the density peak nearest to zero, in intensity units, and the number of peaks."""
    y = np.arcsinh(x / width)
    low, high = np.quantile(y, (0.001, 0.999))
    n_bins = int(np.clip((high - low) / BIN, 10, 4000)) + 20
    counts, edges = np.histogram(y, bins=n_bins, range=(low - 10 * BIN, high + 10 * BIN))
    step = edges[1] - edges[0]
    dense = gaussian_filter1d(
        counts.astype(np.float64), max(SMOOTHING / step, 1.0), mode="constant"
    )
    inner = (dense[1:-1] > dense[:-2]) & (dense[1:-1] >= dense[2:])
    peaks = np.flatnonzero(inner & (dense[1:-1] >= LOWEST_PEAK * dense.max())) + 1
    if peaks.size == 0:
        peaks = np.array([int(np.argmax(dense))])
    centers = width * np.sinh(0.5 * (edges[peaks] + edges[peaks + 1]))
    return float(centers[np.argmin(np.abs(centers))]), int(peaks.size)


def _reaches_below_zero(x: NDArray[np.float64], center: float, spread: float) -> bool:
    """Tell whether noise explains a peak: as many events at or below zero as it would put there."""
    population = 2 * int(np.sum(x <= center))
    expected = population * float(ndtr(-center / spread))
    return bool(np.sum(x <= 0) >= 0.3 * expected)


def _spread_below(x: NDArray[np.float64], center: float) -> float:
    """Return the standard deviation of the events below a peak, mirrored."""
    below = center - x[x <= center]
    smallest = x.min()
    cut_off = float(np.mean(x == smallest))
    if cut_off > 0.02 and abs(center - smallest) < np.abs(x).mean():
        # the detector ends here: half of the noise lies on one value, the other half just above it
        above = np.sort(x[x > smallest] - smallest)[: int(np.sum(x == smallest))]
        return float(MAD_TO_SD * np.median(above)) if above.size else 0.0
    return float(MAD_TO_SD * np.median(below)) if below.size else 0.0


def estimate_cofactors(
    values: ArrayLike, counts_ions: ArrayLike
) -> tuple[NDArray[np.float64], list[NoiseEstimate], list[str]]:
    """Estimate the arcsinh cofactor of each channel.

    Parameters
    ----------
    values
        Compensated linear intensities of a fair sample of the study's events, (n_events,
        n_channels).
    counts_ions
        Whether a channel counts ions (mass cytometry), (n_channels,).

    Returns
    -------
    cofactors
        (n_channels,), in intensity units, always above zero.
    noise
        What was found in each channel.
    sources
        Per channel: ``noise`` (own negative population), ``counting`` (ion statistics), ``panel
        median`` (of the channels with a negative population) or ``usual``.

    Notes
    -----
    The variance of an intensity around its mean m is ``noise^2 + gain m + (CV m)^2``: detector
    noise, counting, and the proportional spread of a homogeneous population. The transformation
    that makes it constant is an arcsinh that bends where the proportional term takes over: at
    ``noise / CV`` where detector noise rules, at ``gain / (2 CV^2)`` where counting does (Rocke and
    Durbin; Huber et al.; flowVS seeks the same stability by search). With a CV of 32 %
    (``CV^2 = 0.1``), ion counts (gain 1) give 5, the value that mass cytometry has always used, and
    a negative population of standard deviation 50 gives 158, in the range that flow cytometry uses.
    The CV is the only constant, and the cofactor only scales with it.

    A channel without a negative population says nothing about its noise: it takes the median of the
    channels that do, as they share a detector type and amplification; if none does, 150, or the 5 %
    quantile of the intensities if that is lower.

    References
    ----------
    Rocke and Durbin 2001, doi 10.1089/106652701753307485. Huber et al. 2002,
    doi 10.1093/bioinformatics/18.suppl_1.s96. Azad et al. 2016 (flowVS),
    doi 10.1186/s12859-016-1083-9.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(0, 50, (5000, 1))
    >>> cofactors, _, sources = estimate_cofactors(noise, [False])
    >>> sources, bool(abs(cofactors[0] - 158) < 16)
    (['noise'], True)
    """
    matrix = np.asarray(values)
    ions = np.asarray(counts_ions, dtype=bool)
    noise = [negative_noise(matrix[:, j]) for j in range(matrix.shape[1])]
    spread = np.array([estimate.spread for estimate in noise])
    cofactors = spread / np.sqrt(POSITIVE_VARIANCE)
    sources = ["noise" if known else "" for known in np.isfinite(cofactors)]
    counting = 1.0 / (2 * POSITIVE_VARIANCE)
    for j in np.flatnonzero(ions):
        if not cofactors[j] > counting or matrix[:, j].min(initial=0.0) >= 0:
            cofactors[j], sources[j] = counting, "counting"
    known = np.isfinite(cofactors)
    for j in np.flatnonzero(~known):
        shared = cofactors[known & ~ions]
        if shared.size:
            cofactors[j], sources[j] = float(np.median(shared)), "panel median"
        else:
            cofactors[j], sources[j] = _usual(matrix[:, ~known]), "usual"
    return cofactors, noise, sources


def _usual(values: NDArray[np.float32]) -> float:
    """Return 150, or less if nearly all intensities are lower than that."""
    sizes = np.abs(values[np.isfinite(values)])
    sizes = sizes[sizes > 0]
    low = float(np.quantile(sizes, 0.05)) if sizes.size else USUAL_FLUORESCENCE
    return min(USUAL_FLUORESCENCE, low)
