"""Figures of clusters, quality and test results: what stands on the axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError, StudyError
from cytoclust.pl.clustering import group_medians

if TYPE_CHECKING:
    from anndata import AnnData

DESIGN = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}


def table_of(study: AnnData, step: str) -> pd.DataFrame:
    return study.uns["cytoclust"][step]["table"]


def names(axis_labels: object) -> list[str]:
    return [label.get_text() for label in axis_labels]  # type: ignore[attr-defined]


def test_group_medians_match_pandas() -> None:
    rng = np.random.default_rng(0)
    values, codes = rng.normal(size=(501, 3)), rng.integers(-1, 4, 501)
    medians, sizes = group_medians(values, codes, 5)
    expected = pd.DataFrame(values).groupby(codes).median().drop(index=-1)
    np.testing.assert_allclose(medians[:4], expected.to_numpy(), rtol=1e-12)
    assert np.isnan(medians[4]).all()
    assert sizes[4] == 0


@pytest.mark.parametrize("dendrogram", [True, False])
def test_heatmap_rows_are_the_medians(study: AnnData, *, dendrogram: bool) -> None:
    ax = cc.pl.heatmap(study, dendrogram=dendrogram)
    rows, columns = names(ax.get_yticklabels()), names(ax.get_xticklabels())
    assert set(rows) == set(study.obs["phenotype"].unique())
    if not dendrogram:
        assert rows == [c for c in study.obs["phenotype"].cat.categories if c in rows]
    marker, population = "CD19", "CD8 EM"
    values = np.asarray(study[:, (study.var["marker"] == marker).to_numpy()].X).ravel()
    low, high = np.quantile(values, [0.01, 0.99])
    median = np.median(values[(study.obs["phenotype"] == population).to_numpy()])
    shown = ax.images[0].get_array()[rows.index(population), columns.index(marker)]
    assert shown == pytest.approx(np.clip((median - low) / (high - low), 0, 1), rel=1e-5)


def test_heatmap_of_one_cluster_and_of_named_markers(study: AnnData) -> None:
    study.obs["one"] = pd.Categorical(["0"] * study.n_obs)
    ax = cc.pl.heatmap(study, groupby="one", markers=["CD3", "FL1-A"])
    assert ax.images[0].get_array().shape == (1, 2)
    with pytest.raises(MissingSlotError, match="neither marker nor channel"):
        cc.pl.heatmap(study, markers=["nothing"])


def test_densities_and_cutoffs(study: AnnData) -> None:
    ax = cc.pl.marker_densities(study, cutoffs={"CD3": 1.5})
    values = np.asarray(study.X)[:, 0]
    assert names(ax.texts) == [f"{100 * np.mean(values > 1.5):.3g} % +"]
    assert names(ax.get_yticklabels())[0] == "CD3"


def test_recorded_cutoffs_are_used(study: AnnData) -> None:
    cutoffs = pd.DataFrame(
        {"marker": ["CD4", "CD8", "CD8", "CD19"], "cut_positive": [2.0, 1.0, 1.5, np.nan]},
        index=list("0123"),
    )
    study.uns["cytoclust"]["call_markers"] = {"params": {}, "version": "0", "cutoffs": cutoffs}
    ax = cc.pl.marker_densities(study)
    cuts = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 2]
    assert cuts == [2.0, 1.0, 1.5]
    assert len(ax.texts) == 1  # CD8 has two cut-offs, so no single share


def test_phenotype_sizes_are_sorted(study: AnnData) -> None:
    shown = names(cc.pl.phenotype_sizes(study).get_yticklabels())
    assert shown == study.obs["phenotype"].astype(str).value_counts().index.tolist()


def test_exclusions_add_up_flags_and_mark_the_total() -> None:
    counts = pd.DataFrame(
        {"events": [200, 0], "qc_doublet": [20, 0], "qc_dead": [30, 0], "kept": [155, 0]},
        index=["a", "b"],
    )
    ax = cc.pl.exclusions(counts)
    widths = [patch.get_width() for patch in ax.patches if patch.get_width()]
    assert widths == [10.0, 15.0]
    marks = [segment[0, 0] for segment in ax.collections[0].get_segments()]
    assert marks == [22.5, 0.0]
    assert names(ax.texts) == ["no events"]


def test_exclusions_need_the_record(study: AnnData) -> None:
    assert len(cc.pl.exclusions(study).get_yticklabels()) == len(study.uns["cytoclust"]["samples"])
    del study.uns["cytoclust"]["filter_events"]
    with pytest.raises(MissingSlotError, match=r"Run pp\.filter_events first"):
        cc.pl.exclusions(study)
    with pytest.raises(MissingSlotError, match="columns events and kept"):
        cc.pl.exclusions(pd.DataFrame({"a": [1]}))


def test_design_grid_shows_gaps_and_empty_samples(study: AnnData) -> None:
    sheet = study.uns["cytoclust"]["samples"]
    events = cc.get.counts(study).sum(axis=0)
    ax = cc.pl.design_grid(study, events=events, **DESIGN)
    n_fields = sheet["patient"].nunique() * 8
    assert sum(
        len(line.get_xdata()) == 2 and line.get_ydata()[0] % 1 == 0.5 for line in ax.lines
    ) == n_fields - len(sheet)
    assert names(ax.texts).count("×") == int((events == 0).sum())
    assert {"PB", "BM"} <= set(names(ax.texts))


def test_design_grid_without_donors_counts_samples(study: AnnData) -> None:
    sheet = study.uns["cytoclust"]["samples"]
    ax = cc.pl.design_grid(sheet, treatment_key="visit", compartment_key="compartment")
    expected = sheet.groupby(["compartment", "visit"], observed=False).size()
    assert [int(text) for text in names(ax.texts)] == expected.tolist()
    assert "no design columns" in names(cc.pl.design_grid(sheet).texts)[0]
    with pytest.raises(MissingSlotError, match="design column 'nothing' not found"):
        cc.pl.design_grid(sheet, treatment_key="nothing")


def test_design_grid_sorts_patients_as_people_do() -> None:
    sheet = pd.DataFrame(
        {"sample": list("abc"), "patient": ["P10", "P2", "P1"], "visit": ["d0"] * 3}
    )
    ax = cc.pl.design_grid(sheet, treatment_key="visit", donor_key="patient")
    assert names(ax.get_yticklabels()) == ["P1 (1)", "P2 (1)", "P10 (1)"]


def test_abundance_medians(study: AnnData) -> None:
    counts, sheet = cc.get.counts(study), study.uns["cytoclust"]["samples"]
    ax = cc.pl.abundance(counts, "CD4 CM", samples=sheet, **DESIGN)
    share = 100 * counts.loc["CD4 CM"] / counts.sum(axis=0)
    expected = [
        share[(sheet["compartment"] == "PB") & (sheet["visit"] == visit)].median()
        for visit in ("d0", "d7", "d15", "d28")
    ]
    thick = [line for line in ax.lines if line.get_linewidth() == 1.8]
    np.testing.assert_allclose(thick[0].get_ydata(), expected)
    assert len(thick) == 2
    thin = ax.collections[0].get_segments()
    assert 0 < len(thin) <= 2 * sheet["patient"].nunique()


@pytest.mark.parametrize(
    "design",
    [
        {},
        {"treatment_key": "visit"},
        {"compartment_key": "compartment", "donor_key": "patient"},
        {"treatment_key": "visit", "compartment_key": "compartment"},
    ],
)
def test_abundance_without_parts_of_the_design(study: AnnData, design: dict[str, str]) -> None:
    ax = cc.pl.abundance(study, "naive B", **design)
    cells = {"": 1, "visit": 4}[design.get("treatment_key", "")] * (
        2 if "compartment_key" in design else 1
    )
    assert len(ax.get_xticks()) == cells
    assert cc.pl.composition(study, **design).get_ylim() == (0, 100)


def test_samples_without_design_or_events_are_not_drawn() -> None:
    counts = pd.DataFrame({"a": [10, 90], "b": [0, 0], "c": [0, 50], "d": [5, 5]}, index=["x", "y"])
    sheet = pd.DataFrame({"visit": ["d0", "d0", "d7", None]}, index=list("abcd"))
    ax = cc.pl.abundance(counts, "x", samples=sheet, treatment_key="visit")
    points = sum(len(c.get_offsets()) for c in ax.collections[1:3])
    assert points == 2  # a, and c as a triangle at the edge; b has no events, d no visit


def test_abundance_errors(study: AnnData) -> None:
    with pytest.raises(ArgumentError, match="population must be one of"):
        cc.pl.abundance(study, "nothing")
    counts = cc.get.counts(study)
    with pytest.raises(StudyError, match="one row for every column of counts"):
        cc.pl.abundance_grid(counts, samples=study.uns["cytoclust"]["samples"].iloc[1:])


def test_composition_bars_reach_one_hundred(study: AnnData) -> None:
    ax = cc.pl.composition(study, **DESIGN)
    sheet = study.uns["cytoclust"]["samples"]
    tops: dict[float, float] = {}
    for collection in ax.collections:
        for path in collection.get_paths():
            at = round(float(path.vertices[0, 0]), 3)
            tops[at] = max(tops.get(at, 0), float(path.vertices[:, 1].max()))
    full = [top for top in tops.values() if top > 0]
    np.testing.assert_allclose(full, 100)
    assert len(tops) == len(sheet)
    assert len(full) == len(sheet) - 1


def test_forest_draws_effects_and_intervals(study: AnnData) -> None:
    table = table_of(study, "differential_abundance")
    ax = cc.pl.forest(table, contrast="d7 - d0")
    rows = table[(table["contrast"] == "d7 - d0") & (table["status"] == "ok")]
    offsets = ax.collections[-1].get_offsets()
    np.testing.assert_allclose(
        np.sort(np.asarray(offsets)[:, 0]), np.sort(rows["log2_fold_change"])
    )
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(np.sort(ends[:, 0]), np.sort(rows["ci_low"]))
    assert "mDC" not in names(ax.get_yticklabels())
    assert "log-ratio" in ax.get_xlabel()


def test_forest_needs_a_contrast(study: AnnData) -> None:
    table = table_of(study, "differential_abundance")
    with pytest.raises(ArgumentError, match="contrast must name one of"):
        cc.pl.forest(table)
    with pytest.raises(ArgumentError, match="contrast must be one of"):
        cc.pl.forest(table, contrast="d9 - d0")
    with pytest.raises(MissingSlotError, match="log2_fold_change"):
        cc.pl.volcano(table.drop(columns="log2_fold_change"))


def test_forest_grid_parts_changes_and_interactions(study: AnnData) -> None:
    table = table_of(study, "differential_abundance")
    for interactions, shown in ((False, {"PB", "BM"}), (True, {"BM - PB"})):
        figure = cc.pl.forest_grid(table, interactions=interactions)
        assert len(figure.axes) == 4
        assert set(names(figure.legends[0].get_texts())) == shown


def test_volcano_names_the_significant(study: AnnData) -> None:
    table = table_of(study, "differential_abundance")
    ax = cc.pl.volcano(table, contrast="d7 - d0", compartment="PB")
    found = table[
        (table["contrast"] == "d7 - d0") & (table["compartment"] == "PB") & (table["fdr"] < 0.05)
    ]
    assert set(names(ax.texts)) == set(found["population"])


def test_p_value_of_zero_is_finite() -> None:
    table = pd.DataFrame(
        {
            "population": ["a"],
            "contrast": ["x"],
            "log2_fold_change": [1.0],
            "p_value": [0.0],
            "fdr": [0.0],
        }
    )
    assert np.isfinite(cc.pl.volcano(table).get_ylim()).all()


def test_p_values_line_is_what_chance_gives(study: AnnData) -> None:
    table = table_of(study, "differential_abundance")
    ax = cc.pl.p_values(table)
    n = int(table["p_value"].notna().sum())
    assert ax.lines[0].get_ydata()[0] == n / 20
    assert sum(patch.get_height() for patch in ax.patches) == n


def test_nothing_tested_says_so(study: AnnData) -> None:
    table = table_of(study, "differential_abundance").query("status != 'ok'")
    axes = [cc.pl.forest(table, contrast="d7 - d0"), cc.pl.volcano(table), cc.pl.p_values(table)]
    axes += [cc.pl.forest_grid(table).axes[0]]
    assert all("nothing could be tested" in names(ax.texts) for ax in axes)
    state = table_of(study, "differential_state").iloc[:0]
    assert "nothing could be tested" in names(cc.pl.state_grid(state).axes[0].texts)
    assert "nothing could be tested" in names(
        cc.pl.trajectories(pd.DataFrame({"population": [], "call": []})).texts
    )


def test_state_tiles(study: AnnData) -> None:
    table = table_of(study, "differential_state")
    ax = cc.pl.state(table, contrast="d7 - d0", compartment="PB")
    rows, columns = names(ax.get_yticklabels()), names(ax.get_xticklabels())
    here = table[(table["contrast"] == "d7 - d0") & (table["compartment"] == "PB")].set_index(
        ["population", "marker"]
    )
    image = ax.images[0].get_array()
    assert (
        image[rows.index("CD4 EM"), columns.index("PD-1")]
        == here.loc[("CD4 EM", "PD-1"), "difference"]
    )
    assert len(ax.collections[0].get_offsets()) == int((here["fdr"] < 0.05).sum())
    figure = cc.pl.state_grid(table)
    assert sum(bool(ax.images) for ax in figure.axes) >= 8


def test_trajectories_name_every_call(study: AnnData) -> None:
    calls = table_of(study, "trajectories")
    ax = cc.pl.trajectories(calls, table=table_of(study, "differential_abundance"))
    texts = names(ax.texts)
    assert len(texts) == len(calls)
    assert {"transient", "persistent", "not tested"} <= set(texts)
    with pytest.raises(MissingSlotError, match="missing: \\[call\\]"):
        cc.pl.trajectories(calls.drop(columns="call"))


def test_courses_of_one_compartment_are_bold() -> None:
    calls = pd.DataFrame(
        {
            "population": ["NK"] * 2,
            "compartment": ["PB", "BM"],
            "call": ["persistent", "stable"],
            "only_here": ["shown", ""],
        }
    )
    weights = {t.get_text(): t.get_fontweight() for t in cc.pl.trajectories(calls).texts}
    assert weights == {"persistent": "bold", "stable": "normal"}
