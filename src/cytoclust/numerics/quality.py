"""Which events of one file are margin events, doublets, debris or dead: arrays in, flags out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import median_filter

from cytoclust.numerics.density import Valley, find_valleys

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DoubletGate",
    "debris_cut",
    "doublet_gate",
    "ion_doublets",
    "refined_cut",
    "viability_cut",
]

MAD_TO_SD: Final = 1.4826
LARGEST_PILE: Final = 0.1  # more events than this at a limit are a population, not an accident
FEWEST_OF_PILE: Final = 100


@dataclass(frozen=True)
class DoubletGate:
    """Doublets of one file and how they were told.

    Attributes
    ----------
    flags
        (n_events,)
    ratio, spread
        Median area to height ratio of single cells, and its relative standard deviation.
    """

    flags: NDArray[np.bool_]
    ratio: float
    spread: float


def doublet_gate(
    area: NDArray[np.float32],
    height: NDArray[np.float32],
    *,
    n_spreads: float = 4.0,
    smallest_shift: float = 0.08,
) -> DoubletGate:
    """Flag events whose pulse is too long for its height.

    Parameters
    ----------
    area, height
        Linear pulse area and height of a scatter channel, (n_events,).
    n_spreads
        How many robust standard deviations above the single cells of the same height.
    smallest_shift
        Least difference that counts, on the log scale.

    Returns
    -------
    DoubletGate
        Flags, and the ratio that single cells have.

    Notes
    -----
    Two cells in a row double the area but not the height. The usual ratio grows with the size of a
    cell, so it is taken locally: the median along bins of equal count in height (not area, where
    doublets of small cells would stand among large single ones), smoothed by a running median over
    five bins. The spread is taken from the events below the median, where no doublet lies.

    References
    ----------
    Emmaneel et al. 2022 (PeacoQC), doi 10.1002/cyto.a.24501.
    """
    flags = np.zeros(area.size, dtype=np.bool_)
    valid = (area > 0) & (height > 0) & np.isfinite(area) & np.isfinite(height)
    places = np.flatnonzero(valid)
    if places.size < 100:
        return DoubletGate(flags, np.nan, np.nan)
    ratio = np.log(area[places].astype(np.float64) / height[places])
    order = np.argsort(height[places], kind="stable")
    n_bins = int(np.clip(places.size // 200, 1, 50))
    bounds = np.linspace(0, places.size, n_bins + 1).astype(np.intp)
    middle, spread = np.zeros(n_bins), np.zeros(n_bins)
    for i in range(n_bins):
        part = ratio[order[bounds[i] : bounds[i + 1]]]
        middle[i] = np.median(part)
        spread[i] = MAD_TO_SD * np.median(middle[i] - part[part <= middle[i]])
    if n_bins >= 5:
        middle = median_filter(middle, 5, mode="nearest")
        spread = median_filter(spread, 5, mode="nearest")
    bin_of = np.empty(places.size, dtype=np.intp)
    bin_of[order] = np.repeat(np.arange(n_bins), np.diff(bounds))
    shift = np.maximum(n_spreads * spread, smallest_shift)
    flags[places] = ratio > (middle + shift)[bin_of]
    return DoubletGate(flags, float(np.exp(np.median(middle))), float(np.median(spread)))


def ion_doublets(dna: NDArray[np.float32], length: NDArray[np.float32] | None) -> DoubletGate:
    """Flag doublets of a mass cytometer: too much DNA, and where known too long an ion cloud.

    Parameters
    ----------
    dna
        Sum of the DNA intercalator's channels, (n_events,).
    length
        Event length, (n_events,); None if not recorded.

    Returns
    -------
    DoubletGate
        Flags, the DNA intensity of single cells as `ratio`, and its relative spread.

    References
    ----------
    Bagwell et al. 2020, doi 10.1002/cyto.a.23889.
    """
    flags = np.zeros(dna.size, dtype=np.bool_)
    places = np.flatnonzero(np.isfinite(dna) & (dna > 0))
    if places.size < 100:
        return DoubletGate(flags, np.nan, np.nan)
    log_dna = np.log(dna[places].astype(np.float64))
    middle = float(np.median(log_dna))
    spread = float(MAD_TO_SD * np.median(middle - log_dna[log_dna <= middle]))
    # the spread bounds how far a second nucleus, at log 2, stands out
    high = log_dna > middle + max(0.75 * np.log(2), min(3 * spread, 1.5 * np.log(2)))
    if length is not None:
        long = length[places].astype(np.float64)
        usual = float(np.median(long))
        high &= long > usual + MAD_TO_SD * float(np.median(np.abs(long - usual)))
    flags[places] = high
    return DoubletGate(flags, float(np.exp(middle)), spread)


def debris_cut(
    size: NDArray[np.float64], brightness: NDArray[np.float32]
) -> tuple[Valley | None, str]:
    """Find the size below which events are debris.

    Parameters
    ----------
    size
        Logarithm of forward scatter area, finite, (n_events,).
    brightness
        Marker intensities of the same events, (n_events, n_markers); may have no columns.

    Returns
    -------
    valley
        Valley between debris and cells; None if there is no debris to tell from cells.
    reason
        Why there is none, else empty.

    Notes
    -----
    Small cells stain, debris does not: a lower group in which a marker is as common as among the
    rest, or more, consists of cells (lymphocytes below granulocytes) and is never cut off.
    """
    valleys = [
        valley
        for valley in find_valleys(size, 0.1)
        if valley.share_below >= 0.002 and valley.right - valley.left >= np.log(1.6)
    ]
    if not valleys:
        return None, "one population in forward scatter; nothing is cut"
    valley = valleys[0]
    if valley.share_below > 0.7:
        return None, f"{valley.share_below:.0%} of the events would be debris; nothing is cut"
    stained = _stained_share(brightness, size < valley.cut)
    if stained > 1.0:
        return None, "the smallest events carry markers as cells do; nothing is cut"
    return valley, ""


def _stained_share(brightness: NDArray[np.float32], small: NDArray[np.bool_]) -> float:
    """How common the most common bright marker is among small events, relative to the others."""
    ratios = [0.0]
    for j in range(brightness.shape[1]):
        values = brightness[:, j]
        others = values[~small & np.isfinite(values)]
        if others.size:
            bright = np.quantile(others, 0.8)
            ratios.append(float(np.mean(values[small] > bright)) / 0.2)
    return max(ratios)


def viability_cut(stain: NDArray[np.float64], kernel: float = 0.2) -> tuple[Valley | None, str]:
    """Find the stain above which events are dead.

    Parameters
    ----------
    stain
        Viability dye on an arcsinh-like scale, finite, (n_events,).
    kernel
        Smoothing, in units of the values.

    Returns
    -------
    valley
        Valley above the live cells; None if only one population is seen.
    reason
        Why there is none, else empty.
    """
    valleys = [
        valley
        for valley in find_valleys(stain, kernel)
        if valley.share_above >= 0.001 and valley.right - valley.left >= 5 * kernel
    ]
    alive = [valley for valley in valleys if valley.share_below >= 0.1]
    if not alive:
        reason = "one population in the viability stain; nothing is cut"
        return None, "over 90 % would be dead; nothing is cut" if valleys else reason
    return alive[0], ""


def refined_cut(values: NDArray[np.float64], pooled: Valley, kernel: float) -> tuple[float, str]:
    """Move a study's cut to the valley of one file, where that is clear and close by.

    Parameters
    ----------
    values
        The file's values, finite, (n_events,).
    pooled
        The valley in the pooled events.
    kernel
        Smoothing, in units of the values.

    Returns
    -------
    cut
        The file's own valley, or the pooled one.
    source
        ``own valley`` or ``pooled``.
    """
    if values.size >= 500:
        reach = 0.5 * (pooled.right - pooled.left)
        own = [
            valley
            for valley in find_valleys(values, kernel, deepest=0.5)
            if pooled.left < valley.cut < pooled.right and abs(valley.cut - pooled.cut) <= reach
        ]
        if own:
            nearest = min(own, key=lambda valley: abs(valley.cut - pooled.cut))
            return nearest.cut, "own valley"
    return pooled.cut, "pooled"
