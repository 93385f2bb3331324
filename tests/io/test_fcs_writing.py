"""What is written can be read again, by us and by flowio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flowio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytoclust.errors import ArgumentError
from cytoclust.io import fcs_writing, read_fcs_datasets
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from pathlib import Path

NAME = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters=","), min_size=1, max_size=12
)
LENIENT = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@LENIENT
@given(data=st.data())
def test_round_trip(tmp_path: Path, data: Any) -> None:
    names = data.draw(st.lists(NAME, min_size=1, max_size=6, unique=True))
    n_events = data.draw(st.sampled_from([0, 1, 2, 17]))
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.uint16]))
    shape = (n_events, len(names))
    options = {"width": 32, "allow_nan": False, "allow_infinity": False}
    elements = st.floats(**options) if np.dtype(dtype).kind == "f" else st.integers(0, 60000)
    events = data.draw(hnp.arrays(dtype, shape, elements=elements))
    markers = data.draw(st.lists(NAME | st.just(""), min_size=len(names), max_size=len(names)))
    value = data.draw(st.text(st.characters(exclude_categories=("C", "Z")), max_size=20))
    path = tmp_path / "round.fcs"
    write_fcs_file(path, events, names, markers=markers, keywords={"$CYT": value})
    dataset = read_fcs_datasets(path)[0]
    np.testing.assert_array_equal(dataset.events, events.astype(np.float32))
    assert dataset.channels == tuple(names)
    assert dataset.markers == tuple(markers)
    assert dataset.keywords.text("$CYT") == value
    assert dataset.oddities == ()
    other = flowio.FlowData(str(path))
    assert other.event_count == n_events
    np.testing.assert_array_equal(np.reshape(other.events, shape), dataset.events)
    if not any("$" in name for name in (*names, *markers, value)):  # flowio takes it out of values
        assert other.pnn_labels == names
        assert other.pns_labels == markers
    assert list(tmp_path.iterdir()) == [path]


def test_every_delimiter_in_a_value_is_escaped(tmp_path: Path) -> None:
    value = "a".join(["", *fcs_writing.DELIMITERS, ""])
    write_fcs_file(tmp_path / "a.fcs", np.eye(2), ["A", "B"], keywords={"note": value})
    dataset = read_fcs_datasets(tmp_path / "a.fcs")[0]
    assert dataset.keywords["NOTE"] == value
    assert dataset.channels == ("A", "B")


def test_flowio_reads_the_same(tmp_path: Path) -> None:
    events = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    path = tmp_path / "a.fcs"
    write_fcs_file(
        path,
        events,
        ["FSC-A", "B|1-A", "Time"],
        markers=["", "CD3/CD4", ""],
        keywords={"$CYT": "Aurora", "$TOT": "7"},
        spillover=(["Time", "B|1-A"], [[1, 0.25], [0, 1]]),
        ranges=[1024, np.nan, 5000],
    )
    other = flowio.FlowData(str(path))
    np.testing.assert_array_equal(np.reshape(other.events, (-1, 3)), events)
    assert other.pnn_labels == ["FSC-A", "B|1-A", "Time"]
    assert other.pns_labels == ["", "CD3/CD4", ""]
    assert other.text["spillover"] == "2,Time,B|1-A,1.0,0.25,0.0,1.0"
    mine = read_fcs_datasets(path)[0]
    assert mine.ranges.tolist() == [1024, 262144, 5000]
    assert mine.spillover is not None
    assert mine.spillover.loc["Time", "B|1-A"] == 0.25


def test_flowio_reads_the_same_corpus(shared: Path) -> None:
    for name in ("ff.fcs", "Data004.fcs", "test_data_2d_01.fcs", "int-10000_events_random.fcs"):
        path = shared / "fcs" / "real" / name
        other = flowio.FlowData(str(path), ignore_offset_error=True)
        mine = read_fcs_datasets(path)[0]
        theirs = np.reshape(other.events, (-1, len(mine.channels)))
        np.testing.assert_array_equal(mine.events, theirs, strict=False)


def test_offsets_beyond_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcs_writing, "LARGEST_HEADER_OFFSET", 1500)
    events = np.arange(900, dtype=np.float32).reshape(300, 3)
    write_fcs_file(tmp_path / "large.fcs", events, ["A", "B", "C"])
    assert (tmp_path / "large.fcs").read_bytes()[26:42].split() == [b"0", b"0"]
    np.testing.assert_array_equal(read_fcs_datasets(tmp_path / "large.fcs")[0].events, events)


def test_file_of_more_than_99_999_999_bytes(tmp_path: Path) -> None:
    events = np.arange(26_000_000, dtype=np.float32).reshape(-1, 4)
    path = tmp_path / "large.fcs"
    write_fcs_file(path, events, ["A", "B", "C", "D"], ranges=[1 << 25] * 4)
    assert path.stat().st_size > 100_000_000
    assert path.read_bytes()[26:42].split() == [b"0", b"0"]
    dataset = read_fcs_datasets(path)[0]
    assert dataset.oddities == ()
    np.testing.assert_array_equal(dataset.events, events)
    other = flowio.FlowData(str(path))
    np.testing.assert_array_equal(np.reshape(other.events, events.shape), events)


def test_nothing_is_left_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fcs"
    write_fcs_file(path, np.eye(2), ["A", "B"])
    before = path.read_bytes()

    def fail(*_: object) -> None:
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr(fcs_writing, "_write_rows", fail)
    with pytest.raises(OSError, match="disk full"):
        write_fcs_file(path, np.zeros((3, 2)), ["A", "B"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((np.zeros((2, 3)), ["A", "B"]), {}, "one column per channel"),
        ((np.zeros((2, 2)), ["A", "A"]), {}, r"repeated: \['A'\]"),
        ((np.zeros((2, 2)), ["A", " "]), {}, "not empty"),
        ((np.zeros((2, 2)), ["A", "B"]), {"markers": ["x"]}, "one entry per channel"),
        ((np.zeros((2, 2)), ["A", "B"]), {"ranges": [1.0]}, "one entry per channel"),
        ((np.zeros((2, 2)), ["A", "B"]), {"keywords": {"a\n": "x"}}, "printable"),
        ((np.zeros((2, 2)), ["A", "B"]), {"spillover": (["C"], [[1]])}, "are not channels"),
        (
            (np.zeros((2, 2)), ["A", "B"]),
            {"spillover": (["A"], [[1, 2]])},
            "one row and one column",
        ),
    ],
)
def test_refused(tmp_path: Path, arguments: Any, options: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        write_fcs_file(tmp_path / "a.fcs", *arguments, **options)
    assert list(tmp_path.iterdir()) == []
