"""One FCS file for people: as an AnnData, and as a list of facts."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import check_one_of
from cytoclust.errors import FcsWarning
from cytoclust.io.channels import channel_type, guessed_class, guessed_marker, unique_names
from cytoclust.io.fcs import FcsDataset, FcsHeader, not_finite, read_fcs_datasets, read_headers
from cytoclust.io.fcs_loading import Loaded, load_fcs
from cytoclust.io.fcs_scaling import amplification, is_time, number_or_nan, scalings

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

SECONDS_PER_DAY = 86_400
CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?::(\d{1,2})|(\.\d+))?", re.ASCII)


def read_fcs(
    path: str | PathLike[str],
    *,
    scale: bool = False,
    time_step: bool = False,
    on_truncated: Literal["error", "keep"] = "error",
) -> AnnData:
    """Read the first data set of an FCS file into AnnData.

    Parameters
    ----------
    path
        The file.
    scale
        Apply $PnE (integers only) and $PnG; without it, values are those stored.
    time_step
        Multiply the time channel by $TIMESTEP, which gives seconds.
    on_truncated
        ``"keep"`` reads the whole events of a file that ends too early, with a warning.

    Returns
    -------
    AnnData with ``X`` float32 (n_events, n_channels); ``obs["event"]`` int32; ``var`` with channel,
    marker, channel_type, marker_class, scale and cofactor; ``uns["cytoclust"]["read_fcs"]`` with the
    keywords (frame), the spillover matrix (frame, if there is one), ``spillover_problem``, ``ranges``
    and what scaling was applied.

    Raises
    ------
    FcsFormatError
        If the file cannot be decoded.

    Notes
    -----
    ``var_names`` are made unique; ``var["channel"]`` has the names as written. Use
    `read_fcs_datasets` for values in their stored type, or for further data sets.

    References
    ----------
    Spidlen J et al. Data File Standard for Flow Cytometry, version FCS 3.2.
    Cytometry A 2021. doi:10.1002/cyto.a.24225

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import cytoclust as cc
    >>> from cytoclust.io.fcs_writing import write_fcs_file
    >>> folder = tempfile.mkdtemp()
    >>> write_fcs_file(f"{folder}/two_events.fcs", np.eye(2), ["FSC-A", "SSC-A"])
    >>> cc.io.read_fcs(f"{folder}/two_events.fcs").shape
    (2, 2)
    """
    check_one_of("on_truncated", on_truncated, ("error", "keep"))
    headers = read_headers(path, on_truncated=on_truncated)
    header = headers[0]
    keywords = header.segments.keywords
    applied = scalings(header.channels, keywords, header.layout, scale=scale, time_step=time_step)
    values = np.empty((header.located.n_events, len(header.channels)), dtype=np.float32)
    every = list(range(len(header.channels)))
    loaded = load_fcs(Path(path), header, values, columns=every, scalings=applied, digest=False)
    _warn_of(path, headers, loaded)
    obs = pd.DataFrame(
        {schema.EVENT: np.arange(len(values), dtype=np.int32)},
        index=pd.Index([str(row) for row in range(len(values))]),
    )
    rows = [_channel_row(*names) for names in zip(header.channels, header.markers, strict=True)]
    names = pd.Index(unique_names(header.channels))
    adata = ad.AnnData(values, obs=obs, var=pd.DataFrame(rows, index=names))
    facts: dict[str, Any] = {
        "file": str(path),
        "fcs_version": header.segments.version,
        "keywords": pd.DataFrame(
            {"keyword": list(keywords), "value": list(keywords.values())},
            index=pd.Index([str(number) for number in range(len(keywords))]),
        ),
        "ranges": header.ranges,
        "scaling": "; ".join(scaling.text for scaling in applied),
        "spillover_problem": header.spillover_problem,
    }
    if header.spillover is not None:
        facts["spillover"] = {
            "channels": np.array(list(header.spillover.columns), dtype=object),
            "values": header.spillover.to_numpy(dtype=np.float64),
        }
    adata.uns[schema.UNS] = {"read_fcs": facts}
    return adata


def _warn_of(path: str | PathLike[str], headers: list[FcsHeader], loaded: Loaded) -> None:
    texts = list(headers[0].oddities)
    if loaded.n_not_finite:
        texts.append(not_finite(loaded.n_not_finite))
    if loaded.rounding:
        texts.append(loaded.rounding)
    if len(headers) > 1:
        texts.append(f"holds {len(headers)} data sets; the first is taken")
    for text in texts:
        warnings.warn(f"{path}: {text}", FcsWarning, stacklevel=3)


def _channel_row(channel: str, written: str) -> dict[str, str | float]:
    kind = channel_type(channel, written)
    marker = guessed_marker(channel, written) if kind in {"fluorescence", "mass"} else written
    return {
        schema.CHANNEL: channel,
        schema.MARKER: marker,
        schema.CHANNEL_TYPE: kind,
        schema.MARKER_CLASS: guessed_class(kind, marker),
        schema.SCALE: "linear",
        schema.COFACTOR: float("nan"),
    }


def describe_fcs(path: str | PathLike[str]) -> dict[str, Any]:
    """List what an FCS file says and what is odd about it.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    A dict of plain values, ready for JSON: ``file``, ``bytes``, ``data_sets`` (how many), then of the
    first: version, instrument, sample, date, data_type, events, missing_events, time_span_seconds,
    time_span_source, spillover (keyword, channels, problem; None if there is none) and channels (one
    dict each: number, channel, marker, type, bits, range, scale, and minimum and maximum of the
    finite stored values); ``further_data_sets``, the same of each; and ``oddities``, one text each.

    Raises
    ------
    FcsFormatError
        If the file cannot be decoded.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import cytoclust as cc
    >>> from cytoclust.io.fcs_writing import write_fcs_file
    >>> folder = tempfile.mkdtemp()
    >>> write_fcs_file(f"{folder}/two_events.fcs", np.eye(2), ["FSC-A", "SSC-A"])
    >>> cc.io.describe_fcs(f"{folder}/two_events.fcs")["events"]
    2
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FcsWarning)  # they are listed as oddities
        datasets = read_fcs_datasets(path, on_truncated="keep")
    several = len(datasets) > 1
    first, *others = [_facts(dataset) for dataset in datasets]
    facts = {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "data_sets": len(datasets),
        **first,
    }
    facts["further_data_sets"] = others
    facts["oddities"] = [
        f"data set {number}: {oddity}" if several else oddity
        for number, dataset in enumerate(datasets, start=1)
        for oddity in dataset.oddities
    ]
    return facts


def _facts(dataset: FcsDataset) -> dict[str, Any]:
    words = dataset.keywords
    seconds, source = _time_span(dataset)
    byte_order = words.text("$BYTEORD")
    return {
        "version": dataset.version,
        "instrument": " ".join(filter(None, (words.text("$CYT"), words.text("$CYTSN")))),
        "sample": " ".join(
            filter(None, (words.text(key) for key in ("$SRC", "$SMNO", "TUBE NAME", "$FIL")))
        ),
        "date": " ".join(filter(None, (words.text("$DATE"), words.text("$BTIM")))),
        "data_type": f"{words.text('$DATATYPE')}, byte order {byte_order or 'not given'}",
        "events": dataset.n_events,
        "missing_events": dataset.n_missing,
        "time_span_seconds": seconds,
        "time_span_source": source,
        "spillover": _spillover_fact(dataset),
        "channels": [_channel_fact(dataset, column) for column in range(len(dataset.channels))],
    }


def _spillover_fact(dataset: FcsDataset) -> dict[str, Any] | None:
    if not dataset.spillover_keyword:
        return None
    matrix = dataset.spillover
    return {
        "keyword": dataset.spillover_keyword,
        "channels": [] if matrix is None else list(matrix.columns),
        "problem": dataset.spillover_problem,
    }


def _channel_fact(dataset: FcsDataset, column: int) -> dict[str, Any]:
    values = dataset.events[:, column]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    channel, marker = dataset.channels[column], dataset.markers[column]
    upper = dataset.ranges[column]
    key = f"$P{column + 1}"
    decades, offset = amplification(dataset.keywords, column + 1)
    gain = number_or_nan(dataset.keywords.text(f"{key}G"))
    scale = f"gain {gain:g}" if np.isfinite(gain) and gain != 1 else ""
    if decades:
        scale = f"log {decades:g},{offset:g}"
    return {
        "number": column + 1,
        "channel": channel,
        "marker": marker,
        "type": channel_type(channel, marker),
        "bits": dataset.keywords.text(f"{key}B"),
        "range": float(upper) if np.isfinite(upper) else None,
        "scale": scale,
        "minimum": float(values.min()) if len(values) else None,
        "maximum": float(values.max()) if len(values) else None,
    }


def _time_span(dataset: FcsDataset) -> tuple[float | None, str]:
    """Return the seconds from first to last event, or of the acquisition, and who says so."""
    column = next((index for index, name in enumerate(dataset.channels) if is_time(name)), None)
    if column is not None and dataset.n_events and dataset.timestep > 0:
        with np.errstate(invalid="ignore"):  # signalling NaN
            times = dataset.events[:, column].astype(np.float64)
        times = times[np.isfinite(times)]
        if len(times):
            span = (float(times.max()) - float(times.min())) * dataset.timestep
            return (
                span if np.isfinite(span) else None
            ), f"{dataset.channels[column]} and $TIMESTEP"
    begin = _clock(dataset.keywords.text("$BTIM"))
    end = _clock(dataset.keywords.text("$ETIM"))
    if begin is None or end is None:
        return None, ""
    return (end - begin) % SECONDS_PER_DAY, "$BTIM and $ETIM"


def _clock(text: str) -> float | None:
    """Return the seconds since midnight of hh:mm:ss, with .cc (3.1) or :tt (3.0) behind."""
    match = CLOCK.fullmatch(text)
    if match is None:
        return None
    whole = 3600 * int(match[1]) + 60 * int(match[2]) + int(match[3])
    if match[4]:
        return whole + int(match[4]) / 60
    return whole + float(match[5] or 0)
