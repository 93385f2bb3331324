"""Two markers that divide one population into four: each cut among the events on one side of the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cytoclust.numerics.mixtures import Baseline, Split, count_values
from cytoclust.numerics.references import Reference, split_with_reference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["split_sides"]

CLEAR_GAP = 0.25  # log units below the chord: depth of a dent that replaces the cut of both sides
CLEAR_SHARE = 0.05  # least share of a side's events beyond such a dent


def split_sides(
    values: NDArray[np.floating],
    upper: NDArray[np.bool_],
    *,
    pooled: Split,
    reference: Reference,
    baseline: Baseline,
) -> tuple[Split, Split]:
    """Split a marker among the events on either side of another marker's cut.

    Parameters
    ----------
    values
        The marker, (n_events,).
    upper
        Whether each event is in the upper group of the other marker, (n_events,).
    pooled
        Split of the marker among all these events.
    reference
        What is known of the marker from other events.
    baseline
        Where negatives and positives usually lie in this panel.

    Returns
    -------
    tuple of Split
        Below and above the other marker's cut; the pooled split where a side has no clear dent of
        its own.

    Notes
    -----
    Positives need not be equally bright on both sides: central memory T cells carry less CCR7 than
    naive ones, so that the deepest valley among all CD8 T cells, between TEMRA and naive cells,
    lies among the central memory cells (``benchmarks/quadrants.py``).

    Examples
    --------
    >>> import numpy as np
    >>> from cytoclust.numerics.mixtures import count_values, split_marker
    >>> rng = np.random.default_rng(0)
    >>> upper = np.repeat([False, True], 2000)
    >>> means = np.r_[np.repeat([0.0, 2.5], 1000), np.repeat([0.5, 5.0], 1000)]
    >>> values = rng.normal(means, 0.4)
    >>> pooled = split_marker(count_values(values))
    >>> low, high = split_sides(
    ...     values, upper, pooled=pooled, reference=Reference(), baseline=Baseline(0.0, 4.0)
    ... )
    >>> bool(low.cut < 1.7 < 2.0 < high.cut)
    True
    """
    known = replace(reference, wider=pooled)
    found = []
    for side in (~upper, upper):
        split = split_with_reference(
            count_values(values[side]), known, baseline=baseline, both=True
        )
        found.append(split if has_clear_dent(split) else pooled)
    return found[0], found[1]


def has_clear_dent(split: Split) -> bool:
    """Whether a split rests on a marked dent with enough events on both sides."""
    smaller = min(split.low.weight, split.high.weight)
    return split.informative and split.gap >= CLEAR_GAP and smaller >= CLEAR_SHARE
