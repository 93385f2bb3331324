"""Tools: clusters, embedding, phenotypes and the statistics of abundance and state."""

from cytoclust.tl.abundance import differential_abundance
from cytoclust.tl.design import Design, design

__all__ = ["Design", "design", "differential_abundance"]
