"""Argument and AnnData checks, and the places where error texts are built.

A text says what was expected, what was found and what to do.
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from cytoclust import schema
from cytoclust.errors import AlreadyAppliedError, ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from anndata import AnnData

logger = logging.getLogger("cytoclust")


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
