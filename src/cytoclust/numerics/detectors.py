"""Where detectors end: declared ranges, and values on which events pile up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "End",
    "Limit",
    "join_ends",
    "observe_end",
    "pile_at_end",
    "pile_up",
    "upper_end",
    "upper_limit",
]

FEWEST_TIES: Final = 5
NEAREST_EVENTS: Final = 1000
NEAREST_VALUES: Final = 10


@dataclass(frozen=True)
class Limit:
    """Where a detector ends.

    Attributes
    ----------
    value
        Events at or beyond it are margin events; NaN where there is no limit.
    reason
        How it was found, or why there is none.
    """

    value: float
    reason: str


@dataclass(frozen=True)
class End:
    """What events show of one end of a detector; those of several blocks can be joined.

    Attributes
    ----------
    n_events, n_finite, n_beyond
        Events, those that are finite, and those beyond the declared range.
    other
        The value at the other end.
    extreme, ties
        The last value and the events that share it.
    below
        The nearest values before it, at most 1,000, increasing.
    """

    n_events: int
    n_finite: int
    n_beyond: int
    other: float
    extreme: float
    ties: int
    below: NDArray[np.float32]


def observe_end(
    values: NDArray[np.float32], declared: float = np.nan, *, lower: bool = False
) -> End:
    """Look at the upper (or lower) end of the values of one channel, (n_events,).

    With `lower` all values of the result have their signs changed.
    """
    x = values[np.isfinite(values)]
    x = -x if lower else x
    beyond = int(np.count_nonzero(values > declared * 1.001)) if declared > 0 else 0
    if not x.size:
        return End(len(values), 0, beyond, np.inf, -np.inf, 0, x)
    extreme = x.max()
    near = x
    if x.size > 16 * NEAREST_EVENTS:  # a cheap cut that keeps enough values
        near = x[x >= np.partition(x[::16], -NEAREST_EVENTS)[-NEAREST_EVENTS]]
    before = near[near < extreme]
    if before.size < NEAREST_EVENTS and near.size < x.size:
        before = x[x < extreme]
    ties = int(np.count_nonzero(near == extreme))
    nearest = min(NEAREST_EVENTS, before.size)
    below = np.sort(np.partition(before, -nearest)[-nearest:]) if nearest else before
    return End(len(values), x.size, beyond, float(x.min()), float(extreme), ties, below)


def join_ends(ends: Sequence[End]) -> End:
    """Join what several blocks of one channel show; the same for any blocks."""
    extreme = max((end.extreme for end in ends), default=-np.inf)
    parts = [end.below for end in ends]
    parts += [
        np.full(min(end.ties, NEAREST_EVENTS), end.extreme, dtype=np.float32)
        for end in ends
        if end.extreme < extreme and end.n_finite
    ]
    below = np.sort(np.concatenate(parts))[-NEAREST_EVENTS:] if parts else np.zeros(0, np.float32)
    return End(
        sum(end.n_events for end in ends),
        sum(end.n_finite for end in ends),
        sum(end.n_beyond for end in ends),
        min((end.other for end in ends), default=np.inf),
        extreme,
        sum(end.ties for end in ends if end.extreme == extreme),
        below,
    )


def upper_limit(values: NDArray[np.float32], declared: float) -> Limit:
    """Find the upper end of a detector from its declared range or from what the events show.

    Parameters
    ----------
    values
        Linear intensities of one channel, (n_events,).
    declared
        Upper end of the range ($PnR); NaN if unknown.

    Returns
    -------
    Limit
        As `upper_end`.
    """
    return upper_end(observe_end(values, declared), declared)


def upper_end(end: End, declared: float) -> Limit:
    """Find the upper end of a detector from its declared range or from what the events show.

    Parameters
    ----------
    end
        What the events show.
    declared
        Upper end of the range ($PnR); NaN if unknown.

    Returns
    -------
    Limit
        The declared range where events respect it; else the value at which events pile up.

    Notes
    -----
    Files with values beyond $PnR are common (range of the display, scaled areas), so a range that
    more than 1 % of the events exceed is not taken for the end of the detector.
    """
    pile = pile_up(end)
    if not declared > 0:
        return pile if np.isfinite(pile.value) else Limit(np.nan, "no range known, no pile-up")
    last = declared - 1 if declared >= 256 else declared
    beyond = end.n_beyond / end.n_events if end.n_events else 0.0
    if beyond > 0.01:
        reason = f"{beyond:.1%} of the events exceed the declared range"
        return pile if np.isfinite(pile.value) else Limit(np.nan, reason)
    return pile if pile.value < last else Limit(float(last), "declared range")


def pile_at_end(values: NDArray[np.float32], *, lower: bool = False) -> Limit:
    """Find a value on which events pile up at the upper (or lower) end of what was observed.

    Parameters
    ----------
    values
        Intensities of one channel, (n_events,).
    lower
        Look at the lower end.

    Returns
    -------
    Limit
        As `pile_up`.
    """
    return pile_up(observe_end(values, lower=lower), lower=lower)


def pile_up(end: End, *, lower: bool = False) -> Limit:
    """Find a value on which events pile up.

    Returns
    -------
    Limit
        The last value if at least five events share it, and five times as many as share one of the
        ten values next to it.
    """
    if end.n_finite < 2 or end.other == end.extreme:
        return Limit(np.nan, "fewer than two different values")
    if end.ties < max(FEWEST_TIES, 0.0002 * end.n_finite):
        return Limit(np.nan, "no pile-up")
    counts = np.unique(end.below, return_counts=True)[1]
    # the lowest of these values may be cut through by the choice of the nearest events
    n_below = end.n_finite - end.ties
    usual = float(np.mean(counts[1:][-NEAREST_VALUES:])) if counts.size > 1 else float(n_below)
    if end.ties < FEWEST_TIES * usual:
        return Limit(np.nan, "no pile-up")
    return Limit(float(-end.extreme if lower else end.extreme), "pile-up of events")
