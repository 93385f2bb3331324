"""Every AnnData slot that cytoclust reads or writes: place, key, dtype, meaning, writer.

Slot names are used through the constants below, never as literals.
"""

from dataclasses import dataclass
from typing import Final

UNS: Final = "cytoclust"  # uns["cytoclust"][step]: {"params": ..., "version": ..., results}


@dataclass(frozen=True)
class Slot:
    """One place in the AnnData: where, under which key, what dtype, what it means, who writes it."""

    place: str
    key: str
    dtype: str
    meaning: str
    writer: str


# layers
RAW: Final = "raw"

# obs
SAMPLE: Final = "sample"
EVENT: Final = "event"
QC_INVALID: Final = "qc_invalid"
QC_MARGIN: Final = "qc_margin"
QC_TIME: Final = "qc_time"
QC_DOUBLET: Final = "qc_doublet"
QC_DEBRIS: Final = "qc_debris"
QC_DEAD: Final = "qc_dead"
QC_PASS: Final = "qc_pass"
QC_FLAGS: Final = (QC_INVALID, QC_MARGIN, QC_TIME, QC_DOUBLET, QC_DEBRIS, QC_DEAD)
TESTED: Final = ("ok", "singular", "separated")  # statuses of result rows that have numbers
LEIDEN: Final = "leiden"
PHENOTYPE: Final = "phenotype"
PHENOTYPE_CLUSTER: Final = "phenotype_cluster"
PHENOTYPE_FAR: Final = "phenotype_far"
LINEAGE_CLUSTER: Final = "lineage_cluster"
CLUSTER_SPLIT: Final = "cluster_split"
MAPPED_FAR: Final = "mapped_far"
PHENOTYPE_FACET: Final = "phenotype_"  # and the facet's name, such as phenotype_helper
GRADE: Final = "_grade"  # after the grade's name, such as exhaustion_grade
UNASSIGNED: Final = "unassigned"

# var
CHANNEL: Final = "channel"
MARKER: Final = "marker"
CHANNEL_TYPE: Final = "channel_type"
MARKER_CLASS: Final = "marker_class"
SCALE: Final = "scale"
COFACTOR: Final = "cofactor"

# obsm, obsp, uns: as scanpy writes them
UMAP: Final = "X_umap"
NEIGHBORS: Final = "neighbors"
CONNECTIVITIES: Final = "connectivities"
DISTANCES: Final = "distances"

# uns["cytoclust"][...]: one key per step
SAMPLES: Final = "samples"
READ_STUDY: Final = "read_study"
FLAG_STEPS: Final = {
    QC_INVALID: "flag_invalid",
    QC_MARGIN: "flag_margins",
    QC_TIME: "flag_time_drift",
    QC_DOUBLET: "flag_doublets",
    QC_DEBRIS: "flag_debris",
    QC_DEAD: "flag_dead",
}
PROFILE_QUALITY: Final = "profile_quality"
FILTER_EVENTS: Final = "filter_events"
COMPENSATE: Final = "compensate"
ESTIMATE_COFACTORS: Final = "estimate_cofactors"
ARCSINH: Final = "arcsinh"
LEIDEN_SKETCHED: Final = "leiden_sketched"
SUBCLUSTER: Final = "subcluster"
UMAP_STEP: Final = "umap"
UMAP_SKETCHED: Final = "umap_sketched"
SCAN_RESOLUTIONS: Final = "scan_resolutions"
CLUSTER_STABILITY: Final = "cluster_stability"
MAP_EVENTS: Final = "map_events"
CALL_MARKERS: Final = "call_markers"
ANNOTATE_PHENOTYPES: Final = "annotate_phenotypes"
SUBCLUSTER_LINEAGES: Final = "subcluster_lineages"
SPLIT_MIXED: Final = "split_mixed"
RUN: Final = "run"

SLOTS: Final = (
    Slot("layers", RAW, "float32", "linear values as acquired", "io.read_study"),
    Slot("obs", SAMPLE, "category", "sample name from the sheet", "io.read_study"),
    Slot("obs", EVENT, "int32", "0-based row in the sample's file", "io.read_study"),
    Slot("obs", QC_INVALID, "bool", "a value is NaN or infinite", "pp.flag_invalid"),
    Slot("obs", QC_MARGIN, "bool", "at or beyond the detector's range", "pp.flag_margins"),
    Slot("obs", QC_TIME, "bool", "acquired while a signal drifted", "pp.flag_time_drift"),
    Slot("obs", QC_DOUBLET, "bool", "more than one cell", "pp.flag_doublets"),
    Slot("obs", QC_DEBRIS, "bool", "smaller than a cell", "pp.flag_debris"),
    Slot("obs", QC_DEAD, "bool", "viability dye taken up", "pp.flag_dead"),
    Slot("obs", QC_PASS, "bool", "no flag raised", "pp.flag_*"),
    Slot("obs", LEIDEN, "category", "cluster", "tl.leiden, tl.leiden_sketched, tl.map_events"),
    Slot(
        "obs",
        PHENOTYPE,
        "category",
        "phenotype of the event",
        "tl.annotate_phenotypes, tl.map_events",
    ),
    Slot(
        "obs",
        PHENOTYPE_CLUSTER,
        "category",
        "name of the event's cluster",
        "tl.annotate_phenotypes",
    ),
    Slot(
        "obs",
        PHENOTYPE_FACET + "<facet>",
        "category",
        "further name of the event: helper type, activation",
        "tl.annotate_phenotypes",
    ),
    Slot(
        "obs",
        "<grade>" + GRADE,
        "int8",
        "markers of the grade that the event has, -1 where not asked",
        "tl.annotate_phenotypes",
    ),
    Slot("obs", LINEAGE_CLUSTER, "category", "cluster within a lineage", "tl.subcluster_lineages"),
    Slot("obs", CLUSTER_SPLIT, "category", "cluster, mixed ones apart", "tl.split_mixed"),
    Slot("obs", PHENOTYPE_FAR, "bool", "event is far from its name", "tl.annotate_phenotypes"),
    Slot("obs", MAPPED_FAR, "bool", "event is far from the reference's", "tl.map_events"),
    Slot("var", CHANNEL, "str", "channel name as written ($PnN)", "io.read_study"),
    Slot("var", MARKER, "str", "antigen from the panel ($PnS without one)", "io.read_study"),
    Slot(
        "var",
        CHANNEL_TYPE,
        "str",
        "scatter, fluorescence, mass, time or viability",
        "io.read_study",
    ),
    Slot("var", MARKER_CLASS, "str", "type, state or none", "io.read_study"),
    Slot("var", SCALE, "str", "linear or transformed", "io.read_study"),
    Slot(
        "var",
        COFACTOR,
        "float64",
        "arcsinh cofactor, NaN where none",
        "pp.estimate_cofactors, pp.arcsinh",
    ),
    Slot("obsm", UMAP, "float32", "UMAP coordinates (n_events, 2)", "tl.umap, tl.umap_sketched"),
    Slot("obsp", CONNECTIVITIES, "float32", "edge weights that Leiden uses", "pp.neighbors"),
    Slot("obsp", DISTANCES, "float32", "Euclidean distances to the neighbours", "pp.neighbors"),
    Slot("uns", NEIGHBORS, "dict", "parameters of the graph, as scanpy", "pp.neighbors"),
    Slot("uns", UNS, "dict", "parameters, versions and tables of every step", "every verb"),
)
