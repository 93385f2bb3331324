"""The methods paragraph: what was done to these data, with citations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.pl.tables import in_order, text_column
from cytoclust.report.study import STATE, TRAJECTORIES

if TYPE_CHECKING:
    from cytoclust.report.study import Study


@dataclass(frozen=True)
class Reference:
    """One citation."""

    text: str
    link: str


REFERENCES: Final = {
    "leiden": Reference("Traag VA, Waltman L, van Eck NJ. From Louvain to Leiden: guaranteeing well-connected communities. Sci Rep 2019;9:5233.", "https://doi.org/10.1038/s41598-019-41695-z"),
    "umap": Reference("McInnes L, Healy J, Melville J. UMAP: uniform manifold approximation and projection for dimension reduction. arXiv 2018;1802.03426.", "https://doi.org/10.48550/arXiv.1802.03426"),
    "voom": Reference("Law CW, Chen Y, Shi W, Smyth GK. voom: precision weights unlock linear model analysis tools for RNA-seq read counts. Genome Biol 2014;15:R29.", "https://doi.org/10.1186/gb-2014-15-2-r29"),
    "limma": Reference("Ritchie ME, et al. limma powers differential expression analyses for RNA-sequencing and microarray studies. Nucleic Acids Res 2015;43:e47.", "https://doi.org/10.1093/nar/gkv007"),
    "blocks": Reference("Smyth GK, Michaud J, Scott HS. Use of within-array replicate spots for assessing differential expression in microarray experiments. Bioinformatics 2005;21:2067-2075.", "https://doi.org/10.1093/bioinformatics/bti270"),
    "diffcyt": Reference("Weber LM, et al. diffcyt: differential discovery in high-dimensional cytometry via high-resolution clustering. Commun Biol 2019;2:183.", "https://doi.org/10.1038/s42003-019-0415-5"),
    "fdr": Reference("Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and powerful approach to multiple testing. J R Stat Soc B 1995;57:289-300.", "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x"),
    "study": Reference("Ocadlikova et al. Br J Haematol 2023;203(4):637-650.", "https://doi.org/10.1111/bjh.19104"),
}  # fmt: skip


EXCLUDED: Final = {
    schema.QC_MARGIN: "events at the margin of the detectors",
    schema.QC_TIME: "events acquired while a signal drifted",
    schema.QC_DOUBLET: "doublets",
    schema.QC_DEBRIS: "debris",
    schema.QC_DEAD: "dead cells",
    schema.QC_INVALID: "events with invalid values",
}
NONE: Final = pd.Series(dtype=bool)


@dataclass(frozen=True)
class Methods:
    """Paragraphs whose [n] point into the references."""

    paragraphs: list[str]
    references: list[Reference]


def write_methods(study: Study) -> Methods:
    """Describe only the steps that were run on these data."""
    used: list[str] = []

    def cite(*keys: str) -> str:
        for key in keys:
            if key not in used:
                used.append(key)
        return "[" + ", ".join(str(used.index(key) + 1) for key in keys) + "]"

    paragraphs = [
        " ".join(text)
        for text in (prepare_words(study), cluster_words(study, cite), test_words(study, cite))
        if text
    ]
    return Methods(paragraphs, [REFERENCES[key] for key in used])


def param(study: Study, step: str, name: str) -> Any:
    """Return a parameter that a step recorded, or None."""
    value = (checks.recorded(study.adata, step) or {}).get("params", {}).get(name)
    return value.tolist() if isinstance(value, np.ndarray) else value


def done(study: Study, step: str) -> bool:
    """Tell whether a step is recorded."""
    return checks.recorded(study.adata, step) is not None


def prepare_words(study: Study) -> list[str]:
    """Describe reading, exclusion, compensation and transformation."""
    words = [f"The analysis was made with cytoclust {checks.package_version('cytoclust')}."]
    if study.exclusions is not None:
        found = [text for flag, text in EXCLUDED.items() if study.exclusions.get(flag, NONE).any()]
        words.append(
            f"Excluded were {', '.join(found)}; the counts are given per sample."
            if found
            else "No event had a reason to be excluded."
        )
    words += compensation_words(study)
    if done(study, schema.ARCSINH) and cofactor_words(study):
        words.append(
            f"Intensities were transformed as arcsinh(value / cofactor){cofactor_words(study)}."
        )
    elif schema.SCALE in study.adata.var and (study.adata.var[schema.SCALE] == "transformed").any():
        words.append("Intensities had been transformed before and were used as they were.")
    return words


def compensation_words(study: Study) -> list[str]:
    """Say which files were compensated, and why the others were not."""
    files = (checks.recorded(study.adata, schema.COMPENSATE) or {}).get("files")
    if not isinstance(files, pd.DataFrame) or "status" not in files:
        return []
    yes = text_column(files, "status") == "compensated"
    if yes.all():
        return ["Fluorescence was compensated with the spillover matrix of each file."]
    why = ", ".join(in_order(text_column(files, "reason")[~yes])) or "no spillover matrix"
    if yes.any():
        return [
            f"Fluorescence was compensated in {int(yes.sum())} of {len(files)} files (the others: {why})."
        ]
    return [f"Values were not compensated ({why})."]


def cofactor_words(study: Study) -> str:
    """Give the cofactors that were used."""
    if schema.COFACTOR not in study.adata.var:
        return ""
    values = study.adata.var[schema.COFACTOR].dropna().to_numpy(float)
    if not len(values):
        return ""
    if values.min() == values.max():
        return f" with cofactor {values.min():.3g}"
    return (
        f" with a cofactor of its own for each channel ({values.min():.3g} to {values.max():.3g})"
    )


def cluster_words(study: Study, cite: Any) -> list[str]:
    """Describe clusters, map and names."""
    adata, words = study.adata, []
    if schema.LEIDEN in adata.obs:
        sketched = done(study, "leiden_sketched")
        step = "leiden_sketched" if sketched else "leiden"
        markers = lineage_markers(study)
        resolution = param(study, step, "resolution")
        words.append(
            f"Events were clustered by the Leiden algorithm {cite('leiden')}"
            + (f" at resolution {float(resolution):g}" if resolution is not None else "")
            + (f" on {len(markers)} lineage markers ({', '.join(markers)})" if markers else "")
            + (
                "; k-means prototypes, half of them seeded away from the others to keep rare populations, stood for the events,"
                " joined by the Jaccard weights between the events' own nearest neighbours, and every event took the"
                " cluster of its prototype."
                if sketched
                else ", on the graph of the events' nearest neighbours."
            )
        )
    if schema.UMAP in adata.obsm:
        words.append(
            f"Maps are UMAP embeddings {cite('umap')}, made by an optimiser of our own whose result does not depend on"
            " the number of threads"
            + (
                "; landmark events were embedded first and all others placed among them"
                if done(study, "umap_sketched")
                else ""
            )
            + ". They place every event and were not used for any test."
        )
    definitions = param(study, schema.ANNOTATE_PHENOTYPES, "definitions")
    if study.clusters is not None:
        sets = (
            ", ".join(map(str, definitions))
            if isinstance(definitions, (list, tuple))
            else definitions
        )
        words.append(
            "Populations were named by hierarchical rules of positive and negative markers"
            + (f" ({sets})" if sets else "")
            + "; cut-offs were found anew among the events of each parent population, and overlap in one"
            " marker was resolved by the others."
        )
    if study.lineages is not None and len(study.lineages):
        again = ", ".join(dict.fromkeys(study.lineages["lineage"].astype(str)))
        words.append(
            f"The events of each lineage ({again}) were clustered again on the markers that tell its members apart."
        )
    return words


def lineage_markers(study: Study) -> list[str]:
    """Return the markers that clusters were built on."""
    var = study.adata.var
    if schema.MARKER_CLASS not in var or schema.MARKER not in var:
        return []
    return list(var.loc[var[schema.MARKER_CLASS] == "type", schema.MARKER].astype(str))


def within_words(study: Study) -> str:
    """Say that compartments were fitted separately, where they are not what is compared."""
    if study.compartment_key and study.treatment_key:
        return f", separately in each {study.compartment_key}"
    return ""


def adjusted_words(study: Study) -> str:
    """Name the covariates of the models."""
    return f", adjusted for {study.adjusted}" if study.adjusted else ""


def abundance_words(study: Study, cite: Any) -> list[str]:
    """Describe the tests of abundance."""
    if study.abundance is None:
        return []
    method = "/".join(sorted(set(text_column(study.abundance, "method")) - {""}))
    within = within_words(study)
    if method and "voom" not in method:
        return [
            f"Counts per sample were compared by the method {method}{within}{adjusted_words(study)}."
        ]
    text = f"Counts per sample were compared by voom {cite('voom')} and moderated linear models"
    text += f" {cite('limma')}{within}{adjusted_words(study)}"
    if study.donor_key:
        text += f", with one correlation within {study.donor_key} {cite('blocks')}"
    words = [f"{text}; the approach follows {cite('diffcyt')}."]
    if "log_ratio" in set(text_column(study.abundance, "denominator")):
        words.append(
            "Composition was corrected for by size factors that are trimmed means of log-ratios. Populations"
            " that changed 8-fold or more in a first fit were left out of this reference, and in that case"
            " those that changed 2-fold or more in the second fit too, as long as four populations remained."
        )
    if within:
        words.append(
            "Differences between compartments are the differences of the changes within them, with"
            " Welch-Satterthwaite degrees of freedom."
        )
    return words


def state_words(study: Study, cite: Any) -> list[str]:
    """Describe the tests of marker expression."""
    if study.state is None or not done(study, STATE):
        return []
    text = "Medians of state markers per sample and population were compared by linear models with"
    text += f" moderated variances {cite('limma')}{within_words(study)}{adjusted_words(study)}"
    if study.donor_key:
        text += f", with a fixed mean for each {study.donor_key}, so that only changes within a {study.donor_key} count"
    text += (
        ". Weights were 1 / (variance between samples + variance between cells / number of cells),"
    )
    return [f"{text} both variances estimated for each marker."]


def test_words(study: Study, cite: Any) -> list[str]:
    """Describe the tests that were made."""
    words = [*abundance_words(study, cite), *state_words(study, cite)]
    if done(study, TRAJECTORIES) and study.trajectories is not None:
        words.append(
            "Courses over treatment were called in two stages: populations were screened by Simes' test over the visits"
            " on treatment, and in those that passed the contrasts were confirmed by Holm's method. A course was called"
            " transient only if the late value was shown to be equivalent to baseline."
        )
    if study.abundance is not None or study.state is not None:
        words.append(
            "The sample is the unit of replication. False discovery rates are those of Benjamini and Hochberg"
            f" {cite('fdr')} over the populations{' (and markers)' if study.state is not None else ''} of each"
            f" contrast{' and compartment' if within_words(study) else ''}."
        )
    if study.abundance is not None and within_words(study) and study.donor_key:
        words.append(f"The questions asked follow {cite('study')}.")
    return words
