"""What is known of a marker from elsewhere: populations that lack it, and its cut among more events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cytoclust.numerics.mixtures import (
    Baseline,
    Group,
    Histogram,
    Split,
    count_values,
    split_marker,
    split_of,
)
from cytoclust.numerics.valleys import MIN_EVENTS, bandwidth, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Reference", "known_negatives", "split_with_reference"]

MAX_FALSE = 0.2  # part of the positives that may be the tail of the negatives
TAIL = (0.8, 0.95)  # beyond the upper one, a reference may hold positives and doublets
TAIL_ROUNDS = 3  # negatives are all events at first, then those below the cut
OWN_PEAK = 0.6  # positives whose density rises by this factor from the cut are no tail


@dataclass(frozen=True)
class Reference:
    """What a marker looks like outside the events that are to be split.

    Attributes
    ----------
    negative, tail
        Centre and spread of a population known to be negative, and its counts.
    positive
        Usual level of the marker's positives; NaN if unknown.
    wider
        Split of the same marker among more events.
    kin
        Whether the negatives are of the same lineage as the events to be split, so that their
        background is the same: naive T cells where T cells are split.
    """

    negative: Group | None = None
    tail: Histogram | None = None
    positive: float = np.nan
    wider: Split | None = None
    kin: bool = False


def known_negatives(
    values: NDArray[np.floating], *, least_spread: float
) -> tuple[Group, Histogram]:
    """Centre, spread and counts of a population that is known to lack a marker.

    Parameters
    ----------
    values
        The marker among its events, (n_events,).
    least_spread
        The spread is taken as this much at least.
    """
    low, middle, high, top = np.quantile(values, [0.25, 0.5, 0.75, 0.99])
    spread = max(float(high - low) / 1.349, least_spread, 1e-6)
    return Group(float(middle), spread, 1.0, float(top)), count_values(values)


def split_with_reference(
    histogram: Histogram,
    reference: Reference,
    *,
    baseline: Baseline,
    upper: bool = False,
    expected: bool = True,
    both: bool = False,
) -> Split:
    """Split a marker, where a definition expects two levels or not, by all that is known of it."""
    found = split_marker(
        histogram,
        baseline=baseline,
        negative=reference.negative,
        positive=reference.positive,
        inherited=reference.wider,
        upper=upper,
        expected=expected,
        both=both,
    )
    if upper or reference.tail is None or found.status == "all_positive":
        return found
    if found.informative and has_own_peak(histogram, found.cut, scale=baseline.scale):
        return found
    if reference.kin and reference.negative is not None:
        return at_tail(histogram, reference.negative, reference.tail)
    return above_tail(found, histogram, reference.tail) if found.informative else found


def has_own_peak(histogram: Histogram, cut: float, *, scale: float) -> bool:
    """Whether the density rises again above a cut."""
    dense = smoothed(histogram, bandwidth(histogram, scale))
    above = histogram.centers >= cut
    return bool(above.any() and dense[above][0] < OWN_PEAK * dense[above].max())


def share_above(histogram: Histogram) -> np.ndarray:
    """Share of a negative population above each of its bins, its own positives left out.

    Beyond the 95 % point the tail goes on as it fell from the 80 % point, exponentially.
    """
    counts = histogram.counts
    above = 1 - (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
    start, end = (histogram.quantile(p) for p in TAIL)
    length = max(end - start, histogram.width) / np.log((1 - TAIL[0]) / (1 - TAIL[1]))
    beyond = histogram.centers > end
    above[beyond] = (1 - TAIL[1]) * np.exp(-(histogram.centers[beyond] - end) / length)
    return np.asarray(above)


def false_positives(histogram: Histogram, tail: Histogram) -> np.ndarray:
    """Share of the known negatives that lie above each bin of a histogram."""
    centers, last, shares = histogram.centers, tail.centers[-1], share_above(tail)
    steep = np.log(max(shares[-2], 1e-12) / max(shares[-1], 1e-12)) / tail.width
    beyond = shares[-1] * np.exp(-max(steep, 0.0) * np.maximum(centers - last, 0))
    return np.where(centers > last, beyond, np.interp(centers, tail.centers, shares))


def above_tail(split: Split, histogram: Histogram, tail: Histogram) -> Split:
    """Raise a cut until the known negatives make up a fifth of the positives at most."""
    n_negative = histogram.counts[histogram.centers <= split.cut].sum()
    false = n_negative * false_positives(histogram, tail)
    positives = np.cumsum(histogram.counts[::-1])[::-1]
    clean = (histogram.centers >= split.cut) & (false <= MAX_FALSE * positives)
    if not clean.any():
        reason = "no more than the tail of the known negatives"
        return replace(split, status="all_negative", reason=reason, cut=np.nan, method="reference")
    cut = float(histogram.centers[int(np.argmax(clean))])
    if cut <= split.cut + histogram.width:
        return split
    high = replace(split.high, mean=max(split.high.mean, cut))
    return split_of(
        split.low, high, cut=cut, gap=split.gap, method=split.method + ", raised", cuts=split.cuts
    )


def at_tail(histogram: Histogram, negative: Group, tail: Histogram) -> Split:
    """Cut where the negatives of the same lineage make up a fifth of the positives.

    Without a peak of the positives' own, no valley is better than what the negatives show.
    """
    share = false_positives(histogram, tail)
    positives = np.cumsum(histogram.counts[::-1])[::-1]
    n_negative = float(histogram.n_events)
    place = -1
    for _ in range(TAIL_ROUNDS):
        clean = (histogram.centers > negative.mean) & (n_negative * share <= MAX_FALSE * positives)
        clean &= positives >= MIN_EVENTS / 2
        if not clean.any():
            reason = "no more than the tail of the known negatives"
            nothing = Group(negative.mean, negative.sd, 1.0)
            return Split("all_negative", nothing, nothing, reason=reason, method="reference")
        place = int(np.argmax(clean))
        n_negative = float(histogram.counts[:place].sum())
    above = histogram.part(float(histogram.centers[place]), np.inf)
    weights = above.counts / above.counts.sum()
    mean = float(weights @ above.centers)
    sd = max(float(np.sqrt(weights @ (above.centers - mean) ** 2)), histogram.width)
    low = replace(negative, weight=n_negative / max(histogram.n_events, 1))
    return split_of(
        low, Group(mean, sd, 1 - low.weight), cut=float(histogram.centers[place]), gap=0.0,
        method="negatives of the lineage", cuts=(),
    )  # fmt: skip
