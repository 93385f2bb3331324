"""arcsinh of the measured channels, and the cofactors it bends at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError
from cytoclust.numerics import arcsinh as kernels
from cytoclust.numerics import cofactors as rules
from cytoclust.numerics.threads import thread_limit
from cytoclust.pp import blocks
from cytoclust.pp.compensation import Unmixing, unmixing_plan

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["arcsinh", "estimate_cofactors"]

logger = logging.getLogger(__name__)

EVENTS_FOR_ESTIMATE: Final = 200_000


def arcsinh(
    adata: AnnData,
    cofactor: float | Mapping[str, float] | pd.Series | None = None,
    *,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Transform the measured channels to arcsinh(x / cofactor), in place.

    Parameters
    ----------
    adata
        Events with linear, compensated values in ``X``.
    cofactor
        Width of the linear region around zero, in intensity units: one number for all channels, or
        numbers by channel or marker name (a mapping or Series, such as another study's
        ``var["cofactor"]``; channels not named are treated as with None). None takes ``var["cofactor"]`` where the panel gives one and estimates the
        others (`estimate_cofactors`).
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Changes ``X`` (float32, C-order) in place for linear fluorescence, mass and viability
        channels; scatter, time and channels with ``scale`` = ``transformed`` stay untouched. Writes
        ``var["cofactor"]`` (float64, NaN where none) and ``uns["cytoclust"]["arcsinh"]``:
        ``cofactors`` (one row per channel: ``cofactor``, ``source``).

    Raises
    ------
    AlreadyAppliedError
        The events are transformed already.
    ArgumentError
        A cofactor is not above zero, or names no channel or several.

    Notes
    -----
    Relative error at most 1e-6 of float64 arcsinh; NaN and infinities stay. Linear in events, no
    copy of the events. Exact inverse: ``cytoclust.numerics.arcsinh.inverse_arcsinh(adata.X,
    adata.var["cofactor"])``; the values as acquired are in ``layers["raw"]``.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": ["scatter", "fluorescence"]}, index=["FSC-A", "PE-A"])
    >>> adata = anndata.AnnData(np.array([[5e4, 300.0]], np.float32), var=var)
    >>> cc.pp.arcsinh(adata, 150)
    >>> adata.X.round(3).tolist()
    [[50000.0, 1.444000005722046]]
    """
    checks.check_not_applied(adata, schema.ARCSINH)
    adata = adata.copy() if copy else adata
    widths, sources = _cofactors_to_use(adata, cofactor)
    if chunks.is_lazy(adata.X):
        blocks.change_values(adata, partial(_transformed, widths=widths))
    else:
        values = blocks.analysis_values(adata)
        with thread_limit(n_jobs):
            kernels.arcsinh(values, widths, out=values)
    adata.var[schema.COFACTOR] = widths
    table = pd.DataFrame({"cofactor": widths, "source": sources}, index=_names(adata))
    single = float(cofactor) if isinstance(cofactor, int | float | np.number) else None
    checks.record(adata, schema.ARCSINH, {"cofactor": single}, cofactors=table)
    return adata if copy else None


def estimate_cofactors(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Estimate the arcsinh cofactor of each measured channel from its events.

    Parameters
    ----------
    adata
        Events with linear values, before or after `compensate`.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``var["cofactor"]`` (float64) for linear fluorescence, mass and viability channels,
        NaN for all others, and ``uns["cytoclust"]["estimate_cofactors"]``: ``cofactors`` (one row
        per channel: ``cofactor``, ``source``, ``noise_center``, ``noise_spread`` in intensity
        units, ``reason``).

    Raises
    ------
    AlreadyAppliedError
        The events are transformed already.

    Notes
    -----
    The cofactor is where the spread of a population stops being noise and becomes proportional to
    its intensity: the standard deviation of the channel's negative population x 3.16, or 5 for ion
    counts, which is what stabilises the variance
    (``cytoclust.numerics.cofactors.estimate_cofactors`` has the derivation). It is found on at most
    200,000 events, the same number from each sample, evenly over the file, those without a quality
    flag; values that are not compensated yet are compensated for the estimate, so that it is the
    same before and after. Deterministic.

    References
    ----------
    Rocke and Durbin 2001, doi 10.1089/106652701753307485. Azad et al. 2016 (flowVS),
    doi 10.1186/s12859-016-1083-9.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> noise = np.random.default_rng(0).normal(0, 50, (5000, 1)).astype(np.float32)
    >>> var = pd.DataFrame({"channel_type": ["fluorescence"]}, index=["PE-A"])
    >>> adata = anndata.AnnData(noise, var=var)
    >>> cc.pp.estimate_cofactors(adata)
    >>> bool(140 < adata.var["cofactor"].iloc[0] < 175)
    True
    """
    checks.check_not_applied(adata, schema.ARCSINH)
    adata = adata.copy() if copy else adata
    widths, table = _estimated(adata)
    adata.var[schema.COFACTOR] = widths
    checks.record(adata, schema.ESTIMATE_COFACTORS, {}, cofactors=table)
    return adata if copy else None


def _transformed(block: NDArray[np.float32], *, widths: NDArray[np.float64]) -> NDArray[np.float32]:
    block = np.array(block, dtype=np.float32, order="C")
    kernels.arcsinh(block, widths, out=block)
    return block


def _names(adata: AnnData) -> pd.Index:
    return pd.Index(adata.var_names.astype(str), name="channel", dtype=str)


def transformable(adata: AnnData) -> NDArray[np.bool_]:
    """Tell which channels take an arcsinh: measured and linear."""
    measured = np.isin(blocks.channel_types(adata), blocks.MEASURED)
    return np.asarray(measured & blocks.linear_channels(adata))


def _cofactors_to_use(
    adata: AnnData, cofactor: float | Mapping[str, float] | pd.Series | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the cofactor of each channel (NaN: leave as it is) and where it comes from."""
    wanted = transformable(adata)
    sources = np.where(wanted, "", "none").astype(object)
    widths = np.full(adata.n_vars, np.nan)
    if cofactor is not None and not isinstance(cofactor, Mapping | pd.Series):
        checks.check_positive("cofactor", float(cofactor))
        widths[wanted] = float(cofactor)
        return widths, np.where(wanted, "given", "none").tolist()
    if cofactor is not None:
        for name, value in dict(cofactor).items():
            place = _channel_place(adata, str(name))
            if np.isnan(float(value)) and not wanted[place]:
                continue  # another study's var["cofactor"], with none for scatter and time
            checks.check_positive(f"cofactor of {name!r}", float(value))
            widths[place], sources[place] = float(value), "given"
    known = _known_cofactors(adata)
    estimated = checks.recorded(adata, schema.ESTIMATE_COFACTORS) is not None
    take = wanted & np.isnan(widths) & ~np.isnan(known)
    widths[take], sources[take] = known[take], "estimated" if estimated else "panel"
    missing = wanted & np.isnan(widths)
    if missing.any():
        found, table = _estimated(adata)
        widths[missing], sources[missing] = found[missing], "estimated"
        checks.record(adata, schema.ESTIMATE_COFACTORS, {}, cofactors=table)
    return widths, [str(source) for source in sources]


def _known_cofactors(adata: AnnData) -> NDArray[np.float64]:
    """Return ``var["cofactor"]``, NaN where none; refuse what cannot be one."""
    if schema.COFACTOR not in adata.var:
        return np.full(adata.n_vars, np.nan)
    known = pd.to_numeric(adata.var[schema.COFACTOR], errors="coerce").to_numpy(dtype=np.float64)
    wrong = (known <= 0) | np.isinf(known)
    if wrong.any():
        names = [str(name) for name in adata.var_names[wrong]]
        msg = (
            f"var['{schema.COFACTOR}'] must be above 0, or empty to have it estimated; wrong for "
            f"{checks.listing(names)}. Correct the panel."
        )
        raise ArgumentError(msg)
    return known


def _channel_place(adata: AnnData, name: str) -> int:
    """Return the one channel that a name stands for: unique name, channel, or marker."""
    unique = np.asarray(adata.var_names.astype(str))
    for names in (unique, blocks.channel_names(adata), blocks.marker_names(adata)):
        places = np.flatnonzero(names == name)
        if places.size == 1:
            return int(places[0])
        if places.size > 1:
            msg = (
                f"cofactor names {name!r}, which stands for {places.size} channels: "
                f"{checks.listing(unique[places])}. Name the channel instead."
            )
            raise ArgumentError(msg)
    msg = (
        f"cofactor names {name!r}, which is neither channel nor marker; channels: "
        f"{checks.listing(unique, 40)}. Check the spelling."
    )
    raise ArgumentError(msg)


def _estimated(adata: AnnData) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Estimate a cofactor for every channel that takes one."""
    wanted = np.flatnonzero(transformable(adata))
    values = compensated_sample(adata, EVENTS_FOR_ESTIMATE)[:, wanted]
    found, noise, sources = rules.estimate_cofactors(values, blocks.counts_ions(adata)[wanted])
    widths = np.full(adata.n_vars, np.nan)
    widths[wanted] = found
    table = pd.DataFrame(
        {
            "cofactor": found,
            "source": sources,
            "noise_center": [estimate.center for estimate in noise],
            "noise_spread": [estimate.spread for estimate in noise],
            "reason": [estimate.reason for estimate in noise],
        },
        index=_names(adata)[wanted],
    )
    return widths, table


def compensated_sample(adata: AnnData, n_events: int) -> NDArray[np.float32]:
    """Return linear compensated values of events taken evenly from every sample.

    Parameters
    ----------
    adata
        Events, linear in ``X``, compensated or not; nothing is changed.
    n_events
        How many events at most.
    """
    done = checks.recorded(adata, schema.COMPENSATE) is not None
    plan: dict[str, Unmixing] = {} if done else unmixing_plan(adata)
    passed = adata.obs[schema.QC_PASS].to_numpy(bool) if schema.QC_PASS in adata.obs else None
    rows_of = {
        name: rows for name, rows in blocks.sample_blocks(adata).items() if blocks.n_rows(rows)
    }
    share = max(n_events // max(len(rows_of), 1), 1)
    wanted = []
    for rows in rows_of.values():
        good = None if passed is None else passed[rows]
        places = (
            np.arange(blocks.n_rows(rows))
            if good is None or not good.any()
            else np.flatnonzero(good)
        )
        wanted.append(
            places[np.linspace(0, places.size - 1, min(share, places.size)).astype(np.intp)]
        )
    unmixings = [plan.get(sample, Unmixing()) for sample in rows_of]
    parts = chunks.map_blocks(
        _compensated_rows,
        blocks.plain_values(adata.X),
        wanted,
        unmixings,
        blocks=list(rows_of.values()),
    )
    return np.concatenate(parts) if parts else np.zeros((0, adata.n_vars), np.float32)


def _compensated_rows(
    block: NDArray[np.float32], rows: NDArray[np.intp], unmixing: Unmixing
) -> NDArray[np.float32]:
    """Return some events of one sample, compensated."""
    part = np.ascontiguousarray(block[rows], dtype=np.float32)
    if unmixing.columns.size:
        kernels.compensate_arcsinh(part, unmixing.matrix, unmixing.columns, out=part)
    return part
