"""Tools: clusters, embedding, phenotypes and the statistics of abundance and state."""

from cytoclust.tl.abundance import differential_abundance
from cytoclust.tl.clustering import leiden, leiden_sketched
from cytoclust.tl.concordance import Concordance, compare_gates
from cytoclust.tl.design import Design, design
from cytoclust.tl.embedding import umap, umap_sketched
from cytoclust.tl.lineages import split_mixed, subcluster_lineages
from cytoclust.tl.mapping import map_events
from cytoclust.tl.marker_levels import call_markers
from cytoclust.tl.phenotype_stability import name_stability
from cytoclust.tl.phenotyping import annotate_phenotypes
from cytoclust.tl.power import detectable_changes
from cytoclust.tl.resolution import cluster_stability, scan_resolutions
from cytoclust.tl.state import differential_state
from cytoclust.tl.subclustering import subcluster
from cytoclust.tl.trajectory import classify_trajectories

__all__ = [
    "Concordance",
    "Design",
    "annotate_phenotypes",
    "call_markers",
    "classify_trajectories",
    "cluster_stability",
    "compare_gates",
    "design",
    "detectable_changes",
    "differential_abundance",
    "differential_state",
    "leiden",
    "leiden_sketched",
    "map_events",
    "name_stability",
    "scan_resolutions",
    "split_mixed",
    "subcluster",
    "subcluster_lineages",
    "umap",
    "umap_sketched",
]
