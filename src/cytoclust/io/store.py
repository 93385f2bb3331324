"""The zarr store of a study: one AnnData per sample, so that no chunk spans two, and one record of all.

::

    STORE/zarr.json            attributes: format, whether all samples are there
    STORE/samples/NAME/        an AnnData of one event file: X (chunks of rows), obs, var; facts
    STORE/study/               var and uns of the study

A sample is written beside and renamed, so that it is there as a whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust.checks import listing
from cytoclust.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "CHUNK_EVENTS", "SampleFacts", "check_store", "lost_chunks", "read_events", "read_facts", "sample_folder",
    "write_sample",
]  # fmt: skip

FORMAT: Final = 1
KEY: Final = "cytoclust_store"
CHUNK_EVENTS: Final = 1 << 17  # rows of a chunk
SAMPLES: Final = "samples"
STUDY: Final = "study"
PLAIN: Final = {"shards": None}  # as AnnData has written so far
AGAIN: Final = "Run io.convert_study again: it reads only files that are missing in the store."


@dataclass
class SampleFacts:
    """What the store knows of one event file: enough to tell whether it must be read again."""

    sample: str
    file: str
    sha256: str
    n_bytes: int
    modified: int
    n_events: int
    n_not_finite: int
    rounded: list[str]
    channels: list[str]
    lowest: float
    highest: float


def sample_folder(store: Path, name: str) -> Path:
    """Return where a sample lies; `name` is one of `safe_names`."""
    return store / SAMPLES / name


def begin_store(store: Path) -> None:
    """Make the store, or mark it as not whole while it is being written.

    Raises
    ------
    StudyError
        The folder holds something else, or a store of a newer version.
    """
    import zarr

    if store.exists() and any(store.iterdir()):
        check_store(store, whole=False)
    group = zarr.open_group(str(store), mode="a", zarr_format=3)
    group.attrs[KEY] = {"format": FORMAT, "whole": False}


def finish_store(store: Path, var: pd.DataFrame, uns: dict[str, Any]) -> None:
    """Write what is known of the study, and then that the store is whole."""
    import zarr
    from anndata.io import write_elem

    group = zarr.open_group(str(store), mode="a")
    write_elem(group, STUDY, {"var": var, "uns": uns}, dataset_kwargs=PLAIN)
    group.attrs[KEY] = {"format": FORMAT, "whole": True}


def read_record(store: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return var and uns of the study."""
    import zarr
    from anndata.io import read_elem

    found = read_elem(zarr.open_group(str(store), mode="r")[STUDY])
    return found["var"], found["uns"]


def check_store(store: Path, *, whole: bool = True) -> None:
    """Refuse what is no store, one of a newer version, and (`whole`) one that was not finished."""
    try:
        attributes = json.loads((store / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        facts = attributes[KEY]
    except (OSError, ValueError, KeyError) as error:
        msg = (
            f"{store}: not a store that io.convert_study wrote ({type(error).__name__}: {error}). "
            "Give the folder of such a store, or an empty or new folder to write one."
        )
        raise StudyError(msg) from error
    if facts["format"] > FORMAT:
        msg = (
            f"{store}: written by a newer version of cytoclust (store format {facts['format']}, this "
            f"version reads up to {FORMAT}). Update cytoclust, or convert the study into another folder."
        )
        raise StudyError(msg)
    if whole and not facts["whole"]:
        n_samples = len(list((store / SAMPLES).glob("[!.]*")))
        msg = f"{store}: the conversion was not finished ({n_samples} samples are there). {AGAIN}"
        raise StudyError(msg)


def write_sample(folder: Path, events: NDArray[np.float32], facts: SampleFacts) -> None:
    """Write the events of one file, (n_events, n_channels), as an AnnData; a whole one or none."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # what an interrupted conversion left
    try:
        group = zarr.open_group(str(beside), mode="w", zarr_format=3)
        group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        rows = max(1, min(CHUNK_EVENTS, len(events)))
        packed = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)
        array = group.create_array(
            "X", shape=events.shape, chunks=(rows, max(1, events.shape[1])), dtype="float32",
            compressors=[packed, Crc32cCodec()], fill_value=np.nan,
            attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
            config={"write_empty_chunks": True},
        )  # fmt: skip
        array[:] = events
        write_names(group, "obs", np.arange(len(events), dtype=np.int32))
        write_names(group, "var", np.array(facts.channels, dtype=str))
        group.attrs[KEY] = asdict(facts)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_names(group: Any, key: str, names: NDArray[Any]) -> None:
    """Write a data frame without columns as AnnData does, which is not made for several threads."""
    frame = group.create_group(
        key,
        attributes={
            "encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index", "column-order": [],
        },
    )  # fmt: skip
    text = names.dtype.kind == "U"
    index = frame.create_array(
        "_index", shape=names.shape, dtype="string" if text else names.dtype,
        attributes={"encoding-type": "string-array" if text else "array", "encoding-version": "0.2.0"},
    )  # fmt: skip
    index[:] = names.astype(object) if text else names


def read_facts(folder: Path) -> SampleFacts | None:
    """Return what the store knows of a sample, or None if it is not there."""
    try:
        found = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        return SampleFacts(**found[KEY])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lost_chunks(folder: Path, n_events: int) -> list[int]:
    """Return the chunks of a sample that are not there; zarr would read them as empty."""
    n_chunks = -(-n_events // CHUNK_EVENTS)
    return [i for i in range(n_chunks) if not chunk_file(folder, i).is_file()]


def chunk_file(folder: Path, number: int) -> Path:
    """Return the file of a chunk of rows."""
    return folder / "X" / "c" / str(number) / "0"


def read_events(folder: str, number: int, rows: tuple[int, int]) -> NDArray[np.float32]:
    """Read one chunk of a sample, of which `rows` are the first and the one behind the last.

    Raises
    ------
    StudyError
        The chunk is lost or damaged.
    """
    import zarr

    place = Path(folder)
    start, stop = rows
    why = "is not there"
    if chunk_file(place, number).is_file():
        try:
            array = zarr.open_array(str(place / "X"), mode="r")
            return np.asarray(array[start:stop], dtype=np.float32)
        except (OSError, ValueError, RuntimeError) as error:
            why = f"cannot be read ({type(error).__name__}: {error})"
    msg = (
        f"{place.parent.parent}: events {start} to {stop} of sample {place.name!r} (chunk {number}): the "
        f"chunk {why}. Remove {place} if it is damaged. {AGAIN}"
    )
    raise StudyError(msg)


def refuse_lost(store: Path, lost: dict[str, int]) -> None:
    """Raise for samples whose chunks are not all there."""
    if lost:
        named = listing(f"{name} ({n})" for name, n in lost.items())
        msg = f"{store}: chunks of {len(lost)} samples are not in the store: {named}. {AGAIN}"
        raise StudyError(msg)


def lazy_events(
    store: Path, folders: Sequence[str], counts: Sequence[int], *, n_channels: int
) -> Any:
    """Return the events of all samples as one Dask array, (n_events, n_channels); nothing is read."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    name = f"events-{dask_token(store, folders, counts)}"
    tasks: dict[tuple[str, int, int], Any] = {}
    sizes: list[int] = []
    for folder, n_events in zip(folders, counts, strict=True):
        path = str(sample_folder(store, folder))
        for number, start in enumerate(range(0, n_events, CHUNK_EVENTS)):
            stop = min(start + CHUNK_EVENTS, n_events)
            tasks[name, len(sizes), 0] = (partial(read_events, rows=(start, stop)), path, number)
            sizes.append(stop - start)
    if not sizes:
        return da.zeros((0, n_channels), dtype=np.float32)
    graph = HighLevelGraph.from_collections(name, tasks)
    return da.Array(graph, name, chunks=(tuple(sizes), (n_channels,)), dtype=np.float32)


def dask_token(store: Path, folders: Sequence[str], counts: Sequence[int]) -> str:
    """Name the events of a store by its place and what it holds."""
    from dask.base import tokenize

    found = [read_facts(sample_folder(store, folder)) for folder in folders]
    return str(tokenize(str(store), [f.sha256 if f else "" for f in found], list(counts)))
