"""The usual levels of a panel: where its negatives and its positives lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cytoclust.numerics.mixtures import Baseline, Histogram, Split, split_marker

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["split_panel"]

CLEAR_GAP, CLEAR_SHARE = 0.5, 0.01


def split_panel(histograms: Sequence[Histogram]) -> tuple[Baseline, list[Split]]:
    """Split every marker of a panel, with the levels that its clear markers agree on.

    Parameters
    ----------
    histograms
        One per marker, on one scale.

    Returns
    -------
    Baseline, list of Split
        Usual levels (NaN with fewer than two clear markers), and the splits in the order given.

    Notes
    -----
    A clear marker has a valley 0.5 log units deep or more and at least 1 % of the events on either
    side. Medians over the clear markers are the levels with which all are split again.
    """
    baseline = Baseline()
    splits: list[Split] = []
    for _ in range(2):
        splits = [split_marker(histogram, baseline=baseline) for histogram in histograms]
        clear = [split for split in splits if is_clear(split)]
        if len(clear) < 2:
            break
        baseline = Baseline(
            float(np.median([split.low.mean for split in clear])),
            float(np.median([split.high.mean for split in clear])),
        )
    return baseline, splits


def is_clear(split: Split) -> bool:
    """Whether a split is marked enough to tell the panel's usual levels."""
    smaller = min(split.low.weight, split.high.weight)
    return split.informative and split.gap > CLEAR_GAP and smaller > CLEAR_SHARE
