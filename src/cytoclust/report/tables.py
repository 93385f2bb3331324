"""Tables of the report: cells with the text that is shown and the value that sorts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.pl.tables import effect_column, place_column, text_column
from cytoclust.report.numbers import percent, probability, signed, significant

if TYPE_CHECKING:
    from cytoclust.report.study import Study

FEW: Final = 12  # a text column with at most this many different values gets a menu


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number that it sorts by (None sorts by the text)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Column:
    """Header, whether its cells are numbers, whether a menu filters it, whether it is the FDR."""

    name: str
    number: bool = False
    menu: bool = False
    fdr: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """One table with an anchor, a caption and rows of cells."""

    id: str
    title: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]


def texts(values: pd.Series) -> list[Cell]:
    """Cells of text."""
    return [Cell(str(value)) for value in values]


def numbers(values: Any, write: Any = significant) -> list[Cell]:
    """Cells of numbers; a missing one shows a dash and sorts last."""
    column = pd.to_numeric(pd.Series(np.asarray(values)), errors="coerce").to_numpy(float)
    return [Cell(write(float(v)), float(v) if np.isfinite(v) else None) for v in column]


def whole(value: float) -> str:
    """Write a count."""
    return f"{value:,.0f}" if np.isfinite(value) else "–"


def build(id: str, title: str, *, caption: str, columns: list[tuple[Column, list[Cell]]]) -> Table:
    """Put columns together; text columns with few values get a menu."""
    chosen = []
    for column, cells in columns:
        different = {cell.text for cell in cells}
        menu = column.menu and 1 < len(different) <= FEW
        chosen.append(
            Column(column.name, number=column.number, menu=menu, fdr=column.fdr, code=column.code)
        )
    rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    return Table(id, title, caption, chosen, rows)


def intervals(table: pd.DataFrame) -> list[Cell]:
    """Cells of confidence intervals, sorted by their lower end."""
    low, high = (
        pd.to_numeric(table[key], errors="coerce").to_numpy(float)
        if key in table
        else np.full(len(table), np.nan)
        for key in ("ci_low", "ci_high")
    )
    return [
        Cell(f"{signed(a)} to {signed(b)}", float(a)) if np.isfinite([a, b]).all() else Cell("–")
        for a, b in zip(low, high, strict=True)
    ]


def results(table: pd.DataFrame, *, id: str, title: str, caption: str) -> Table:
    """Table of test results; columns that say the same in every row are left out."""
    effect = effect_column(table)
    order = pd.to_numeric(table["p_value"], errors="coerce").fillna(2).argsort(kind="stable")
    rows = table.iloc[order.to_numpy()]
    columns = [(Column("population"), texts(text_column(rows, "population")))]
    for name in ("marker", "level", "parent", "denominator", "compartment", "contrast"):
        values = text_column(rows, name)
        if len(set(values)) > 1 or (name == "contrast" and len(rows)):
            columns.append((Column(name, menu=True), texts(values)))
    size = pd.to_numeric(rows[effect], errors="coerce").to_numpy(float)
    if effect == "difference":
        columns.append((Column("difference", number=True), numbers(size, signed)))
    else:
        folds = [Cell(significant(2.0**v), float(v)) if np.isfinite(v) else Cell("–") for v in size]
        columns.append((Column("fold change", number=True), folds))
        columns.append((Column("log2", number=True), numbers(size, signed)))
    columns.append((Column("95 % interval", number=True), intervals(rows)))
    for key, header in (("p_value", "p"), ("fdr", "FDR")):
        if key in rows:
            columns.append(
                (Column(header, number=True, fdr=key == "fdr"), numbers(rows[key], probability))
            )
    for key, header in (("n_samples", "samples"), ("n_paired", "pairs")):
        if key in rows:
            columns.append((Column(header, number=True), numbers(rows[key], whole)))
    columns.append((Column("status", menu=True), texts(text_column(rows, "status"))))
    columns.append((Column("reason"), texts(text_column(rows, "reason"))))
    alarms = text_column(rows, "alarm")
    if (alarms != "").any():
        columns.append((Column("alarm"), texts(alarms)))
    return build(id, title, caption=caption, columns=columns)


def trajectory_table(calls: pd.DataFrame) -> Table:
    """Table of called courses."""
    columns = []
    for name in calls.columns:
        if pd.api.types.is_numeric_dtype(calls[name].dtype) and not pd.api.types.is_bool_dtype(
            calls[name].dtype
        ):
            write = probability if str(name).endswith(("p_value", "fdr", "_p")) else significant
            columns.append((Column(str(name), number=True), numbers(calls[name], write)))
        else:
            columns.append((Column(str(name), menu=True), texts(text_column(calls, name))))
    return build(
        "courses",
        "Courses over treatment",
        caption="One row per population and compartment.",
        columns=columns,
    )


def cluster_table(clusters: pd.DataFrame) -> Table:
    """Table of clusters with the evidence for their names."""
    return build(
        "clusters-table", "Clusters and their names", caption="Why each cluster has its name; runner-up is the next best name.", columns=cluster_columns(clusters)
    )  # fmt: skip


def lineage_table(clusters: pd.DataFrame) -> Table:
    """Table of clusters within the lineages."""
    return build(
        "lineages-table", "Clusters within lineages", caption="Each lineage clustered again on the markers that tell its members apart; the name is the deepest that more than half of a cluster's events have. Percentages are of the events shown here.", columns=cluster_columns(clusters)
    )  # fmt: skip


def cluster_columns(clusters: pd.DataFrame) -> list[tuple[Column, list[Cell]]]:
    """Columns of a table of clusters: name, events, then whatever it has."""
    columns = [(Column("cluster"), texts(pd.Series(clusters.index)))]
    if "n_events" in clusters:
        total = max(float(pd.to_numeric(clusters["n_events"]).sum()), 1.0)
        share = 100 * clusters["n_events"] / total
        columns.append((Column("events", number=True), numbers(clusters["n_events"], whole)))
        columns.append((Column("% of events", number=True), numbers(share)))
    for name in clusters.columns.drop("n_events", errors="ignore"):
        if pd.api.types.is_numeric_dtype(clusters[name].dtype):
            columns.append((Column(str(name), number=True), numbers(clusters[name])))
        else:
            column = Column(str(name).replace("_", " "), menu=name in {"phenotype", "lineage"})
            columns.append((column, texts(text_column(clusters, name))))
    return columns


def sample_rows(study: Study) -> Table | None:
    """Table of samples: design, events read, every flag, events kept."""
    samples = study.samples
    if samples is None:
        return None
    columns = [(Column("sample"), texts(pd.Series(samples.index)))]
    columns += [
        (Column(str(name), menu=True), texts(text_column(samples, name)))
        for name in samples.columns
        if str(name) not in {"file", schema.SAMPLE}
    ]
    table = study.exclusions
    if table is not None:
        table = table.set_index(schema.SAMPLE) if schema.SAMPLE in table.columns else table
        table = table.reindex(samples.index)
        columns.append((Column("events read", number=True), numbers(table["events"], whole)))
        columns += [
            (Column(flag.removeprefix("qc_"), number=True), numbers(table[flag], whole))
            for flag in schema.QC_FLAGS
            if flag in table
        ]
        columns.append((Column("events kept", number=True), numbers(table["kept"], whole)))
        share = 100 * table["kept"] / table["events"].where(table["events"] > 0)
        columns.append((Column("% kept", number=True), numbers(share)))
    elif study.counts is not None:
        columns.append(
            (
                Column("events", number=True),
                numbers(study.counts.sum(axis=0).reindex(samples.index), whole),
            )
        )
    caption = (
        "Events flagged for each reason (an event can have several) and events kept, per sample."
    )
    return build("samples-table", "Samples", caption=caption, columns=columns)


def population_table(study: Study) -> Table | None:
    """Table of populations with their events and their share in the samples."""
    counts = study.counts
    if counts is None:
        return None
    total = counts.sum(axis=0)
    share = 100 * counts / total.where(total > 0)
    sums = counts.sum(axis=1)
    columns = [
        (Column("population"), texts(pd.Series(counts.index))),
        (Column("events", number=True), numbers(sums, whole)),
        (Column("% of all", number=True), numbers(100 * sums / max(float(sums.sum()), 1))),
        (Column("median % of a sample", number=True), numbers(share.median(axis=1))),
        (Column("lowest", number=True), numbers(share.min(axis=1))),
        (Column("highest", number=True), numbers(share.max(axis=1))),
        (
            Column("samples without", number=True),
            numbers((counts.loc[:, total > 0] == 0).sum(axis=1), whole),
        ),
    ]
    return build(
        "populations-table",
        "Populations",
        caption="Share of each population in the samples.",
        columns=columns,
    )


def file_table(files: pd.DataFrame) -> Table:
    """Table of input files with their hashes; folders stay private."""
    names = [PureWindowsPath(PurePosixPath(str(name)).name).name for name in files["file"]]
    columns = [
        (Column("sample"), texts(text_column(files, "sample"))),
        (Column("file"), [Cell(name) for name in names]),
        (Column("events", number=True), numbers(files["n_events"], whole)),
        (Column("SHA-256", code=True), texts(text_column(files, "sha256"))),
    ]
    return build(
        "files-table",
        "Input files",
        caption="SHA-256 of each file, taken while it was read.",
        columns=columns,
    )


def overview(table: pd.DataFrame, alpha: float) -> Table:
    """Count rising, falling, unchanged and untested populations per compartment and contrast."""
    place, contrast = place_column(table), text_column(table, "contrast")
    effect = pd.to_numeric(table[effect_column(table)], errors="coerce")
    sure = pd.to_numeric(table["fdr"], errors="coerce") < alpha
    tested = effect.notna() & text_column(table, "status").isin([*schema.TESTED, ""])
    pairs = list(dict.fromkeys(zip(place, contrast, strict=True)))
    groups = [(place == p) & (contrast == c) for p, c in pairs]
    kinds = {
        "up": tested & sure & (effect > 0),
        "down": tested & sure & (effect < 0),
        "no change found": tested & ~sure,
        "not tested": ~tested,
    }
    columns = [
        (Column("compartment"), [Cell(p) for p, _ in pairs]),
        (Column("contrast"), [Cell(c) for _, c in pairs]),
        *(
            (
                Column(name, number=True),
                [
                    Cell(f"{(kind & group).sum():,}", float((kind & group).sum()))
                    for group in groups
                ],
            )
            for name, kind in kinds.items()
        ),
    ]
    if not any(p for p, _ in pairs):
        columns = columns[1:]
    return build(
        "overview",
        "Tests at a glance",
        caption=f"False discovery rate below {alpha:g}.",
        columns=columns,
    )


def settings(values: dict[str, Any], *, id: str, title: str) -> Table:
    """Table of names and values, nested ones joined."""

    def write(value: Any) -> str:
        if isinstance(value, (list, tuple, np.ndarray)):
            return ", ".join(str(item) for item in value)
        return str(value)

    columns = [
        (Column("name"), [Cell(str(name)) for name in values]),
        (Column("value"), [Cell(write(value)) for value in values.values()]),
    ]
    return build(id, title, caption="", columns=columns)


def step_times(seconds: pd.DataFrame) -> Table:
    """Table of seconds and peak memory per step."""
    columns = [(Column("step"), texts(text_column(seconds, "step")))]
    for key, header in (("seconds", "seconds"), ("peak_mb", "peak memory (MB)")):
        if key in seconds:
            columns.append(
                (
                    Column(header, number=True),
                    numbers(seconds[key], lambda v: f"{v:,.1f}" if np.isfinite(v) else "–"),
                )
            )
    total = (
        percent(1, 0) if "seconds" not in seconds else f"{seconds['seconds'].sum():,.0f} s in all"
    )
    return build("times", "Time and memory", caption=f"{total}.", columns=columns)
