"""Blocks of events: the same results in memory, on threads and on workers, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoclust import chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)


def lazy(sizes: tuple[int, ...]) -> da.Array:
    return da.from_array(VALUES[: sum(sizes)], chunks=(sizes, 5))


def total(block: NDArray[np.float32], tag: int) -> tuple[float, int, tuple[int, ...]]:
    return float(block.sum(dtype=np.float64)), tag, block.shape


def test_blocks_of_a_dask_array_are_its_chunks() -> None:
    assert chunks.row_blocks(lazy((300, 0, 700))) == [slice(0, 300), slice(300, 1000)]


def test_no_events_make_no_blocks() -> None:
    assert chunks.row_blocks(VALUES[:0]) == []
    assert chunks.take_rows(VALUES[:0], np.zeros(0, np.intp), [1]).shape == (0, 1)


def test_blocks_in_memory_cover_every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "BLOCK_EVENTS", 300)
    assert [block.stop for block in chunks.row_blocks(VALUES)] == [300, 600, 900, 1000]


@pytest.mark.parametrize("blocks", [None, [slice(0, 450), slice(600, 1000)]])
def test_lazy_results_are_those_in_memory(blocks: list[slice] | None) -> None:
    values = lazy((300, 300, 400))
    where = chunks.row_blocks(values) if blocks is None else blocks
    tags = range(len(where))
    expected = chunks.map_blocks(total, VALUES, tags, blocks=where, columns=[3, 0])
    assert chunks.map_blocks(total, values, tags, blocks=blocks, columns=[3, 0]) == expected


@pytest.mark.parametrize("at_once", [1, 2, 99])
def test_blocks_come_one_after_the_other_with_their_results(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(chunks, "BLOCKS_AT_ONCE", at_once)
    values = lazy((300, 0, 1, 299, 250, 150))
    blocks = chunks.row_blocks(values)
    expected = chunks.map_blocks(total, values, range(len(blocks)))
    found = list(chunks.iterate_blocks(total, values, range(len(blocks))))
    assert found == list(zip(blocks, expected, strict=True))
    monkeypatch.setattr(chunks, "BLOCK_EVENTS", 400)
    in_memory = list(chunks.iterate_blocks(total, VALUES, "abc"))
    assert [(rows, result[1]) for rows, result in in_memory] == [
        (slice(0, 400), "a"),
        (slice(400, 800), "b"),
        (slice(800, 1000), "c"),
    ]


@given(
    rows=st.sets(st.integers(0, 999)),
    cuts=st.sets(st.integers(1, 999), max_size=5),
)
def test_rows_are_taken_from_any_chunking(rows: set[int], cuts: set[int]) -> None:
    bounds = [0, *sorted(cuts), 1000]
    values = lazy(tuple(np.diff(bounds).tolist()))
    wanted = np.array(sorted(rows), dtype=np.int64)
    np.testing.assert_array_equal(
        chunks.take_rows(values, wanted, [4, 1]), VALUES[wanted][:, [4, 1]]
    )


@given(st.integers(0, 10**10))
def test_the_pool_is_even_and_bounded(n_events: int) -> None:
    if n_events > 10 * chunks.POOL_EVENTS:
        n_events = n_events // chunks.POOL_EVENTS * chunks.POOL_EVENTS
        steps = np.diff(chunks.pool_rows(n_events))
        assert steps.min() == steps.max() == n_events // chunks.POOL_EVENTS
    elif n_events <= 10_000:
        np.testing.assert_array_equal(chunks.pool_rows(n_events), np.arange(n_events))


def test_an_error_in_a_block_reaches_the_caller() -> None:
    def refuse(block: NDArray[np.float32]) -> None:
        msg = "this block is bad"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="this block is bad"):
        chunks.map_blocks(refuse, lazy((500, 500)))


def test_a_dask_array_wants_slices() -> None:
    with pytest.raises(TypeError, match="must be slices"):
        chunks.map_blocks(total, lazy((1000,)), [0], blocks=[np.arange(5)])
