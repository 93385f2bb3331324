"""The summary says what the tables say."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from cytoclust.report import findings, methods, numbers, tables, words
from cytoclust.report import study as studies

if TYPE_CHECKING:
    from anndata import AnnData


def row(
    population: str, compartment: str, contrast: str, effect: float, *, fdr: float = 0.5
) -> dict[str, object]:
    """One tested row."""
    return {
        "population": population, "compartment": compartment, "contrast": contrast, "log2_fold_change": effect, "ci_low": effect - 0.5,
        "ci_high": effect + 0.5, "std_error": 0.25, "df": 30.0, "p_value": fdr / 2, "fdr": fdr, "n_samples": 20, "n_paired": 9,
        "status": "ok", "reason": "", "denominator": "log_ratio",
    }  # fmt: skip


def told(*rows: dict[str, object]) -> list[str]:
    found = findings.findings(pd.DataFrame(list(rows)), None)
    return [
        f"{f.head} ({f.evidence}) {c.place}: {c.text}".replace("\N{NO-BREAK SPACE}", " ")
        for f in found
        for c in f.changes
    ]


def test_a_rise_and_a_fall() -> None:
    rise, fall = told(
        row("Treg", "PB", "d7 - d0", 1.0, fdr=0.0001),
        row("naive B", "PB", "d7 - d0", -2.0, fdr=0.02),
    )
    assert rise == (
        "Treg (strong evidence, FDR 0.0001) PB: d7 - d0: rose 2.0-fold (1.4- to 2.8-fold, 9 pairs)"
    )
    assert fall == (
        "naive B (moderate evidence, FDR 0.020) PB: d7 - d0: fell to 25 % (18 to 35 %, 9 pairs)"
    )


def test_only_in_one_compartment_is_claimed_only_with_the_interaction() -> None:
    base = (row("Treg", "PB", "d7 - d0", 1.0, fdr=0.001), row("Treg", "BM", "d7 - d0", 0.1))
    (unsure,) = told(*base, row("Treg", "BM - PB", "d7 - d0", -0.9, fdr=0.4))
    (sure,) = told(*base, row("Treg", "BM - PB", "d7 - d0", -0.9, fdr=0.01))
    (alone,) = told(base[0])
    assert "not found in BM (d7 - d0), but a difference is not shown either" in unsure
    assert "shown to differ from BM (d7 - d0)" in sure
    assert "BM" not in alone


def test_one_entry_per_population_the_surest_first() -> None:
    table = pd.DataFrame(
        [
            row("NK", "PB", "d7 - d0", 1.0, fdr=0.01),
            row("Treg", "PB", "d7 - d0", 1.0, fdr=0.04),
            row("Treg", "BM", "d7 - d0", 1.0, fdr=0.001),
        ]
    )
    found = findings.findings(table, None)
    assert [f.head for f in found] == ["Treg", "NK"]
    assert [change.place for change in found[0].changes] == ["PB", "BM"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("transient", "transient"),
        ("no change detected", "single contrasts significant, course not established"),
    ],
)
def test_course_does_not_contradict_the_change(call: str, text: str) -> None:
    calls = pd.DataFrame({"population": ["Treg"], "compartment": ["PB"], "call": [call]})
    table = pd.DataFrame([row("Treg", "PB", "d7 - d0", 1.0, fdr=0.001)])
    (found,) = findings.findings(table, calls)
    assert [change.course for change in found.changes] == [text]


def test_without_compartments_or_donors_neither_is_named() -> None:
    (text,) = told(row("Treg", "all", "d7 - d0", 1.0, fdr=0.001) | {"n_paired": 0})
    assert text.endswith(" : d7 - d0: rose 2.0-fold (1.4- to 2.8-fold)")


def test_unnamed_events_are_no_finding_but_a_note() -> None:
    table = pd.DataFrame([row("unassigned", "PB", "d7 - d0", 1.0, fdr=0.001)])
    assert findings.findings(table, None) == []
    note = words.notes_on(table)[0]
    assert note.startswith("Events that fit no definition (unassigned) differ too (PB d7 - d0).")


def test_expression_is_told_in_its_own_unit() -> None:
    rows = [
        row("Treg", "PB", "d7 - d0", 0.4, fdr=0.001) | {"marker": "CD39"},
        row("Treg", "PB", "d28 - d0", 0.3, fdr=0.01) | {"marker": "CD39"},
        row("Treg", "PB", "d28 - d0", 0.9, fdr=0.02) | {"marker": "PD-1"},
    ]
    table = pd.DataFrame(rows).rename(columns={"log2_fold_change": "difference"})
    (found,) = findings.findings(table, None)
    assert found.changes[0].text.replace("\N{NO-BREAK SPACE}", " ") == (
        "CD39 +0.40 in d7 - d0 (\N{MINUS SIGN}0.10 to +0.90, 9 pairs), also in d28 - d0; "
        "PD-1 +0.90 in d28 - d0 (+0.40 to +1.4, 9 pairs)"
    )


def test_untested_reasons_that_differ_in_numbers_are_one() -> None:
    rows = [
        row(name, "PB", "d7 - d0", np.nan)
        | {"status": "filtered", "reason": f"3 cells in {n} of 9"}
        for name, n in (("pDC", 2), ("mDC", 0))
    ]
    assert words.untested_words(pd.DataFrame(rows), "abundance") == [
        "2 tests of abundance not made (3 cells in 0–2 of 9): pDC, mDC."
    ]


def test_untested_rows_are_grouped_by_reason() -> None:
    rows = [
        row(name, "PB", "d7 - d0", np.nan) | {"status": "filtered", "reason": "too few cells"}
        for name in ("pDC", "mDC")
    ]
    assert words.untested_words(pd.DataFrame(rows), "abundance") == [
        "2 tests of abundance not made (too few cells): pDC, mDC."
    ]


def test_no_finding_is_not_no_change() -> None:
    notes = words.result_notes(pd.DataFrame([row("Treg", "PB", "d7 - d0", 0.1)]))
    assert notes[0] == "None of 1 test has a false discovery rate below 0.05."
    # (t(0.975, 30) + t(0.8, 30)) * 0.25 = (2.0423 + 0.8538) * 0.25 = 0.724 -> 2**0.724 = 1.65
    assert "1.7-fold in PB" in notes[1]
    assert notes[-1] == "No finding is not proof of no change."
    assert words.result_notes(pd.DataFrame([row("Treg", "PB", "d7 - d0", np.nan)])) == [
        "Nothing could be tested; the reasons stand below."
    ]


def test_broken_reference_is_warned_of(study: AnnData) -> None:
    whole = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    assert len(words.caveat_words(whole)) == 1
    table = study.uns["cytoclust"]["differential_abundance"]["table"]
    one = (table["compartment"] == "PB") & (table["contrast"] == "d7 - d0")
    table.loc[one, "fdr"] = 0.001
    table.loc[one, "log2_fold_change"] = table.loc[one, "log2_fold_change"].abs()
    whole = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    assert any(
        "100 % of the populations move up in PB, d7 - d0" in text
        for text in words.caveat_words(whole)
    )


def test_methods_say_what_was_done(study: AnnData) -> None:
    whole = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    text = " ".join(methods.write_methods(whole).paragraphs)
    assert "changed 8-fold or more" in text
    assert f"separately in each {whole.compartment_key}" in text
    record = {"params": {}, "version": "0", "files": pd.DataFrame({"status": ["unchanged"], "reason": ["transformed before"]}, index=["a"])}  # fmt: skip
    study.uns["cytoclust"]["compensate"] = record
    alone = dataclasses.replace(whole, treatment_key=None, adata=study)
    text = " ".join(methods.write_methods(alone).paragraphs)
    assert "Values were not compensated (transformed before)." in text
    assert "separately in each" not in text


def test_covariates_are_named(study: AnnData) -> None:
    study.uns["cytoclust"]["differential_abundance"].setdefault("params", {})["covariates"] = [
        "dose"
    ]
    found = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    assert "; tests adjusted for dose." in words.study_words(found)[0]
    assert any(", adjusted for dose" in text for text in methods.test_words(found, lambda _: "[1]"))


def test_alarms_stand_in_the_table() -> None:
    plain = pd.DataFrame([row("Treg", "PB", "d7 - d0", 1.0, fdr=0.001)])
    shown = tables.results(plain.assign(alarm="separated"), id="a", title="", caption="")
    assert [shown.columns[-1].name, shown.rows[0][-1].text] == ["alarm", "separated"]
    silent = tables.results(plain.assign(alarm=""), id="a", title="", caption="")
    assert silent.columns[-1].name == "reason"


def test_no_share_is_told_where_every_event_has_a_name(study: AnnData) -> None:
    study = study[study.obs["phenotype"] != "unassigned"].copy()
    found = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    assert words.study_words(found)[-1].endswith("every event fits one of them.")


def test_samples_without_design_are_named(study: AnnData) -> None:
    sheet = study.uns["cytoclust"]["samples"]
    sheet.loc[sheet.index[2], "visit"] = np.nan
    whole = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    assert words.design_gaps(whole) == [
        f"Without a value for visit, clustered and counted but left out of the tests: {sheet.index[2]}."
    ]


def test_exclusions_are_counted(study: AnnData) -> None:
    whole = studies.gather(study, treatment_key=None, compartment_key=None, donor_key=None)
    counts = study.uns["cytoclust"]["filter_events"]["counts"]
    lost = int(counts["events"].sum() - counts["kept"].sum())
    text = words.quality_words(whole)
    assert text[0].startswith(f"{lost:,} of {counts['events'].sum():,} events")
    assert any("No events were left in 1 sample" in line for line in text)


def test_overview_counts_every_row(study: AnnData) -> None:
    table = study.uns["cytoclust"]["differential_abundance"]["table"]
    view = tables.overview(table, 0.05)
    assert sum(cell.value or 0 for cells in view.rows for cell in cells[2:]) == len(table)
    ups = [cells[2].value for cells in view.rows]
    assert sum(ups) == ((table["fdr"] < 0.05) & (table["log2_fold_change"] > 0)).sum()


def test_constant_columns_are_left_out_and_missing_numbers_sort_last(study: AnnData) -> None:
    table = study.uns["cytoclust"]["differential_abundance"]["table"]
    view = tables.results(table, id="x", title="", caption="")
    headers = [column.name for column in view.columns]
    assert "level" not in headers
    assert {"compartment", "contrast", "fold change", "FDR", "reason"} <= set(headers)
    last = view.rows[-1]
    assert last[headers.index("FDR")].value is None
    assert last[headers.index("status")].text == "filtered"


def test_folders_of_input_files_stay_private(study: AnnData) -> None:
    files = study.uns["cytoclust"]["read_study"]["files"]
    files.loc[files.index[0], "file"] = "C:\\Users\\someone\\a.fcs"
    view = tables.file_table(files)
    assert view.rows[0][1].text == "a.fcs"
    assert "/" not in view.rows[1][1].text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.012"),
        (1.26, "1.3"),
        (12.6, "13"),
        (1234.5, "1,234"),
        (2e7, "2.0e+07"),
        (1e-5, "1.0e-05"),
        (np.nan, "–"),
        (0.996, "1.00"),
    ],
)
def test_significant_digits(value: float, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (0.0042, "0.0042"), (3.2e-9, "3e-09"), (0.0, "< 1e-300"), (np.nan, "–")],
)
def test_probabilities(value: float, text: str) -> None:
    assert numbers.probability(value) == text


def test_contrasts_and_percentages_stay_on_one_line() -> None:
    from cytoclust.report import unbroken

    text = unbroken("d28 - d7: fell to 51 % (FDR 1e-31)")
    assert text == "d28\xa0-\u2060\xa0d7: fell to 51\xa0% (FDR 1e-\u206031)"
    assert unbroken(text) == text
