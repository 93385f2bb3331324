"""First sample sheet, panel and study file, guessed from a folder of event files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import listing
from cytoclust.cli.file_names import BASELINES, BLOOD, guess_design, natural
from cytoclust.errors import CytoclustError, StudyError
from cytoclust.io.channels import channel_type, guessed_class, guessed_marker
from cytoclust.io.sources import Source, load_source, open_source
from cytoclust.io.study_panel import DETECTOR, refuse_transformed, unsaid_scales, value_limits
from cytoclust.markers import resolve_panel
from cytoclust.tl.counts_table import FORMULA_STARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Draft", "draft_study"]

FCS: Final = {".fcs", ".lmd"}
TABLES: Final = {".csv", ".tsv", ".txt", ".parquet", ".pq"}
SHEETS: Final = {"samples.csv", "panel.csv"}
FEWEST_COLUMNS: Final = 3  # of a table of events
SIGNALLING: Final = re.compile(r"(p-?[A-Z0-9p][A-Za-z0-9]+)[ _(]")  # phosphorylated proteins
# what treatment changes on a cell, rather than what the cell is
STATE: Final = frozenset(
    {
        "PD-1", "PD-L1", "TIM-3", "LAG-3", "TIGIT", "CTLA-4", "CD39", "CD44", "CD69", "CD71", "CD73", "CD137", "CD154",
        "ICOS", "Ki-67", "TOX", "T-bet", "GZMB", "GZMK", "GNLY", "Perforin", "NKG2A", "NKG2C", "NKG2D",
    }
)  # fmt: skip


@dataclass
class Draft:
    """What was found and guessed; `notes` says what a user should check or fill in."""

    samples: pd.DataFrame
    panel: pd.DataFrame
    n_events: int
    keys: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def draft_study(folder: Path) -> Draft:
    """Find the event files below a folder and guess sample sheet, panel and design.

    Parameters
    ----------
    folder
        Searched with everything below it, but not the results of earlier runs.

    Returns
    -------
    Draft
        ``samples``: file (relative to the folder), sample and guessed design columns; ``panel``:
        channel, marker, marker_class, and scale where the values look transformed.

    Raises
    ------
    StudyError
        No event file is there, or none can be read.
    """
    notes: list[str] = []
    sources = open_all(event_files(folder), folder, notes)
    names = [source.path.relative_to(folder.absolute()).as_posix() for source in sources]
    design = guess_design(names)
    # a path that a spreadsheet would run as a formula is written with its folder
    files = [f"./{name}" if name.startswith(FORMULA_STARTS) else name for name in names]
    samples = pd.DataFrame({"file": files, "sample": sample_names(names)})
    samples = in_reading_order(pd.concat([samples, design], axis=1))
    panel = draft_panel(sources, names, notes)
    keys = {
        key: column
        for key, column in (("compartment", "compartment"), ("donor", "patient"))
        if column in design
    }
    factor = next((name for name in ("visit", "treatment", "group") if name in design), None)
    if factor is not None:
        keys |= {"treatment": factor, "baseline": first_level(list(design[factor]))}
    elif "compartment" in design:
        keys |= {"baseline": first_level(list(design["compartment"]))}
    notes += design_notes(samples, keys)
    return Draft(samples, panel, sum(source.n_events for source in sources), keys, notes)


def in_reading_order(samples: pd.DataFrame) -> pd.DataFrame:
    """Sort by patient, blood before other tissues, baseline before later visits, then by file.

    The order of a sheet is the order of its levels, and the first compartment is the reference.
    """

    def rank(row: dict[str, str]) -> tuple[object, ...]:
        visit = row.get("visit", "")
        return (
            natural(row.get("patient", "")),
            rank_of(row.get("compartment", ""), BLOOD),
            rank_of(visit, BASELINES),
            natural(visit),
            natural(row["file"]),
        )

    rows = [{str(k): str(v) for k, v in row.items()} for row in samples.to_dict("records")]
    order = sorted(range(len(samples)), key=lambda i: rank(rows[i]))
    return samples.iloc[order].reset_index(drop=True)


def rank_of(value: str, known: str) -> int:
    """Return a value's place in a list of names ``a|b|c``, the last if it is not in it."""
    listed = known.split("|")
    plain = value.casefold().replace(" ", "")
    return listed.index(plain) if plain in listed else len(listed)


def event_files(folder: Path) -> list[Path]:
    """Return the FCS files below a folder, or its tables if there is none, in natural order."""
    if not folder.is_dir():
        msg = f"{folder} is not a folder. Give the folder that holds the event files."
        raise StudyError(msg)
    root = folder.absolute()
    results = {file.parent for file in root.rglob("run.json")}
    found = [
        path
        for path in root.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and results.isdisjoint(path.parents)
    ]
    for endings in (FCS, TABLES):
        files = [
            path for path in found if path.suffix.lower() in endings and path.name not in SHEETS
        ]
        if files:
            return sorted(files, key=lambda path: natural(path.relative_to(root).as_posix()))
    msg = (
        f"{folder}: no event file (.fcs, .csv or .parquet) was found in it or below. "
        "Give the folder that holds them."
    )
    raise StudyError(msg)


def open_all(files: Sequence[Path], folder: Path, notes: list[str]) -> list[Source]:
    """Open what can be read; say what is left out and why."""
    opened, wrong = [], []
    for path in files:
        try:
            source = open_source(path)
        except CytoclustError as error:
            wrong.append(str(error))
            continue
        if path.suffix.lower() in TABLES and len(source.channels) < FEWEST_COLUMNS:
            wrong.append(f"{path}: fewer than {FEWEST_COLUMNS} columns of numbers, no event table")
            continue
        opened.append(source)
    if not opened:
        msg = f"{folder}: none of its {len(files)} files can be read: {listing(wrong, 3)}. Export them again."
        raise StudyError(msg)
    notes += [f"Left out: {text}" for text in wrong]
    return opened


def sample_names(names: Sequence[str]) -> list[str]:
    """Name samples after their files; with the folder where two files have one name."""
    stems = [Path(name).stem for name in names]
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    named = [
        str(Path(name).with_suffix("")).replace("/", "_") if stem in twice else stem
        for name, stem in zip(names, stems, strict=True)
    ]
    taken: Counter[str] = Counter()
    unique = []
    for name in named:
        taken[name] += 1
        unique.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return unique


def first_level(values: Sequence[str]) -> str:
    """Return the level that by its name comes before all others, else the first in natural order."""
    levels = {value for value in values if value}
    return min(levels, key=lambda level: (rank_of(level, f"{BASELINES}|{BLOOD}"), natural(level)))


def draft_panel(sources: list[Source], names: list[str], notes: list[str]) -> pd.DataFrame:
    """Guess marker and class of every channel; say what the files disagree on."""
    rows: dict[str, tuple[str, str]] = {}
    for source in sources:
        for channel, written, marker in zip(
            source.channels, source.written, source.markers, strict=True
        ):
            if channel not in rows or (marker and not rows[channel][1]):
                rows[channel] = (written or channel, marker)
    described = [describe(name, *rows[name], table=sources[0].header is None) for name in rows]
    panel = pd.DataFrame(described, columns=["channel", "kind", "marker", "marker_class"])
    canonical, problems = resolve_panel(panel["marker"])
    state = np.array(
        [
            name in STATE or SIGNALLING.fullmatch(f"{marker} ") is not None
            for name, marker in zip(canonical, panel["marker"], strict=True)
        ]
    ) & (panel["marker_class"] == "type")
    panel.loc[state, "marker_class"] = "state"
    notes += problems
    leave_out(panel, sources, names, notes=notes)
    repeat = panel["marker"].duplicated() & (panel["marker_class"] != "none")
    for channel, marker in panel.loc[repeat, ["channel", "marker"]].itertuples(index=False):
        notes.append(f"Channel {channel} repeats the marker {marker}: class none. Choose one.")
    panel.loc[repeat, "marker_class"] = "none"
    if looks_transformed(sources, panel):
        panel["scale"] = "transformed"
        notes.append(
            "The values look transformed already (as FlowJo channel values): scale is transformed, so "
            "they will be neither compensated nor transformed again. Correct it if they are linear."
        )
    notes += panel_notes(panel)
    return panel.drop(columns="kind")


def describe(channel: str, written: str, marker: str, *, table: bool) -> tuple[str, str, str, str]:
    """Return channel, kind, marker and class."""
    kind = channel_type(channel, marker)
    named = guessed_marker(written, marker) if kind in {"fluorescence", "mass"} else marker
    if kind in {"scatter", "time"}:
        named = ""
    if kind == "viability":
        named = named or written
    if kind == "mass" and not named and (inside := SIGNALLING.match(written)):
        named = inside[1]
    if table and not named and kind not in {"scatter", "time"} and not DETECTOR.search(channel):
        named = channel  # tables are headed by markers
    return channel, kind, named, guessed_class(kind, named)


def leave_out(
    panel: pd.DataFrame, sources: list[Source], names: list[str], *, notes: list[str]
) -> None:
    """Give channels that some files lack the class none, and say which files."""
    for i, channel in enumerate(panel["channel"]):
        lacking = [
            name
            for name, source in zip(names, sources, strict=True)
            if channel not in source.channels
        ]
        if lacking:
            panel.loc[i, "marker_class"] = "none"
            notes.append(
                f"Channel {channel} is missing in {len(lacking)} of {len(sources)} files, {listing(lacking, 3)}: "
                "class none. Files of another panel belong to a study of their own."
            )


def looks_transformed(sources: list[Source], panel: pd.DataFrame) -> bool:
    """Tell whether the first file with events looks exported after transformation."""
    source = next((source for source in sources if source.n_events), None)
    if source is None:
        return False
    values = np.empty((source.n_events, len(source.channels)), np.float32)
    load_source(source, values, source.channels)
    kinds = dict(zip(panel["channel"], panel["kind"], strict=True))
    var = pd.DataFrame(
        {schema.CHANNEL_TYPE: [kinds[name] for name in source.channels], schema.SCALE: ""},
        index=pd.Index(source.channels),
    )
    try:
        refuse_transformed(var, *value_limits(values, unsaid_scales(var)))
    except StudyError:
        return True
    return False


def panel_notes(panel: pd.DataFrame) -> list[str]:
    """Say which channels have no marker and which markers were taken as state."""
    notes = []
    measured = panel["kind"].isin(["fluorescence", "mass"])
    empty = panel.loc[measured & (panel["marker"] == ""), "channel"]
    if len(empty):
        notes.append(
            f"panel.csv: the files name no marker for {listing(empty, 40)}. Write the marker of each and its "
            "marker_class: type (what a cell is), state (what treatment may change) or none."
        )
    state = panel.loc[panel["marker_class"] == "state", "marker"]
    if len(state):
        notes.append(
            f"panel.csv: taken as state, so they do not shape the clusters but are tested: {listing(state, 40)}."
        )
    if not (panel["marker_class"] == "type").any():
        notes.append("panel.csv: no marker has class type yet; a run needs at least one.")
    return notes


def design_notes(samples: pd.DataFrame, keys: dict[str, str]) -> list[str]:
    """Say which design columns were read from the file names, and what is missing."""
    notes = []
    for name in samples.columns[2:]:
        told = sorted({str(value) for value in samples[name]} - {""}, key=natural)
        lacking = int((samples[name] == "").sum())
        more = f"; empty in {lacking} rows" if lacking else ""
        notes.append(f"samples.csv: {name} is read from the file names: {listing(told)}{more}.")
    if "treatment" in keys:
        notes.append(
            f"study.toml: the baseline is {keys['baseline']!r}. Correct it if another level comes first."
        )
    elif "compartment" not in keys:
        notes.append(
            "samples.csv: the file names tell no visit, treatment or compartment. Add a column for what is to be "
            "compared (any name, for example visit) and name it in study.toml as treatment."
        )
    if "donor" not in keys:
        notes.append(
            "samples.csv: the file names tell no patient. If some samples come from one person, add a column "
            "(for example patient) and name it in study.toml as donor."
        )
    return notes
