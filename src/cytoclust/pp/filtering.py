"""The one verb that drops events, and what it keeps of them."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import MissingSlotError, StudyWarning
from cytoclust.event_arrays import bare_values, coded, event_arrays, release
from cytoclust.pp import blocks

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from cytoclust.event_arrays import EventArrays

__all__ = ["filter_events"]

logger = logging.getLogger(__name__)


def filter_events(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Drop the events that carry a quality flag, and keep account of every one.

    Parameters
    ----------
    adata
        Events with at least one flag set by ``pp.flag_*``.
    copy
        Return a smaller copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Keeps the events without a flag, in order, in ``X``, ``layers``, ``obs`` and ``obsm``, and
        writes ``uns["cytoclust"]["filter_events"]``: ``counts`` (one row per sample: events read,
        each flag, kept) and ``excluded`` (``sample``: int32 place in ``samples``, ``event``: int32
        row in the file, ``flags``: uint8, bit i is ``schema.QC_FLAGS[i]``). Categories of ``obs``
        stay, also of samples that lost all events.

    Raises
    ------
    MissingSlotError
        No flag was set.

    Warns
    -----
    StudyWarning
        Samples that lose more than half of their events, or all.

    Notes
    -----
    May be run again after further flags: the account then covers both runs. An event with two flags
    counts for each, so the flags of a sample can add up to more than it lost.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": ["scatter"]}, index=["FSC-A"])
    >>> adata = anndata.AnnData(np.array([[5e4], [6e4], [-3.0]], np.float32), var=var)
    >>> cc.pp.flag_margins(adata)
    >>> cc.pp.filter_events(adata)
    >>> adata.n_obs, adata.uns["cytoclust"]["filter_events"]["counts"]["qc_margin"].tolist()
    (2, [1])
    """
    known = [flag for flag in schema.QC_FLAGS if flag in adata.obs]
    if not known:
        msg = (
            f"expected quality flags in obs; found {checks.listing(adata.obs.columns)}. "
            "Run pp.flag_margins, pp.flag_doublets, ... first."
        )
        raise MissingSlotError(msg)
    adata = adata.copy() if copy else adata
    columns = [adata.obs[flag].to_numpy(dtype=np.bool_) for flag in known]
    places = [schema.QC_FLAGS.index(flag) for flag in known]

    def packed(*flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
        parts = [flag.view(np.uint8) << np.uint8(i) for i, flag in zip(places, flags, strict=True)]
        return np.asarray(np.bitwise_or.reduce(parts))

    arrays = event_arrays(adata)
    bits = arrays.mapped(packed, *columns, dtype=np.uint8)
    counts, excluded = _account(adata, bits)
    before = checks.recorded(adata, schema.FILTER_EVENTS)
    if before is not None:
        counts, excluded = _joined(before, counts, excluded)
    keep_events(adata, arrays.mapped(np.logical_not, bits, dtype=np.bool_))
    checks.record(adata, schema.FILTER_EVENTS, {"flags": known}, counts=counts, excluded=excluded)
    _report(counts)
    return adata if copy else None


def _account(
    adata: AnnData, bits: NDArray[np.uint8]
) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """Count flags per sample, and list the excluded events."""
    rows_of = blocks.sample_blocks(adata)
    rows_found = []
    for rows in rows_of.values():
        own = bits[rows]
        flagged = {
            flag: int(np.count_nonzero(own & (1 << k))) for k, flag in enumerate(schema.QC_FLAGS)
        }
        rows_found.append({"events": own.size, **flagged, "kept": int(np.count_nonzero(own == 0))})
    index = pd.Index(list(rows_of), name=schema.SAMPLE, dtype=str)
    counts = pd.DataFrame(rows_found, index=index, dtype=np.int64)
    return counts, _excluded(adata, rows_of, bits)


def _excluded(
    adata: AnnData, rows_of: dict[str, blocks.Rows], bits: NDArray[np.uint8]
) -> dict[str, NDArray[Any]]:
    """List the excluded events in their order: sample, row in the file, flags."""
    every = event_arrays(adata)
    out = every.mapped(lambda part: part != 0, bits, dtype=np.bool_)
    few = replace(every, n_events=int(np.count_nonzero(out)))
    sample = every.zeros(np.int32)
    for i, rows in enumerate(rows_of.values()):
        sample[rows] = i
    if schema.EVENT in adata.obs:
        event = adata.obs[schema.EVENT].to_numpy(dtype=np.int32)
    else:
        event = np.arange(adata.n_obs, dtype=np.int32)
    found = {"sample": sample, "event": event, "flags": bits}
    names = np.array(list(rows_of), dtype=object)
    return {"samples": names, **{key: few.kept(values, out) for key, values in found.items()}}


def _joined(
    before: dict[str, Any], counts: pd.DataFrame, excluded: dict[str, NDArray[Any]]
) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """Add a later run to the account of an earlier one."""
    total = before["counts"].copy()
    for flag in schema.QC_FLAGS:
        total[flag] = total[flag] + counts[flag].reindex(total.index, fill_value=0)
    total["kept"] = counts["kept"].reindex(total.index, fill_value=0)
    earlier = before["excluded"]
    place = {str(name): i for i, name in enumerate(earlier["samples"])}
    again = np.array([place[str(name)] for name in excluded["samples"]], dtype=np.int32)
    parts = {
        "sample": again[excluded["sample"]] if again.size else excluded["sample"],
        "event": excluded["event"],
        "flags": excluded["flags"],
    }
    merged = {key: np.concatenate([earlier[key], part]) for key, part in parts.items()}
    return total, {"samples": earlier["samples"], **merged}


def keep_events(adata: AnnData, keep: NDArray[np.bool_]) -> None:
    """Subset the events in place; categories stay, which AnnData would drop with their events."""
    categories = {
        name: column.cat.categories
        for name, column in adata.obs.items()
        if isinstance(column.dtype, pd.CategoricalDtype)
    }
    if chunks.is_lazy(adata.X):
        _keep_lazily(adata, keep)
    elif not keep.all():
        adata._inplace_subset_obs(keep)
    for name, levels in categories.items():
        column = adata.obs[name]
        if not column.cat.categories.equals(levels):
            adata.obs[name] = column.cat.set_categories(levels)


def _keep_lazily(adata: AnnData, keep: NDArray[np.bool_]) -> None:
    """Subset the events when they are read; chunks stay within their samples."""
    arrays = replace(event_arrays(adata), n_events=int(np.count_nonzero(keep)))
    obsm = {key: arrays.kept(np.asarray(values), keep) for key, values in adata.obsm.items()}
    layers = {
        name: _kept_blocks(layer, keep) if chunks.is_lazy(layer) else layer[keep]
        for name, layer in adata.layers.items()
        if layer is not adata.X
    }
    values = _kept_blocks(adata.X, keep)
    layers |= {name: values for name, layer in adata.layers.items() if layer is adata.X}
    columns = {str(name): _kept_column(column, keep, arrays) for name, column in adata.obs.items()}
    obs = pd.DataFrame(columns, copy=False)
    chunks.put_events(adata, obs, values=values, layers=layers)
    for key, part in obsm.items():
        adata.obsm[key] = part
    release(adata)


def _kept_column(column: pd.Series[Any], keep: NDArray[np.bool_], arrays: EventArrays) -> Any:
    values = bare_values(column)
    if isinstance(values, pd.Categorical):
        return coded(arrays.kept(values.codes, keep), values.dtype)
    return arrays.kept(values, keep) if isinstance(values, np.ndarray) else values[keep]


def _kept_blocks(values: Any, keep: NDArray[np.bool_]) -> Any:
    """Leave out events when a block is read; eight events of the mask take a byte of the graph."""
    ends = np.cumsum(values.chunks[0])
    masks = [keep[end - size : end] for end, size in zip(ends, values.chunks[0], strict=True)]
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    packed = [np.packbits(mask) for mask in masks]
    return chunks.transform_blocks(_kept_rows, values, packed, n_rows=sizes)


def _kept_rows(block: NDArray[np.float32], packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    keep = np.unpackbits(packed, count=len(block)).view(np.bool_)
    return np.ascontiguousarray(block[keep])


def _report(counts: pd.DataFrame) -> None:
    lost = counts["events"] - counts["kept"]
    logger.info("filter_events: %d of %d events dropped", lost.sum(), counts["events"].sum())
    share = lost / counts["events"].clip(lower=1)
    heavy = counts.index[(share > 0.5) & (counts["events"] > 0)]
    if len(heavy):
        shown = checks.listing(f"{name} ({share[name]:.0%})" for name in heavy)
        msg = (
            f"{len(heavy)} samples lose more than half of their events to quality flags: {shown}; "
            "uns['cytoclust']['filter_events']['counts'] says to which."
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)
