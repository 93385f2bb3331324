"""What the study shows, in plain words: its design, its quality, what could not be tested."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.event_arrays import category_codes
from cytoclust.numerics.tallies import tally
from cytoclust.pl.tables import in_order, is_interaction, labelled, text_column
from cytoclust.report.findings import findings
from cytoclust.report.numbers import first_of, percent, plural, significant
from cytoclust.report.study import ALPHA

if TYPE_CHECKING:
    from cytoclust.report.findings import Finding
    from cytoclust.report.study import Study

MOST: Final = 6  # reasons for missing tests told in words; the tables hold all of them
NAMELESS: Final = 0.2  # share of events without a name that needs a word of warning
BROKEN: Final = 0.4  # share of populations moving one way above which the log-ratio is in doubt


@dataclass(frozen=True)
class Summary:
    """The report's first section."""

    study: list[str] = field(default_factory=list)
    quality: list[str] = field(default_factory=list)
    abundance: list[Finding] = field(default_factory=list)
    abundance_notes: list[str] = field(default_factory=list)
    state: list[Finding] = field(default_factory=list)
    state_notes: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


def summarise(study: Study) -> Summary:
    """Write the summary of whatever the study holds."""
    return Summary(
        study=study_words(study),
        quality=quality_words(study),
        abundance=[] if study.abundance is None else findings(study.abundance, study.trajectories),
        abundance_notes=[] if study.abundance is None else notes_on(study.abundance),
        state=[] if study.state is None else findings(study.state, None),
        state_notes=[] if study.state is None else notes_on(study.state),
        untested=[
            *untested_words(study.abundance, "abundance"),
            *untested_words(study.state, "expression"),
        ],
        caveats=caveat_words(study),
    )


def study_words(study: Study) -> list[str]:
    """Say what was measured and how many events have a name."""
    adata = study.adata
    words = []
    if study.samples is not None:
        parts = [plural(len(study.samples), "sample")]
        if study.donor_key in study.samples.columns:
            parts.append(
                plural(study.samples[study.donor_key].dropna().nunique(), "donor")
                + ("" if study.donor_key == "donor" else f" ({study.donor_key})")
            )
        for key in (study.compartment_key, study.treatment_key):
            if key in study.samples.columns:
                levels = in_order(study.samples[key].dropna())
                parts.append(f"{key}: {first_of(levels, 8)}")
        if study.adjusted:
            parts.append(f"tests adjusted for {study.adjusted}")
        words.append("The study has " + "; ".join(parts) + ".")
    words.append(
        f"{plural(adata.n_obs, 'event')} were analysed on {plural(adata.n_vars, 'channel')}."
    )
    if schema.LEIDEN in adata.obs.columns:
        words.append(f"They form {plural(adata.obs[schema.LEIDEN].nunique(), 'cluster')}.")
    if schema.PHENOTYPE in adata.obs.columns:
        codes, names = category_codes(adata, schema.PHENOTYPE)
        sizes = tally(codes, len(names))
        named = np.asarray(names.astype(str) != schema.UNASSIGNED)
        nameless = int(sizes[~named].sum())
        found = int(np.count_nonzero(sizes[named]))
        words.append(
            f"{plural(found, 'named population')} were found; "
            + (
                f"{percent(nameless, adata.n_obs)} of the events fit no definition and stay unassigned."
                if nameless
                else "every event fits one of them."
            )
        )
        if nameless > NAMELESS * adata.n_obs:
            words.append(
                "The named populations therefore describe only a part of the events: the clusters show"
                " what the others express."
            )
    return words


def quality_words(study: Study) -> list[str]:
    """Say how many events and samples were excluded, and why."""
    words = []
    table = study.exclusions
    if table is not None:
        read, kept = int(table["events"].sum()), int(table["kept"].sum())
        words.append(
            f"{read - kept:,} of {read:,} events ({percent(read - kept, read)}) were excluded:"
        )
        flags = [flag for flag in schema.QC_FLAGS if flag in table.columns and table[flag].sum()]
        reasons = [
            f"{percent(int(table[flag].sum()), read)} {flag.removeprefix('qc_')}"
            for flag in sorted(flags, key=lambda flag: -table[flag].sum())
        ]
        words[-1] += (
            f" {', '.join(reasons)} (an event can have several reasons)."
            if reasons
            else " none had a flag."
        )
        share = 1 - table["kept"] / table["events"].where(table["events"] > 0)
        heavy = [
            f"{name} ({significant(100 * lost)} %)" for name, lost in share[share > 0.5].items()
        ]
        if heavy:
            words.append(
                f"More than half of the events were excluded in {first_of(heavy)}: look at these files."
            )
    if study.counts is not None:
        total = study.counts.sum(axis=0)
        empty = [str(name) for name in total.index[total == 0]]
        few = [str(name) for name in total.index[(total > 0) & (total < 1000)]]
        if empty:
            words.append(
                f"No events were left in {plural(len(empty), 'sample')}: {first_of(empty)}."
            )
        if few:
            words.append(
                f"Fewer than 1,000 events were left in {plural(len(few), 'sample')}: {first_of(few)}."
            )
    words += design_gaps(study)
    return words


def design_gaps(study: Study) -> list[str]:
    """Name the samples that the tests leave out because a design value is empty."""
    words = []
    for key in (study.treatment_key, study.compartment_key, study.donor_key):
        if study.samples is None or key not in study.samples.columns:
            continue
        column = study.samples[key].astype(object)
        blank = column.isna() | (column.astype(str).str.strip() == "")
        if blank.any():
            names = first_of([str(name) for name in study.samples.index[blank]])
            words.append(
                f"Without a value for {key}, clustered and counted but left out of the tests: {names}."
            )
    return words


def notes_on(table: pd.DataFrame) -> list[str]:
    """Write the notes below the findings of one kind of test."""
    return [*nameless_words(table), *result_notes(table)]


def nameless_words(table: pd.DataFrame) -> list[str]:
    """Say what a change among events without a name means; it is not told as a finding."""
    rows = labelled(table)
    rows = rows[(rows["population"] == schema.UNASSIGNED) & ~is_interaction(rows)]
    rows = rows[pd.to_numeric(rows["fdr"], errors="coerce") < ALPHA]
    if rows.empty:
        return []
    parts = [rows["compartment"], rows["marker"], rows["contrast"]]
    where = [" ".join(filter(None, part)) for part in zip(*parts, strict=True)]
    text = (
        "Events that fit no definition (unassigned) differ too"
        f" ({first_of(list(dict.fromkeys(where)), 4)}). They are no population of their own: look at"
        " their clusters, and whether the naming depends on treatment."
    )
    return [text]


def result_notes(table: pd.DataFrame) -> list[str]:
    """Say how many tests were made, what they could have missed, and if nothing was found."""
    rows = labelled(table)
    if rows.empty:
        return ["Nothing could be tested; the reasons stand below."]
    sure = pd.to_numeric(rows["fdr"], errors="coerce") < ALPHA
    words = [
        f"{int(sure.sum()):,} of {plural(len(rows), 'test')} have a false discovery rate below"
        f" {ALPHA:g}; about one in twenty of these findings may be false."
        if sure.any()
        else f"None of {plural(len(rows), 'test')} has a false discovery rate below {ALPHA:g}."
    ]
    if {"std_error", "df"} <= set(rows.columns):
        words.append(reach_words(rows, folds="log2_fold_change" in table.columns))
    return [*words, "No finding is not proof of no change."]


def reach_words(rows: pd.DataFrame, *, folds: bool) -> str:
    """Say which change a single test finds four times out of five, per compartment."""
    from scipy.stats import t

    df = np.maximum(pd.to_numeric(rows["df"], errors="coerce").fillna(10).to_numpy(float), 1)
    error = pd.to_numeric(rows["std_error"], errors="coerce").to_numpy(float)
    needed = (t.ppf(0.975, df) + t.ppf(0.8, df)) * error
    parts = []
    for place in in_order(rows["compartment"]):
        here = needed[(rows["compartment"] == place).to_numpy()]
        if not np.isfinite(here).any():
            continue
        size = float(np.nanmedian(here))
        text = f"{significant(2.0**size)}-fold" if folds else significant(size)
        parts.append(f"{text} in {place}" if place else text)
    return (
        "The change that a single test (p < 0.05, before correction) would find four times out of"
        f" five, for the middle population: {', '.join(parts)}."
    )


def untested_words(table: pd.DataFrame | None, what: str) -> list[str]:
    """Group rows without a result by their reason."""
    if table is None or "status" not in table.columns:
        return []
    status = text_column(table, "status")
    rows = table[~status.isin([*schema.TESTED, ""])]
    if rows.empty:
        return []
    reason = text_column(rows, "reason").where(
        text_column(rows, "reason") != "", text_column(rows, "status")
    )
    kinds = reason.str.replace(r"\d+", "#", regex=True)
    words = []
    for _, group in rows.groupby(kinds, sort=False):
        names = first_of(in_order(text_column(group, "population")), 10)
        why = joined_reasons(in_order(reason[group.index]))
        words.append(f"{plural(len(group), 'test')} of {what} not made ({why}): {names}.")
    if len(words) > MOST:
        left = len(words) - MOST
        words = [*words[:MOST], f"… and {left} further reasons, in the table."]
    return words


def joined_reasons(reasons: list[str]) -> str:
    """Write reasons that differ only in their numbers as one, with ranges."""
    found = [[int(number) for number in re.findall(r"\d+", reason)] for reason in reasons]
    ranges = iter(
        str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)}–{max(numbers)}"
        for numbers in zip(*found, strict=True)
    )
    return re.sub(r"\d+", lambda _: next(ranges), reasons[0])


def caveat_words(study: Study) -> list[str]:
    """Say what has to be kept in mind when the results are read."""
    words: list[str] = []
    table = study.abundance
    if table is None:
        return words
    denominators = set(text_column(table, "denominator"))
    if "log_ratio" in denominators:
        words.append(
            "Cytometry counts shares, not cells per volume. Changes of abundance are log-ratios: each"
            " population against the middle of the others in the same sample, so that one growing"
            " population does not make all others seem to shrink. Where a population changes 8-fold or"
            " more, it and then all that change 2-fold or more are left out of that middle: otherwise"
            " a lineage that a drug removes would make the rest seem to grow. They are not changes of"
            " absolute counts, and if most populations truly moved together, the log-ratios hide it."
        )
    rows = labelled(table)
    sure = (pd.to_numeric(rows["fdr"], errors="coerce") < ALPHA) & ~is_interaction(rows)
    for (place, contrast), group in rows.groupby(["compartment", "contrast"], sort=False):
        inside = sure[group.index]
        for direction, moved in (("up", group["effect"] > 0), ("down", group["effect"] < 0)):
            share = float((inside & moved).mean())
            if share > BROKEN and len(group) >= 5:
                where = f"{place}, {contrast}" if place else contrast
                words.append(
                    f"{significant(100 * share)} % of the populations move {direction} in {where}: with"
                    " so many changes there is no stable reference, and the size and even the sign of"
                    " the smaller changes there are in doubt. Compare with absolute counts."
                )
    differ = table[text_column(table, "alarm").str.contains("denominators disagree", regex=False)]
    if len(differ):
        names = first_of(in_order(text_column(differ, "population")), 10)
        words.append(
            f"{plural(len(differ), 'change')} read differently as shares of all cells ({names}); the"
            " column alarm of the table says how. Where one lineage changes much, shares of all others"
            " change with it; absolute counts would decide."
        )
    return words
