"""Read a clinical study: sample sheet, panel and event files become one AnnData."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import anndata as ad
import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import FcsWarning, StudyError, StudyWarning
from cytoclust.io.sheets import read_panel, read_sheet
from cytoclust.io.sources import Source, load_source, open_source
from cytoclust.io.study_panel import (
    refuse_transformed,
    study_channels,
    unsaid_scales,
    value_limits,
)
from cytoclust.io.study_record import observations, record_study, study_params

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from cytoclust.io.fcs_loading import Loaded


def read_study(
    samples: str | PathLike[str] | pd.DataFrame,
    panel: str | PathLike[str] | pd.DataFrame | None = None,
    *,
    sample_key: str = schema.SAMPLE,
    layer_raw: bool = True,
    n_jobs: int | None = None,
    progress: bool = False,
    on_truncated: Literal["error", "keep"] = "error",
) -> AnnData:
    """Read all event files of a study (FCS, CSV or Parquet) into one AnnData.

    Everything is checked before the first event is read: sheet, panel, and the header of each file.

    Parameters
    ----------
    samples
        CSV file or table with one row per event file: ``file`` (relative to the sheet; for a table,
        to the working folder), ``sample`` and any design columns. Empty cells are missing values.
    panel
        CSV file or table with ``channel, marker, marker_class`` (type, state or none) and optionally
        ``scale`` (linear or transformed) and ``cofactor``. Without it, markers come from $PnS, and
        every fluorescence or mass channel with a marker is of class type.
    sample_key
        Column of the sheet that names the samples.
    layer_raw
        Keep a copy of the values as acquired in ``layers["raw"]``.
    n_jobs
        Files decoded at the same time; all cores by default.
    progress
        Show a progress bar.
    on_truncated
        ``"keep"`` reads the whole events of a file that ends too early, with a warning.

    Returns
    -------
    AnnData with

    - ``X`` float32 (n_events, n_channels), linear values as acquired; ``layers["raw"]`` a copy
    - ``obs["sample"]`` and the design columns (categorical), ``obs["event"]`` int32, row in the file
    - ``var``: channel, marker, channel_type, marker_class, scale, cofactor; the index is unique
    - ``uns["cytoclust"]["samples"]``: the sheet, with samples of 0 events
    - ``uns["cytoclust"]["read_study"]``: files (path, SHA-256, events, spillover), spillover
      matrices and channel ranges

    Raises
    ------
    StudyError
        If sheet, panel and files do not fit together, or values look transformed and the panel does
        not say which scale they have.
    FcsFormatError
        If a file cannot be decoded.

    Warns
    -----
    StudyWarning
        If samples have no events, or channels differ between files or are left out.
    FcsWarning
        If a file was odd.

    Notes
    -----
    Integers that $PnE declares as logarithms are converted to linear values; nothing else is scaled.
    Memory: the result, and the files that are being decoded. The result does not depend on `n_jobs`.

    References
    ----------
    Spidlen J et al. Data File Standard for Flow Cytometry, version FCS 3.2.
    Cytometry A 2021. doi:10.1002/cyto.a.24225

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pandas as pd
    >>> import cytoclust as cc
    >>> from cytoclust.io.fcs_writing import write_fcs_file
    >>> folder = tempfile.mkdtemp()
    >>> events = np.array([[900.0, 12000.0], [800.0, 30.0]])
    >>> write_fcs_file(f"{folder}/a.fcs", events, ["FSC-A", "FITC-A"], markers=["", "CD3"])
    >>> sheet = pd.DataFrame({"file": [f"{folder}/a.fcs"], "sample": ["a"], "visit": ["d0"]})
    >>> cc.io.read_study(sheet).shape
    (2, 2)
    """
    checks.check_one_of("on_truncated", on_truncated, ("error", "keep"))
    sheet = read_sheet(samples, sample_key=sample_key)
    table = None if panel is None else read_panel(panel)
    refuse_missing(sheet.files)
    workers = count_workers(n_jobs, len(sheet.files))
    with ThreadPoolExecutor(workers) as pool:
        sources = list(
            pool.map(lambda path: open_source(path, on_truncated=on_truncated), sheet.files)
        )
    names = list(sheet.table.index)
    var = study_channels(sources, names, table)
    report_headers(sources, names)
    starts = np.concatenate([[0], np.cumsum([source.n_events for source in sources])])
    values = np.empty((int(starts[-1]), len(var)), dtype=np.float32)
    loaded = _load(
        sources, values, starts, channels=list(var.index), workers=workers, progress=progress
    )
    report_values(loaded, names)
    refuse_transformed(var, *value_limits(values, unsaid_scales(var)))
    index = pd.Index([str(row) for row in range(len(values))])
    obs = pd.DataFrame(observations(sheet.table, np.diff(starts).tolist()), index=index)
    adata = ad.AnnData(values, obs=obs, var=var)
    if layer_raw:
        adata.layers[schema.RAW] = values.copy()
    params = study_params(samples, panel, layer_raw=layer_raw, on_truncated=on_truncated)
    record_study(adata, params=params, sources=sources, loaded=loaded, samples=sheet.table)
    return adata


def refuse_missing(files: list[Path]) -> None:
    """Refuse a sheet that names files which are not there."""
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        msg = (
            f"{len(missing)} of {len(files)} event files not found: {checks.listing(missing)}. "
            "`file` counts from the folder of the sample sheet; correct it, or put the files there."
        )
        raise StudyError(msg)


def count_workers(n_jobs: int | None, n_files: int) -> int:
    """Count the files to be read side by side."""
    from cytoclust.numerics.threads import available_threads

    wanted = available_threads() if n_jobs in (None, -1) else max(1, int(n_jobs or 1))
    return max(1, min(wanted, n_files))


def report_headers(sources: list[Source], names: list[str]) -> None:
    """Warn of what is odd in the headers, once per kind."""
    for kind, category in (("oddities", FcsWarning), ("notes", StudyWarning)):
        found: dict[str, list[str]] = {}
        for source in sources:
            for text in getattr(source, kind):
                found.setdefault(text, []).append(str(source.path))
        for text, paths in found.items():
            more = f" (and {len(paths) - 1} more files)" if len(paths) > 1 else ""
            warnings.warn(f"{paths[0]}{more}: {text}", category, stacklevel=3)
    empty = [name for name, source in zip(names, sources, strict=True) if source.n_events == 0]
    if empty:
        msg = (
            f"samples without any event: {checks.listing(empty)}; they stay in the sample table "
            "and count as 0 everywhere"
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)


def report_values(loaded: list[Loaded], names: list[str]) -> None:
    """Warn of values that are not finite or were rounded."""
    counts = [
        f"{name}: {result.n_not_finite}"
        for name, result in zip(names, loaded, strict=True)
        if result.n_not_finite
    ]
    if counts:
        msg = (
            f"values that are NaN or infinite: {checks.listing(counts)}; they are kept, and "
            "pp.flag_invalid flags their events"
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)
    rounded: dict[str, list[str]] = {}
    for name, result in zip(names, loaded, strict=True):
        if result.rounding:
            rounded.setdefault(result.rounding, []).append(name)
    for text, samples in rounded.items():
        warnings.warn(f"samples {checks.listing(samples)}: {text}", StudyWarning, stacklevel=3)


def _load(
    sources: list[Source],
    values: NDArray[np.float32],
    starts: NDArray[np.int64],
    *,
    channels: list[str],
    workers: int,
    progress: bool,
) -> list[Loaded]:
    """Decode the files side by side, each into its own rows of `values`."""

    def load(index: int) -> Loaded:
        rows = values[starts[index] : starts[index + 1]]
        result = load_source(sources[index], rows, channels)
        sources[index].table = None  # a table is no longer needed
        return result

    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(load, range(len(sources)))
        if progress:
            from rich.console import Console
            from rich.progress import track

            console = Console(stderr=True)
            results = iter(track(results, "Reading files", total=len(sources), console=console))
        return list(results)
