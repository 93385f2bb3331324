"""Tables out of an AnnData: cells, shares and medians per population and sample."""

from cytoclust.get.composition import (
    counts,
    hierarchy,
    proportions,
    sample_table,
    with_parents,
)
from cytoclust.get.intensities import medians

__all__ = ["counts", "hierarchy", "medians", "proportions", "sample_table", "with_parents"]
