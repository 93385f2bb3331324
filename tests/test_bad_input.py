"""Bad input from the files to the report: a clear error early, or an exclusion that is counted."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cytoclust as cc
from cytoclust import outputs, schema
from cytoclust.cli import app
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import anndata as ad

DESIGN = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
NO_DESIGN = dict.fromkeys(DESIGN)
CD3 = "BUV395-A"
CD16 = "BUV496-A"
runner = CliRunner()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients, two compartments, two visits, none missing."""
    folder = tmp_path_factory.mktemp("simulated")
    cc.simulate.study(
        folder,
        n_patients=3,
        visits=("d0", "d7"),
        missing=(0.0, 0.0),
        events_per_sample=(200, 250),
        rng=3,
    )
    return folder


@pytest.fixture
def study(simulated: Path, tmp_path: Path) -> Path:
    """A copy to spoil: the six samples of blood."""
    folder = shutil.copytree(simulated, tmp_path / "study")
    sheet = pd.read_csv(folder / "samples.csv", dtype=str)
    write_sheet(folder, sheet[sheet["compartment"] == "PB"])
    return folder


def read_sheet(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "samples.csv", dtype=str)


def write_sheet(study: Path, sheet: pd.DataFrame) -> None:
    sheet.to_csv(study / "samples.csv", index=False)


def files(study: Path) -> list[Path]:
    return [study / name for name in read_sheet(study)["file"]]


def rewrite(
    path: Path,
    change: Callable[[Any], Any] = lambda events: events,
    *,
    without: str = "",
    keywords: dict[str, str] | None = None,
) -> None:
    """Write an event file again with other events, without a channel, or with a $SPILLOVER."""
    (data,) = cc.io.read_fcs_datasets(path)
    keep = [i for i, name in enumerate(data.channels) if name != without]
    matrix = data.spillover.drop(index=without, columns=without, errors="ignore")
    write_fcs_file(
        path,
        change(np.array(data.events, dtype=np.float32))[:, keep],
        [data.channels[i] for i in keep],
        markers=[data.markers[i] for i in keep],
        keywords={"$TIMESTEP": "0.01", **(keywords or {})},
        spillover=None if keywords else (list(matrix.columns), matrix.to_numpy()),
        ranges=data.ranges[keep],
    )


def analyse(
    study: Path,
    samples: pd.DataFrame | None = None,
    panel: pd.DataFrame | None = None,
    *,
    out: Path | None = None,
    **options: Any,
) -> tuple[ad.AnnData, str]:
    """Run the pipeline; return the result and everything it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The .* option")  # as in pyproject.toml
        warnings.simplefilter("always", cc.errors.CytoclustWarning)
        adata = cc.pipeline.run(
            study / "samples.csv" if samples is None else samples,
            study / "panel.csv" if panel is None else panel,
            out,
            embedding=False,
            **{**DESIGN, **options},
        )
    return adata, "\n".join(str(warning.message) for warning in caught)


def forbid(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Let the test fail if a step of the pipeline is reached."""

    def reached(*_: object, **__: object) -> None:
        pytest.fail(f"{step} was reached")

    monkeypatch.setattr(cc.pipeline.running, step, reached)


@pytest.fixture
def refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.ExceptionInfo[cc.errors.CytoclustError]]:
    """Expect an error before `step`, and an output folder without anything in it."""

    def expect(
        match: str,
        error: type[Exception] = cc.errors.StudyError,
        *,
        before: str = "prepare",
        **options: Any,
    ) -> pytest.ExceptionInfo[Any]:
        forbid(monkeypatch, before)
        with pytest.raises(error, match=match) as caught:
            analyse(study, out=tmp_path / "out", **options)
        assert list((tmp_path / "out").rglob("*")) == []
        assert str(caught.value).rstrip().endswith(".")  # expected, found, and what to do
        return caught

    return expect


def abundance(adata: ad.AnnData) -> pd.DataFrame:
    table: pd.DataFrame = adata.uns[schema.UNS]["differential_abundance"]["table"]
    return table


def exclusions(adata: ad.AnnData) -> pd.DataFrame:
    table: pd.DataFrame = adata.uns[schema.UNS][schema.FILTER_EVENTS]["counts"]
    return table


# samples and design


def test_file_without_events(study: Path) -> None:
    sheet = read_sheet(study)
    rewrite(study / sheet["file"][1], lambda events: events[:0])
    adata, said = analyse(study)
    name = sheet["sample"][1]
    assert f"samples without any event: [{name}]" in said
    assert f"take no part in the tests: {name} (no events)" in said
    assert cc.get.counts(adata)[name].sum() == 0
    assert exclusions(adata).loc[name, "events"] == 0
    assert set(abundance(adata)["n_samples"]) == {5}


def test_compartment_without_events(simulated: Path, tmp_path: Path) -> None:
    study = shutil.copytree(simulated, tmp_path / "study")
    sheet = read_sheet(study)
    for file in sheet.loc[sheet["compartment"] == "BM", "file"]:
        rewrite(study / file, lambda events: events[:0])
    adata, said = analyse(study)
    assert "6 samples are counted but take no part in the tests" in said
    for step in ("differential_abundance", "differential_state"):
        table = adata.uns[schema.UNS][step]["table"].set_index("compartment")
        assert (table.loc["PB", "status"] == "ok").any()
        assert set(table.loc[["BM", "BM - PB"], "status"]) == {"not estimable"}


def test_no_file_has_events(study: Path, refused: Callable[..., Any]) -> None:
    for file in files(study):
        rewrite(file, lambda events: events[:0])
    refused("at least 15 events; 0 of 0 events", before="cluster")


def test_unpaired_patient(study: Path) -> None:
    write_sheet(study, read_sheet(study).drop(index=1))
    table = abundance(analyse(study)[0])
    assert set(table["n_samples"]) == {5}
    assert set(table["n_paired"]) == {2}
    assert (table["status"] == "ok").any()


def test_compartment_with_one_visit(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = shutil.copytree(simulated, tmp_path / "study")
    sheet = read_sheet(study)
    write_sheet(study, sheet[(sheet["compartment"] == "PB") | (sheet["visit"] == "d0")])
    adata, said = analyse(study)
    assert "d7 - d0 in BM (no sample at d7 in BM)" in said
    table = abundance(adata).set_index("compartment")
    assert (table.loc["PB", "status"] == "ok").any()
    assert set(table.loc["BM", "status"]) == {"not estimable"}
    assert set(table.loc["BM", "reason"]) == {"no sample at d7 in BM"}
    forbid(monkeypatch, "prepare")
    with (
        pytest.warns(cc.errors.StudyWarning, match="cannot be estimated"),
        pytest.raises(pytest.fail.Exception),
    ):
        cc.pipeline.run(study / "samples.csv", study / "panel.csv", **DESIGN)


def test_empty_design_cells(study: Path) -> None:
    sheet = read_sheet(study)
    sheet.loc[1, "visit"] = ""
    sheet.loc[2, "patient"] = None
    write_sheet(study, sheet)
    adata, said = analyse(study)
    first, second = sheet["sample"][[1, 2]]
    assert "2 samples will be counted but not tested" in said
    assert f"{first} (empty in the sample sheet: visit)" in said
    assert f"{second} (empty in the sample sheet: patient)" in said
    assert cc.get.counts(adata)[[first, second]].sum().min() > 0
    assert set(abundance(adata)["n_samples"]) == {4}


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_numbers_as_levels(study: Path, kind: str) -> None:
    sheet = read_sheet(study)
    sheet["file"] = [str(file) for file in files(study)]
    numbers = sheet["visit"].map({"d0": 0.5, "d7": 0.0})
    sheet["dose"] = numbers if kind == "numbers" else numbers.map({0.5: "0.5", 0.0: "0"})
    table = abundance(analyse(study, sheet, treatment_key="dose", baseline="0")[0])
    assert set(table["contrast"]) == {"0.5 - 0"}


def test_treatment_with_one_level(study: Path, refused: Callable[..., Any]) -> None:
    write_sheet(study, read_sheet(study).assign(visit="d0", patient=list("abcdef")))
    refused(r"'visit' must have at least two levels; found \[d0\]", cc.errors.DesignError)


def test_patient_twice_at_one_visit(study: Path, refused: Callable[..., Any]) -> None:
    write_sheet(study, read_sheet(study).assign(patient="one"))
    refused("one sample per treatment and compartment", cc.errors.DesignError)


def test_single_sample_without_comparison(study: Path, tmp_path: Path) -> None:
    write_sheet(study, read_sheet(study).iloc[:1])
    out = tmp_path / "run"
    shown = runner.invoke(
        app,
        ["run", "--samples", str(study / "samples.csv"), "--panel", str(study / "panel.csv"),
         "--out", str(out), "--quiet"],
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert (out / "report.html").stat().st_size > 10_000
    assert {path.name for path in (out / "tables").iterdir()} == {
        "counts.csv",
        "lineages.csv",
        "phenotypes.csv",
        "qc.csv",
    }


# channels and panel


def test_type_marker_absent_from_a_file(study: Path, refused: Callable[..., Any]) -> None:
    rewrite(files(study)[2], without=CD3)
    refused(rf"'{CD3}' \(CD3\) is missing in the files of .*\({files(study)[2].name}\)")


def test_channel_of_class_none_absent_from_a_file(study: Path) -> None:
    rewrite(files(study)[2], without="Time")
    adata, said = analyse(study, **NO_DESIGN)
    assert f"left out: [Time (not in [{read_sheet(study)['sample'][2]}" in said
    assert "Time" not in adata.var_names
    assert len(cc.get.counts(adata).columns) == 6


def test_channel_of_the_matrix_absent_from_a_file(study: Path, refused: Callable[..., Any]) -> None:
    """Without its values the other files cannot be compensated, whatever its class."""
    rewrite(files(study)[2], without=CD3)
    panel = pd.read_csv(study / "panel.csv")
    panel.loc[panel["channel"] == CD3, "marker_class"] = "none"
    refused(rf"{files(study)[0].name}.*needs channel '{CD3}'", panel=panel)


def test_panel_without_marker_class(study: Path, refused: Callable[..., Any]) -> None:
    panel = pd.read_csv(study / "panel.csv").drop(columns="marker_class")
    refused(r"'marker_class' not found; columns: \[channel, marker\]", panel=panel)


def test_panel_without_lineage_markers(study: Path, refused: Callable[..., Any]) -> None:
    panel = pd.read_csv(study / "panel.csv").replace({"marker_class": {"type": "state"}})
    refused("no channel has .*'type'", cc.errors.ArgumentError, panel=panel)


def test_channel_twice_in_the_panel(study: Path, refused: Callable[..., Any]) -> None:
    panel = pd.read_csv(study / "panel.csv")
    refused(rf"more than once: \[{CD3}\]", panel=pd.concat([panel, panel[panel.channel == CD3]]))


def test_channel_twice_in_a_file(study: Path, refused: Callable[..., Any]) -> None:
    """Two channels of one name: the panel names one that is no longer there, the matrix too."""
    for file in files(study):
        content = file.read_bytes()
        (data,) = cc.io.read_fcs_datasets(file)
        key = f"$P{data.channels.index(CD16) + 1}N".encode()
        at = content.index(key) + len(key) + 1
        file.write_bytes(content[:at] + CD3.encode() + content[at + len(CD3) :])
    refused(rf"in no file: \[{CD16}\].*{CD3}-1")
    panel = pd.read_csv(study / "panel.csv").replace({"channel": {CD16: f"{CD3}-1"}})
    refused(rf"{files(study)[0].name}.*\['{CD16}'\] are not channels", panel=panel)


def test_without_panel(study: Path) -> None:
    adata = cc.pipeline.run(study / "samples.csv", embedding=False)
    markers = set(adata.var.loc[adata.var["marker_class"] == "type", "marker"])
    assert {"CD3", "CD4", "CD8", "CD19"} <= markers
    assert not {"Viability", "Time", "FSC-A"} & markers


# events


def test_values_that_are_not_finite(study: Path) -> None:
    def spoil(events: Any) -> Any:
        events[3, 5], events[4, 6], events[5, 7] = np.nan, np.inf, -np.inf
        return events

    rewrite(files(study)[2], spoil)
    adata, said = analyse(study)
    name = read_sheet(study)["sample"][2]
    assert f"NaN or infinite: [{name}: 3]" in said
    assert exclusions(adata)["qc_invalid"].to_dict() == {
        sample: 3 * (sample == name) for sample in read_sheet(study)["sample"]
    }
    assert np.isfinite(adata.X).all()
    events = set(adata.obs.loc[adata.obs["sample"] == name, "event"])
    assert not {3, 4, 5} & events
    assert cc.get.counts(adata)[name].sum() == len(events)


def test_sample_whose_events_are_all_flagged(study: Path) -> None:
    rewrite(files(study)[1], lambda events: events * np.nan)
    adata, said = analyse(study)
    name = read_sheet(study)["sample"][1]
    assert f"{name} (100%)" in said
    assert f"take no part in the tests: {name} (no events)" in said
    row = exclusions(adata).loc[name]
    assert row["events"] == row["qc_invalid"] > 0
    assert row["kept"] == cc.get.counts(adata)[name].sum() == 0


def test_all_events_of_a_study_flagged(study: Path, refused: Callable[..., Any]) -> None:
    for file in files(study):
        rewrite(file, lambda events: events * np.nan)
    caught = refused("0 of [0-9]+ events .*passed", before="cluster")
    assert "qc_invalid: " in str(caught.value)


def test_fewer_events_than_neighbours(study: Path, refused: Callable[..., Any]) -> None:
    for file in files(study):
        rewrite(file, lambda events: events[:2])
    refused("at least 15 events; 12 of 12", before="cluster")


@pytest.mark.parametrize("value", [0.0, 500.0])
def test_marker_that_does_not_vary(study: Path, value: float) -> None:
    channel = list(pd.read_csv(study / "panel.csv")["channel"]).index(CD16)

    def flatten(events: Any) -> Any:
        events[:, channel] = value
        return events

    for file in files(study):
        rewrite(file, flatten)
    adata, _ = analyse(study)
    assert np.isfinite(adata.X).all()
    assert (abundance(adata)["status"] == "ok").any()


def test_no_marker_has_a_signal(study: Path) -> None:
    def darken(events: Any) -> Any:
        events[:, 6:-1] = 0  # between scatter and time
        return events

    for file in files(study):
        rewrite(file, darken)
    adata, _ = analyse(study)
    assert np.isfinite(adata.X).all()
    assert len(adata.obs[schema.PHENOTYPE].cat.categories) <= 2


def test_one_population_only(study: Path) -> None:
    (data,) = cc.io.read_fcs_datasets(files(study)[0])
    typical = np.median(data.events, axis=0)
    rng = np.random.default_rng(0)

    def same(events: Any) -> Any:
        drawn = typical * rng.lognormal(0, 0.1, size=events.shape)
        drawn[:, -1] = events[:, -1]
        return drawn

    for file in files(study):
        rewrite(file, same)
    adata, said = analyse(study)
    assert "log-ratio size factors rest on" in said
    table = abundance(adata)
    assert set(table["status"]) == {"not estimable"}  # it is all there is in every sample
    assert table["reason"].str.contains("no variation").all()
    assert table["p_value"].isna().all()


def test_event_tables(study: Path) -> None:
    for file in files(study):
        (data,) = cc.io.read_fcs_datasets(file)
        table = pd.DataFrame(np.array(data.events), columns=list(data.channels))
        table.to_csv(file.with_suffix(".csv"), index=False)
    sheet = read_sheet(study)
    sheet["file"] = sheet["file"].str.replace(".fcs", ".csv")
    write_sheet(study, sheet)
    adata, said = analyse(study, **NO_DESIGN)
    assert "6 of 6 samples have no spillover matrix and stay uncompensated" in said
    assert exclusions(adata)["kept"].min() > 0


def test_event_table_of_text(study: Path, refused: Callable[..., Any]) -> None:
    table = study / "text.csv"
    table.write_text("CD3,CD4\nx,y\n")
    write_sheet(study, read_sheet(study).assign(file=["text.csv", *read_sheet(study)["file"][1:]]))
    refused(r"text\.csv: no column holds numbers; columns: \[CD3, CD4\]")


# spillover


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (f"3,{CD3},{CD16},1,0,0,1", "says 3 channels"),
        (f"2,Other-A,{CD16},1,0,0,1", r"\['Other-A'\] are not channels"),
        (f"2,{CD3},{CD16},1,1,1,1", f"singular.*{CD3} and {CD16}"),
        (f"2,{CD3},{CD16},1,nan,0,1", f"not finite: the entry from {CD3} to {CD16}"),
        ("many", "starts with 'many', expected the number"),
    ],
)
def test_spillover_that_does_not_fit(
    study: Path, refused: Callable[..., Any], matrix: str, match: str
) -> None:
    file = files(study)[1]
    rewrite(file, keywords={"$SPILLOVER": matrix})
    refused(rf"sample .*\({file.name}\): its spillover matrix cannot be used: .*{match}")


def test_file_without_spillover(study: Path) -> None:
    rewrite(files(study)[1], keywords={"$CYT": "Simulator"})
    adata, said = analyse(study, **NO_DESIGN)
    name = read_sheet(study)["sample"][1]
    assert f"1 of 6 samples have no spillover matrix and stay uncompensated: [{name}]" in said
    table = adata.uns[schema.UNS][schema.COMPENSATE]["files"]
    assert table.index[table["status"] == "unchanged"].tolist() == [name]


# running twice, and what is left behind


def test_no_step_is_applied_twice(study: Path) -> None:
    adata, _ = analyse(study, **NO_DESIGN)
    values, counts = adata.X.copy(), exclusions(adata).copy()
    excluded = adata.uns[schema.UNS][schema.FILTER_EVENTS]["excluded"]["event"].copy()
    for verb in (cc.pp.compensate, cc.pp.arcsinh, cc.pp.estimate_cofactors):
        with pytest.raises(cc.errors.AlreadyAppliedError, match="already applied"):
            verb(adata)
    cc.pp.filter_events(adata)
    np.testing.assert_array_equal(adata.X, values)
    pd.testing.assert_frame_equal(exclusions(adata), counts)
    again = adata.uns[schema.UNS][schema.FILTER_EVENTS]["excluded"]["event"]
    np.testing.assert_array_equal(again, excluded)


def test_nothing_half_written(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk late in the run: a new folder stays empty, an old run stays as it was."""
    write_sheet(study, read_sheet(study).iloc[:1])
    old = tmp_path / "old"
    (old / "tables").mkdir(parents=True)
    (old / "tables" / "state.csv").write_text("earlier")
    (old / "report.html").write_text("earlier")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cc.report, "write", full)
        for out in (old, tmp_path / "new"):
            with pytest.raises(OSError, match="No space left"):
                analyse(study, out=out, overwrite=True, **NO_DESIGN)
        patch.setattr(cc.report, "write", lambda _, path, **_kept: path.write_text("now"))
        kept = [*(tmp_path / "new").iterdir(), old / ".resume"]  # finished steps, for another try
        assert {path.name for path in kept} == {".resume"}
        assert (old / "report.html").read_text() == "earlier"
        assert sorted(
            path.name for path in old.rglob("[!.]*") if path.parent.name != ".resume"
        ) == [
            "report.html",
            "state.csv",
            "tables",
        ]
        analyse(study, out=old, overwrite=True, **NO_DESIGN)
    assert (old / "report.html").read_text() == "now"
    assert not (old / "tables" / "state.csv").exists()  # not of this run
    assert not [path for path in old.iterdir() if path.name.startswith(".")]


def test_results_never_replace_the_event_files(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, "prepare")
    out = tmp_path / "run"
    shutil.copytree(study, out / "fcs")
    with pytest.raises(cc.errors.ArgumentError, match="holds event files of this study"):
        analyse(out / "fcs", out=out, overwrite=True)
    assert len(files(out / "fcs")) == sum(file.is_file() for file in files(out / "fcs"))


@pytest.mark.parametrize("seed", [-1, "a", 0.5])
def test_seed_that_is_none(refused: Callable[..., Any], seed: object) -> None:
    refused("whole number of 0 or more", cc.errors.ArgumentError, rng=seed)


# hostile names


def test_hostile_names(study: Path, tmp_path: Path) -> None:
    names = ["../x", "a/b", "<script>alert(1)</script>", "=cmd()", "A/B", "-1+2"]
    patients = ["=1+1", "@x", "+p"] * 2
    sheet = read_sheet(study).assign(sample=names, patient=patients)
    write_sheet(study, sheet)
    out = tmp_path / "in" / "run"
    adata, _ = analyse(study, out=out)
    assert {path.name for path in tmp_path.iterdir()} == {"study", "in"}
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    assert len(list((out / "fcs").glob("*.fcs"))) == 6
    assert "<script>alert" not in (out / "report.html").read_text()
    assert list(cc.get.counts(adata).columns) == names
    header = (out / "tables" / "counts.csv").read_text().splitlines()[0].split(",")
    assert header == [
        "population",
        *("../x", "a/b", "<script>alert(1)</script>", "'=cmd()", "A/B", "'-1+2"),
    ]
    again = cc.tl.differential_abundance(out / "tables" / "counts.csv", samples=sheet, **DESIGN)
    keys = ["population", "compartment", "contrast"]
    both = abundance(adata).merge(again, on=keys, suffixes=("", "_again"))
    assert len(both) == len(again)
    np.testing.assert_allclose(both["log2_fold_change"], both["log2_fold_change_again"])
    assert set(both["n_samples_again"]) == {6}


@pytest.mark.parametrize("text", ["=1+1", "+x", "-a - b", "@SUM(A1)", "\t=1", "\r=1", "-a\r=1"])
def test_formulas_become_text(tmp_path: Path, text: str) -> None:
    table = pd.DataFrame({text: pd.Categorical([text, "d0"]), "value": [-1.5, np.nan]})
    table.index = pd.Index([text, "b"], name="population")
    outputs.write_tables({"one": table}, tmp_path)
    back = pd.read_csv(tmp_path / "one.csv", index_col=0)
    safe = f"'{text}".replace("\r", " ")
    assert back.index.tolist() == [safe, "b"]
    assert back.columns.tolist() == [safe, "value"]
    assert back.iloc[0, 0] == safe
    assert back["value"].tolist()[0] == -1.5


def test_ordinary_text_stays(tmp_path: Path) -> None:
    cells = ["CD56dim CD57- NK", "d7 - d0", "-1", "+0.5", "-inf", "1e-3", "'quoted", "a=b", ""]
    table = pd.DataFrame({"a": cells, "b": range(len(cells)), "c": [True, *[False] * 8]})
    outputs.write_tables({"one": table}, tmp_path)
    text = (tmp_path / "one.csv").read_text()
    assert text == table.to_csv(index=False)


# the same from the command line


def invoke(study: Path, out: Path, *arguments: str) -> str:
    """Run the command line and expect exit code 1; return what it said, in one line."""
    shown = runner.invoke(
        app,
        ["run", "--samples", str(study / "samples.csv"), "--panel", str(study / "panel.csv"),
         "--out", str(out), "--treatment", "visit", "--donor", "patient", *arguments],
    )  # fmt: skip
    assert shown.exit_code == 1, shown.output
    assert "Traceback" not in shown.output
    assert "Error:" in shown.stderr
    return " ".join(shown.stderr.split())


@pytest.mark.parametrize("trouble", ["file", "twice", "marker", "spillover", "panel", "few"])
def test_errors_on_the_command_line(study: Path, tmp_path: Path, trouble: str) -> None:
    first, second = files(study)[:2]
    if trouble == "file":
        second.unlink()
    elif trouble == "twice":
        write_sheet(study, read_sheet(study).assign(sample="same"))
    elif trouble == "marker":
        rewrite(second, without=CD3)
    elif trouble == "spillover":
        rewrite(second, keywords={"$SPILLOVER": "many"})
    elif trouble == "panel":
        (study / "panel.csv").write_text("channel,marker,marker_class\nX1,CD3,type\n")
    else:
        for file in files(study):
            rewrite(file, lambda events: events[:1])
    said = invoke(study, tmp_path / "run")
    expected = {
        "file": "1 of 6 event files not found",
        "twice": "sample listed more than once: [same]",
        "marker": f"'{CD3}' (CD3) is missing",
        "spillover": "spillover matrix cannot be used",
        "panel": "the panel names no channel of the files",
        "few": "clustering needs at least 15 events",
    }
    assert expected[trouble] in said
    assert first.is_file()
    assert list((tmp_path / "run").rglob("*")) == []


def test_output_folder_on_the_command_line(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = invoke(study, tmp_path / "file" / "run")
    assert "cannot be written" in said
    assert "Choose another folder" in said


def test_typo_on_the_command_line(study: Path, tmp_path: Path) -> None:
    said = invoke(study, tmp_path / "run", "--compartment", "compartement")
    assert "Did you mean 'compartment'?" in said
