"""The report's figures as data URIs: vector text where that is small, else compressed pixels."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import checks, pl, schema
from cytoclust.event_arrays import release
from cytoclust.pl.style import draw, figure_of
from cytoclust.pl.tables import in_order, is_interaction, labelled
from cytoclust.report.study import ALPHA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cytoclust.report.study import Study

    Drawn = tuple[str, str, str, str, Axes | Figure]

PER_INCH: Final = 116  # CSS pixels of a printed inch: letters of 7 points can be read
PNG_DPI: Final = 150
FILE_DPI: Final = 200
MOST_MARKS: Final = 2_500  # a figure with more is not tried as SVG
VECTOR_BYTES: Final = 450_000  # a larger SVG is sent as PNG instead
MAIN: Final = 24  # changed populations drawn in a figure of their own
PAGES: Final = 8  # samples with a page of their own: those that lost most
GRID: Final = 12  # levels that a grid of maps can show


@dataclass(frozen=True)
class Picture:
    """A figure ready for the page."""

    id: str
    section: str
    title: str
    caption: str
    uri: str
    width: int  # on the page, in CSS pixels


def marks(plot: Axes | Figure) -> int:
    """Count dots, lines and areas: what an SVG writes one by one."""
    total = 0
    for outer in figure_of(plot).axes:
        for ax in (outer, *outer.child_axes):
            total += len(ax.patches) + len(ax.lines)
            total += sum(
                max(len(np.asarray(c.get_offsets())), len(c.get_paths())) for c in ax.collections
            )
    return total


def encode(plot: Axes | Figure, path: Path | None = None) -> tuple[str, int]:
    """Return a figure as data URI and its width; SVG if small, else PNG with 256 colours.

    With a path, pixels are also written there, and not drawn twice.
    """
    from PIL import Image

    buffer, pixels, dpi = io.BytesIO(), None, PNG_DPI
    if path is not None:
        pixels, dpi = draw_pixels(plot, FILE_DPI), FILE_DPI
        path.write_bytes(pixels.getvalue())
    if marks(plot) <= MOST_MARKS:
        draw(plot, buffer, dpi=130, format="svg")
    if 0 < buffer.tell() <= VECTOR_BYTES:
        text = buffer.getvalue()
        points = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', text)
        assert points is not None
        uri = "data:image/svg+xml;base64," + base64.b64encode(text).decode()
        return uri, round(float(points[1]) / 72 * PER_INCH)
    if pixels is None:
        pixels = draw_pixels(plot, PNG_DPI)
    small = io.BytesIO()
    with Image.open(pixels) as image:
        size = [round(side * PNG_DPI / dpi) for side in image.size]
        width = round(size[0] / PNG_DPI * PER_INCH)
        plain = image.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS)
        few = plain.quantize(256, dither=Image.Dither.NONE)
        few.save(small, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode(), width


def draw_pixels(plot: Axes | Figure, dpi: int) -> io.BytesIO:
    """Draw a figure as PNG in memory."""
    pixels = io.BytesIO()
    draw(plot, pixels, dpi=dpi, format="png")
    return pixels


def drawings(study: Study) -> Iterator[Drawn]:
    """Draw every figure whose slots are there, one at a time."""
    makers = (
        design_pictures, cluster_pictures, map_pictures, abundance_pictures, result_pictures, state_pictures,
    )  # fmt: skip
    for maker in makers:
        for drawn in maker(study):
            yield drawn
            release(study.adata)


def pictures(study: Study, folder: Path | None = None) -> Iterator[Picture]:
    """Encode every figure for the page; with a folder, write each there too."""
    for id, section, title, caption, plot in drawings(study):
        uri, width = encode(plot, None if folder is None else folder / f"{id}.png")
        yield Picture(id, section, title, caption, uri, width)


def design_pictures(study: Study) -> Iterator[Drawn]:
    """Draw design grid and exclusions."""
    if study.samples is not None and (study.treatment_key or study.compartment_key):
        events = None if study.counts is None else study.counts.sum(axis=0)
        yield (
            "design-grid", "design", "Samples of the study",
            "One field per sample; a dash marks a missing sample, a cross one without events, a number several samples.",
            pl.design_grid(study.samples, events=events, treatment_key=study.treatment_key, compartment_key=study.compartment_key, donor_key=study.donor_key),
        )  # fmt: skip
    if study.exclusions is not None:
        yield (
            "exclusions", "quality", "Excluded events per sample",
            "Bars add up the reasons; the black line is the share excluded in all (less than the bar where an event has several reasons). At most 60 samples; the table has all.",
            pl.exclusions(study.exclusions),
        )  # fmt: skip
        yield from quality_pictures(study)


def quality_pictures(study: Study) -> Iterator[Drawn]:
    """Draw a page for each of the samples that lost the largest share of their events."""
    profile = checks.recorded(study.adata, schema.PROFILE_QUALITY)
    if profile is None or study.exclusions is None:
        return
    lost = study.exclusions["events"] - study.exclusions["kept"]
    share = lost / study.exclusions["events"].clip(lower=1)
    known = set(map(str, profile["samples"]))
    worst = share[share > 0].sort_values(ascending=False, kind="stable").index
    for number, sample in enumerate([name for name in map(str, worst) if name in known][:PAGES], 1):
        yield (
            f"quality-{number}", "quality", f"Quality of {sample}",
            "One of the samples that lost most. Left: scatter, orange where events were excluded. Right: events over the time of acquisition, and each channel's mean against its own median; the three that move most are named. cc.pl.quality_page draws every sample.",
            pl.quality_page(study.adata, sample),
        )  # fmt: skip


def cluster_pictures(study: Study) -> Iterator[Drawn]:
    """Draw heatmaps, densities with cut-offs, composition."""
    adata = study.adata
    for key, title in (
        (schema.PHENOTYPE, "Populations by marker"),
        (schema.LEIDEN, "Clusters by marker"),
    ):
        if key in adata.obs.columns:
            yield (
                f"heatmap-{key}", "clusters", title,
                "Medians between the 1 % and 99 % quantile of each marker; bars give the share of events. Markers in italics did not shape the clusters.",
                pl.heatmap(adata, groupby=key),
            )  # fmt: skip
    if schema.LEIDEN in adata.obs.columns:
        yield (
            "star-tree", "clusters", "Tree of the clusters",
            "Each star is a cluster, each wedge a marker as long as its median is high; rims have the colour of the cluster's name. Lines join the most similar clusters.",
            pl.star_tree(adata),
        )  # fmt: skip
    yield (
        "densities", "clusters", "Marker distributions and cut-offs",
        "All events; a vertical line separates negative from positive, with the share of positive events; several lines are those of single compartments. Populations are cut anew within their parent.",
        pl.marker_densities(adata),
    )  # fmt: skip
    if study.counts is not None:
        yield (
            "composition", "clusters", "Composition of the samples", "Each bar is a sample.",
            pl.composition(adata, groupby=study.groupby or schema.PHENOTYPE, samples=study.samples, treatment_key=study.treatment_key, compartment_key=study.compartment_key, donor_key=study.donor_key),
        )  # fmt: skip


def map_pictures(study: Study) -> Iterator[Drawn]:
    """Draw maps of all events."""
    adata = study.adata
    if schema.UMAP not in adata.obsm:
        return
    for key, title in (
        (schema.PHENOTYPE, "Map of the populations"),
        (schema.LEIDEN, "Map of the clusters"),
    ):
        if key in adata.obs.columns:
            yield (
                f"umap-{key}", "maps", title, "Every event; a pixel takes the colour of its commonest category.",
                pl.umap(adata, color=key),
            )  # fmt: skip
    pairs = (("row_key", study.compartment_key), ("column_key", study.treatment_key))
    keys = {
        name: key for name, key in pairs if key is not None and adata.obs[key].nunique() <= GRID
    }
    if list(keys) == ["row_key"]:
        keys = {"column_key": keys["row_key"]}
    if keys:
        yield (
            "umap-groups", "maps", "Where each group of samples is denser",
            "Red: more of the group's events than of all events; blue: fewer (log2 of the ratio of shares).",
            pl.umap_grid(adata, row_key=keys.get("row_key"), column_key=keys.get("column_key")),
        )  # fmt: skip
    yield (
        "umap-markers",
        "maps",
        "Markers on the map",
        "Dark is low, yellow is high; each marker has its own scale.",
        pl.umap_markers(adata),
    )


def changed(study: Study) -> list[str]:
    """Return the populations that changed, the surest first."""
    if study.abundance is None:
        return []
    rows = labelled(study.abundance)
    rows = rows[(pd.to_numeric(rows["fdr"], errors="coerce") < ALPHA) & ~is_interaction(rows)]
    rows = rows[rows["population"] != schema.UNASSIGNED]  # what has no name is no finding
    return in_order(rows.sort_values("fdr", kind="stable")["population"])


def abundance_pictures(study: Study) -> Iterator[Drawn]:
    """Draw courses with patient lines."""
    if study.counts is None or not (study.treatment_key or study.compartment_key):
        return
    names = [name for name in changed(study) if name in study.counts.index]
    seen = study.counts.index[study.counts.sum(axis=1) > 0]
    rest = [name for name in seen if name not in names[:MAIN]]
    groups = (
        (names[:MAIN], "changed", "Populations that changed", "Thin lines are donors, thick lines medians; a triangle is a sample without any event of the population."),
        (rest, "others", "All other populations", "Thin lines are donors, thick lines medians."),
    )  # fmt: skip
    for chosen, id, title, caption in groups:
        if chosen:
            plot = pl.abundance_grid(
                study.counts, populations=chosen, samples=study.samples, treatment_key=study.treatment_key,
                compartment_key=study.compartment_key, donor_key=study.donor_key,
            )  # fmt: skip
            yield id, "abundance", title, caption, plot


def result_pictures(study: Study) -> Iterator[Drawn]:
    """Draw effects, volcano, p-values and called trajectories."""
    table = study.abundance
    if table is None or not len(table):
        return
    yield (
        "effects",
        "abundance",
        "Effects with 95 % confidence intervals",
        "At most 40 populations, those with the smallest p-values.",
        pl.forest_grid(table),
    )
    if bool(is_interaction(labelled(table)).any()):
        yield (
            "interactions",
            "abundance",
            "Differences between compartments",
            "How much more a population changed in one compartment than in the other.",
            pl.forest_grid(table, interactions=True),
        )
    yield (
        "volcano",
        "abundance",
        "Effect against p-value",
        "Orange rises, blue falls, grey is not significant.",
        pl.volcano(table),
    )
    yield (
        "p-values",
        "abundance",
        "Distribution of p-values",
        "A rise at the left is what real changes look like; a rise at the right or in the middle points to a model that does not fit.",
        pl.p_values(table),
    )
    if study.trajectories is not None:
        yield (
            "trajectories",
            "abundance",
            "Courses over treatment",
            "The call, and the effects against baseline on one scale. “Single contrast”: a comparison is significant, the course as a whole is not established.",
            pl.trajectories(study.trajectories, table=table),
        )


def state_pictures(study: Study) -> Iterator[Drawn]:
    """Draw changes of state markers."""
    if study.state is None or not len(study.state):
        return
    yield (
        "state-changes",
        "state",
        "Changes of marker expression",
        "Difference of medians; a dot marks a false discovery rate below 0.05, grey was not tested.",
        pl.state_grid(study.state),
    )
