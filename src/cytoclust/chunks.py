"""The events of a study block by block: held in memory, or read when they are needed.

Verbs that are linear in events work through `map_blocks`: a function of one block, applied to all.
Values in memory are looped over; a Dask array is worked through by the active Dask client, or
by threads of this process. Results come back in the order of the blocks, whoever finished first.

Models (prototypes, cut-offs, rules) are fitted on a pool of evenly spaced events, which is every event
up to a million; whatever is fitted is then applied to every event, block by block.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import tasks
from cytoclust.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    Rows = slice | NDArray[np.intp]

__all__ = [
    "group_rows", "is_lazy", "iterate_blocks", "map_blocks", "pool_rows", "put_events", "row_blocks", "take_rows", "transform_blocks",
]  # fmt: skip

POOL_EVENTS: Final = 1_000_000
BLOCK_EVENTS: Final = 1 << 20  # of values in memory: bounds what is worked out at one time
BLOCKS_AT_ONCE: Final = 32  # per worker, of which `iterate_blocks` holds results


def is_lazy(values: object) -> bool:
    """Tell whether values are a Dask array, which is read when it is needed."""
    return type(values).__module__.partition(".")[0] == "dask"


def pool_rows(n_events: int) -> NDArray[np.int64]:
    """Return the evenly spaced events that models are fitted on, increasing; all up to a million."""
    if n_events <= POOL_EVENTS:
        return np.arange(n_events, dtype=np.int64)
    return (np.arange(POOL_EVENTS, dtype=np.int64) * n_events) // POOL_EVENTS


def row_blocks(values: Any) -> list[slice]:
    """Return the blocks that values are worked through in: the chunks of a Dask array, in order."""
    sizes: Iterable[int]
    if is_lazy(values):
        sizes = values.chunks[0]
    else:
        whole, rest = divmod(len(values), BLOCK_EVENTS)
        sizes = [BLOCK_EVENTS] * whole + [rest] * (rest > 0)
    ends = np.cumsum(list(sizes), dtype=np.int64).tolist()
    starts = [0, *ends[:-1]][: len(ends)]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def group_rows(codes: NDArray[np.integer], n_groups: int) -> list[Rows]:
    """Return the rows of each group (codes 0..n-1): a slice where they are side by side.

    Parameters
    ----------
    codes
        (n_events,) group of each event; below 0: of none.
    n_groups
        Number of groups, also of those without events.
    """
    edges = [
        start + 1 + np.flatnonzero(codes[start + 1 : stop + 1] != codes[start : len(codes) - 1][: stop - start])
        for start, stop in ((start, start + BLOCK_EVENTS) for start in range(0, len(codes), BLOCK_EVENTS))
    ]  # fmt: skip
    starts = np.concatenate([[0], *edges]).astype(np.intp)[: len(codes)]
    ends = np.append(starts[1:], len(codes))
    owners = codes[starts]
    if len(np.unique(owners)) == len(owners):
        found: list[Rows] = [slice(0, 0)] * n_groups
        for owner, start, end in zip(owners.tolist(), starts.tolist(), ends.tolist(), strict=False):
            if owner >= 0:
                found[owner] = slice(start, end)
        return found
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(n_groups + 1))
    return [together(order[bounds[i] : bounds[i + 1]]) for i in range(n_groups)]


def together(rows: NDArray[np.intp]) -> Rows:
    """Return increasing rows as a slice if they are side by side."""
    if rows.size == 0 or rows[-1] - rows[0] + 1 != rows.size:
        return rows if rows.size else slice(0, 0)
    return slice(int(rows[0]), int(rows[0]) + rows.size)


def transform_blocks(
    function: Callable[..., Any],
    values: Any,
    *arguments: Sequence[Any],
    n_rows: Sequence[int] | None = None,
) -> Any:
    """Return the Dask array that a function makes of every block when it is read.

    Parameters
    ----------
    function
        Called with the block (not to be changed) and its element of each of `arguments`; returns a
        block of as many columns.
    values
        Dask array, (n_events, n_channels).
    arguments
        Further arguments, one element per chunk each, also of empty ones.
    n_rows
        Rows of each new block; by default as many as before.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    values = values.rechunk({1: -1})
    name = f"events-{uuid.uuid4().hex}"
    own = list(zip(*arguments, strict=True)) or [()] * len(values.chunks[0])
    tasks = {
        (name, i, 0): (_OneThread(function, given), (values.name, i, 0))
        for i, given in enumerate(own)
    }
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[values])
    sizes = values.chunks[0] if n_rows is None else tuple(int(n) for n in n_rows)
    return da.Array(graph, name, chunks=(sizes, values.chunks[1]), dtype=values.dtype)


class _OneThread:
    """A function with its further arguments, called on one thread."""

    def __init__(self, function: Callable[..., Any], own: Sequence[Any]) -> None:
        self.function, self.own = function, own

    def __call__(self, block: NDArray[Any]) -> Any:
        from cytoclust.numerics.threads import one_thread

        with one_thread():
            return self.function(block, *self.own)


def map_blocks(
    function: Callable[..., Any],
    values: Any,
    *arguments: Sequence[Any],
    blocks: Sequence[Rows] | None = None,
    columns: Sequence[int] | NDArray[np.integer] | None = None,
    label: str = "",
    progress: bool = False,
) -> list[Any]:
    """Apply a function to every block of values, in any order, and return its results in theirs.

    Parameters
    ----------
    function
        Called with the block, (n_rows, n_columns) of the dtype of `values`, not to be changed,
        and with the block's element of each of `arguments`. For workers elsewhere it must be
        possible to pickle it, so it must not hold an AnnData.
    values
        (n_events, n_channels), in memory or a Dask array.
    arguments
        Further arguments, one element per block each.
    blocks
        Rows of each block; by default those of `row_blocks`. A Dask array wants slices.
    columns
        Channels to hand over; all by default.
    label, progress
        What a progress bar says, and whether it is shown.

    Returns
    -------
    list
        One result per block.
    """
    work = _Work(function, values, arguments, blocks=blocks, columns=columns)
    with progress_bar(label, len(work.blocks), shown=progress) as advance:
        return work.run(slice(None), advance)


def iterate_blocks(
    function: Callable[..., Any],
    values: Any,
    *arguments: Sequence[Any],
    blocks: Sequence[Rows] | None = None,
    columns: Sequence[int] | NDArray[np.integer] | None = None,
    label: str = "",
    progress: bool = False,
) -> Iterator[tuple[Rows, Any]]:
    """Yield each block's rows and its result in order, as `map_blocks` does, a few at a time.

    For results with an element per event: what is taken from them is put where it stays, and they
    are gone before the next are worked out.
    """
    work = _Work(function, values, arguments, blocks=blocks, columns=columns)
    step = BLOCKS_AT_ONCE * tasks.n_workers() if is_lazy(values) else 1
    with progress_bar(label, len(work.blocks), shown=progress) as advance:
        for start in range(0, len(work.blocks), step):
            part = slice(start, start + step)
            yield from zip(work.blocks[part], work.run(part, advance), strict=True)


def take_rows(
    values: Any,
    rows: NDArray[np.integer],
    columns: Sequence[int] | NDArray[np.integer] | None = None,
) -> NDArray[Any]:
    """Return some events, (n_rows, n_columns) C-order; `rows` must be increasing for a Dask array."""
    n_columns = values.shape[1] if columns is None else len(columns)
    if not is_lazy(values):
        chosen = values[rows] if columns is None else values[rows][:, columns]
        return np.ascontiguousarray(_dense(chosen))
    blocks = row_blocks(values)
    bounds = np.searchsorted(rows, [block.start for block in blocks] + [values.shape[0]])
    wanted = [i for i in range(len(blocks)) if bounds[i + 1] > bounds[i]]
    local = [rows[bounds[i] : bounds[i + 1]] - blocks[i].start for i in wanted]
    parts = map_blocks(
        _pick_rows, values, local, blocks=[blocks[i] for i in wanted], columns=columns
    )
    return np.concatenate(parts) if parts else np.empty((0, n_columns), dtype=values.dtype)


def put_events(
    adata: AnnData, obs: pd.DataFrame, *, values: Any, layers: Mapping[str, Any]
) -> None:
    """Put other events, of the same channels, into an AnnData in place; `obsm` is emptied.

    Events are numbered by a RangeIndex: a name for each of 100 million would take 6 GB.
    """
    for place in (adata.obsm, adata.obsp, adata.layers):
        for key in list(place.keys()):
            del place[key]
    del adata.X
    obs.index = pd.RangeIndex(len(obs))
    adata._obs = obs  # AnnData's own way makes names, and a copy
    adata.X = values
    for name, layer in layers.items():
        adata.layers[name] = layer


def load_events(adata: AnnData) -> None:
    """Read the events of a lazy AnnData into memory, in place, and name them."""
    every = np.arange(adata.n_obs)
    layers = {name: take_rows(layer, every) for name, layer in adata.layers.items()}
    obsm = dict(adata.obsm)
    put_events(adata, adata.obs, values=take_rows(adata.X, every), layers=layers)
    adata.obs_names = pd.RangeIndex(adata.n_obs).astype(str)
    for key, values in obsm.items():
        adata.obsm[key] = values


def _pick_rows(block: NDArray[Any], rows: NDArray[np.integer]) -> NDArray[Any]:
    return np.ascontiguousarray(block[rows])


def _dense(block: Any) -> NDArray[Any]:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block)


class _Work:
    """A function of blocks, with what it is to be called with, run for some of them."""

    def __init__(
        self,
        function: Callable[..., Any],
        values: Any,
        arguments: Sequence[Sequence[Any]],
        *,
        blocks: Sequence[Rows] | None,
        columns: Sequence[int] | NDArray[np.integer] | None,
    ) -> None:
        self.blocks = row_blocks(values) if blocks is None else list(blocks)
        self.values = values
        self.given = list(zip(self.blocks, *arguments, strict=True))
        chosen = None if columns is None else np.asarray(columns, dtype=np.intp)
        self.task = _Task(function, chosen)
        self.delayed = self.delay() if is_lazy(values) else None

    def run(self, part: slice, advance: Callable[[int], None]) -> list[Any]:
        """Return the results of some of the blocks, in their order."""
        if self.delayed is not None:
            return tasks.run_tasks(self.delayed[part], advance)
        found = []
        for rows, *own in self.given[part]:
            found.append(self.task.call(self.values[rows], *own))
            advance(1)
        return found

    def delay(self) -> list[Any]:
        """Make one task per block, which reads its chunks and works on them."""
        import dask

        parts = self.values.rechunk({1: -1}).to_delayed(optimize_graph=True)[:, 0]
        bounds = np.concatenate([[0], np.cumsum(self.values.chunks[0])])
        call = dask.delayed(self.task, pure=False, traverse=False)
        delayed = []
        for rows, *own in self.given:
            if not isinstance(rows, slice):
                msg = "blocks of a Dask array must be slices"
                raise TypeError(msg)
            first = int(np.searchsorted(bounds, rows.start, side="right")) - 1
            last = max(int(np.searchsorted(bounds, rows.stop, side="left")), first + 1)
            place = slice(rows.start - int(bounds[first]), rows.stop - int(bounds[first]))
            delayed.append(call(place, list(parts[first:last]), *own))
        return delayed


class _Task:
    """A function of one block; as a worker runs it, on one thread, since blocks run side by side."""

    def __init__(
        self, function: Callable[..., Any], columns: NDArray[np.intp] | None = None
    ) -> None:
        self.function = function
        self.columns = columns

    def call(self, block: Any, *own: Any) -> Any:
        """Apply the function to the columns that it wants."""
        chosen = block if self.columns is None else block[:, self.columns]
        return self.function(_dense(chosen), *own)

    def __call__(self, place: slice, parts: list[NDArray[Any]], *own: Any) -> Any:
        from cytoclust.numerics.threads import one_thread

        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        with one_thread():
            return self.call(whole[place], *own)
