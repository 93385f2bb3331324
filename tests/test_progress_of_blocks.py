"""What a waiting user sees of work that is done block by block."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

from cytoclust import chunks, outputs
from cytoclust.cli.working import is_simulated, sample_sizes, seed_text
from cytoclust.progress import progress_bar, watched


@pytest.mark.parametrize("lazy", [True, False])
def test_every_block_is_told_to_who_watches(lazy: bool) -> None:  # noqa: FBT001
    values = np.ones((10, 2), np.float32)
    given: Any = da.from_array(values, chunks=((4, 4, 2), 2)) if lazy else values
    blocks = [slice(0, 4), slice(4, 8), slice(8, 10)]
    seen: list[tuple[int, int]] = []
    with watched(lambda done, total: seen.append((done, total))):
        chunks.map_blocks(np.sum, given, blocks=blocks)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with progress_bar("", 1, shown=False) as advance:  # nobody watches any more
        advance(1)
    assert len(seen) == 3


def test_memory_of_this_process_is_said_without_workers() -> None:
    text = outputs.memory_in_use()
    assert text.endswith(" GB at most")
    assert 0.05 < float(text.split()[0]) < 64


def test_memory_of_the_workers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            assert n_workers == -1
            sizes = {"a": 1.5e9, "b": 2.25e9}
            return {"workers": {name: {"metrics": {"memory": n}} for name, n in sizes.items()}}

    monkeypatch.setattr(outputs, "active_client", Client)
    assert outputs.memory_in_use() == "2 workers, 2.2 GB the largest"


def test_size_of_a_demo(tmp_path: Any) -> None:
    assert sample_sizes(None) == (2_000, 6_000)
    low, high = sample_sizes(20_000_000)
    assert high == pytest.approx(3 * low, rel=1e-4)
    assert low / 2_000 == pytest.approx(20_000_000 / 620_000, rel=1e-3)
    note = seed_text(seed=3, null=False, events=20_000_000)
    (tmp_path / "seed.txt").write_text(note)
    assert is_simulated(tmp_path, note)
    assert not is_simulated(tmp_path, seed_text(seed=3, null=False, events=None))
