"""Compensation of each file with its own spillover matrix, matched by channel name."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import AlreadyAppliedError, ArgumentError, StudyError, StudyWarning
from cytoclust.numerics.arcsinh import compensate_arcsinh, unmixing_matrix
from cytoclust.numerics.threads import thread_limit
from cytoclust.pp import blocks

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["compensate"]

logger = logging.getLogger(__name__)

NO_MATRIX = "the file has no spillover matrix"


@dataclass(frozen=True)
class Unmixing:
    """How the events of one sample are compensated.

    Attributes
    ----------
    columns, matrix
        Places of the channels among the variables, and the inverse spillover matrix; empty
        where nothing is to be done.
    condition
        Condition number of the spillover matrix.
    source
        Identifier of the matrix, ``given``, or empty.
    reason
        Why nothing is done, else empty.
    """

    columns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    condition: float = np.nan
    source: str = ""
    reason: str = ""


def compensate(
    adata: AnnData,
    spillover: pd.DataFrame | str | os.PathLike[str] | None = None,
    *,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Remove the spillover between channels, for each file with its own matrix.

    Parameters
    ----------
    adata
        Events with linear values in ``X``.
    spillover
        One matrix for all samples instead of the files' own: rows are fluorochromes, columns
        channels (as in ``var["channel"]``), 1 on the diagonal; a table or a CSV file with row names
        in its first column. None takes what ``io.read_study`` found in each file.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Changes ``X`` (float32) of the channels in the matrix in place and writes
        ``uns["cytoclust"]["compensate"]``: ``files`` (one row per sample: ``spillover_id``,
        ``n_channels``, ``condition``, ``status``, ``reason``).

    Raises
    ------
    AlreadyAppliedError
        The events are compensated or transformed already.
    StudyError
        A matrix cannot be inverted, names channels that the study does not have, or reaches into
        channels that were exported after transformation.

    Warns
    -----
    StudyWarning
        Some files of a fluorescence study have no matrix; their events stay as they are.

    Notes
    -----
    Works on the events of a sample wherever they stand, also after `filter_events`. Everything is
    checked before the first event is changed. Channels with ``scale`` = ``transformed`` are never
    compensated. Sums are taken in float32; the result is the same on any number of threads.

    References
    ----------
    Bagwell and Adams 1993, doi 10.1111/j.1749-6632.1993.tb38775.x.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": "fluorescence"}, index=["FITC-A", "PE-A"])
    >>> adata = anndata.AnnData(np.array([[100.0, 10.0]], np.float32), var=var)
    >>> matrix = pd.DataFrame([[1, 0.1], [0, 1]], index=["FITC", "PE"], columns=["FITC-A", "PE-A"])
    >>> cc.pp.compensate(adata, matrix)
    >>> adata.X.tolist()
    [[100.0, 0.0]]
    """
    checks.check_not_applied(adata, schema.COMPENSATE)
    if checks.recorded(adata, schema.ARCSINH) is not None:
        msg = (
            "compensation needs linear values, but arcsinh was already applied to these data. "
            "Compensate first; start again from layers['raw'] or from the files."
        )
        raise AlreadyAppliedError(msg)
    adata = adata.copy() if copy else adata
    plan = unmixing_plan(adata, spillover)
    rows_of = blocks.sample_blocks(adata)
    if chunks.is_lazy(adata.X):
        parts = blocks.parts_of_blocks(adata.X, rows_of)
        unmixings = [[(plan[sample], rows) for sample, rows in part] for part in parts]
        blocks.change_values(adata, _compensated, unmixings)
    else:
        events = blocks.analysis_values(adata)
        with thread_limit(n_jobs):
            _apply_all(events, rows_of, plan)
    table = _table(plan, {sample: blocks.n_rows(rows) for sample, rows in rows_of.items()})
    given = None if spillover is None else "given"
    checks.record(adata, schema.COMPENSATE, {"spillover": given}, files=table)
    _report(adata, table)
    return adata if copy else None


def _apply_all(
    events: NDArray[np.float32], rows_of: dict[str, blocks.Rows], plan: dict[str, Unmixing]
) -> None:
    """Compensate sample by sample; if that is interrupted, bring back those already done."""
    done: list[str] = []
    try:
        for sample, unmixing in plan.items():
            if unmixing.columns.size:
                _apply(events, rows_of[sample], unmixing)
                done.append(sample)
    except BaseException:
        for sample in done:
            spillover = np.asarray(np.linalg.inv(plan[sample].matrix), dtype=np.float64)
            mixing = Unmixing(plan[sample].columns, spillover)
            _apply(events, rows_of[sample], mixing)
        raise


def _apply(events: NDArray[np.float32], rows: blocks.Rows, unmixing: Unmixing) -> None:
    if isinstance(rows, slice):
        block = events[rows]
        compensate_arcsinh(block, unmixing.matrix, unmixing.columns, out=block)
    else:
        events[rows] = compensate_arcsinh(events[rows], unmixing.matrix, unmixing.columns)


def _compensated(
    block: NDArray[np.float32], parts: list[tuple[Unmixing, slice]]
) -> NDArray[np.float32]:
    """Return a compensated copy of a block, in which samples follow each other."""
    block = np.array(block, dtype=np.float32, order="C")
    for unmixing, rows in parts:
        if unmixing.columns.size:
            _apply(block, rows, unmixing)
    return block


def _table(plan: dict[str, Unmixing], n_events: dict[str, int]) -> pd.DataFrame:
    """One row per sample: what was done with it, or why nothing was."""
    rows = [
        {
            "spillover_id": unmixing.source,
            "n_events": n_events[sample],
            "n_channels": unmixing.columns.size,
            "condition": unmixing.condition,
            "status": "compensated" if unmixing.columns.size else "unchanged",
            "reason": unmixing.reason,
        }
        for sample, unmixing in plan.items()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(plan), name=schema.SAMPLE, dtype=str))


def _report(adata: AnnData, table: pd.DataFrame) -> None:
    done = int((table["status"] == "compensated").sum())
    logger.info("compensate: %d of %d samples", done, len(table))
    without = table.index[(table["reason"] == NO_MATRIX) & (table["n_events"] > 0)]
    if len(without) and not blocks.is_mass(adata):
        msg = (
            f"{len(without)} of {len(table)} samples have no spillover matrix and stay "
            f"uncompensated: {checks.listing(without)}. Give one with `spillover` if they need it."
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)


def unmixing_plan(
    adata: AnnData, spillover: pd.DataFrame | str | os.PathLike[str] | None = None
) -> dict[str, Unmixing]:
    """Match a matrix to each sample and invert it; nothing is changed.

    Parameters
    ----------
    adata
        Events of a study.
    spillover
        One matrix for all, or None for the files' own.

    Returns
    -------
    dict
        Sample name to what is to be done with its events, every sample once.
    """
    samples = list(blocks.sample_blocks(adata))
    kinds = blocks.channel_types(adata)
    measured = np.isin(kinds, blocks.MEASURED)
    if measured.any() and not (measured & blocks.linear_channels(adata)).any():
        if spillover is not None:
            msg = (
                "expected linear channels to compensate; var['scale'] says that all were exported "
                "after transformation. Leave out the matrix, or correct the panel's scale."
            )
            raise StudyError(msg)
        reason = "all channels were exported after transformation"
        return dict.fromkeys(samples, Unmixing(reason=reason))
    if spillover is not None:
        matrix = _given_matrix(spillover)
        unmixing = _matched(adata, matrix, where="the matrix given", source="given")
        return dict.fromkeys(samples, unmixing)
    return _plan_from_files(adata, samples)


def _plan_from_files(adata: AnnData, samples: list[str]) -> dict[str, Unmixing]:
    found = checks.recorded(adata, schema.READ_STUDY) or {}
    files = found.get("files")
    if files is None:
        return dict.fromkeys(samples, Unmixing(reason=NO_MATRIX))
    names = files.get(schema.SAMPLE, files.index)
    facts = dict(zip([str(name) for name in names], files.to_dict("records"), strict=True))
    matched: dict[str, Unmixing] = {}
    plan: dict[str, Unmixing] = {}
    for sample in samples:
        fact = facts.get(sample, {})
        if schema.SAMPLE not in adata.obs and len(facts) == 1:
            fact = next(iter(facts.values()))
        where = f"sample {sample!r} ({Path(str(fact.get('file', ''))).name or 'no file recorded'})"
        problem = _text(fact.get("spillover_problem"))
        if problem:
            msg = (
                f"{where}: its spillover matrix cannot be used: {problem}. Correct the file, or "
                "give a matrix with pp.compensate(adata, spillover=...)."
            )
            raise StudyError(msg)
        source = _text(fact.get("spillover_id"))
        if not source:
            plan[sample] = Unmixing(reason=NO_MATRIX)
            continue
        if source not in matched:
            matrix = _recorded_matrix(found, source, where)
            matched[source] = _matched(adata, matrix, where=where, source=source)
        plan[sample] = matched[source]
    return plan


def _text(value: object) -> str:
    """Return a cell of a table as text; missing values are empty."""
    return "" if value is None or value != value else str(value)  # noqa: PLR0124, NaN


def _recorded_matrix(found: dict[str, Any], source: str, where: str) -> pd.DataFrame:
    entry = found.get("spillover", {}).get(source)
    if entry is None:
        msg = (
            f"{where}: its spillover matrix {source!r} is not among those recorded: "
            f"{checks.listing(found.get('spillover', {}))}. Read the study again, or give a matrix."
        )
        raise StudyError(msg)
    names = [str(name) for name in np.asarray(entry["channels"]).tolist()]
    return pd.DataFrame(np.asarray(entry["values"], dtype=np.float64), index=names, columns=names)


def _given_matrix(spillover: pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    """Read and order a user's matrix: rows in the order of the columns."""
    if isinstance(spillover, pd.DataFrame):
        table = spillover
    else:
        path = Path(spillover)
        if not path.is_file():
            msg = f"expected a CSV file with a spillover matrix; {path} is not a file."
            raise StudyError(msg)
        table = pd.read_csv(path, index_col=0)
    table = table.rename(index=str, columns=lambda name: str(name).split(" :: ")[0].strip())
    if table.shape[0] != table.shape[1] or table.columns.has_duplicates:
        msg = (
            f"expected a square spillover matrix with one row per fluorochrome and one column per "
            f"channel; got {table.shape[0]} rows and {table.shape[1]} columns "
            f"{checks.listing(table.columns)}. Correct the table."
        )
        raise StudyError(msg)
    rows = [str(name).split(" :: ", maxsplit=1)[0].strip() for name in table.index]
    table.index = pd.Index(rows, dtype=str)
    if set(rows) == set(table.columns):
        table = table.loc[list(table.columns)]
    try:
        values = table.to_numpy(dtype=np.float64)
    except ValueError as error:
        msg = f"expected numbers in the spillover matrix: {error}. Correct the table."
        raise StudyError(msg) from error
    diagonal = np.diag(values)
    if np.isfinite(values).all() and not np.allclose(diagonal, 1, atol=0.05):
        msg = (
            "expected 1 on the diagonal of the spillover matrix (each fluorochrome relative to its "
            f"own channel); found {diagonal.round(3).tolist()}. Divide percentages by 100, and let "
            "rows follow the order of the columns."
        )
        raise StudyError(msg)
    return pd.DataFrame(values, index=table.columns, columns=table.columns)


def _matched(adata: AnnData, matrix: pd.DataFrame, *, where: str, source: str) -> Unmixing:
    """Place a matrix among the channels of the study and invert it."""
    matrix = _without_absent(adata, matrix, where)
    names = [str(name) for name in matrix.columns]
    columns = np.array([_place(adata, name, where) for name in names], dtype=np.int64)
    values = matrix.to_numpy(dtype=np.float64)
    linear = blocks.linear_channels(adata)[columns]
    if not linear.all():
        coupled = (values != 0) & ~np.eye(len(values), dtype=bool)
        if (coupled[linear][:, ~linear]).any() or (coupled[~linear][:, linear]).any():
            mixed = [name for name, is_linear in zip(names, linear, strict=True) if not is_linear]
            msg = (
                f"{where}: its spillover matrix joins linear channels with channels exported after "
                f"transformation: {checks.listing(mixed)}. Give a matrix without them."
            )
            raise StudyError(msg)
        columns, values = columns[linear], values[np.ix_(linear, linear)]
        names = [name for name, is_linear in zip(names, linear, strict=True) if is_linear]
    if columns.size == 0:
        reason = "no linear channel of the study is in the matrix"
        return Unmixing(source=source, reason=reason)
    try:
        inverse = unmixing_matrix(values)
    except ArgumentError as error:
        fault = checks.matrix_fault(values, names)
        msg = (
            f"{where}: {error} Its channels: {checks.listing(names, 40)}; {fault}. Correct that, or "
            "give a matrix."
        )
        raise StudyError(msg) from error
    return Unmixing(columns, inverse, float(np.linalg.cond(values)), source)


def _without_absent(adata: AnnData, matrix: pd.DataFrame, where: str) -> pd.DataFrame:
    """Leave out channels that the study does not have, if they touch no other."""
    known = {*blocks.channel_names(adata).tolist(), *adata.var_names.astype(str)}
    absent = [name for name in matrix.columns if name not in known]
    for name in absent:
        others = [other for other in matrix.columns if other != name]
        touched = matrix.loc[name, others].to_numpy() != 0
        touching = matrix.loc[others, name].to_numpy() != 0
        if touched.any() or touching.any():
            msg = (
                f"{where}: its spillover matrix needs channel {name!r}, which the study does not "
                f"have in every file; channels: {checks.listing(blocks.channel_names(adata), 40)}. "
                "Leave out the files without it, correct its name, or give a matrix without it."
            )
            raise StudyError(msg)
    kept = [name for name in matrix.columns if name not in absent]
    return matrix.loc[kept, kept]


def _place(adata: AnnData, name: str, where: str) -> int:
    """Return the place of a channel, by its name as written or by its unique name."""
    places = np.flatnonzero(blocks.channel_names(adata) == name)
    if places.size != 1:
        places = np.flatnonzero(np.asarray(adata.var_names.astype(str)) == name)
    if places.size != 1:
        msg = (
            f"{where}: channel {name!r} of its spillover matrix stands for {places.size} channels "
            "of the study. Give each channel its own name."
        )
        raise StudyError(msg)
    return int(places[0])
