"""What a study's AnnData says of its samples and files: columns of ``obs``, records in ``uns``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.event_arrays import EventArrays, coded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from numpy.typing import DTypeLike, NDArray

    from cytoclust.io.fcs_loading import Loaded
    from cytoclust.io.sources import Source

__all__ = ["observations", "record_study", "study_params"]


def observations(
    samples: pd.DataFrame, counts: Sequence[int], arrays: EventArrays | None = None
) -> dict[str, Any]:
    """Return the columns of ``obs``: every event carries its sample's design, and its row in the file.

    Parameters
    ----------
    samples
        One row per sample, design columns.
    counts
        Events of each sample.
    arrays
        What makes the columns; by default they are in memory.
    """
    arrays = EventArrays(int(sum(counts))) if arrays is None else arrays
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    rows_of = [slice(end - int(n), end) for end, n in zip(ends, counts, strict=True)]

    def spread(of_sample: Iterable[Any], dtype: DTypeLike) -> NDArray[Any]:
        return arrays.filled(zip(rows_of, of_sample, strict=True), dtype)

    codes = spread(range(len(samples)), np.min_scalar_type(-max(len(samples), 1)))
    names = pd.Index([str(name) for name in samples.index])
    columns: dict[str, Any] = {schema.SAMPLE: coded(codes, names)}
    for name in samples.columns:
        design = pd.Categorical(samples[name])
        columns[str(name)] = coded(spread(design.codes, design.codes.dtype), design.categories)
    in_file = (np.arange(n_events, dtype=np.int32) for n_events in counts)
    columns[schema.EVENT] = spread(in_file, np.int32)
    return columns


def study_params(samples: object, panel: object, **options: Any) -> dict[str, Any]:
    """Return the parameters to record: absolute paths, empty for tables."""

    def place(given: Any) -> str:
        return (
            "" if given is None or isinstance(given, pd.DataFrame) else str(Path(given).absolute())
        )

    return {"samples": place(samples), "panel": place(panel), **options}


def record_study(
    adata: AnnData,
    *,
    params: dict[str, Any],
    sources: list[Source],
    loaded: list[Loaded],
    samples: pd.DataFrame,
    names: list[str] | None = None,
) -> None:
    """Write what is known of sheet and files to ``uns``; `names` of the sources, by default all."""
    files, spillover = file_table(sources, loaded, list(samples.index) if names is None else names)
    ranges = channel_ranges(sources, list(adata.var_names))
    checks.record(adata, schema.READ_STUDY, params, files=files, spillover=spillover, ranges=ranges)
    adata.uns[schema.UNS][schema.SAMPLES] = samples.copy()


def file_table(
    sources: list[Source], loaded: list[Loaded], names: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return one row per file, and each different spillover matrix once."""
    matrices: dict[str, Any] = {}
    known: dict[tuple[Any, ...], str] = {}
    identifiers = []
    for source in sources:
        matrix = source.spillover
        if matrix is None:
            identifiers.append("")
            continue
        key = (*matrix.columns, matrix.to_numpy().tobytes())
        if key not in known:
            known[key] = f"spillover_{len(known) + 1}"
            matrices[known[key]] = {
                "channels": np.array(list(matrix.columns), dtype=object),
                "values": matrix.to_numpy(dtype=np.float64),
            }
        identifiers.append(known[key])
    table = pd.DataFrame(
        {
            schema.SAMPLE: names,
            "file": [str(source.path) for source in sources],
            "sha256": [result.sha256 for result in loaded],
            "n_events": np.array([source.n_events for source in sources], dtype=np.int64),
            "n_not_finite": np.array([result.n_not_finite for result in loaded], dtype=np.int64),
            "spillover_id": identifiers,
            "spillover_problem": [source.spillover_problem for source in sources],
            "timestep": np.array([source.timestep for source in sources], dtype=np.float64),
        },
        index=pd.Index([str(number) for number in range(len(names))]),
    )
    return table, matrices


def channel_ranges(sources: list[Source], channels: list[str]) -> NDArray[np.float64]:
    """Return the largest range ($PnR) of each channel over the files, NaN where unknown."""
    largest = np.full(len(channels), np.nan)
    for source in sources:
        columns = [source.channels.index(name) for name in channels]
        largest = np.fmax(largest, source.ranges[columns])
    return largest
