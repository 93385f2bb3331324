"""Arrays with an element per event: the same in memory and in files, of which nothing is left."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from cytoclust import chunks, schema
from cytoclust.errors import MissingSlotError, StudyError
from cytoclust.event_arrays import (
    EventArrays,
    category_codes,
    event_arrays,
    file_of,
    put_column,
    put_points,
    used_categories,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N_EVENTS = 1000


@pytest.fixture(params=["memory", "files"])
def arrays(request: pytest.FixtureRequest, tmp_path: Path) -> EventArrays:
    return EventArrays(N_EVENTS, tmp_path if request.param == "files" else None)


@pytest.fixture
def lazy(tmp_path: Path) -> ad.AnnData:
    """A study whose events are read when they are needed; its store is an empty folder."""
    adata = ad.AnnData(np.zeros((0, 2), np.float32))
    codes = np.repeat(np.array([0, 2], np.int8), 500)
    obs = pd.DataFrame({"sample": pd.Categorical.from_codes(codes, categories=list("abc"))})
    values = da.zeros((N_EVENTS, 2), chunks=(300, 2), dtype=np.float32)
    chunks.put_events(adata, obs, values=values, layers={})
    adata.uns = {schema.UNS: {schema.READ_STUDY: {"params": {"store": str(tmp_path)}}}}
    return adata


def test_a_file_has_no_name_and_holds_what_was_written(tmp_path: Path) -> None:
    found = EventArrays(N_EVENTS, tmp_path).zeros(np.int16, width=2)
    assert type(found) is np.ndarray
    assert file_of(found)
    assert found.shape == (N_EVENTS, 2)
    assert not found.any()
    found[7] = (3, -4)
    assert list(tmp_path.iterdir()) == []
    assert found[7].tolist() == [3, -4]
    assert not file_of(EventArrays(N_EVENTS).zeros(np.int16))


def test_no_events_need_no_file(tmp_path: Path) -> None:
    empty = EventArrays(0, tmp_path)
    assert empty.zeros(np.float32, width=2).shape == (0, 2)
    assert empty.mapped(np.negative, np.zeros(0), dtype=np.float64).size == 0
    assert empty.categorical(np.zeros(0, np.int8), ["a", "b"]).categories.tolist() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    values=numpy_arrays(np.int16, N_EVENTS, elements=st.integers(-1, 4)),
    block=st.integers(1, 1500),
)
def test_blocks_change_no_result(
    arrays: EventArrays, values: NDArray[np.int16], block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "BLOCK_EVENTS", block)
        doubled = arrays.mapped(lambda a, b: a + b, values, values, dtype=np.int32)
        np.testing.assert_array_equal(doubled, values.astype(np.int32) * 2)
        keep = values > 1
        fewer = EventArrays(int(keep.sum()), arrays.folder)
        np.testing.assert_array_equal(fewer.kept(values, keep), values[keep])
        pairs = np.stack([values, -values], axis=1)
        np.testing.assert_array_equal(fewer.kept(pairs, keep), pairs[keep])
        parts = ((rows, values[rows]) for rows in arrays.blocks())
        np.testing.assert_array_equal(arrays.filled(parts, np.int16), values)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(codes=numpy_arrays(np.int8, N_EVENTS, elements=st.sampled_from([-1, 0, 2, 3])))
def test_categories_are_those_that_occur(arrays: EventArrays, codes: NDArray[np.int8]) -> None:
    names = ["unassigned", "T", "B", "NK"]
    given_names = pd.Categorical.from_codes(codes, categories=names)
    expected = given_names.remove_unused_categories()
    pd.testing.assert_extension_array_equal(arrays.categorical(codes, names), expected)
    always = arrays.categorical(codes, names, always=1)
    assert always.categories[0] == "unassigned"
    assert (always.astype(object) == given_names.astype(object))[codes >= 0].all()
    assert (always.codes == -1).tolist() == (codes < 0).tolist()


def test_many_categories_keep_their_codes_in_the_file(tmp_path: Path) -> None:
    """pandas takes int16 from 127 categories on, and would copy narrower codes into memory."""
    for n_names in (126, 127, 128, 129):
        codes = (np.arange(N_EVENTS) % n_names).astype(np.int16)
        found = EventArrays(N_EVENTS, tmp_path).categorical(codes, [f"{i}" for i in range(n_names)])
        assert file_of(found.codes)
        np.testing.assert_array_equal(found.codes, codes)


def test_columns_of_a_lazy_study_stay_in_their_files(lazy: ad.AnnData) -> None:
    flags = event_arrays(lazy).full(value=True, dtype=np.bool_)
    put_column(lazy, "qc_pass", flags)
    named = event_arrays(lazy).categorical(np.zeros(N_EVENTS, np.int8), ["T"])
    put_column(lazy, "phenotype", named)
    points = event_arrays(lazy).zeros(np.float32, width=2)
    points[:, 0] = np.arange(N_EVENTS)
    put_points(lazy, "X_umap", points)
    put_column(lazy, "qc_pass", flags)  # again, in its place
    assert list(lazy.obs.columns) == ["sample", "qc_pass", "phenotype"]
    assert np.shares_memory(lazy.obs["qc_pass"].to_numpy(), flags)
    assert file_of(lazy.obs["phenotype"].cat.codes.to_numpy())
    assert np.shares_memory(lazy.obsm["X_umap"], points)
    assert lazy.obs["qc_pass"].all()
    assert lazy.obsm["X_umap"][-1].tolist() == [N_EVENTS - 1, 0]


def test_columns_in_memory_are_ordinary() -> None:
    adata = ad.AnnData(np.zeros((3, 1), np.float32))
    part = adata[:2]
    with pytest.warns(ad.ImplicitModificationWarning, match="initializing view"):
        put_column(part, "qc_pass", np.array([True, False]))
    assert part.obs["qc_pass"].tolist() == [True, False]
    assert "qc_pass" not in adata.obs
    assert event_arrays(adata).folder is None


def test_released_pages_leave_memory_and_keep_their_values(tmp_path: Path) -> None:
    n_bytes = 64 << 20
    adata = ad.AnnData(np.zeros((0, 1), np.float32))
    values = da.zeros((n_bytes, 1), chunks=(1 << 22, 1), dtype=np.float32)
    chunks.put_events(adata, pd.DataFrame(index=range(n_bytes)), values=values, layers={})
    found = EventArrays(n_bytes, tmp_path).full(value=7, dtype=np.int8)
    process = psutil.Process()
    held = process.memory_info().shared
    put_column(adata, "grade", found)
    assert held - process.memory_info().shared > 0.9 * n_bytes
    assert found[:: 1 << 12].tolist() == [7] * (n_bytes >> 12)
    held = process.memory_info().shared
    doubled = EventArrays(n_bytes, tmp_path).mapped(lambda part: part * 2, found, dtype=np.int8)
    assert process.memory_info().shared - held < 0.1 * n_bytes
    assert doubled.sum(dtype=np.int64) == 14 * n_bytes


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", fail)

    refuse(errno.ENOSPC)
    text = (
        f"{re.escape(str(tmp_path))}: no room for 8 MB .*No space left on device.*Free disk space"
    )
    with pytest.raises(StudyError, match=text):
        EventArrays(1_000_000, tmp_path).zeros(np.float64)
    refuse(errno.EOPNOTSUPP)  # a disk that cannot set room aside
    assert not EventArrays(1_000_000, tmp_path).zeros(np.float64).any()


def test_a_folder_that_cannot_be_written_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = EventArrays(N_EVENTS, tmp_path / "gone").full(value=1, dtype=np.int8)
    assert file_of(found)
    assert found.sum() == N_EVENTS


def test_categories_of_a_column(lazy: ad.AnnData) -> None:
    codes, names = category_codes(lazy, "sample")
    assert np.shares_memory(codes, lazy.obs["sample"].cat.codes.to_numpy())
    assert names.tolist() == ["a", "b", "c"]
    used, held = used_categories(lazy, "sample")
    assert held == ["a", "c"]
    assert np.unique(used, return_counts=True)[1].tolist() == [500, 500]
    lazy.obs["visit"] = ["d0", "d7"] * 500
    assert category_codes(lazy, "visit")[1].tolist() == ["d0", "d7"]
    with pytest.raises(MissingSlotError, match="obs\\['donor'\\] not found"):
        category_codes(lazy, "donor")
