"""Figures: each takes `ax` and returns Axes; grids return a Figure. Nothing touches pyplot."""

from cytoclust.pl.abundance import abundance, abundance_grid
from cytoclust.pl.clustering import heatmap
from cytoclust.pl.composition import composition
from cytoclust.pl.concordance import bland_altman, confusion, gate_scores
from cytoclust.pl.effects import forest, forest_grid, p_values, volcano
from cytoclust.pl.embedding import umap, umap_grid, umap_markers
from cytoclust.pl.palette import set_colors
from cytoclust.pl.phenotyping import marker_densities, phenotype_sizes
from cytoclust.pl.quality import design_grid, exclusions
from cytoclust.pl.quality_page import quality_page
from cytoclust.pl.resolution import resolutions
from cytoclust.pl.star import star_tree
from cytoclust.pl.state import state, state_grid
from cytoclust.pl.style import save
from cytoclust.pl.trajectory import trajectories

__all__ = [
    "abundance",
    "abundance_grid",
    "bland_altman",
    "composition",
    "confusion",
    "design_grid",
    "exclusions",
    "forest",
    "forest_grid",
    "gate_scores",
    "heatmap",
    "marker_densities",
    "p_values",
    "phenotype_sizes",
    "quality_page",
    "resolutions",
    "save",
    "set_colors",
    "star_tree",
    "state",
    "state_grid",
    "trajectories",
    "umap",
    "umap_grid",
    "umap_markers",
    "volcano",
]
