"""All slots of an AnnData but the events themselves, kept in one HDF5 file and put back."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust import chunks, io, pp, schema
from cytoclust.errors import CytoclustWarning

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

__all__ = ["put_slots", "read_slots", "restore_events", "write_slots"]

SLOTS: Final = ("obs", "obsm", "obsp", "uns", "var")


def write_slots(adata: AnnData, path: Path) -> None:
    """Write every slot but the values: columns without the long index of events."""
    import h5py
    from anndata.io import write_elem

    contents = {
        "obs": {str(name): bare_values(column) for name, column in adata.obs.items()},
        "obsm": dict(adata.obsm),
        "obsp": dict(adata.obsp),
        "uns": dict(adata.uns),
        "var": adata.var,
    }
    with h5py.File(path, "w") as store:
        for name, value in contents.items():
            write_elem(store, name, value)
        store.attrs["columns"] = [str(name) for name in adata.obs]


def bare_values(column: pd.Series[Any]) -> Any:
    """Return a column's values in a form that can be stored without its index."""
    return column.array if hasattr(column, "cat") else column.to_numpy()


def read_slots(path: Path) -> dict[str, Any]:
    """Read what `write_slots` wrote, and the order of the columns of ``obs``."""
    import h5py
    from anndata.io import read_elem

    with h5py.File(path, "r") as store:
        slots = {name: read_elem(store[name]) for name in SLOTS}
        return slots | {"columns": [str(name) for name in store.attrs["columns"]]}


def put_slots(adata: AnnData, slots: dict[str, Any]) -> None:
    """Put every slot into an AnnData of the same events."""
    for name in slots["columns"]:
        adata.obs[name] = slots["obs"][name]
    for place in ("obsm", "obsp"):
        for name, values in slots[place].items():
            getattr(adata, place)[name] = values
    adata.uns = slots["uns"]
    adata.var = slots["var"]


def restore_events(path: Path) -> AnnData:
    """Open the store of an analysed study, and do to its events what was done to them.

    Parameters
    ----------
    path
        File that `write_slots` wrote of a lazy AnnData.

    Returns
    -------
    AnnData
        Lazy, with every slot of the file. Nothing is computed.

    Raises
    ------
    StudyError
        The store is gone, or not as it was.
    """
    slots = read_slots(path)
    steps = slots["uns"][schema.UNS]
    adata = io.open_study(steps[schema.READ_STUDY]["params"]["store"], check_sheet=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CytoclustWarning)  # said when the study was analysed
        if schema.FILTER_EVENTS in steps:
            pp.filtering.keep_events(adata, kept_events(adata, steps[schema.FILTER_EVENTS]))
        if schema.COMPENSATE in steps:
            pp.compensate(adata)
        if schema.ARCSINH in steps:
            adata.var[schema.COFACTOR] = slots["var"][schema.COFACTOR].to_numpy()
            pp.arcsinh(adata)
    put_slots(adata, slots)
    return adata


def kept_events(adata: AnnData, filtered: dict[str, Any]) -> np.ndarray:
    """Tell which events of a whole study `pp.filter_events` kept."""
    keep = np.ones(adata.n_obs, dtype=np.bool_)
    excluded = filtered["excluded"]
    codes = adata.obs[schema.SAMPLE].cat.codes.to_numpy()
    names = list(adata.obs[schema.SAMPLE].cat.categories)
    rows_of = chunks.group_rows(codes, len(names))
    starts = np.array([rows.start for rows in rows_of if isinstance(rows, slice)], dtype=np.int64)
    place = {str(name): starts[number] for number, name in enumerate(names)}
    first = np.array([place[str(name)] for name in excluded["samples"]], dtype=np.int64)
    keep[first[excluded["sample"]] + excluded["event"]] = False
    return keep
