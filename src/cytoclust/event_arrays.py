"""Arrays with an element per event: in memory, or of a lazy study in files that the system pages.

A hundred million events of forty bytes are more than a small machine has. What a verb writes for every
event of a study that is read when it is needed goes to files without a name beside its events: the
operating system holds of them what it has room for, and nothing is left of them when they are gone.
To all code they are plain NumPy arrays.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import StudyError
from cytoclust.numerics.tallies import tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anndata import AnnData
    from numpy.typing import DTypeLike, NDArray

__all__ = ["EventArrays", "bare_values", "category_codes", "category_column", "coded", "event_arrays", "put_column", "put_points", "release", "used_categories"]  # fmt: skip


@dataclass(frozen=True)
class EventArrays:
    """Makes arrays with an element per event.

    Attributes
    ----------
    n_events
        Length of the arrays.
    folder
        Where the files are; None: in memory.
    """

    n_events: int
    folder: Path | None = None

    def zeros(self, dtype: DTypeLike, width: int | None = None) -> NDArray[Any]:
        """Return zeros (n_events,), or (n_events, width).

        Raises
        ------
        StudyError
            The disk is full.
        """
        shape = (self.n_events,) if width is None else (self.n_events, width)
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.folder is None or not n_bytes:
            return np.zeros(shape, dtype=dtype)
        with nameless_file(self.folder, n_bytes) as file:
            return np.asarray(np.memmap(file, dtype=dtype, mode="r+", shape=shape))

    def full(self, *, value: float, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array (n_events,) of one value."""
        found = self.zeros(dtype)
        found[:] = value
        return found

    def mapped(
        self, function: Callable[..., Any], *arrays: NDArray[Any], dtype: DTypeLike
    ) -> NDArray[Any]:
        """Apply an elementwise function to arrays (n_events,), some of their events at a time."""
        found = self.zeros(dtype)
        for rows in self.blocks():
            found[rows] = function(*(array[rows] for array in arrays))
            let_go(found, *arrays)
        return found

    def blocks(self) -> list[slice]:
        """Return the rows that are worked through at one time."""
        starts = range(0, self.n_events, chunks.BLOCK_EVENTS)
        return [slice(start, min(start + chunks.BLOCK_EVENTS, self.n_events)) for start in starts]

    def filled(
        self,
        parts: Iterable[tuple[chunks.Rows, NDArray[Any]]],
        dtype: DTypeLike,
        width: int | None = None,
    ) -> NDArray[Any]:
        """Put parts at their rows, each when it comes."""
        found = self.zeros(dtype, width)
        for rows, part in parts:
            found[rows] = part
            let_go(found)
        return found

    def kept(self, array: NDArray[Any], keep: NDArray[np.bool_]) -> NDArray[Any]:
        """Return those elements of a longer array that are to be kept, `n_events` in number."""
        found = self.zeros(array.dtype, array.shape[1] if array.ndim > 1 else None)
        place = 0
        for start in range(0, len(array), chunks.BLOCK_EVENTS):
            rows = slice(start, start + chunks.BLOCK_EVENTS)
            part = array[rows][keep[rows]]
            found[place : place + len(part)] = part
            place += len(part)
            let_go(found, array, keep)
        return found

    def categorical(
        self, codes: NDArray[np.signedinteger], names: Sequence[str], *, always: int = 0
    ) -> pd.Categorical[str]:
        """Make categories, in their order, of the names that occur and the first `always`; codes below 0 are none."""
        counts = tally(codes, len(names))
        held = [i for i in range(len(names)) if counts[i] or i < always]
        categories = pd.Index([names[i] for i in held])
        place = np.full(len(names) + 1, -1, dtype=pd.Categorical([], categories).codes.dtype)
        place[held] = np.arange(len(held))  # the last stays: of none
        numbers = self.mapped(lambda part: place[part], codes, dtype=place.dtype)
        return coded(numbers, categories)


def nameless_file(folder: Path, n_bytes: int) -> Any:
    """Open a file of zeros that is gone when nobody uses it; in the usual place if the folder is read-only."""
    writable = os.access(folder, os.W_OK)
    file = tempfile.TemporaryFile(dir=folder if writable else None)  # noqa: SIM115, the caller closes it
    file.truncate(n_bytes)
    try:
        if hasattr(
            os, "posix_fallocate"
        ):  # a full disk would end the process when a page is written
            os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return file  # this kind of disk cannot say
        file.close()
        msg = (
            f"{folder}: no room for {n_bytes / 1e6:,.0f} MB of one value per event "
            f"({error.strerror}). Free disk space and start again: what is finished is kept."
        )
        raise StudyError(msg) from error
    return file


def event_arrays(adata: AnnData) -> EventArrays:
    """Return where arrays with an element per event of a study belong."""
    if not chunks.is_lazy(adata.X):
        return EventArrays(adata.n_obs)
    read = checks.recorded(adata, schema.READ_STUDY) or {}
    store = read.get("params", {}).get("store")
    return EventArrays(adata.n_obs, Path(store) if store else None)


def put_column(adata: AnnData, key: str, values: Any) -> None:
    """Put a column of ``obs``, (n_events,) NumPy or categorical; of a lazy study, without a copy."""
    if adata.is_view or not chunks.is_lazy(adata.X):
        adata.obs[key] = values
        return
    columns = {str(name): bare_values(column) for name, column in adata.obs.items()}
    obs = pd.DataFrame(columns | {key: values}, index=adata.obs.index, copy=False)
    adata._obs = obs  # AnnData's own way copies
    release(adata)


def put_points(adata: AnnData, key: str, values: NDArray[np.float32]) -> None:
    """Put coordinates (n_events, n_axes) into ``obsm``."""
    adata.obsm[key] = values
    release(adata)


def coded(codes: NDArray[np.signedinteger], names: pd.Index | pd.CategoricalDtype) -> Any:
    """Make categories of codes (n_events,), -1 for none, and let go of their pages: pandas looks at each code."""
    kind = names if isinstance(names, pd.CategoricalDtype) else pd.CategoricalDtype(names)
    found = pd.Categorical.from_codes(codes, dtype=kind)
    let_go(codes)
    return found


def bare_values(column: pd.Series[Any]) -> Any:
    """Return a column's values without its index."""
    return column.array if hasattr(column, "cat") else column.to_numpy()


def category_column(adata: AnnData, key: str) -> pd.Series[Any]:
    """Return a column of `obs` as categories; one that has them is not copied."""
    column = adata.obs[key]
    has_them = isinstance(column.dtype, pd.CategoricalDtype)
    return column if has_them else column.astype("category")


def category_codes(adata: AnnData, key: str) -> tuple[NDArray[np.signedinteger], pd.Index]:
    """Return a column of `obs` as codes (n_events,), -1 for none, and its categories."""
    checks.check_key(adata, key)
    column = category_column(adata, key).cat
    return np.asarray(column.codes), column.categories


def used_categories(adata: AnnData, key: str) -> tuple[NDArray[np.signedinteger], list[str]]:
    """Return a column of `obs` as codes (n_events,), -1 for none, and the values that occur, in order."""
    codes, names = category_codes(adata, key)
    found = event_arrays(adata).categorical(codes, [str(name) for name in names])
    return found.codes, [str(name) for name in found.categories]


def release(adata: AnnData) -> None:
    """Let go of the pages of all columns and coordinates that are in files."""
    columns = [bare_values(column) for _, column in adata.obs.items()]
    let_go(*(getattr(values, "codes", values) for values in columns), *adata.obsm.values())


def let_go(*arrays: Any) -> None:
    """Let go of the pages of arrays that are in files; they are read again when they are needed."""
    for array in arrays:
        file = file_of(array)
        if file is not None and hasattr(mmap, "MADV_DONTNEED"):
            file.madvise(mmap.MADV_DONTNEED)


def file_of(array: Any) -> mmap.mmap | None:
    """Return the mapped file that an array is in, or None of one in memory."""
    owner = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    return owner
