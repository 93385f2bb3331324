"""Convert a study into a zarr store, file by file, and open it without reading it."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema, tasks
from cytoclust.errors import FcsFormatError, StudyError, StudyWarning
from cytoclust.event_arrays import EventArrays
from cytoclust.io import store as stores
from cytoclust.io.export import safe_names
from cytoclust.io.fcs_loading import Loaded
from cytoclust.io.sheets import read_panel, read_sheet
from cytoclust.io.sources import Source, load_source, open_source
from cytoclust.io.store import SampleFacts
from cytoclust.io.study import count_workers, refuse_missing, report_headers, report_values
from cytoclust.io.study_panel import refuse_transformed, study_channels, unsaid_scales, value_limits
from cytoclust.io.study_record import observations, record_study, study_params

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from cytoclust.io.sheets import SampleSheet

__all__ = ["convert_study", "open_study"]


def convert_study(
    samples: str | PathLike[str] | pd.DataFrame,
    panel: str | PathLike[str] | pd.DataFrame | None,
    store: str | PathLike[str],
    *,
    on_truncated: Literal["error", "keep"] = "error",
    on_unreadable: Literal["error", "exclude"] = "error",
    client: Any = None,
    progress: bool = False,
) -> Path:
    """Decode all event files of a study into a zarr store, which may be larger than memory.

    Parameters
    ----------
    samples, panel
        As for `read_study`.
    store
        Folder of the store; new, empty, or of an earlier conversion, which is then gone on with.
    on_truncated
        ``"keep"`` reads the whole events of a file that ends too early, with a warning.
    on_unreadable
        ``"exclude"`` leaves out files that cannot be decoded: their samples stay in the sheet without
        events, and a warning and the table of files say why.
    client
        Dask client whose workers decode; None takes the active one, or threads without one.
    progress
        Show a progress bar.

    Returns
    -------
    Path
        The store, for `open_study`.

    Raises
    ------
    StudyError
        If sheet, panel, files and store do not fit together, or the store is of a newer version.
    FcsFormatError
        If a file cannot be decoded (unless excluded). What was converted stays.
    OSError
        If the store cannot be written, as on a full disk. What was converted stays.

    Warns
    -----
    StudyWarning
        Files were excluded; else as `read_study`.

    Notes
    -----
    Each sample becomes an AnnData of its own inside the store (``samples/<name>``, chunks of at most
    131,072 rows), written beside and renamed. Converting again reads only files that are not in the
    store or have changed (size or date, then SHA-256), and those whose chunks are lost; samples that
    left the sheet leave the store. At most as many files as there are workers are in memory at one
    time. Workers elsewhere must see files and store under the same paths.

    Examples
    --------
    >>> import cytoclust as cc, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = cc.simulate.study(folder, n_patients=2, events_per_sample=(200, 300), rng=0)
    >>> store = cc.io.convert_study(
    ...     f"{folder}/samples.csv", f"{folder}/panel.csv", f"{folder}/store"
    ... )
    >>> adata = cc.io.open_study(store)
    >>> type(adata.X).__name__
    'Array'
    """
    checks.check_one_of("on_truncated", on_truncated, ("error", "keep"))
    checks.check_one_of("on_unreadable", on_unreadable, ("error", "exclude"))
    sheet = read_sheet(samples)
    table = None if panel is None else read_panel(panel)
    refuse_missing(sheet.files)
    place = Path(store).absolute()
    stores.begin_store(place)
    sources, unreadable = open_headers(
        sheet, on_truncated=on_truncated, exclude=on_unreadable == "exclude"
    )
    names = list(sources)
    var = study_channels(list(sources.values()), names, table)
    report_headers(list(sources.values()), names)
    folders = dict(zip(sheet.table.index, safe_names(list(sheet.table.index)), strict=True))
    remove_others(place, set(folders.values()))
    with tasks.client_active(client):
        found = convert_samples(
            {name: stores.sample_folder(place, folders[name]) for name in names}, sources,
            var=var, on_truncated=on_truncated, exclude=on_unreadable == "exclude", progress=progress,
        )  # fmt: skip
    facts = {name: result for name, result in found.items() if isinstance(result, SampleFacts)}
    unreadable |= {name: result for name, result in found.items() if isinstance(result, str)}
    report_unreadable(unreadable, len(sheet.files))
    loaded = {name: Loaded(f.sha256, f.n_not_finite, f.rounded) for name, f in facts.items()}
    report_values(list(loaded.values()), list(loaded))
    lows, highs = ([getattr(f, end) for f in facts.values()] for end in ("lowest", "highest"))
    refuse_transformed(var, min(lows, default=np.inf), max(highs, default=-np.inf))
    uns = study_facts(
        sheet, var, sources=sources, loaded=loaded, unreadable=unreadable, folders=folders,
        params=study_params(samples, panel, on_truncated=on_truncated, on_unreadable=on_unreadable),
    )  # fmt: skip
    stores.finish_store(place, var, uns)
    return place


def open_headers(
    sheet: SampleSheet, *, on_truncated: str, exclude: bool
) -> tuple[dict[str, Source], dict[str, str]]:
    """Read the header of every file; those that cannot be read, and why, apart."""

    def header(path: Path) -> Source | str:
        try:
            source = open_source(path, on_truncated=on_truncated)
        except FcsFormatError as error:
            if not exclude:
                raise
            return str(error)
        source.table = None  # read again when its turn comes
        return source

    with ThreadPoolExecutor(count_workers(None, len(sheet.files))) as pool:
        found = dict(zip(sheet.table.index, pool.map(header, sheet.files), strict=True))
    unreadable = {str(name): text for name, text in found.items() if isinstance(text, str)}
    if len(unreadable) == len(found):
        msg = f"none of {len(found)} event files can be read: {checks.listing(unreadable.values(), 3)}"
        raise StudyError(msg)
    return {str(n): source for n, source in found.items() if isinstance(source, Source)}, unreadable


def remove_others(store: Path, names: set[str]) -> None:
    """Remove samples that left the sheet, and what an interrupted conversion left."""
    import shutil

    for folder in (store / stores.SAMPLES).glob("*"):
        if folder.name not in names:
            shutil.rmtree(folder)


def convert_samples(
    folders: dict[str, Path],
    sources: dict[str, Source],
    *,
    var: pd.DataFrame,
    on_truncated: str,
    exclude: bool,
    progress: bool,
) -> dict[str, SampleFacts | str]:
    """Convert what is not in the store yet; facts of every sample, or why its file cannot be read."""
    import dask

    from cytoclust.progress import progress_bar

    channels, unsaid = [str(name) for name in var.index], unsaid_scales(var)
    found: dict[str, SampleFacts | str] = {}
    for name, folder in folders.items():
        facts = stores.read_facts(folder)
        if facts is not None and is_same(
            facts, sources[name].path, channels=channels, folder=folder
        ):
            found[name] = facts
    missing = [name for name in folders if name not in found]
    call = dask.delayed(convert_sample, pure=False)
    delayed = [
        call(name, sources[name].path, folders[name], channels, unsaid, on_truncated, exclude)
        for name in missing
    ]
    checks.steps.info("Converting %d of %d files", len(missing), len(folders))
    with progress_bar("Converting files", len(delayed), shown=progress) as advance:
        found |= dict(zip(missing, tasks.run_tasks(delayed, advance), strict=True))
    return {name: found[name] for name in folders}


def is_same(facts: SampleFacts, path: Path, *, channels: list[str], folder: Path) -> bool:
    """Tell whether a sample in the store is that of the file, whole, with these channels."""
    if facts.file != str(path) or facts.channels != channels:
        return False
    if stores.lost_chunks(folder, facts.n_events):
        return False
    now = path.stat()
    if (now.st_size, now.st_mtime_ns) == (facts.n_bytes, facts.modified):
        return True
    if now.st_size != facts.n_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256


def convert_sample(  # noqa: PLR0917, a task of a worker
    name: str,
    path: Path,
    folder: Path,
    channels: list[str],
    unsaid: np.ndarray,
    on_truncated: str,
    exclude: bool,  # noqa: FBT001
) -> SampleFacts | str:
    """Decode one file and write it to the store; a text says why it cannot be decoded."""
    source = open_source(path, on_truncated=on_truncated)
    before = path.stat()
    events = np.empty((source.n_events, len(channels)), dtype=np.float32)
    try:
        loaded = load_source(source, events, channels)
    except FcsFormatError as error:
        if not exclude:
            raise
        return str(error)
    lowest, highest = value_limits(events, unsaid)
    facts = SampleFacts(
        name, str(path), loaded.sha256, before.st_size, before.st_mtime_ns, len(events),
        loaded.n_not_finite, list(loaded.rounded), channels, lowest, highest,
    )  # fmt: skip
    stores.write_sample(folder, events, facts)
    return facts


def report_unreadable(unreadable: dict[str, str], n_files: int) -> None:
    """Warn of the files that were excluded."""
    if unreadable:
        msg = (
            f"{len(unreadable)} of {n_files} event files cannot be decoded and are excluded; their "
            f"samples stay in the sheet without events: {checks.listing(unreadable.values(), 3)}"
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)


def study_facts(
    sheet: SampleSheet,
    var: pd.DataFrame,
    *,
    sources: dict[str, Source],
    loaded: dict[str, Loaded],
    unreadable: dict[str, str],
    folders: dict[str, str],
    params: dict[str, Any],
) -> dict[str, Any]:
    """Return ``uns`` as `read_study` records it, with the samples' folders and what is excluded."""
    import anndata as ad

    adata = ad.AnnData(np.zeros((0, len(var)), np.float32), var=var)
    whole = [name for name in sources if name in loaded]
    record_study(
        adata, params=params, samples=sheet.table, names=whole,
        sources=[sources[name] for name in whole], loaded=[loaded[name] for name in whole],
    )  # fmt: skip
    read = adata.uns[schema.UNS][schema.READ_STUDY]
    files = read["files"].set_index(schema.SAMPLE, drop=False)
    files = files.reindex(sheet.table.index)
    files[schema.SAMPLE] = list(sheet.table.index)
    files["file"] = [str(path) for path in sheet.files]
    files["n_events"] = files["n_events"].fillna(0).astype(np.int64)
    files["n_not_finite"] = files["n_not_finite"].fillna(0).astype(np.int64)
    for column in ("sha256", "spillover_id", "spillover_problem"):
        files[column] = files[column].fillna("").astype(str)
    files["problem"] = [unreadable.get(str(name), "") for name in files.index]
    files["folder"] = [folders[str(name)] for name in files.index]
    files.index = pd.Index([str(number) for number in range(len(files))])
    read["files"] = files
    return dict(adata.uns)


def open_study(store: str | PathLike[str], *, check_sheet: bool = True) -> AnnData:
    """Open a store that `convert_study` wrote as a lazy AnnData; events are read when needed.

    Parameters
    ----------
    store
        Folder of the store.
    check_sheet
        Refuse a store whose sample sheet has changed since it was converted.

    Returns
    -------
    AnnData
        As `read_study` gives it, but ``X`` and ``layers["raw"]`` are Dask arrays (the same one, row
        chunks within samples), and events are numbered instead of named.

    Raises
    ------
    StudyError
        The folder is no store, the conversion was not finished, chunks are lost, the store is of a
        newer version, or the sample sheet has changed.

    Notes
    -----
    Columns of ``obs`` and coordinates are NumPy arrays in files without a name in the folder of the store,
    about 40 bytes an event at the end of an analysis: the operating system holds of them in memory
    what it has room for, and they vanish with the AnnData. ``pp`` verbs add to the Dask array what
    they do to values; the store itself is not changed. For a study that fits in memory
    ``adata.to_memory()`` gives an ordinary AnnData.

    Examples
    --------
    >>> import cytoclust as cc, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = cc.simulate.study(folder, n_patients=2, events_per_sample=(200, 300), rng=0)
    >>> store = cc.io.convert_study(f"{folder}/samples.csv", None, f"{folder}/store")
    >>> cc.io.open_study(store).obs["sample"].nunique()
    13
    """
    import anndata as ad

    place = Path(store).absolute()
    stores.check_store(place)
    var, uns = stores.read_record(place)
    uns[schema.UNS][schema.READ_STUDY]["params"]["store"] = str(place)
    files = uns[schema.UNS][schema.READ_STUDY]["files"]
    samples = uns[schema.UNS][schema.SAMPLES]
    if check_sheet:
        refuse_changed_sheet(place, uns)
    lost = {}
    for row in files.to_dict("records"):
        folder = stores.sample_folder(place, row["folder"])
        n_lost = len(stores.lost_chunks(folder, int(row["n_events"])))
        if n_lost:
            lost[str(row[schema.SAMPLE])] = n_lost
    stores.refuse_lost(place, lost)
    counts = [int(n) for n in files["n_events"]]
    values = stores.lazy_events(place, list(files["folder"]), counts, n_channels=len(var))
    adata = ad.AnnData(np.zeros((0, len(var)), np.float32), var=var, uns=uns)
    arrays = EventArrays(sum(counts), place)
    obs = pd.DataFrame(observations(samples, counts, arrays), copy=False)
    chunks.put_events(adata, obs, values=values, layers={schema.RAW: values})
    return adata


def refuse_changed_sheet(store: Path, uns: dict[str, Any]) -> None:
    """Refuse a store whose sample sheet, if it is a file, says something else by now."""
    read = uns[schema.UNS][schema.READ_STUDY]
    path = Path(str(read["params"].get("samples", "")))
    if not path.is_file():
        return
    sheet = read_sheet(path)
    before, now = uns[schema.UNS][schema.SAMPLES], sheet.table
    added = [name for name in now.index if name not in before.index]
    removed = [name for name in before.index if name not in now.index]
    files = dict(zip(before.index, read["files"]["file"], strict=True))
    moved = [
        name
        for name, file in zip(now.index, sheet.files, strict=True)
        if name in files and files[name] != str(file)
    ]
    columns = sorted(set(before.columns) ^ set(now.columns))
    both = [name for name in before.index if name in now.index]
    for column in before.columns.intersection(now.columns):
        old, new = (t.loc[both, column].astype(object).fillna("") for t in (before, now))
        if not (old.astype(str).to_numpy() == new.astype(str).to_numpy()).all():
            columns.append(str(column))
    order = not (added or removed) and list(before.index) != list(now.index)
    differences = {
        "samples added": added, "samples removed": removed, "other files": moved,
        "design columns changed": columns, "order": ["of the samples"] if order else [],
    }  # fmt: skip
    found = [f"{what}: {checks.listing(names)}" for what, names in differences.items() if names]
    if found:
        msg = (
            f"{store}: the sample sheet {path} has changed since the store was written: "
            f"{'; '.join(found)}. {stores.AGAIN}"
        )
        raise StudyError(msg)
