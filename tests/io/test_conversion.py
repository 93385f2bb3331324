"""A study in a zarr store: what is read, read again, refused, and never lost silently."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import FcsFormatError, StudyError, StudyWarning
from cytoclust.io import conversion
from cytoclust.io import store as stores
from cytoclust.io.fcs_writing import write_fcs_file


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(folder, n_patients=2, events_per_sample=(200, 400), rng=0)
    return folder


@pytest.fixture
def sheet(study: Path) -> pd.DataFrame:
    table = pd.read_csv(study / "samples.csv", dtype=str)
    return table.assign(file=[str(study / name) for name in table["file"]])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "CHUNK_EVENTS", 100)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the samples whose files are decoded from now on."""
    seen: list[str] = []
    convert = conversion.convert_sample

    def noted(name: str, *arguments: Any) -> Any:
        seen.append(name)
        return convert(name, *arguments)

    monkeypatch.setattr(conversion, "convert_sample", noted)
    return seen


@pytest.mark.usefixtures("small_chunks")
def test_store_holds_what_read_study_reads(study: Path, tmp_path: Path) -> None:
    sheet, panel = study / "samples.csv", study / "panel.csv"
    expected = cc.io.read_study(sheet, panel)
    adata = cc.io.open_study(cc.io.convert_study(sheet, panel, tmp_path / "store"))
    np.testing.assert_array_equal(adata.X.compute(), expected.X)
    assert adata.layers["raw"] is not None
    pd.testing.assert_frame_equal(adata.var, expected.var)
    pd.testing.assert_frame_equal(adata.obs, expected.obs.reset_index(drop=True))
    read, wanted = (a.uns["cytoclust"]["read_study"] for a in (adata, expected))
    pd.testing.assert_frame_equal(
        read["files"][list(wanted["files"])], wanted["files"], check_dtype=False
    )
    np.testing.assert_array_equal(read["ranges"], wanted["ranges"])


@pytest.mark.usefixtures("small_chunks")
def test_no_chunk_spans_two_samples(study: Path, tmp_path: Path) -> None:
    adata = cc.io.open_study(cc.io.convert_study(study / "samples.csv", None, tmp_path / "store"))
    codes = adata.obs["sample"].cat.codes.to_numpy()
    ends = np.cumsum(adata.X.chunks[0])
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        assert end - start <= 100
        assert len(np.unique(codes[start:end])) == 1


@pytest.mark.filterwarnings("ignore:Transforming to str index")
def test_each_sample_is_an_anndata(study: Path, tmp_path: Path) -> None:
    store = cc.io.convert_study(study / "samples.csv", None, tmp_path / "store")
    first = cc.io.read_samples(study / "samples.csv").index[0]
    sample = ad.read_zarr(store / "samples" / first)
    whole = cc.io.open_study(store)
    np.testing.assert_array_equal(sample.X, whole.X[: sample.n_obs].compute())
    assert list(sample.var_names) == list(whole.var_names)


def test_interrupted_conversion_goes_on(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: list[str]
) -> None:
    sheet, store = study / "samples.csv", tmp_path / "store"
    write, written = stores.write_sample, []

    def interrupted(folder: Path, *arguments: Any) -> None:
        if len(written) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, *arguments)
        written.append(folder.name)

    monkeypatch.setattr(stores, "write_sample", interrupted)
    with pytest.raises(OSError, match="No space left"):
        cc.io.convert_study(sheet, None, store)
    with pytest.raises(
        StudyError, match=r"not finished \([3-9] samples are there\).*convert_study again"
    ):
        cc.io.open_study(store)
    assert sorted(folder.name for folder in (store / "samples").iterdir()) == sorted(written)
    monkeypatch.setattr(stores, "write_sample", write)
    converted.clear()
    adata = cc.io.open_study(cc.io.convert_study(sheet, None, store))
    assert set(converted) == set(adata.obs["sample"].cat.categories) - set(written)
    np.testing.assert_array_equal(adata.X.compute(), cc.io.read_study(sheet).X)


def test_only_changed_files_are_read_again(
    sheet: pd.DataFrame, tmp_path: Path, converted: list[str]
) -> None:
    files = [tmp_path / Path(name).name for name in sheet["file"]]
    for file, name in zip(files, sheet["file"], strict=True):
        file.write_bytes(Path(name).read_bytes())
    sheet = sheet.assign(file=[str(file) for file in files])
    store = cc.io.convert_study(sheet, None, tmp_path / "store")
    converted.clear()
    cc.io.convert_study(sheet, None, store)
    assert converted == []
    os.utime(files[0], ns=(1, 1))  # another date, the same content
    first = cc.io.read_fcs_datasets(files[1])[0]
    write_fcs_file(files[1], first.events[5:], first.channels, markers=first.markers)
    cc.io.convert_study(sheet, None, store)
    assert converted == [sheet["sample"][1]]


def test_samples_that_left_the_sheet_leave_the_store(sheet: pd.DataFrame, tmp_path: Path) -> None:
    store = cc.io.convert_study(sheet, None, tmp_path / "store")
    adata = cc.io.open_study(cc.io.convert_study(sheet[2:], None, store))
    assert list(adata.obs["sample"].cat.categories) == list(sheet["sample"][2:])
    assert len(list((store / "samples").iterdir())) == len(sheet) - 2


def corrupted(sheet: pd.DataFrame, folder: Path, *, header: bool) -> pd.DataFrame:
    """Damage the third file: its header, or text where the numbers must be."""
    path = folder / "damaged.fcs"
    content = Path(sheet["file"][2]).read_bytes()
    path.write_bytes(b"XYZ" + content[3:] if header else content[: len(content) // 2])
    files = sheet["file"].tolist()
    files[2] = str(path)
    return sheet.assign(file=files)


@pytest.mark.parametrize("header", [True, False])
def test_a_corrupt_file_is_named(sheet: pd.DataFrame, tmp_path: Path, *, header: bool) -> None:
    bad = corrupted(sheet, tmp_path, header=header)
    with pytest.raises(FcsFormatError, match=r"damaged\.fcs"):
        cc.io.convert_study(bad, None, tmp_path / "store")


def test_a_corrupt_file_can_be_excluded_and_is_counted(sheet: pd.DataFrame, tmp_path: Path) -> None:
    bad = corrupted(sheet, tmp_path, header=True)
    with pytest.warns(
        StudyWarning, match=rf"1 of {len(sheet)} event files cannot be decoded.*damaged"
    ):
        store = cc.io.convert_study(bad, None, tmp_path / "store", on_unreadable="exclude")
    adata = cc.io.open_study(store)
    files = adata.uns["cytoclust"]["read_study"]["files"]
    assert files["problem"].ne("").tolist() == [i == 2 for i in range(len(sheet))]
    assert files["n_events"].iloc[2] == 0
    assert sheet["sample"][2] in adata.obs["sample"].cat.categories


def test_a_file_that_breaks_while_it_is_decoded_can_be_excluded(
    sheet: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = conversion.load_source

    def broken(source: Any, *arguments: Any) -> Any:
        if str(source.path) == sheet["file"][1]:
            msg = f"{source.path}: DATA: broken"
            raise FcsFormatError(msg)
        return load(source, *arguments)

    monkeypatch.setattr(conversion, "load_source", broken)
    with pytest.raises(FcsFormatError, match="DATA: broken"):
        cc.io.convert_study(sheet, None, tmp_path / "store")
    with pytest.warns(StudyWarning, match="cannot be decoded and are excluded"):
        store = cc.io.convert_study(sheet, None, tmp_path / "store", on_unreadable="exclude")
    counts = cc.io.open_study(store).obs["sample"].value_counts()
    assert counts[sheet["sample"][1]] == 0


def test_lost_chunk_is_named_and_mended(
    sheet: pd.DataFrame, tmp_path: Path, converted: list[str]
) -> None:
    store = cc.io.convert_study(sheet, None, tmp_path / "store")
    name = sheet["sample"][1]
    adata = cc.io.open_study(store)
    stores.chunk_file(store / "samples" / name, 0).unlink()
    with pytest.raises(StudyError, match=rf"chunks of 1 samples.*{name}.*convert_study again"):
        cc.io.open_study(store)
    with pytest.raises(StudyError, match=rf"sample '{name}' \(chunk 0\): the chunk is not there"):
        adata.X.compute()
    converted.clear()
    assert cc.io.open_study(cc.io.convert_study(sheet, None, store)).n_obs == adata.n_obs
    assert converted == [name]


def test_damaged_chunk_is_named(sheet: pd.DataFrame, tmp_path: Path) -> None:
    store = cc.io.convert_study(sheet, None, tmp_path / "store")
    chunk = stores.chunk_file(store / "samples" / sheet["sample"][0], 0)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 255
    chunk.write_bytes(content)
    adata = cc.io.open_study(store)
    with pytest.raises(StudyError, match=r"cannot be read.*Remove .* if it is damaged"):
        adata.X.compute()


def test_store_of_a_newer_version_is_refused(sheet: pd.DataFrame, tmp_path: Path) -> None:
    store = cc.io.convert_study(sheet, None, tmp_path / "store")
    facts = json.loads((store / "zarr.json").read_text())
    facts["attributes"]["cytoclust_store"]["format"] = 99
    (store / "zarr.json").write_text(json.dumps(facts))
    for again in (
        lambda: cc.io.open_study(store),
        lambda: cc.io.convert_study(sheet, None, store),
    ):
        with pytest.raises(StudyError, match="newer version of cytoclust"):
            again()


def test_other_folders_are_no_store(sheet: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="not a store"):
        cc.io.convert_study(sheet, None, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(StudyError, match="not a store"):
        cc.io.open_study(tmp_path / "nowhere")


def change_visit(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(visit=["other", *table["visit"][1:]])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda table: table[1:], "samples removed"),
        (change_visit, r"design columns changed: \[visit\]"),
        (lambda table: table.assign(arm="a"), r"design columns changed: \[arm\]"),
        (lambda table: table[::-1], "order: .*of the samples"),
        (lambda table: table.assign(file=list(table["file"][::-1])), "other files"),
    ],
)
def test_changed_sheet_is_refused(
    sheet: pd.DataFrame, tmp_path: Path, change: Any, match: str
) -> None:
    path = tmp_path / "samples.csv"
    sheet.to_csv(path, index=False)
    store = cc.io.convert_study(path, None, tmp_path / "store")
    assert cc.io.open_study(store).n_obs > 0
    change(sheet).to_csv(path, index=False)
    with pytest.raises(StudyError, match=match):
        cc.io.open_study(store)
    assert cc.io.open_study(store, check_sheet=False).n_obs > 0


def test_sample_without_events_stays(sheet: pd.DataFrame, tmp_path: Path) -> None:
    first = cc.io.read_fcs_datasets(sheet["file"][0])[0]
    write_fcs_file(tmp_path / "empty.fcs", first.events[:0], first.channels, markers=first.markers)
    files = [str(tmp_path / "empty.fcs"), *sheet["file"][1:]]
    with pytest.warns(StudyWarning, match="samples without any event"):
        store = cc.io.convert_study(sheet.assign(file=files), None, tmp_path / "store")
    adata = cc.io.open_study(store)
    assert adata.obs["sample"].value_counts()[sheet["sample"][0]] == 0


def test_lazy_study_fits_into_memory(study: Path, tmp_path: Path) -> None:
    store = cc.io.convert_study(study / "samples.csv", None, tmp_path / "store")
    with pytest.warns(UserWarning, match="Transforming to str index"):
        adata = cc.io.open_study(store).to_memory()
    assert isinstance(adata.X, np.ndarray)
    cc.pp.flag_margins(adata)


def test_results_are_written_to_the_same_files(study: Path, tmp_path: Path) -> None:
    sheet, panel = study / "samples.csv", study / "panel.csv"
    lazy = cc.io.open_study(cc.io.convert_study(sheet, panel, tmp_path / "store"))
    whole = cc.io.read_study(sheet, panel)
    for adata, folder in ((whole, "memory"), (lazy, "lazy")):
        cc.pp.flag_margins(adata)
        cc.pp.filter_events(adata)
        codes = np.arange(adata.n_obs) % 3 - 1
        adata.obs["phenotype"] = pd.Categorical.from_codes(codes, categories=["T", "B"])
        adata.obsm["X_umap"] = np.stack([codes, codes], axis=1).astype(np.float32)
        cc.io.write_fcs(adata, tmp_path / folder)
    for path in (tmp_path / "memory").iterdir():
        assert path.read_bytes() == (tmp_path / "lazy" / path.name).read_bytes(), path.name


def test_files_that_could_not_be_read_are_not_written(sheet: pd.DataFrame, tmp_path: Path) -> None:
    bad = corrupted(sheet, tmp_path, header=True)
    with pytest.warns(StudyWarning, match="cannot be decoded"):
        store = cc.io.convert_study(bad, None, tmp_path / "store", on_unreadable="exclude")
    name = sheet["sample"][2]
    with pytest.warns(StudyWarning, match=rf"1 of {len(sheet)} samples get no FCS file.*{name}"):
        written = cc.io.write_fcs(cc.io.open_study(store), tmp_path / "out")
    assert len(written) == len(sheet) - 1
