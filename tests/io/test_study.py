"""Sample sheet, panel and event files become one AnnData, or a clear error before any long work."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust.errors import FcsFormatError, FcsWarning, StudyError, StudyWarning
from cytoclust.io import read_samples, read_study
from cytoclust.io.channels import channel_type, guessed_class, unique_names
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from pathlib import Path

# anndata 0.13 asks for options that pandas 3.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' option")

CHANNELS = ["FSC-A", "FITC-A", "PE-A", "Time"]
PANEL = pd.DataFrame(
    {
        "channel": CHANNELS,
        "marker": ["", "CD3", "CD4", ""],
        "marker_class": ["none", "type", "state", "none"],
    }
)


def assert_same(one: Any, other: Any) -> None:
    """Compare two AnnData, or parts of their uns."""
    if isinstance(one, ad.AnnData):
        np.testing.assert_array_equal(one.X, other.X)
        assert one.X.dtype == other.X.dtype
        for name in ("obs", "var"):
            assert_same(getattr(one, name), getattr(other, name))
        assert_same(dict(one.layers), dict(other.layers))
        assert_same(one.uns, other.uns)
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif hasattr(one, "keys"):
        assert set(one) == set(other)
        for key in one:
            assert_same(one[key], other[key])
    else:
        np.testing.assert_array_equal(one, other)


def events(n_events: int, seed: int = 0, n_channels: int = 4) -> Any:
    rng = np.random.default_rng(seed)
    return rng.lognormal(7, 1, size=(n_events, n_channels)).astype(np.float32)


def write_study(folder: Path, *, counts: tuple[int, ...] = (30, 20, 10)) -> Path:
    """Write files a.fcs, b.fcs, ... and their sheet; return the sheet's path."""
    lines = ["file,sample,patient,visit"]
    for number, count in enumerate(counts):
        name = "abcdef"[number]
        write_fcs_file(
            folder / f"{name}.fcs",
            events(count, number),
            CHANNELS,
            markers=["", "CD3", "CD4", ""],
            keywords={"$TIMESTEP": "0.01"},
            spillover=(["FITC-A", "PE-A"], [[1, 0.1], [0.2, 1]]),
            ranges=[262144, 1000, 1000 + number, 5000],
        )
        lines.append(f"{name}.fcs,sample {name},p{number % 2 + 1},d{number}")
    sheet = folder / "samples.csv"
    sheet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sheet


def test_slots(tmp_path: Path) -> None:
    adata = read_study(write_study(tmp_path), PANEL)
    expected = np.concatenate([events(30, 0), events(20, 1), events(10, 2)])
    np.testing.assert_array_equal(adata.X, expected)
    np.testing.assert_array_equal(adata.layers["raw"], expected)
    assert adata.X.dtype == np.float32
    assert adata.X.flags.c_contiguous
    assert not np.shares_memory(adata.X, adata.layers["raw"])
    assert list(adata.obs.columns) == ["sample", "patient", "visit", "event"]
    assert list(adata.obs["sample"].cat.categories) == ["sample a", "sample b", "sample c"]
    assert adata.obs["event"].dtype == np.int32
    assert adata.obs["event"].tolist() == [*range(30), *range(20), *range(10)]
    assert adata.obs["visit"].value_counts(sort=False).to_dict() == {"d0": 30, "d1": 20, "d2": 10}
    assert list(adata.var_names) == CHANNELS
    assert adata.var["marker"].tolist() == ["", "CD3", "CD4", ""]
    assert adata.var["channel_type"].tolist() == ["scatter", "fluorescence", "fluorescence", "time"]
    assert adata.var["marker_class"].tolist() == ["none", "type", "state", "none"]
    assert set(adata.var["scale"]) == {"linear"}
    assert adata.var["cofactor"].isna().all()
    read = adata.uns["cytoclust"]["read_study"]
    digest = hashlib.sha256((tmp_path / "b.fcs").read_bytes()).hexdigest()
    assert read["files"]["sha256"].iloc[1] == digest
    assert read["files"]["n_events"].tolist() == [30, 20, 10]
    assert set(read["files"]["spillover_id"]) == {"spillover_1"}
    np.testing.assert_allclose(read["spillover"]["spillover_1"]["values"], [[1, 0.1], [0.2, 1]])
    assert read["ranges"].tolist() == [262144, 1000, 1002, 5000]
    samples = adata.uns["cytoclust"]["samples"]
    assert samples.index.tolist() == ["sample a", "sample b", "sample c"]
    assert list(samples.columns) == ["patient", "visit"]


def test_threads_do_not_matter(tmp_path: Path) -> None:
    sheet = write_study(tmp_path)
    one, two = (read_study(sheet, PANEL, n_jobs=n_jobs) for n_jobs in (1, 4))
    assert_same(one, two)
    assert "raw" not in read_study(sheet, PANEL, layer_raw=False).layers


@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_round_trips(tmp_path: Path) -> None:
    adata = read_study(write_study(tmp_path, counts=(5, 3)), PANEL)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "a.h5ad"), adata)
    adata.write_zarr(tmp_path / "a.zarr")
    assert_same(ad.read_zarr(tmp_path / "a.zarr"), adata)


def test_without_panel(tmp_path: Path) -> None:
    adata = read_study(write_study(tmp_path))
    assert adata.var["marker"].tolist() == ["", "CD3", "CD4", ""]
    assert adata.var["marker_class"].tolist() == ["none", "type", "type", "none"]


def test_sheet_with_blanks_and_byte_order_mark(tmp_path: Path) -> None:
    sheet = write_study(tmp_path)
    text = "\ufeff file ; sample ;visit\n a.fcs ; x ; d0 \n\nb.fcs;y;\n;;\n"
    sheet.write_text(text, encoding="utf-8")
    adata = read_study(sheet, PANEL)
    assert adata.uns["cytoclust"]["samples"]["visit"].isna().tolist() == [False, True]
    assert list(adata.obs["visit"].cat.categories) == ["d0"]
    assert adata.obs["visit"].isna().sum() == 20
    assert adata.n_obs == 50


def test_categories_keep_their_order() -> None:
    visits = pd.Categorical(["d7", "d0"], categories=["d0", "d7", "d28"])
    sheet = pd.DataFrame({"file": ["a", "b"], "sample": [1, 2], "visit": visits, "dose": [0.5, 0]})
    table = read_samples(sheet)
    assert list(table["visit"].cat.categories) == ["d0", "d7"]
    assert table.index.tolist() == ["1", "2"]
    assert list(table["dose"].cat.categories) == ["0.5", "0"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,name\na.fcs,a\n", "column 'sample' not found"),
        ("sample\na\n", "column 'file' not found"),
        ("file,sample\n", "one row per sample"),
        ("", "found nothing"),
        ("file,sample\na.fcs,x\nb.fcs,x\n", r"sample listed more than once: \[x\]"),
        ("file,sample\na.fcs,x\n./a.fcs,y\n", "file listed more than once"),
        ("file,sample\na.fcs,\n", "'sample' is empty in rows"),
        ("file,sample\nnone.fcs,x\n", "1 of 1 event files not found"),
        ("file,sample\na.fcs,x,y\n", "row 2 has 3 cells"),
        ("file,sample,event\na.fcs,x,y\n", "Rename them"),
        ("file,sample,a/b\na.fcs,x,y\n", "Rename them"),
        ("file,sample,v,v\na.fcs,x,y,z\n", "more than once"),
    ],
)
def test_wrong_sheets(tmp_path: Path, text: str, match: str) -> None:
    sheet = write_study(tmp_path)
    sheet.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=match):
        read_study(sheet, PANEL)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"channel": ["a", "b", "c", "d"]}, r"names no channel of the files.*FITC-A"),
        ({"channel": ["FSC-A", "FITC-A", "APC-A", "Time"]}, r"in no file: \[APC-A\]"),
        ({"channel": ["FSC-A", "PE-A", "PE-A", "Time"]}, "listed more than once"),
        ({"channel": ["FSC-A", "PE-A", "pe-a", "Time"]}, "listed more than once"),
        (
            {"marker_class": ["none", "type", "lineage", "none"]},
            r"unknown marker_class: \[lineage\]",
        ),
        ({"marker": ["", "CD3", "CD3", ""]}, "both have the marker 'CD3'"),
        ({"scale": ["", "log", "", ""]}, "unknown scale"),
        ({"cofactor": ["", "-5", "", ""]}, "cofactor of 'FITC-A'"),
    ],
)
def test_wrong_panels(tmp_path: Path, changes: dict[str, list[str]], match: str) -> None:
    with pytest.raises(StudyError, match=match):
        read_study(write_study(tmp_path), PANEL.assign(**changes))


def test_panel_without_marker_class(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="column 'marker_class' not found"):
        read_study(write_study(tmp_path), PANEL.drop(columns="marker_class"))


def test_panel_values(tmp_path: Path) -> None:
    panel = PANEL.assign(scale=["", "linear", "", ""], cofactor=["", "150", None, ""])
    panel.to_csv(tmp_path / "panel.csv", index=False, encoding="utf-8-sig")
    adata = read_study(write_study(tmp_path), tmp_path / "panel.csv")
    assert adata.var.loc["FITC-A", "cofactor"] == 150
    assert adata.var["cofactor"].isna().sum() == 3


def test_channels_in_other_order(tmp_path: Path) -> None:
    sheet = write_study(tmp_path)
    write_fcs_file(tmp_path / "b.fcs", events(20, 1)[:, ::-1], CHANNELS[::-1])
    adata = read_study(sheet, PANEL)
    np.testing.assert_array_equal(adata.X[30:50], events(20, 1))


def test_channels_that_are_not_in_every_file(tmp_path: Path) -> None:
    sheet = write_study(tmp_path)
    write_fcs_file(tmp_path / "b.fcs", events(20, 1, 5), [*CHANNELS, "APC-A"])
    with pytest.warns(StudyWarning, match="left out.*APC-A"):
        adata = read_study(sheet, PANEL)
    assert list(adata.var_names) == CHANNELS
    write_fcs_file(tmp_path / "b.fcs", events(20, 1, 3), ["FITC-A", "PE-A", "Time"])
    with pytest.warns(StudyWarning, match="left out.*FSC-A"):
        assert list(read_study(sheet, PANEL).var_names) == CHANNELS[1:]
    write_fcs_file(tmp_path / "b.fcs", events(20, 1, 3), ["FSC-A", "FITC-A", "Time"])
    with pytest.raises(StudyError, match=r"'PE-A' \(CD4\) is missing in .*sample b \(b\.fcs\)"):
        read_study(sheet, PANEL)


def test_channels_outside_the_panel(tmp_path: Path) -> None:
    with pytest.warns(StudyWarning, match=r"does not list.*\[FSC-A, Time\]"):
        adata = read_study(write_study(tmp_path), PANEL.iloc[1:3])
    assert adata.var["marker_class"].tolist() == ["none", "type", "state", "none"]


def test_sample_without_events(tmp_path: Path) -> None:
    with pytest.warns(StudyWarning, match=r"without any event: \[sample b\]"):
        adata = read_study(write_study(tmp_path, counts=(5, 0, 4)), PANEL)
    assert list(adata.obs["sample"].cat.categories) == ["sample a", "sample b", "sample c"]
    assert len(adata.uns["cytoclust"]["samples"]) == 3
    assert adata.uns["cytoclust"]["read_study"]["files"]["n_events"].tolist() == [5, 0, 4]


@pytest.mark.parametrize(
    "values", [np.arange(200).reshape(50, 4) % 1024, np.linspace(-2, 4.5, 200).reshape(50, 4)]
)
def test_data_that_look_transformed(tmp_path: Path, values: Any) -> None:
    shown = values.astype(np.float32)
    shown[:, 0] = 100_000.0
    write_fcs_file(tmp_path / "a.fcs", shown, CHANNELS)
    sheet = pd.DataFrame({"file": [str(tmp_path / "a.fcs")], "sample": ["a"]})
    with pytest.raises(StudyError, match=r"column 'scale' to the panel"):
        read_study(sheet, PANEL)
    for scale in ("transformed", "linear"):
        adata = read_study(sheet, PANEL.assign(scale=scale))
        assert set(adata.var["scale"]) == {scale}


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    sheet = write_study(tmp_path)
    values = events(20, 1)
    values[3, 1] = np.nan
    write_fcs_file(tmp_path / "b.fcs", values, CHANNELS)
    with pytest.warns(StudyWarning, match=r"\[sample b: 1\]"):
        adata = read_study(sheet, PANEL)
    assert np.isnan(adata.X[33, 1])


def test_truncated_file(tmp_path: Path) -> None:
    sheet = write_study(tmp_path)
    content = (tmp_path / "b.fcs").read_bytes()
    (tmp_path / "b.fcs").write_bytes(content[:-100])
    with pytest.raises(FcsFormatError, match=r"b\.fcs: DATA"):
        read_study(sheet, PANEL)
    with pytest.warns(FcsWarning, match="cut short"):
        adata = read_study(sheet, PANEL, on_truncated="keep")
    assert 50 < adata.n_obs < 60


def test_logarithms_become_linear(build: Any, tmp_path: Path) -> None:
    data = np.array([[0, 512], [1024 - 1, 256]] * 5, dtype="<u2")
    replace = {"$P1E": "4,1", "$P2E": "4,0", "$P1N": "FL1-H", "$P2N": "FL2-H"}
    build(data.tobytes(), 10, [16, 16], datatype="I", ranges=["1024", "1024"], replace=replace)
    sheet = pd.DataFrame({"file": [str(tmp_path / "made.fcs")], "sample": ["a"]})
    panel = pd.DataFrame({"channel": ["FL1-H", "FL2-H"], "marker": ["CD3", "CD4"]})
    with pytest.warns(StudyWarning, match=r"logarithms \(\$PnE\)"):
        adata = read_study(sheet, panel.assign(marker_class="type"))
    np.testing.assert_allclose(adata.X[0], [1, 100])
    assert adata.uns["cytoclust"]["read_study"]["ranges"].tolist() == [10_000, 10_000]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_event_tables(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame(events(12, 3, 3), columns=["CD3", "CD19", "FSC-A"]).assign(label="x")
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    with pytest.warns(StudyWarning, match=r"\[label\] hold text"):
        adata = read_study(pd.DataFrame({"file": [str(path)], "sample": ["a"]}))
    np.testing.assert_allclose(adata.X, events(12, 3, 3), rtol=1e-6)
    assert adata.var["marker_class"].tolist() == ["type", "type", "none"]


@pytest.mark.parametrize(
    ("channel", "marker", "kind", "marker_class"),
    [
        ("FSC-A", "", "scatter", "none"),
        ("SSC 488/10-A", "", "scatter", "none"),
        ("HDR-T", "", "time", "none"),
        ("7-AAD-A", "CD69", "fluorescence", "type"),
        ("PE-Cy5-A", "7-AAD", "viability", "none"),
        ("BV510-A", "L/D", "viability", "none"),
        ("BV510-A", "Zombie Aqua", "viability", "none"),
        ("DAPI-A", "", "fluorescence", "none"),
        ("Nd142Di", "CD19", "mass", "type"),
        ("CD3(110:114)Dd", "CD3", "mass", "type"),
        ("DNA-1(Ir191)Dd", "DNA-1", "mass", "none"),
        ("Pt195Di", "Cisplatin", "viability", "none"),
        ("Cell_length", "", "scatter", "none"),
    ],
)
def test_channel_types(channel: str, marker: str, kind: str, marker_class: str) -> None:
    assert channel_type(channel, marker) == kind
    assert guessed_class(kind, marker) == marker_class


def test_unique_names() -> None:
    assert unique_names(("A", "A", "", "A-1", "A")) == ["A", "A-2", "P3", "A-1", "A-3"]


@pytest.mark.parametrize(
    ("study", "shape"),
    [
        ("mouse_activation", (1_650_000, 18)),
        ("blood_marrow_cd8", (60_000, 30)),
        ("bcr_xl", (6000, 35)),
    ],
)
def test_real_studies(shared: Path, study: str, shape: tuple[int, int]) -> None:
    folder = shared / "data" / study
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adata = read_study(folder / "samples.csv", folder / "panel.csv", layer_raw=False)
    assert adata.shape == shape
    assert (adata.var["marker_class"] == "type").sum() >= 4
    if study == "mouse_activation":
        matrices = adata.uns["cytoclust"]["read_study"]["spillover"]
        assert matrices["spillover_1"]["values"].shape == (11, 11)
        assert len(matrices) == 1
