"""Groups of events along one marker: how negatives and positives look, and the cut between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cytoclust.numerics.groups import Baseline, Group, Split
from cytoclust.numerics.valleys import (
    EXPECTED,
    MIN_EVENTS,
    MIN_GAP,
    MIN_SHARE,
    STRICT,
    Histogram,
    bandwidth,
    count_values,
    find_cuts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Baseline",
    "Group",
    "Histogram",
    "Split",
    "count_values",
    "find_cuts",
    "fit_groups",
    "log_ratio",
    "split_marker",
]

UPPER_SHARES = (0.02, 0.005)  # least share of the smaller of high and low, best first
SEPARATION = 1.75  # and as a multiple of their own spread, which the tail of a spike at zero is not
WIDE_STEP = 0.5  # in that unit again; a step as wide as this need not be of compact groups
PRIOR_WIDTH = 0.25  # how near a cut usually is to that of the wider population, same unit
ABOVE_NEGATIVES = 0.12  # a cut lies at least this far above the usual negatives, same unit
MIN_STEP = 0.25  # least distance of positives from negatives, as a part of the usual distance
ALL_NEGATIVE, MOSTLY_POSITIVE, ALL_POSITIVE = 0.25, 0.6, 0.7  # places between the usual levels
NEARLY_ALL = 0.98


def group_of(
    histogram: Histogram, *, low: float = -np.inf, high: float = np.inf, kernel: float
) -> Group:
    """Mode, spread and share of the events between two cuts."""
    piece = histogram.part(low, high)
    if piece.n_events == 0:
        return Group(np.nan, np.nan, 0.0)
    total = max(histogram.n_events, 1)
    dense = gaussian_filter1d(piece.counts, max(kernel / histogram.width, 0.5), mode="nearest")
    mode = float(piece.centers[int(np.argmax(dense))])
    median = piece.quantile(0.5)
    mode = median if abs(mode - median) < kernel else 0.5 * (mode + median)
    distance = piece.centers - mode
    sides = []
    for side in (distance <= 0, distance >= 0):
        weight = piece.counts[side].sum()
        if weight >= MIN_EVENTS / 2:
            # the 68 % point of the half is one standard deviation, and outliers do not move it
            order = np.argsort(np.abs(distance[side]))
            share = np.cumsum(piece.counts[side][order]) / weight
            place = min(int(np.searchsorted(share, 0.683)), len(order) - 1)
            sides.append(float(np.abs(distance[side][order][place])))
    sd = max([*sides, 1.5 * kernel, histogram.width])
    return Group(mode, sd, piece.n_events / total)


def fit_groups(histogram: Histogram, cuts: Sequence[float], *, scale: float = 0.0) -> list[Group]:
    """One normal group per interval between cuts, overlap shared out between neighbours."""
    kernel = bandwidth(histogram, scale)
    bounds = [-np.inf, *cuts, np.inf]
    intervals = list(pairwise(bounds))
    groups = [group_of(histogram, low=low, high=high, kernel=kernel) for low, high in intervals]
    return share_overlap(histogram, groups, intervals, floor=1.5 * kernel)


def share_overlap(
    histogram: Histogram,
    groups: list[Group],
    intervals: Sequence[tuple[float, float]],
    *,
    floor: float,
) -> list[Group]:
    """Refine groups by expectation maximisation; each mean stays within its interval."""
    if len(groups) < 2 or any(group.weight <= 0 for group in groups):
        return groups
    x, counts = histogram.centers[:, None], histogram.counts[:, None]
    mean, sd, weight = (np.array([getattr(g, k) for g in groups]) for k in ("mean", "sd", "weight"))
    lower, upper = np.array(intervals).T
    widest = 1.5 * sd
    for _ in range(20):
        logs = np.log(weight / sd) - 0.5 * ((x - mean) / sd) ** 2
        share = np.exp(logs - logs.max(axis=1, keepdims=True))
        share = counts * share / share.sum(axis=1, keepdims=True)
        size = np.maximum(share.sum(axis=0), 1e-9)
        mean = np.clip((share * x).sum(axis=0) / size, lower, upper)
        sd = np.sqrt((share * (x - mean) ** 2).sum(axis=0) / size)
        sd = np.clip(sd, floor, np.maximum(widest, floor))
        weight = size / size.sum()
    return [Group(float(m), float(s), float(w)) for m, s, w in zip(mean, sd, weight, strict=True)]


def crossing(low: Group, high: Group, level: float = 0.0) -> float:
    """Value between the means where log density high - low equals `level`."""
    x = np.linspace(low.mean, high.mean, 501)
    difference = log_ratio(x, low, high)
    return float(np.interp(level, np.maximum.accumulate(difference), x))


def log_ratio(values: np.ndarray, low: Group, high: Group) -> np.ndarray:
    """Log density of the high group over the low one, made monotone.

    Between the means it is that of two normal densities, which always rises there; beyond them it
    goes on with the slope that it has at the mean.
    """
    x = np.clip(values, low.mean, high.mean)
    inside = 0.5 * ((x - low.mean) / low.sd) ** 2 - 0.5 * ((x - high.mean) / high.sd) ** 2
    distance = high.mean - low.mean
    below = np.minimum(values - low.mean, 0.0) * distance / high.sd**2
    above = np.maximum(values - high.mean, 0.0) * distance / low.sd**2
    return np.asarray(inside + below + above + np.log(low.sd / high.sd))


def merged(groups: Sequence[Group]) -> Group:
    """One normal group with the first two moments of several."""
    weights = np.array([group.weight for group in groups])
    weights = np.maximum(weights, 1e-12) / np.maximum(weights, 1e-12).sum()
    means = np.array([group.mean for group in groups])
    mean = float(weights @ means)
    variance = float(weights @ (np.array([g.sd for g in groups]) ** 2 + (means - mean) ** 2))
    return Group(mean, float(np.sqrt(variance)), float(sum(g.weight for g in groups)))


def split_of(
    low: Group, high: Group, *, cut: float, gap: float, method: str, cuts: Sequence[float]
) -> Split:
    """Build a `Split` from two groups and the cut between them."""
    cut = float(np.clip(cut, low.mean, high.mean))
    offset = -float(log_ratio(np.array([cut]), low, high)[0])
    nine = float(np.log(9))
    band = (crossing(low, high, -nine - offset), crossing(low, high, nine - offset))
    places = tuple(float(c) for c in cuts)
    return Split("split", low, high, cut, band, gap, method, "", places, offset)


def choose_cut(
    cuts: Sequence[tuple[float, float]],
    groups: Sequence[Group],
    *,
    baseline: Baseline,
    negative: Group | None,
    upper: bool,
    prior: float = np.nan,
    both: bool = False,
) -> int:
    """Which of several cuts separates the levels asked for; -1 if none does.

    The deepest one that leaves a real step between the groups below and above it, so that dim
    staining goes with the side that it is nearer to. The cut between negative and positive lies
    above where negatives are; one between high and low may lie anywhere.
    """
    gaps = np.array([gap for _, gap in cuts])
    places = np.array([cut for cut, _ in cuts])
    means = np.array([group.mean for group in groups])
    spreads = np.array([group.sd for group in groups])
    weights = np.array([group.weight for group in groups])
    below = np.cumsum(weights)[:-1]
    smaller = np.minimum(below, weights.sum() - below)
    eligible = smaller >= MIN_SHARE
    if upper:
        # a few outliers may be positive events, but hardly the upper level of a population
        well, least = UPPER_SHARES
        eligible = smaller >= (well if (smaller >= well).any() else least)
    step = MIN_STEP * (baseline.scale or means[-1] - means[0])
    if upper:
        step /= 2
    elif negative is not None:
        eligible &= places > negative.mean
    elif baseline.scale:
        eligible &= places > baseline.negative + ABOVE_NEGATIVES * baseline.scale
    steps = np.diff(means)
    eligible &= steps >= step
    if not upper:
        apart = steps >= SEPARATION * spreads[1:]
        if baseline.scale:
            apart |= steps >= WIDE_STEP * baseline.scale
        eligible &= apart
    if np.isfinite(prior) and not upper:
        # what lies above the wider population's cut is not negative here either, unless both levels
        # are known to occur here: memory T cells have more CD45RA than granulocytes
        low = [merged(groups[: k + 1]) for k in range(len(cuts))]
        eligible &= both | np.array([group.mean - group.sd <= prior for group in low])
        # populations of one lineage are stained alike: of several cuts the one near theirs
        width = PRIOR_WIDTH * (baseline.scale or means[-1] - means[0])
        gaps *= np.exp(-0.5 * ((places - prior) / width) ** 2)
        if not both:  # a faint dent far from theirs is none
            eligible &= gaps >= MIN_GAP
    if not eligible.any():
        return -1
    return int(np.argmax(np.where(eligible, gaps, -1.0)))


def split_marker(
    histogram: Histogram,
    *,
    baseline: Baseline | None = None,
    negative: Group | None = None,
    positive: float = np.nan,
    inherited: Split | None = None,
    upper: bool = False,
    expected: bool = False,
    both: bool = False,
    max_cuts: int = 3,
) -> Split:
    """Separate the events of a marker into a low and a high group.

    Parameters
    ----------
    histogram
        The marker's counts among the events to be split.
    baseline
        Where negatives and positives usually lie in this panel.
    negative
        Mean and spread of populations known to be negative for the marker.
    positive
        Usual level of the marker's positives; the panel's by default.
    inherited
        Split of the same marker among more events, used where these events show no valley.
    upper
        Separate high from low, rather than negative from the rest.
    expected
        Whether a definition says that there are two levels; a shallower valley will do then.
    both
        Whether definitions divide these very events into positive and negative ones, so that the
        lower of two groups is the negative one although other events have still less.
    max_cuts
        How many groups beyond the first are looked for.

    Returns
    -------
    Split
        Groups, cut and band; status other than ``split`` when there is nothing to cut.
    """
    baseline = baseline or Baseline()
    nothing = Group(np.nan, np.nan, 0.0)
    if histogram.n_events < 2 * MIN_EVENTS:
        reason = f"only {histogram.n_events} events; {2 * MIN_EVENTS} are needed"
        return Split("undetermined", nothing, nothing, reason=reason)
    cuts = find_cuts(
        histogram,
        max_cuts=max_cuts,
        scale=baseline.scale,
        strictness=EXPECTED if expected else STRICT,
    )
    places = [cut for cut, _ in cuts]
    groups = fit_groups(histogram, places, scale=baseline.scale)
    chosen = -1
    if cuts:
        prior = inherited.cut if inherited is not None else np.nan
        chosen = choose_cut(
            cuts, groups, baseline=baseline, negative=negative, upper=upper, prior=prior, both=both
        )
    levels = Baseline(
        baseline.negative if negative is None else negative.mean,
        positive if np.isfinite(positive) else baseline.positive,
    )
    if chosen >= 0:
        low, high = merged(groups[: chosen + 1]), merged(groups[chosen + 1 :])
        # the marker's own positives may be brighter here than elsewhere, the panel's are what they are
        usual = max(positive, high.mean) if np.isfinite(positive) else baseline.positive
        if both:
            usual = float(np.fmax(usual, high.mean))
        place = Baseline(levels.negative, usual).place(low.mean)
        one_sided = place > ALL_POSITIVE or below_positives(high, baseline, negative)
        if upper or not one_sided:
            return split_of(
                low, high, cut=places[chosen], gap=cuts[chosen][1], method="valley", cuts=places
            )
    whole = group_of(histogram, kernel=bandwidth(histogram, baseline.scale))
    if upper:
        reason = "one population only"
        return Split("undetermined", whole, whole, reason=reason, method="unimodal")
    if inherited is not None and inherited.informative:
        return apply_split(histogram, whole, inherited)
    return judge_whole(histogram, whole, baseline=baseline, levels=levels, negative=negative)


def apply_split(histogram: Histogram, whole: Group, inherited: Split) -> Split:
    """Use the split of a wider population, unless nearly all events lie on one side of it."""
    share = float(histogram.counts[histogram.centers > inherited.cut].sum())
    share /= max(histogram.n_events, 1)
    if NEARLY_ALL >= share >= 1 - NEARLY_ALL:
        return replace(inherited, method="inherited", reason="no valley here; cut of the parent's")
    if share > NEARLY_ALL:
        reason = "all events lie above the parent's cut"
        return Split("all_positive", whole, whole, reason=reason, method="inherited")
    reason = "all events lie below the parent's cut"
    return Split("all_negative", whole, whole, reason=reason, method="inherited")


def below_positives(high: Group, baseline: Baseline, negative: Group | None) -> bool:
    """Whether even the highest group lies where negatives are."""
    if negative is not None:
        return high.mean < negative.mean + max(negative.sd, 0.5 * MIN_STEP * baseline.scale)
    return bool(baseline.scale) and baseline.place(high.mean) < ALL_NEGATIVE


def judge_whole(
    histogram: Histogram,
    whole: Group,
    *,
    baseline: Baseline,
    levels: Baseline,
    negative: Group | None,
) -> Split:
    """Judge a marker without a valley by what negatives look like, known ones or the panel's."""
    clear = negative is None or whole.mean > negative.mean + 3 * negative.sd
    if levels.place(whole.mean) > MOSTLY_POSITIVE and clear:
        reason = "all events lie above the negatives"
        return Split("all_positive", whole, whole, reason=reason, method="position")
    if negative is None:
        if levels.place(whole.mean) < ALL_NEGATIVE:
            reason = "all events lie where negatives are"
            return Split("all_negative", whole, whole, reason=reason, method="position")
        reason = "one population only, and none that is known to be negative"
        return Split("undetermined", whole, whole, reason=reason, method="unimodal")
    high = excess_over(histogram, negative)
    step = max(1.5 * negative.sd, MIN_STEP * baseline.scale)
    if high is None or high.mean < negative.mean + step:
        reason = "like the known negatives"
        return Split("all_negative", whole, whole, reason=reason, method="reference")
    share = min(max(high.weight, 1e-3), 0.999)
    cut = crossing(negative, high, float(np.log((1 - share) / share)))
    # as with a fluorescence-minus-one control, positive is what few of the negatives reach
    cut = float(np.fmax(cut, negative.top))
    high = replace(high, mean=max(high.mean, cut))
    return split_of(negative, high, cut=cut, gap=0.0, method="reference", cuts=())


def excess_over(histogram: Histogram, negative: Group) -> Group | None:
    """Describe the events that a known negative population leaves unexplained."""
    x, counts = histogram.centers, histogram.counts
    total = counts.sum()
    shape = np.exp(-0.5 * ((x - negative.mean) / negative.sd) ** 2)
    shape /= shape.sum() or 1.0
    below = x <= negative.mean
    # negatives are symmetric: what lies below their mean is half of them
    expected = 2 * counts[below].sum() * shape
    rest = np.clip(counts - expected, 0, None)
    rest[x < negative.mean + 0.5 * negative.sd] = 0
    far = counts[x > negative.mean + 2 * negative.sd].sum()
    chance = 0.05 * 2 * counts[below].sum()
    if rest.sum() < max(MIN_EVENTS, 0.01 * total) or far < max(MIN_EVENTS, chance):
        return None
    weights = rest / rest.sum()
    mean = float(weights @ x)
    sd = float(np.sqrt(weights @ (x - mean) ** 2))
    return Group(mean, max(sd, histogram.width), float(rest.sum() / total))
