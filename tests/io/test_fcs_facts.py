"""What `describe_fcs` says of a file, and `read_fcs` of its first data set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cytoclust.errors import FcsWarning
from cytoclust.io import describe_fcs, read_fcs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUES = np.arange(12, dtype="<f4").reshape(4, 3) * 1.5


def test_describe(build: Callable[..., Path]) -> None:
    extra = {
        "$CYT": "Aurora",
        "$TIMESTEP": "0.1",
        "$SPILLOVER": "1,C9,1",
        "$P1G": "2",
        "$P2E": "4,1",
    }
    path = build(VALUES.tobytes(), 4, [32] * 3, extra=extra, replace={"$P3N": "Time"})
    facts = describe_fcs(path)
    assert facts["instrument"] == "Aurora"
    assert facts["events"] == 4
    assert facts["bytes"] == path.stat().st_size
    assert facts["time_span_seconds"] == pytest.approx(1.35)
    assert facts["time_span_source"] == "Time and $TIMESTEP"
    assert [channel["maximum"] for channel in facts["channels"]] == [13.5, 15.0, 16.5]
    assert [channel["scale"] for channel in facts["channels"]] == ["gain 2", "log 4,1", ""]
    assert facts["spillover"]["keyword"] == "$SPILLOVER"
    assert "C9" in facts["spillover"]["problem"]
    assert any("$SPILLOVER" in oddity for oddity in facts["oddities"])
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        ("10:00:00", "10:01:30", 90),
        ("23:59:59.50", "00:00:01.75", 2.25),
        ("10:00:00:30", "10:00:01:00", 0.5),
        ("", "10:00:00", None),
    ],
)
def test_time_span_by_the_clock(
    build: Callable[..., Path], begin: str, end: str, seconds: float | None
) -> None:
    extra = {"$BTIM": begin, "$ETIM": end}
    facts = describe_fcs(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))
    assert facts["time_span_seconds"] == seconds


def test_several_data_sets(build: Callable[..., Path], make: Callable[..., bytes]) -> None:
    second = make(VALUES[:, :2].copy().tobytes(), 4, [32] * 2)
    first = make(VALUES.tobytes(), 4, [32] * 3, replace={"$NEXTDATA": "00000000"})
    next_data = {"$NEXTDATA": f"{len(first):08}", "$TOT": "3"}
    path = build(VALUES.tobytes(), 4, [32] * 3, replace=next_data, tail=second)
    facts = describe_fcs(path)
    assert facts["data_sets"] == 2
    assert [len(other["channels"]) for other in facts["further_data_sets"]] == [2]
    assert facts["oddities"] == [
        "data set 1: $TOT is 3, but DATA holds 4 whole events; all 4 are read"
    ]
    with pytest.warns(FcsWarning) as caught:
        adata = read_fcs(path)
    assert any("holds 2 data sets" in str(warning.message) for warning in caught)
    np.testing.assert_array_equal(adata.X, VALUES)


def test_counts_that_float32_rounds_are_named(build: Callable[..., Path]) -> None:
    data = np.array([[1 << 24, 7], [(1 << 24) + 1, 8]], dtype="<u4")
    path = build(data.tobytes(), 2, [32, 32], datatype="I", ranges=[str(1 << 32)] * 2)
    with pytest.warns(FcsWarning, match=r"channels \[C1\] hold whole numbers above 16,777,216"):
        adata = read_fcs(path)
    assert adata.X.tolist() == [[1 << 24, 7], [1 << 24, 8]]


def test_scaling_in_blocks_is_that_of_the_whole(build: Callable[..., Path]) -> None:
    data = np.random.default_rng(0).integers(0, 1024, size=(70_000, 3)).astype("<u2")
    options: dict[str, Any] = {
        "datatype": "I",
        "ranges": ["1024"] * 3,
        "replace": {"$P1E": "4,1"},
        "extra": {"$P2G": "4"},
    }
    path = build(data.tobytes(), len(data), [16] * 3, **options)
    adata = read_fcs(path, scale=True)
    expected = np.column_stack([10 ** (4 * data[:, 0] / 1024), data[:, 1] / 4, data[:, 2]])
    np.testing.assert_allclose(adata.X, expected, rtol=1e-6)
    assert "C1: 4 decades from 1 over 1024" in adata.uns["cytoclust"]["read_fcs"]["scaling"]
