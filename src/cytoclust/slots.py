"""All slots of an AnnData but the events themselves, kept in one HDF5 file and put back."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import chunks, io, pp, schema
from cytoclust.errors import CytoclustWarning
from cytoclust.event_arrays import (
    EventArrays,
    bare_values,
    coded,
    event_arrays,
    put_column,
    put_points,
    release,
)

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

__all__ = ["put_slots", "restore_events", "write_slots"]


def write_slots(adata: AnnData, path: Path) -> None:
    """Write every slot but the values: columns without the long index of events."""
    import h5py
    from anndata.io import write_elem

    columns = {str(name): bare_values(column) for name, column in adata.obs.items()}
    with h5py.File(path, "w") as store:
        for place, values in (("obs", columns), ("obsm", adata.obsm), ("obsp", adata.obsp)):
            group = store.create_group(place)
            for name, value in values.items():
                write_elem(group, name, value)
                release(adata)
        write_elem(store, "uns", dict(adata.uns))
        write_elem(store, "var", adata.var)
        store.attrs["columns"] = list(columns)


def put_slots(adata: AnnData, path: Path) -> None:
    """Put every slot that `write_slots` wrote into an AnnData of the same events."""
    import h5py
    from anndata.io import read_elem

    arrays = event_arrays(adata)
    with h5py.File(path, "r") as store:
        for name in map(str, store.attrs["columns"]):
            put_column(adata, name, read_values(store["obs"][name], arrays))
        for name, element in store["obsm"].items():
            put_points(adata, name, read_values(element, arrays))
        for name, element in store["obsp"].items():
            adata.obsp[name] = read_elem(element)
        adata.uns, adata.var = read_elem(store["uns"]), read_elem(store["var"])


def read_values(element: Any, arrays: EventArrays) -> Any:
    """Read one value or row per event, numbers to where such arrays belong."""
    from anndata.io import read_elem

    if element.attrs["encoding-type"] == "categorical":
        codes, levels = read_values(element["codes"], arrays), read_elem(element["categories"])
        return coded(codes, pd.CategoricalDtype(levels, ordered=bool(element.attrs["ordered"])))
    if element.attrs["encoding-type"] != "array" or element.dtype.kind not in "biuf":
        return read_elem(element)
    found = arrays.zeros(element.dtype, *element.shape[1:])
    if len(found):
        element.read_direct(found)
    return found


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
    import h5py
    from anndata.io import read_elem

    with h5py.File(path, "r") as store:
        steps, var = read_elem(store["uns"][schema.UNS]), read_elem(store["var"])
    adata = io.open_study(steps[schema.READ_STUDY]["params"]["store"], check_sheet=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CytoclustWarning)  # said when the study was analysed
        if schema.FILTER_EVENTS in steps:
            pp.filtering.keep_events(adata, kept_events(adata, steps[schema.FILTER_EVENTS]))
        if schema.COMPENSATE in steps:
            pp.compensate(adata)
        if schema.ARCSINH in steps:
            adata.var[schema.COFACTOR] = var[schema.COFACTOR].to_numpy()
            pp.arcsinh(adata)
    put_slots(adata, path)
    return adata


def kept_events(adata: AnnData, filtered: dict[str, Any]) -> np.ndarray:
    """Tell which events of a whole study `pp.filter_events` kept."""
    keep = event_arrays(adata).full(value=True, dtype=np.bool_)
    excluded = filtered["excluded"]
    codes = adata.obs[schema.SAMPLE].cat.codes.to_numpy()
    names = list(adata.obs[schema.SAMPLE].cat.categories)
    rows_of = chunks.group_rows(codes, len(names))
    starts = np.array([rows.start for rows in rows_of if isinstance(rows, slice)], dtype=np.int64)
    place = {str(name): starts[number] for number, name in enumerate(names)}
    first = np.array([place[str(name)] for name in excluded["samples"]], dtype=np.int64)
    for rows in EventArrays(len(excluded["event"])).blocks():
        keep[first[excluded["sample"][rows]] + excluded["event"][rows]] = False
    return keep
