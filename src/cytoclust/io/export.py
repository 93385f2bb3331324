"""Write events back to FCS: as acquired, with cluster, phenotype, UMAP and quality channels."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError, FcsWarning, StudyError, StudyWarning
from cytoclust.event_arrays import category_column
from cytoclust.io.channels import unique_names
from cytoclust.io.export_channels import Extra, excluded, extra_channels
from cytoclust.io.fcs_scaling import logarithmic
from cytoclust.io.fcs_writing import replacing, write_fcs_file
from cytoclust.io.sources import Source, load_source, open_source
from cytoclust.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from anndata import AnnData
    from numpy.typing import NDArray

UNSAFE = re.compile(r"[^\w\-.+=@()]+")
LONGEST_NAME = 120


@dataclass
class Acquired:
    """The events of one sample as acquired, and what their file says about them."""

    events: NDArray[np.float32]
    channels: list[str]
    markers: list[str]
    ranges: NDArray[np.float64]
    keywords: dict[str, str]
    spillover: tuple[list[str], NDArray[np.float64]] | None


@dataclass
class Places:
    """Where the events of each sample are: rows of the AnnData, and what was excluded of it."""

    rows: dict[str, Any]
    excluded: dict[str, tuple[NDArray[np.integer], NDArray[np.integer]]]


def write_fcs(
    adata: AnnData,
    path: str | PathLike[str],
    *,
    obs_keys: Sequence[str] | None = None,
    umap: bool = True,
    quality: bool = True,
    progress: bool = False,
) -> list[Path]:
    """Write the events of a study as FCS 3.1 files with the results as further channels.

    Parameters
    ----------
    adata
        Study read by `io.read_study`.
    path
        A folder, which gets one file per sample; or one file, if the name ends in ``.fcs``.
    obs_keys
        Columns of ``obs`` to write. Categories become codes 1, 2, ... in their order; numbers and
        flags stay. By default leiden, phenotype and phenotype_cluster, where they are there.
    umap
        Write ``obsm["X_umap"]`` as UMAP_1 and UMAP_2.
    quality
        Write the quality flags (0 or 1) and qc_pass.
    progress
        Show a progress bar.

    Returns
    -------
    The FCS files written. Beside them stands one code book per coded column, such as
    ``phenotype_codes.csv`` (code, phenotype, n_events).

    Raises
    ------
    StudyError
        If an event file is gone or changed, and ``layers["raw"]`` does not hold all its events.
    ArgumentError
        If `obs_keys` cannot be written, or an event is there twice.

    Notes
    -----
    All original events are written in their original order, linear as acquired, read again from the
    files that `io.read_study` recorded (their SHA-256 must agree). Events that
    `pp.filter_events` excluded carry their flags, code 0, and UMAP 0. Keywords, spillover and
    channels that the study left out are kept. Each file is written beside and renamed.

    References
    ----------
    Spidlen J et al. Data File Standard for Flow Cytometry, version FCS 3.1.
    Cytometry A 2010. doi:10.1002/cyto.a.20825

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pandas as pd
    >>> import cytoclust as cc
    >>> from cytoclust.io.fcs_writing import write_fcs_file
    >>> folder = tempfile.mkdtemp()
    >>> events = np.array([[900.0, 12000.0], [800.0, 30.0]])
    >>> write_fcs_file(f"{folder}/a.fcs", events, ["FSC-A", "FITC-A"], markers=["", "CD3"])
    >>> adata = cc.io.read_study(pd.DataFrame({"file": [f"{folder}/a.fcs"], "sample": ["a"]}))
    >>> adata.obs["phenotype"] = pd.Categorical(["T cell", "unassigned"])
    >>> [file.name for file in cc.io.write_fcs(adata, f"{folder}/results")]
    ['a.fcs']
    """
    read = checks.require_step(adata, schema.READ_STUDY, "io.read_study")
    extra = extra_channels(adata, obs_keys, umap=umap, quality=quality)
    places = _places(adata)
    files = _readable(read["files"])
    samples = [str(name) for name in files[schema.SAMPLE]]
    target = Path(path)
    single = target.suffix.lower() == ".fcs"
    folder = target.parent if single else target
    folder.mkdir(parents=True, exist_ok=True)
    names = safe_names(samples)
    written: list[Path] = []
    parts: list[tuple[Acquired, NDArray[np.float32]]] = []
    with progress_bar("Writing FCS", len(samples), shown=progress) as advance:
        for number, sample in enumerate(samples):
            acquired = _acquired(
                adata, files.iloc[number], places, ranges=np.asarray(read["ranges"])
            )
            n_events = len(acquired.events)
            added = _of_sample(adata, sample, places, extra=extra, n_events=n_events)
            advance(1)
            if single:
                parts.append((acquired, added))
                continue
            written.append(folder / f"{names[number]}.fcs")
            _write(written[-1], acquired, added, extra=extra)
    if single:
        joined, added, extra = _joined(parts, extra, samples)
        _write(target, joined, added, extra=extra)
        written.append(target)
    for key, book in extra.books.items():
        with replacing(folder / f"{safe_names([key])[0]}_codes.csv") as temporary:
            book.to_csv(temporary, index=False)
    return written


def _readable(files: pd.DataFrame) -> pd.DataFrame:
    """Leave out the files that could not be decoded, and say so."""
    if "problem" not in files:
        return files
    bad = files["problem"].astype(str) != ""
    if bad.any():
        msg = (
            f"{int(bad.sum())} of {len(files)} samples get no FCS file, since theirs could not be "
            f"decoded: {checks.listing(files.loc[bad, schema.SAMPLE])}."
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)
    return files[~bad]


def _places(adata: AnnData) -> Places:
    """Find the rows and the excluded events of every sample, once."""
    checks.check_key(adata, schema.SAMPLE)
    column = category_column(adata, schema.SAMPLE).cat
    names = [str(name) for name in column.categories]
    rows = dict(zip(names, chunks.group_rows(column.codes.to_numpy(), len(names)), strict=True))
    dropped = excluded(adata)
    if dropped is None:
        return Places(rows, {})
    owners = [str(name) for name in dropped.get("samples", names)]
    found = {}
    for name, own in zip(
        owners, chunks.group_rows(np.asarray(dropped["sample"]), len(owners)), strict=True
    ):
        found[name] = (np.asarray(dropped["event"])[own], np.asarray(dropped["flags"])[own])
    return Places(rows, found)


def safe_names(names: Sequence[str]) -> list[str]:
    """Make names harmless as file names, and different where letter case does not count."""
    taken: set[str] = set()
    safe = []
    for name in names:
        base = UNSAFE.sub("_", name).strip("._ ")[:LONGEST_NAME].strip("._ ") or "sample"
        candidate, number = base, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{base}_{number}"
        taken.add(candidate.casefold())
        safe.append(candidate)
    return safe


def _of_sample(
    adata: AnnData, sample: str, places: Places, *, extra: Extra, n_events: int
) -> NDArray[np.float32]:
    """Return the further channels of all original events of one sample."""
    out = np.zeros((n_events, len(extra.names)), dtype=np.float32)
    mine = places.rows.get(sample, slice(0, 0))
    rows = adata.obs[schema.EVENT].to_numpy()[mine]
    if len(np.unique(rows)) < len(rows) or (len(rows) and rows.max() >= n_events):
        msg = (
            f"obs['event'] must name each event of sample {sample!r} once, below {n_events}; it does "
            "not. Give the AnnData that io.read_study made, or a subset of it."
        )
        raise ArgumentError(msg)
    if len(rows) and extra.names:
        out[rows] = extra.of_rows(mine)
    if sample in places.excluded:
        events, bits = places.excluded[sample]
        for bit, flag in enumerate(schema.QC_FLAGS):
            if flag in extra.names:
                out[events, extra.names.index(flag)] = (bits >> bit) & 1
    return out


def _acquired(
    adata: AnnData, record: pd.Series[Any], places: Places, *, ranges: NDArray[np.float64]
) -> Acquired:
    """Read one sample's file again, or take ``layers["raw"]`` if the file is not the same."""
    path, sample, n_events = Path(record["file"]), str(record["sample"]), int(record["n_events"])
    why = "is gone"
    if path.is_file():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FcsWarning)  # given when the study was read
            source = open_source(path, on_truncated="keep")
        events = np.empty((source.n_events, len(source.channels)), dtype=np.float32)
        if load_source(source, events, source.channels).sha256 == record["sha256"]:
            return _from_source(adata, source, events)
        why = "has changed since"
    rows = places.rows.get(sample, slice(0, 0))
    order = adata.obs[schema.EVENT].to_numpy()[rows]
    if schema.RAW not in adata.layers or len(order) < n_events:
        msg = (
            f"{path}: the file of sample {sample!r} {why}, and layers['raw'] holds {len(order)} of its "
            f"{n_events} events, so that all events cannot be written. Put the file back as it was."
        )
        raise StudyError(msg)
    warnings.warn(
        f"{path}: the file {why}; sample {sample!r} is written from layers['raw'], without keywords",
        StudyWarning,
        stacklevel=3,
    )
    found = chunks.map_blocks(np.array, adata.layers[schema.RAW], blocks=[rows])[0]
    return Acquired(
        np.asarray(found[np.argsort(order, kind="stable")], dtype=np.float32),
        [str(name) for name in adata.var_names],
        [str(name) for name in adata.var[schema.MARKER]],
        ranges,
        {},
        None,
    )


def _from_source(adata: AnnData, source: Source, events: NDArray[np.float32]) -> Acquired:
    panel = dict(zip(adata.var_names, adata.var[schema.MARKER], strict=True))
    markers = [
        str(panel.get(name) or written)
        for name, written in zip(source.channels, source.markers, strict=True)
    ]
    keywords: dict[str, str] = {}
    if source.header is not None:
        words = source.header.segments.keywords
        keywords = {
            key.strip(): value
            for key, value in words.items()
            if key.strip().isprintable() and key.strip()
        }
        for column in logarithmic(words, source.header.layout):
            keywords.pop(f"$P{column + 1}G", None)  # linear values now
    spillover = None
    if source.spillover is not None:
        spillover = (list(source.spillover.columns), source.spillover.to_numpy(dtype=np.float64))
    return Acquired(events, source.channels, markers, source.ranges, keywords, spillover)


def _joined(
    parts: list[tuple[Acquired, NDArray[np.float32]]], extra: Extra, samples: list[str]
) -> tuple[Acquired, NDArray[np.float32], Extra]:
    """Put all samples into one: the channels that all have, and a channel for the sample."""
    if len(parts) == 1:
        return parts[0][0], parts[0][1], extra
    first = parts[0][0]
    common = [name for name in first.channels if all(name in part.channels for part, _ in parts)]
    columns = [first.channels.index(name) for name in common]
    events = np.concatenate(
        [part.events[:, [part.channels.index(name) for name in common]] for part, _ in parts]
    )
    numbers = np.repeat(
        np.arange(1, len(parts) + 1), [len(part.events) for part, _ in parts]
    ).astype(np.float32)
    added = np.column_stack([numbers, np.concatenate([values for _, values in parts])])
    shared = first.spillover
    if shared is not None and not all(
        part.spillover is not None
        and part.spillover[0] == shared[0]
        and np.array_equal(part.spillover[1], shared[1])
        for part, _ in parts
    ):
        shared = None  # one file can hold one matrix only
    counts = [len(part.events) for part, _ in parts]
    book = pd.DataFrame(
        {"code": np.arange(1, len(parts) + 1), schema.SAMPLE: samples, "n_events": counts}
    )
    joined = Acquired(
        events,
        common,
        [first.markers[column] for column in columns],
        np.fmax.reduce(
            [part.ranges[[part.channels.index(n) for n in common]] for part, _ in parts]
        ),
        {},
        shared if shared is not None and set(shared[0]) <= set(common) else None,
    )
    books = {schema.SAMPLE: book, **extra.books}
    return joined, added, Extra([schema.SAMPLE, *extra.names], [], books, None, extra.nothing)


def _write(path: Path, acquired: Acquired, added: NDArray[np.float32], *, extra: Extra) -> None:
    """Write one file; the standard allows no comma in names."""
    names = unique_names(
        tuple(name.replace(",", "_") for name in (*acquired.channels, *extra.names))
    )
    n_channels = len(acquired.channels)
    upper = [
        float(np.ceil(np.max(column, initial=1.0, where=np.isfinite(column)))) + 1
        for column in added.T
    ]
    spillover = None
    if acquired.spillover is not None:
        clean = dict(zip(acquired.channels, names[:n_channels], strict=True))
        spillover = ([clean[name] for name in acquired.spillover[0]], acquired.spillover[1])
    write_fcs_file(
        path,
        np.concatenate([acquired.events, added], axis=1),
        names,
        markers=[*acquired.markers, *[""] * len(extra.names)],
        keywords=acquired.keywords,
        spillover=spillover,
        ranges=[*acquired.ranges, *upper],
    )
