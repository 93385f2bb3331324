"""The events of an AnnData by sample, and its channels by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    Rows = NDArray[np.intp] | slice

MEASURED: Final = ("fluorescence", "mass", "viability")


def sample_blocks(adata: AnnData) -> dict[str, Rows]:
    """Return the rows of each sample, in sheet order; also samples without events.

    Contiguous samples come as slices, so that their blocks are views and not copies.
    """
    if schema.SAMPLE not in adata.obs:
        return {"all events": slice(0, adata.n_obs)}
    column = adata.obs[schema.SAMPLE]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        text = column.astype(str)
        column = pd.Series(pd.Categorical(text, categories=list(dict.fromkeys(text))))
    codes = column.cat.codes.to_numpy()
    if codes.size and codes.min() < 0:
        msg = (
            f"every event must belong to a sample; obs['{schema.SAMPLE}'] is empty for "
            f"{int((codes < 0).sum())} events. Give their sample or leave them out."
        )
        raise MissingSlotError(msg)
    names = [str(name) for name in column.cat.categories]
    return dict(zip(names, chunks.group_rows(codes, len(names)), strict=True))


def n_rows(rows: Rows) -> int:
    """Count the rows of a block."""
    return rows.stop - rows.start if isinstance(rows, slice) else int(rows.size)


def channel_names(adata: AnnData) -> NDArray[np.str_]:
    """Return the channel names as written."""
    if schema.CHANNEL in adata.var:
        return adata.var[schema.CHANNEL].astype(str).to_numpy(dtype=np.str_)
    return np.asarray(adata.var_names.astype(str), dtype=np.str_)


def marker_names(adata: AnnData) -> NDArray[np.str_]:
    """Return the marker of each channel, an empty text where it has none."""
    if schema.MARKER not in adata.var:
        return np.full(adata.n_vars, "", dtype=np.str_)
    column = adata.var[schema.MARKER]
    return column.astype(str).where(column.notna(), "").to_numpy(dtype=np.str_)


def channel_types(adata: AnnData) -> NDArray[np.str_]:
    """Return what each channel measures."""
    remedy = "Read the events with io.read_study, or say what each channel measures."
    checks.check_key(adata, schema.CHANNEL_TYPE, place="var", remedy=remedy)
    return adata.var[schema.CHANNEL_TYPE].astype(str).to_numpy(dtype=np.str_)


def linear_channels(adata: AnnData) -> NDArray[np.bool_]:
    """Tell which channels hold linear values in the files."""
    if schema.SCALE not in adata.var:
        return np.ones(adata.n_vars, dtype=np.bool_)
    return adata.var[schema.SCALE].astype(str).to_numpy(dtype=np.str_) != "transformed"


def is_mass(adata: AnnData) -> bool:
    """Tell whether a mass cytometer took these events."""
    kinds = channel_types(adata)
    return bool(np.any(kinds == "mass")) and not bool(np.any(kinds == "fluorescence"))


def counts_ions(adata: AnnData) -> NDArray[np.bool_]:
    """Tell which channels count ions."""
    kinds = channel_types(adata)
    return (kinds == "mass") | ((kinds == "viability") & is_mass(adata))


def analysis_values(adata: AnnData) -> NDArray[np.float32]:
    """Return X as it lies in the AnnData, float32 and C-order, to be changed in place."""
    if adata.is_view:
        adata._init_as_actual(adata.copy())
    values = adata.X
    if not isinstance(values, np.ndarray):
        msg = (
            f"X must be a NumPy array of events x channels; got {type(values).__name__}. "
            "Load the events into memory first, for example with adata.to_memory()."
        )
        raise ArgumentError(msg)
    if values.dtype != np.float32 or not values.flags.c_contiguous or not values.flags.writeable:
        adata.X = np.array(values, dtype=np.float32, order="C")
        values = adata.X
    return values


def acquired_values(adata: AnnData) -> tuple[Any, bool]:
    """Return the events as acquired, and whether X had to stand in after transformation."""
    if schema.RAW in adata.layers:
        return plain_values(adata.layers[schema.RAW]), False
    return plain_values(adata.X), checks.recorded(adata, schema.ARCSINH) is not None


def plain_values(values: Any) -> Any:
    """Return a Dask array as it is, and anything else as a NumPy array."""
    return values if chunks.is_lazy(values) else np.asarray(values)


def change_values(
    adata: AnnData, function: Callable[..., NDArray[np.float32]], *arguments: Sequence[Any]
) -> None:
    """Let a lazy X be changed block by block when it is read.

    Parameters
    ----------
    adata
        Its `X` is a Dask array.
    function
        Called with a block, not to be changed, and for each of `arguments` what stands for its
        events; returns the changed block.
    arguments
        One element per block each, as `parts_of_blocks` orders them.
    """
    adata.X = chunks.transform_blocks(function, adata.X, *arguments)


def parts_of_blocks(values: Any, rows_of: dict[str, Rows]) -> list[list[tuple[str, slice]]]:
    """Return for each chunk of a Dask array its samples, and their rows within the chunk."""
    ends = np.cumsum(values.chunks[0]).tolist()
    found: list[list[tuple[str, slice]]] = [[] for _ in ends]
    for sample, rows in rows_of.items():
        if not isinstance(rows, slice):
            msg = (
                f"the events of sample {sample!r} are not side by side, which a Dask array cannot be "
                "worked through with. Keep the order of io.open_study, or load with adata.to_memory()."
            )
            raise ArgumentError(msg)
        for i, end in enumerate(ends):
            start = ends[i - 1] if i else 0
            low, high = max(rows.start, start), min(rows.stop, end)
            if low < high:
                found[i].append((sample, slice(low - start, high - start)))
    return found
