"""Put a study in its folder: all of it or nothing."""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import checks
from cytoclust.errors import ArgumentError
from cytoclust.io.fcs_writing import write_fcs_file
from cytoclust.simulate import panel
from cytoclust.simulate.events import KINDS
from cytoclust.simulate.populations import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cytoclust.simulate.events import SampleEvents

FIRST_DAY: Final = date(2021, 3, 1)
SHEET, PANEL, TRUTH = "samples.csv", "panel.csv", "truth"
MONTHS: Final = (
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One row of the sample sheet; `slot` is its place among all planned visits."""

    name: str
    file: str
    patient: str
    compartment: str
    visit: str
    batch: str
    day: int
    slot: int


def write_sample(
    folder: Path, sample: Sample, drawn: SampleEvents, *, spillover: NDArray[np.float64]
) -> None:
    """Write one FCS 3.1 file."""
    day = FIRST_DAY + timedelta(days=sample.day)
    markers = {dye.channel: dye.marker for dye in panel.DYES}
    values = drawn.events
    # ticks are whole numbers, and $PnR is above the last one
    last_tick = float(values[-1, -1]) + 1
    write_fcs_file(
        folder / sample.file,
        values,
        panel.CHANNELS,
        markers=[markers.get(channel, "") for channel in panel.CHANNELS],
        keywords={
            "$CYT": "cytoclust simulator",
            "$DATE": f"{day.day:02d}-{MONTHS[day.month - 1]}-{day.year}",
            "$FIL": sample.file,
            "$SMNO": sample.name,
            "$SRC": sample.compartment,
            "$TIMESTEP": f"{panel.TIMESTEP:g}",
        },
        spillover=(panel.FLUORESCENCE, spillover),
        ranges=[panel.RANGE] * (len(panel.CHANNELS) - 1) + [max(panel.RANGE, last_tick)],
    )


def write_tables(
    folder: Path,
    samples: Sequence[Sample],
    drawn: Sequence[SampleEvents],
    *,
    effects: pd.DataFrame,
    state_effects: pd.DataFrame,
) -> None:
    """Write sheet, panel and the truth tables."""
    rows = [(s.file, s.name, s.patient, s.compartment, s.visit, s.batch) for s in samples]
    columns = ["file", "sample", "patient", "compartment", "visit", "batch"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / SHEET, index=False)
    panel.panel_table().to_csv(folder / PANEL, index=False)
    truth = folder / TRUTH
    truth.mkdir()
    write_events(truth / "events.parquet", samples, drawn)
    effects.to_csv(truth / "effects.csv", index=False)
    state_effects.to_csv(truth / "state_effects.csv", index=False)
    stretches = [
        (sample.name, start, end - 1)
        for sample, (start, end) in zip(samples, (item.drift for item in drawn), strict=True)
        if end > start
    ]
    columns = ["sample", "first_event", "last_event"]
    pd.DataFrame(stretches, columns=columns).to_csv(truth / "drift.csv", index=False)


def write_events(path: Path, samples: Sequence[Sample], drawn: Sequence[SampleEvents]) -> None:
    """Write truth/events.parquet, one row per event of every file, sample by sample."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    def named(codes: NDArray[np.integer], names: Sequence[str]) -> Any:
        places = pa.array(codes.astype(np.int32))
        return pa.DictionaryArray.from_arrays(places, pa.array(names, pa.string())).cast(
            pa.string()
        )

    text = pa.string()
    columns = {"sample": text, "event": pa.int32(), "population": text, "kind": text}
    with ParquetWriter(path, pa.schema(list(columns.items()))) as writer:
        for sample, item in zip(samples, drawn, strict=True):
            size = len(item.kind)
            population = np.where(item.population < 0, len(NAMES), item.population)  # of none: ""
            rows = {
                "sample": named(np.zeros(size, np.int32), [sample.name]),
                "event": pa.array(np.arange(size, dtype=np.int32)),
                "population": named(population, [*NAMES, ""]),
                "kind": named(item.kind, KINDS),
            }
            writer.write_table(pa.table(rows, schema=writer.schema))


@contextmanager
def staged(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to fill beside the final places; move its content there if all went well."""
    earlier = _earlier_files(target, overwrite=overwrite)
    made = not target.exists()
    stage = target / f".{uuid.uuid4().hex}.tmp"
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        msg = (
            f"folder {target} cannot be written ({error.strerror or error}); expected a place where "
            "files may be made. Choose another folder, or change its permissions."
        )
        raise ArgumentError(msg) from error
    done = False
    try:
        yield stage
        for path in earlier:
            path.unlink(missing_ok=True)
        (target / TRUTH).mkdir(exist_ok=True)
        for path in sorted((stage / TRUTH).iterdir()):
            path.replace(target / TRUTH / path.name)
        # the sheet comes last: a folder with a sheet is a whole study
        for path in sorted(stage.iterdir(), key=lambda path: (path.name == SHEET, path.name)):
            if path.is_file():
                path.replace(target / path.name)
        done = True
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and not done:
            shutil.rmtree(target, ignore_errors=True)


def _earlier_files(target: Path, *, overwrite: bool) -> list[Path]:
    """Return the files of a study that stands in `target`; raise unless they may be replaced."""
    if target.exists() and not target.is_dir():
        msg = f"{target} is a file; expected a folder for the study. Give another path."
        raise ArgumentError(msg)
    if not target.is_dir():
        return []
    found = sorted(path for path in target.iterdir() if path.suffix.lower() == ".fcs")
    sheet = target / SHEET
    if (found or sheet.exists()) and not overwrite:
        names = checks.listing([path.name for path in [*found, sheet] if path.exists()], 4)
        msg = (
            f"{target} holds {names} already; expected a folder without FCS files and {SHEET}. "
            "Choose another folder, or set overwrite=True to replace the study in it."
        )
        raise ArgumentError(msg)
    if not sheet.exists():
        return []
    listed = set(pd.read_csv(sheet, dtype=str).get("file", pd.Series(dtype=str)))
    return [sheet, *(path for path in found if path.name in listed)]
