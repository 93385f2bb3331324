"""Manual gates of the same events: membership tables and FlowJo workspaces."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import check_key, listing
from cytoclust.errors import ArgumentError, StudyError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

__all__ = ["read_flowjo_gates", "read_gates"]

GATE_COLUMNS = ("gate", "label", "population")


def read_gates(
    path: str | os.PathLike[str] | pd.DataFrame, adata: AnnData, *, sample_key: str = schema.SAMPLE
) -> pd.Series[str]:
    """Read which gate holds each event from a table, in the order of an AnnData.

    Parameters
    ----------
    path
        CSV or Parquet file, or a table: ``event`` (0-based row in the sample's file), ``sample``
        where the study has more than one, and either a column ``gate`` (or ``label``,
        ``population``) or one column of 0 and 1 per gate. Of nested gates the smallest that holds
        an event counts.
    adata
        Events with ``obs["event"]`` (else its order is that of the events).
    sample_key
        Column of ``obs`` with the sample.

    Returns
    -------
    Series
        Gate of each event, indexed by ``adata.obs_names``; empty where no gate holds it. As `gates`
        of `tl.compare_gates`.

    Raises
    ------
    StudyError
        The file is missing, or a column is.
    ArgumentError
        No event of the table is in `adata`.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame({"event": [0, 2], "gate": ["T", "B"]})
    >>> cc.io.read_gates(table, ad.AnnData(np.zeros((3, 1)))).tolist()
    ['T', '', 'B']
    """
    table, source = gate_table(path)
    if "event" not in table.columns:
        msg = (
            f"{source}: a column 'event' (0-based row in the sample's file) is needed; "
            f"columns: {listing(table.columns)}. Add it."
        )
        raise StudyError(msg)
    several = n_levels(adata, sample_key) > 1
    if several and "sample" not in table.columns:
        msg = (
            f"{source}: a column 'sample' is needed for {n_levels(adata, sample_key)} samples; "
            f"columns: {listing(table.columns)}. Add it."
        )
        raise StudyError(msg)
    gates = pd.Series(gate_of_rows(table, source), index=gate_index(table, with_sample=several))
    repeated = gates.index[gates.index.duplicated()]
    if len(repeated):
        msg = f"{source}: {len(repeated)} events come more than once: {listing(repeated, 3)}. Keep one row each."
        raise StudyError(msg)
    return aligned(gates, adata, sample_key=sample_key, source=source)


def n_levels(adata: AnnData, key: str) -> int:
    """Count the samples; 1 where there is no such column."""
    return len(adata.obs[key].unique()) if key in adata.obs else 1


def gate_table(path: str | os.PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Read the table, and its name for errors."""
    if isinstance(path, pd.DataFrame):
        return path, "gates"
    place = Path(path)
    if not place.is_file():
        msg = f"gate membership must be an existing CSV or Parquet file; got {str(path)!r}."
        raise StudyError(msg)
    if place.suffix.lower() in {".parquet", ".pq"}:
        return pd.read_parquet(place), str(place)
    return pd.read_csv(place, sep=None, engine="python"), str(place)


def gate_of_rows(table: pd.DataFrame, source: str) -> np.ndarray:
    """Gate of each row: the column that names it, or the smallest gate whose column is set."""
    for column in GATE_COLUMNS:
        if column in table.columns:
            return table[column].astype("string").fillna("").to_numpy(dtype=object)
    members = table.drop(columns=[c for c in ("event", "sample") if c in table.columns])
    flags = members.apply(pd.to_numeric, errors="coerce").isin([0, 1]).all()
    wrong = [str(name) for name in members.columns[~flags]]
    if wrong or members.empty:
        msg = (
            f"{source}: expected a column {listing(GATE_COLUMNS)} or one column of 0 and 1 per gate; "
            f"not of 0 and 1: {listing(wrong)}. Correct the table."
        )
        raise StudyError(msg)
    return innermost({str(name): members[name].to_numpy(dtype=bool) for name in members.columns})


def innermost(members: Mapping[str, np.ndarray]) -> np.ndarray:
    """Name of the smallest gate that holds each event; empty where none does."""
    found = np.full(len(next(iter(members.values()))), "", dtype=object)
    # from the largest to the smallest, so that an inner gate overwrites the outer ones
    for name in sorted(members, key=lambda name: (-int(members[name].sum()), name)):
        found[members[name]] = name
    return found


def gate_index(table: pd.DataFrame, *, with_sample: bool) -> pd.Index:
    """Key of each row: event, with the sample where there are several."""
    events = table["event"].astype(np.int64)
    if not with_sample:
        return pd.Index(events)
    return pd.MultiIndex.from_arrays([table["sample"].astype(str), events])


def aligned(
    gates: pd.Series[str], adata: AnnData, *, sample_key: str, source: str
) -> pd.Series[str]:
    """Put gates into the order of the events of an AnnData."""
    events = (
        adata.obs[schema.EVENT].to_numpy(dtype=np.int64)
        if schema.EVENT in adata.obs
        else np.arange(adata.n_obs, dtype=np.int64)
    )
    wanted: pd.Index = pd.Index(events)
    if gates.index.nlevels > 1:
        check_key(adata, sample_key)
        wanted = pd.MultiIndex.from_arrays([adata.obs[sample_key].astype(str), events])
    found = gates.reindex(wanted)
    if found.isna().all():
        msg = (
            f"{source}: none of its {len(gates)} events is among the {adata.n_obs} of adata. "
            "Check sample names and that events count from 0."
        )
        raise ArgumentError(msg)
    return pd.Series(found.fillna("").to_numpy(dtype=object), index=adata.obs_names, name="gate")


def read_flowjo_gates(
    path: str | os.PathLike[str],
    adata: AnnData,
    files: Mapping[str, str | os.PathLike[str]],
    *,
    gates: Sequence[str] | None = None,
    sample_key: str = schema.SAMPLE,
) -> pd.Series[str]:
    """Read which gate of a FlowJo workspace holds each event, through FlowKit.

    Parameters
    ----------
    path
        Workspace (``.wsp``).
    adata
        Events with ``obs["event"]``.
    files
        Sample name to the FCS file that was gated.
    gates
        Names of the gates to read; all by default. Of nested gates the innermost counts.
    sample_key
        Column of ``obs`` with the sample.

    Returns
    -------
    Series
        Gate of each event, indexed by ``adata.obs_names``; empty where no gate holds it.

    Raises
    ------
    ArgumentError
        FlowKit is not installed, or a gate is not in the workspace.
    StudyError
        The workspace does not have a file.

    Notes
    -----
    Needs FlowKit (``pip install cytoclust[flowjo]``).

    Examples
    --------
    >>> import cytoclust as cc
    >>> gates = cc.io.read_flowjo_gates(  # doctest: +SKIP
    ...     "study.wsp", adata, {"P01_d0": "fcs/P01_d0.fcs"}
    ... )
    """
    flowkit = import_flowkit()
    place = Path(path)
    if not place.is_file():
        msg = f"a FlowJo workspace must be an existing .wsp file; got {str(path)!r}."
        raise StudyError(msg)
    names = {Path(file).name: str(sample) for sample, file in files.items()}
    samples = [
        flowkit.Sample(str(file), filename_as_id=True, ignore_offset_error=True)
        for file in files.values()
    ]
    workspace = flowkit.Workspace(str(place), fcs_samples=samples, filename_as_id=True)
    loaded = set(workspace.get_sample_ids(loaded_only=True))
    lacking = [file for file in names if file not in loaded]
    if lacking:
        msg = (
            f"{place}: the workspace has no gates for {listing(lacking)}; it has "
            f"{listing(workspace.get_sample_ids(loaded_only=False))}. Give the files that were gated."
        )
        raise StudyError(msg)
    workspace.analyze_samples(use_mp=False)
    parts = [
        sample_gates(workspace, file, sample, gates=gates, source=str(place))
        for file, sample in names.items()
    ]
    several = n_levels(adata, sample_key) > 1
    table = pd.concat(parts, ignore_index=True)
    found = pd.Series(table["gate"].to_numpy(), index=gate_index(table, with_sample=several))
    return aligned(found, adata, sample_key=sample_key, source=str(place))


def import_flowkit() -> Any:
    """Import FlowKit, or say how to get it."""
    try:
        return importlib.import_module("flowkit")
    except ImportError as error:
        msg = (
            "FlowJo workspaces are read through FlowKit, which is not installed. Run "
            "'pip install cytoclust[flowjo]', or export gate membership as CSV for io.read_gates."
        )
        raise ArgumentError(msg) from error


def sample_gates(
    workspace: Any, file: str, sample: str, *, gates: Sequence[str] | None, source: str
) -> pd.DataFrame:
    """Innermost gate of every event of one file."""
    known = workspace.get_gate_ids(file)
    unknown = [name for name in gates or () if name not in {gate for gate, _ in known}]
    if unknown:
        msg = f"{source}: {file} has no gates {listing(unknown)}; it has {listing(g for g, _ in known)}."
        raise ArgumentError(msg)
    wanted = [(gate, place) for gate, place in known if gates is None or gate in gates]
    often = pd.Series([gate for gate, _ in wanted]).duplicated(keep=False).to_numpy()
    members: dict[str, np.ndarray] = {}
    depth: dict[str, int] = {}
    for (gate, place), repeated in zip(wanted, often, strict=True):
        # "CD45RA+" below CD4 and below CD8 are two gates
        label = "/".join([*place[1:], gate]) if repeated else gate
        members[label] = np.asarray(
            workspace.get_gate_membership(file, gate, gate_path=place), dtype=bool
        )
        depth[label] = len(place)
    n_events = len(next(iter(members.values()))) if members else 0
    found = np.full(n_events, "", dtype=object)
    for label in sorted(members, key=lambda label: (depth[label], -int(members[label].sum()))):
        found[members[label]] = label
    return pd.DataFrame({"sample": sample, "event": np.arange(n_events), "gate": found})
