"""Argument and AnnData checks, and the places where error texts are built.

A text says what was expected, what was found and what to do.
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust import schema
from cytoclust.errors import AlreadyAppliedError, ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from anndata import AnnData

logger = logging.getLogger("cytoclust")
steps = logging.getLogger("cytoclust.steps")  # what a waiting user wants to read of a run


def listing(values: Iterable[object], limit: int = 12) -> str:
    """Show the first values of a collection, and how many more there are."""
    items = [str(value) for value in values]
    shown = ", ".join(items[:limit])
    return f"[{shown}, and {len(items) - limit} more]" if len(items) > limit else f"[{shown}]"


def check_key(adata: AnnData, key: str, *, place: str = "obs", remedy: str = "") -> None:
    """Raise `MissingSlotError` unless ``adata.<place>[key]`` is there."""
    container = getattr(adata, place)
    available = list(container.columns if place in {"obs", "var"} else container.keys())
    if key not in available:
        hint = remedy or "Check the spelling, or run the step that writes it."
        msg = f"{place}[{key!r}] not found; available: {listing(available)}. {hint}"
        raise MissingSlotError(msg)


def check_one_of(name: str, value: object, options: Collection[object]) -> None:
    """Raise `ArgumentError` unless `value` is one of `options`."""
    if value not in options:
        msg = f"{name} must be one of {listing(options)}; got {value!r}."
        raise ArgumentError(msg)


def check_positive(name: str, value: float) -> None:
    """Raise `ArgumentError` unless `value` is a finite number above zero."""
    if not 0 < value < float("inf"):
        msg = f"{name} must be a finite number above 0; got {value!r}."
        raise ArgumentError(msg)


def record(adata: AnnData, step: str, params: dict[str, Any], **results: Any) -> None:
    """Write ``uns["cytoclust"][step]``: parameters (None dropped), version and result tables."""
    steps = adata.uns.setdefault(schema.UNS, {})
    kept = {key: value for key, value in params.items() if value is not None}
    steps[step] = {"params": kept, "version": package_version("cytoclust"), **results}
    logger.info(
        "%s: %s", step, ", ".join(f"{key}={value}" for key, value in kept.items()) or "done"
    )


def recorded(adata: AnnData, step: str) -> dict[str, Any] | None:
    """Return what `step` recorded in ``uns["cytoclust"]``, or None."""
    return adata.uns.get(schema.UNS, {}).get(step)


def require_step(adata: AnnData, step: str, verb: str) -> dict[str, Any]:
    """Return the record of `step`; raise `MissingSlotError` naming the `verb` to run first."""
    found = recorded(adata, step)
    if found is None:
        done = listing(adata.uns.get(schema.UNS, {}))
        msg = f"uns['{schema.UNS}']['{step}'] not found; steps recorded: {done}. Run {verb} first."
        raise MissingSlotError(msg)
    return found


def check_not_applied(adata: AnnData, step: str) -> None:
    """Raise `AlreadyAppliedError` if `step` is recorded for these data."""
    if recorded(adata, step) is not None:
        msg = (
            f"{step} was already applied to these data (uns['{schema.UNS}']['{step}']). "
            "Applying it twice would change the values silently; start again from layers['raw'] "
            "or from the files if you want other parameters."
        )
        raise AlreadyAppliedError(msg)


def package_version(name: str) -> str:
    """Return the installed version of a package, or "unknown"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def matrix_fault(values: np.ndarray, names: Sequence[str]) -> str:
    """Name the entry of a spillover matrix that is to blame: not finite, or the most alike two rows.

    Parameters
    ----------
    values
        (n_channels, n_channels)
    names
        Channel of each row and column.
    """
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        return f"the entry from {names[row]} to {names[column]} is not finite"
    lengths = np.linalg.norm(values, axis=1)
    if not lengths.all():
        return f"the row of {names[int(np.argmin(lengths))]} is zero"
    alike = np.abs(values @ values.T) / np.outer(lengths, lengths)
    np.fill_diagonal(alike, 0)
    row, column = divmod(int(np.argmax(alike)), len(alike))
    return f"the rows of {names[row]} and {names[column]} are most alike"


def select_markers(adata: AnnData, markers: Sequence[str] | None = None) -> list[int]:
    """Return the columns of markers (by marker or channel name); by default those of class type."""
    if markers is None:
        if schema.MARKER_CLASS in adata.var:
            columns = np.flatnonzero(np.asarray(adata.var[schema.MARKER_CLASS] == "type"))
            if len(columns):
                return [int(column) for column in columns]
        msg = (
            "no channel has var['marker_class'] == 'type'; clusters are made of lineage markers. "
            "Say which in the panel, or name them: markers=[...]."
        )
        raise ArgumentError(msg)
    places = {str(name): i for i, name in enumerate(adata.var_names)}
    if schema.MARKER in adata.var:
        for i, name in enumerate(adata.var[schema.MARKER]):
            places.setdefault(str(name), i)
    unknown = [name for name in markers if name not in places]
    if unknown or len(markers) == 0:
        msg = (
            f"markers must name channels or markers of these data; not found: {listing(unknown)}, "
            f"available: {listing(places)}. Check the spelling."
        )
        raise ArgumentError(msg)
    return [places[name] for name in markers]


def event_source(
    adata: AnnData, markers: Sequence[str] | None = None, *, use_rep: str | None = None
) -> tuple[Any, list[int] | None, list[str]]:
    """Find what clustering works on: `X` or a slot of `obsm`, its columns (None: all), their names."""
    every = list(range(adata.n_vars))
    if use_rep is not None and use_rep != "X":
        check_key(adata, use_rep, place="obsm")
        values, columns = np.asarray(adata.obsm[use_rep]), None
        names = [f"{use_rep}[{i}]" for i in range(values.shape[1])]
    else:
        values = adata.X
        columns = every if use_rep == "X" else select_markers(adata, markers)
        names = [str(name) for name in adata.var_names[columns]]
    if adata.n_obs == 0:
        msg = "these data hold no events; nothing can be clustered. Check what filtering excluded."
        raise ArgumentError(msg)
    return values, None if columns == every else columns, names  # all in order need no copy


def check_finite(values: np.ndarray, names: Sequence[str]) -> None:
    """Raise `ArgumentError` naming the columns with NaN or infinite values."""
    # a sum is finite unless a value is not (or sums overflow): no mask of the whole matrix
    with np.errstate(invalid="ignore", over="ignore"):
        sums = values.sum(axis=0, dtype=np.float64)
    bad = [name for name, total in zip(names, sums, strict=True) if not np.isfinite(total)]
    if bad:
        msg = (
            f"clustering needs finite values; channels with NaN or infinite values: {listing(bad)}. "
            "Flag such events (pp.flag_invalid, then pp.filter_events) or leave the channels out."
        )
        raise ArgumentError(msg)


def event_matrix(
    adata: AnnData, markers: Sequence[str] | None = None, *, use_rep: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """Take out the values of every event that clustering works on: float32 C order, and their names.

    A NaN or infinite value raises `ArgumentError` naming the channels; so do values that are read
    when they are needed.
    """
    values, columns, names = event_source(adata, markers, use_rep=use_rep)
    check_in_memory(values)
    values = values if columns is None else values[:, columns]
    values = values.toarray() if hasattr(values, "toarray") else values
    values = np.ascontiguousarray(values, dtype=np.float32)
    check_finite(values, names)
    return values, names


def check_in_memory(values: object) -> None:
    """Raise `ArgumentError` for a Dask array: what works on a graph needs every event at hand."""
    if hasattr(values, "dask"):
        msg = (
            "the graph of all events needs them in memory, but these are read when they are needed "
            "(Dask). Use tl.leiden_sketched and tl.umap_sketched, which work block by block, or "
            "load the events: adata.to_memory()."
        )
        raise ArgumentError(msg)
