"""Stretches of an acquisition in which the signal is not what it is in the rest of the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import uniform_filter1d

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Drift", "acquisition_order", "find_drift"]

FEWEST_EVENTS: Final = 1000
EVENTS_PER_BIN: Final = 250
MOST_BINS: Final = 150
LEVELS: Final = 256
OUTLIER: Final = 6.0  # robust standard deviations of a bin's mean rank
SMALLEST_SHIFT: Final = 0.1  # of the mean rank, which lies between 0 and 1
WINDOW: Final = 5  # bins averaged to see long, weak shifts
SHORTEST_GOOD: Final = 3  # bins between two bad stretches that are not trusted
BURST: Final = 4.0  # times the median flow rate
SORTED: Final = 0.4  # of the variance lies between bins: they hold one population each
MAD_TO_SD: Final = 1.4826


@dataclass(frozen=True)
class Drift:
    """Drift of one file.

    Attributes
    ----------
    flags
        (n_events,)
    n_bins, n_bad_bins
        How many stretches were compared, and how many deviate.
    channel, shift
        Which channel deviates most in a bad bin (-1: none), and its mean rank against the rest.
    trend_channel, trend
        Which channel changes most from the first event to the last, and by how much of its rank.
    n_bursts
        Bins with more than four times the usual flow rate.
    longest_gap
        Longest time without an event, as a part of the acquisition; NaN without a clock.
    reason
        Why nothing was compared, or a remark; else empty.
    """

    flags: NDArray[np.bool_]
    n_bins: int = 0
    n_bad_bins: int = 0
    channel: int = -1
    shift: float = 0.0
    trend_channel: int = -1
    trend: float = 0.0
    n_bursts: int = 0
    longest_gap: float = field(default=np.nan)
    reason: str = ""


def acquisition_order(
    time: NDArray[np.float32] | None, n_events: int
) -> tuple[NDArray[np.intp], NDArray[np.float64] | None, str]:
    """Return the order in which events were acquired.

    Parameters
    ----------
    time
        Time channel in file order, (n_events,); None if there is none.
    n_events
        Number of events.

    Returns
    -------
    order
        Places of the events, first acquired first.
    clock
        Their times in that order; None where time cannot be used.
    remark
        Why the order in the file was taken, or that events were sorted; else empty.
    """
    order = np.arange(n_events)
    if time is None:
        return order, None, "no time channel; order in the file"
    clock = time.astype(np.float64)
    if not np.isfinite(clock).all():
        return order, None, "time is not a number; order in the file"
    if n_events < 2 or clock.min() == clock.max():
        return order, None, "time is constant; order in the file"
    backwards = float(np.mean(np.diff(clock) < 0))
    if backwards == 0:
        return order, clock, ""
    if 0.1 < backwards < 0.9:
        order = np.argsort(clock, kind="stable")
        return order, clock[order], "events are not in order of time; sorted by time"
    return order, None, "time runs backwards; order in the file"


def find_drift(values: NDArray[np.float32], time: NDArray[np.float32] | None) -> Drift:
    """Flag the stretches of one file whose signal deviates from the rest.

    Parameters
    ----------
    values
        Intensities in file order on any monotone scale, (n_events, n_channels).
    time
        Time channel, (n_events,); None if there is none.

    Returns
    -------
    Drift
        Flags and what was found.

    Notes
    -----
    Each channel is replaced by its ranks, so that the mean rank of a bin of n events from a steady
    acquisition has standard deviation ``1 / sqrt(12 n)`` whatever the distribution of the channel.
    A bin is bad if a channel's mean rank, after removing the straight trend over the file (Theil
    and Sen), deviates by at least 6 robust standard deviations and by at least 0.1, alone or as the
    average over five bins; so are fewer than three bins between bad ones, and bins with a burst of
    events. A slow trend over the whole file is reported and not flagged: no part of the file is the
    right one. Tables whose events are sorted by population instead of time are not judged. Deterministic; n log n in events.

    References
    ----------
    Emmaneel et al. 2022 (PeacoQC), doi 10.1002/cyto.a.24501. Monaco et al. 2016 (flowAI),
    doi 10.1093/bioinformatics/btw191.
    """
    n_events = values.shape[0]
    flags = np.zeros(n_events, dtype=np.bool_)
    if n_events < FEWEST_EVENTS:
        return Drift(flags, reason=f"fewer than {FEWEST_EVENTS} events")
    order, clock, remark = acquisition_order(time, n_events)
    n_bins = int(np.clip(n_events // EVENTS_PER_BIN, 4, MOST_BINS))
    bounds = np.linspace(0, n_events, n_bins + 1).astype(np.intp)
    means, usable = _mean_ranks(values[order], bounds)
    if not usable.size:
        return Drift(flags, n_bins, reason="every channel is constant")
    if np.mean(12 * means.var(axis=0)) > SORTED:
        reason = "events stand sorted by what they are, not by time; not judged"
        return Drift(flags, n_bins, reason=reason)
    slopes = _slopes(means)
    rest = means - slopes * np.arange(n_bins)[:, None]
    rest -= np.median(rest, axis=0)
    bad = _bad_bins(rest, n_events / n_bins)
    bursts, gap = _flow(clock, bounds)
    bad |= bursts
    bad = _without_short_good(bad)
    trend = int(np.argmax(np.abs(slopes)))
    facts = {
        "n_bins": n_bins,
        "trend_channel": int(usable[trend]),
        "trend": float(slopes[trend] * (n_bins - 1)),
        "n_bursts": int(bursts.sum()),
        "longest_gap": gap,
    }
    if bad.mean() > 0.5:
        reason = "over half of the file deviates; no steady part to compare with"
        return Drift(flags, n_bad_bins=int(bad.sum()), reason=reason, **facts)  # type: ignore[arg-type]
    worst = np.unravel_index(int(np.argmax(np.abs(rest) * bad[:, None])), rest.shape)
    flags[order] = np.repeat(bad, np.diff(bounds))
    return Drift(
        flags,
        n_bad_bins=int(bad.sum()),
        channel=int(usable[worst[1]]) if bad.any() else -1,
        shift=float(rest[worst]) if bad.any() else 0.0,
        reason=remark,
        **facts,  # type: ignore[arg-type]
    )


def _mean_ranks(
    values: NDArray[np.float32], bounds: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Mean rank (0 to 1, ties shared) of each bin and channel; and which channels vary."""
    n_channels = values.shape[1]
    n_bins = bounds.size - 1
    bin_of = np.repeat(np.arange(n_bins), np.diff(bounds))
    means, usable = [], []
    for j in range(n_channels):
        column = np.ascontiguousarray(values[:, j])
        finite = np.isfinite(column)
        if not finite.any():
            continue
        ordered = np.sort(column[finite])
        places = np.linspace(0, ordered.size - 1, LEVELS + 1).astype(np.intp)[1:-1]
        edges = np.unique(ordered[places])
        level = np.searchsorted(edges, column, side="right")
        counts = np.bincount(level[finite], minlength=edges.size + 1)
        if np.count_nonzero(counts) < 2:
            continue
        rank = (np.cumsum(counts) - 0.5 * counts) / counts.sum()
        ranks = np.where(finite, rank[level], 0.5)
        means.append(np.bincount(bin_of, weights=ranks, minlength=n_bins) / np.diff(bounds))
        usable.append(j)
    stacked = np.stack(means, axis=1) if means else np.zeros((n_bins, 0))
    return stacked, np.array(usable, dtype=np.intp)


def _slopes(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median slope per bin between all pairs of bins, for each channel."""
    first, second = np.triu_indices(means.shape[0], 1)
    return np.asarray(np.median((means[second] - means[first]) / (second - first)[:, None], axis=0))


def _bad_bins(rest: NDArray[np.float64], events_per_bin: float) -> NDArray[np.bool_]:
    """Tell the bins that deviate in some channel, alone or together with their neighbours."""
    expected = np.sqrt(1 / (12 * events_per_bin))
    spread = np.maximum(MAD_TO_SD * np.median(np.abs(rest), axis=0), expected)
    alone = (np.abs(rest) > OUTLIER * spread) & (np.abs(rest) > SMALLEST_SHIFT)
    together = np.abs(uniform_filter1d(rest, WINDOW, axis=0, mode="nearest"))
    calm = spread / np.sqrt(WINDOW)
    # a bin counts with its neighbours only if it leans to their side itself
    joined = (together > OUTLIER * calm) & (together > SMALLEST_SHIFT) & (np.abs(rest) > 2 * spread)
    return np.asarray((alone | joined).any(axis=1))


def _flow(
    clock: NDArray[np.float64] | None, bounds: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], float]:
    """Bins acquired much faster than usual, and the longest gap as a part of the whole time."""
    n_bins = bounds.size - 1
    if clock is None:
        return np.zeros(n_bins, dtype=np.bool_), float("nan")
    total = clock[-1] - clock[0]
    gap = float(np.diff(clock).max() / total)
    seconds = clock[bounds[1:] - 1] - clock[bounds[:-1]]
    tick = np.unique(np.diff(clock))
    resolution = float(tick[tick > 0].min()) if (tick > 0).any() else 0.0
    usual = float(np.median(seconds))
    if usual <= 4 * BURST * resolution:  # the clock is too coarse to see a burst
        return np.zeros(n_bins, dtype=np.bool_), gap
    rate = np.log(usual / np.maximum(seconds, resolution))
    spread = MAD_TO_SD * float(np.median(np.abs(rate)))
    return (rate > np.log(BURST)) & (rate > OUTLIER * spread), gap


def _without_short_good(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Distrust short good stretches between two bad ones."""
    filled = bad.copy()
    places = np.flatnonzero(bad)
    for first, second in pairwise(places):
        if 1 < second - first <= SHORTEST_GOOD:
            filled[first:second] = True
    return filled
