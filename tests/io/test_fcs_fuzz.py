"""Bytes changed at random: read, or `FcsFormatError`; never a crash, a hang or a memory bomb."""

from __future__ import annotations

import time
import tracemalloc
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cytoclust.errors import FcsFormatError, FcsWarning
from cytoclust.io import read_fcs_datasets

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 5.0
EXTRA_BYTES = 64 * 1024**2
TOKENS = [
    b"0", b"9", b"-", b" ", b"/", b"//", b"99999999999", b"*", b"1e9", b"nan", b"\xff", b"\x00", b",",
    b"$PAR", b"$TOT", b"$P1B", b"$BEGINSTEXT", b"$NEXTDATA", b"$SPILLOVER", b"$DFC1TO2", b"FCS3.1",
    b"F", b"I", b"A", b"D", b"64", b"63", b"1", b"4,3,2,1", b"3,4,1,2",
]  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    text_length = min(len(out), 1200)
    for _ in range(int(rng.integers(1, 5))):
        limit = text_length if rng.random() < 0.8 else len(out)
        place = int(rng.integers(0, max(1, limit)))
        kind = rng.integers(0, 5)
        token = TOKENS[int(rng.integers(len(TOKENS)))]
        if kind == 0 and out:
            out[min(place, len(out) - 1)] = int(rng.integers(256))
        elif kind == 1:
            out[place : place + len(token)] = token
        elif kind == 2:
            out[place:place] = token
        elif kind == 3:
            del out[place : place + int(rng.integers(1, 60))]
        else:
            del out[place + int(rng.integers(0, 900)) :]
    return bytes(out)


def seeds(make: Any, pack: Any) -> list[bytes]:
    values = np.arange(60, dtype="<f4")
    rows = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1000, 100, 7]]
    spillover = {"$SPILLOVER": "2,C1,C2,1,0.1,0,1", "$TIMESTEP": "0.1", "$P1S": "CD3"}
    return [
        make(values.tobytes(), 20, [32] * 3, extra=spillover),
        make(pack(rows, [10, 12, 3], little=True), 4, [10, 12, 3], datatype="I"),
        make(b"  1 22333  4  5  6", 2, [3, 3, 3], datatype="A"),
        make(values.tobytes(), 20, [16] * 6, datatype="I", byteord="4,3,2,1"),
        make(values.astype("<f8").tobytes(), 20, [64] * 3, datatype="D", extra={"$DFC1TO2": "3"}),
    ]


def check(path: Path, content: bytes) -> bool:
    """Read one input; return whether it was read without error."""
    path.write_bytes(content)
    began, failure = time.perf_counter(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FcsWarning)
            for dataset in read_fcs_datasets(path, on_truncated="keep", scale=True):
                assert dataset.events.shape == (dataset.n_events, len(dataset.channels))
    except FcsFormatError as error:
        failure = str(error)
    assert time.perf_counter() - began < SECONDS
    assert failure is None or str(path) in failure
    return failure is None


@pytest.mark.filterwarnings("error")
def test_mutated_bytes(make: Any, pack: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    inputs = seeds(make, pack)
    path = tmp_path / "mutated.fcs"
    assert all(check(path, content) for content in inputs)
    tracemalloc.start()
    n_read = 0
    for number in range(1500):
        content = mutated(inputs[number % len(inputs)], rng)
        tracemalloc.reset_peak()
        n_read += check(path, content)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content) + EXTRA_BYTES
    tracemalloc.stop()
    assert 150 < n_read < 1500  # both ways out are reached
