"""Groups of events along one marker, and what is usual in a panel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Baseline", "Group", "Split"]


@dataclass(frozen=True)
class Baseline:
    """Where negatives and positives usually lie in a panel, on the scale of the values."""

    negative: float = np.nan
    positive: float = np.nan

    @property
    def scale(self) -> float:
        """Distance of positives from negatives; 0 if unknown."""
        distance = self.positive - self.negative
        return float(distance) if np.isfinite(distance) and distance > 0 else 0.0

    def place(self, value: float) -> float:
        """0 where negatives usually are, 1 where positives are; NaN if unknown."""
        return (value - self.negative) / self.scale if self.scale else np.nan


@dataclass(frozen=True)
class Group:
    """One normal component along a marker; `top` is the 99 % point where it was measured."""

    mean: float
    sd: float
    weight: float
    top: float = np.nan


@dataclass(frozen=True)
class Split:
    """Low and high group of one marker, or the reason why there are none.

    Attributes
    ----------
    status
        ``split``, ``all_negative``, ``all_positive`` or ``undetermined``.
    cut
        Value at which the call changes: the bottom of the valley, or without one the value at
        which both groups are expected to be equally frequent.
    band
        Values between which the call is uncertain (posterior 0.1 to 0.9).
    gap
        Depth of the valley or shoulder below the chord, in log density.
    offset
        Added to the log ratio of the two normal densities, so that it is 0 at the cut.
    """

    status: str
    low: Group
    high: Group
    cut: float = np.nan
    band: tuple[float, float] = (np.nan, np.nan)
    gap: float = 0.0
    method: str = "none"
    reason: str = ""
    cuts: tuple[float, ...] = field(default=())
    offset: float = 0.0

    @property
    def informative(self) -> bool:
        """Whether the marker separates two groups."""
        return self.status == "split"
