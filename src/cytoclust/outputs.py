"""What a run leaves in its output folder: written aside, and moved into place when all is there."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytoclust import checks, get, schema
from cytoclust.checks import listing, package_version
from cytoclust.chunks import is_lazy
from cytoclust.errors import ArgumentError
from cytoclust.progress import watched
from cytoclust.slots import restore_events, write_slots
from cytoclust.tasks import active_client
from cytoclust.tl.counts_table import FORMULA_STARTS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from anndata import AnnData

__all__ = [
    "Clock",
    "finished",
    "prepare_folder",
    "read_finished",
    "refuse_earlier",
    "refuse_inputs_inside",
    "result_tables",
    "staged",
    "versions",
    "write_run_facts",
    "write_study",
    "write_tables",
]

STEPS = {  # what a waiting user reads
    "read": "Reading files",  # has a bar of its own
    "prepare": "Quality control, compensation and transformation",
    "cluster": "Clustering every event",
    "embed": "Map of every event",
    "name": "Naming the populations",
    "map": "Placing the events in the study",
    "test": "Testing what changed",
    "tables": "Writing tables",
    "fcs": "Writing FCS files",
    "report": "Drawing figures and report",
    "h5ad": "Writing the AnnData",
}
OWN_BAR = ("read",)
RUN_FACTS = "run.json"
PRODUCTS = ("report.html", "study.h5ad", "study.h5", RUN_FACTS, "tables", "figures", "fcs")
PACKAGES = (
    "cytoclust", "anndata", "scanpy", "umap-learn", "pynndescent", "leidenalg", "scikit-learn", "numpy", "numba",
    "scipy", "pandas", "matplotlib",
)  # fmt: skip


@dataclass
class Clock:
    """Seconds and peak memory of each step, in order."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    progress: bool = False

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block and keep the process's peak memory at its end."""
        start = time.perf_counter()
        with spinner(STEPS[name]) if self.progress and name not in OWN_BAR else nullcontext():
            yield
        seconds = time.perf_counter() - start
        self.rows.append(
            {"step": name, "seconds": round(seconds, 2), "peak_mb": round(peak_megabytes(), 1)}
        )
        checks.steps.info("%s: %.1f s", STEPS[name], seconds)

    def table(self) -> pd.DataFrame:
        """Return one row per finished step."""
        return pd.DataFrame(self.rows, columns=["step", "seconds", "peak_mb"])


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show on a terminal's standard error what is being done, how far it is, and what memory it takes."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[memory]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(text, total=None, memory="")

        def advanced(done: int, total: int) -> None:
            if done == 1:
                shown.reset(task, total=total)
            shown.update(task, completed=done, memory=memory_in_use())

        with watched(advanced):
            yield


def memory_in_use() -> str:
    """Say how much memory the workers of the active client take, or this process at its peak."""
    client = active_client()
    if client is None:
        return f"{peak_megabytes() / 1000:.1f} GB at most"
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    used = [worker["metrics"]["memory"] / 1e9 for worker in workers if worker.get("metrics")]
    return f"{len(used)} workers, {max(used, default=0.0):.1f} GB the largest"


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far in MB (10**6 bytes); NaN on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS only
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def prepare_folder(out: str | os.PathLike[str]) -> Path:
    """Make the output folder and prove that it can be written, before any long work.

    Raises
    ------
    ArgumentError
        The path is a file or cannot be written.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        msg = f"Output folder {folder} is a file. Give the path of a folder."
        raise ArgumentError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = f"Output folder {folder} cannot be written ({error.strerror}). Choose another folder or change its rights."
        raise ArgumentError(msg) from error
    return folder


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the run facts of an earlier run whose results are complete, else None."""
    try:
        facts: dict[str, Any] = json.loads((folder / RUN_FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    complete = all((folder / name).exists() for name in facts.get("products", PRODUCTS[:1]))
    return facts if complete and "products" in facts else None


def read_finished(folder: Path) -> AnnData:
    """Return the events of a finished run: from its study.h5ad, or lazily from its store."""
    import anndata as ad

    lazy = folder / "study.h5"
    return restore_events(lazy) if lazy.exists() else ad.read_h5ad(folder / "study.h5ad")


def refuse_earlier(folder: Path, params: dict[str, Any]) -> None:
    """Refuse to replace the results of another run.

    Raises
    ------
    ArgumentError
        Results are there; the text says which parameters differ, if that is what differs.
    """
    there = [name for name in PRODUCTS if (folder / name).exists()]
    if not there:
        return
    facts = finished(folder) or {}
    before = facts.get("parameters", {})
    changed = [
        f"{name} {before.get(name)!r} -> {value!r}"
        for name, value in params.items()
        if before.get(name) != value
    ]
    if not facts:
        why = ""
    elif changed:
        why = f" They were made with other parameters: {listing(changed)}."
    else:
        why = " They were made from other inputs (files, sample sheet, panel or version)."
    msg = (
        f"Output folder {folder} already holds results of a run: {listing(there)}.{why} "
        "Choose another folder, or ask to overwrite them."
    )
    raise ArgumentError(msg)


def refuse_inputs_inside(folder: Path, files: pd.DataFrame) -> None:
    """Refuse to replace earlier results that are the event files of this run.

    Raises
    ------
    ArgumentError
        An event file lies where a product of this run goes.
    """
    places = [(folder / name).resolve() for name in PRODUCTS]
    inside = [
        path for path in files["file"] if any(place in Path(path).parents for place in places)
    ]
    if inside:
        msg = (
            f"Output folder {folder} holds event files of this study, which its results would "
            f"replace: {listing(inside, 5)}. Choose another folder."
        )
        raise ArgumentError(msg)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a folder to write every product to; on success all move to `folder`, else all vanish.

    Products of an earlier run leave together, also those that this run does not make.
    """
    stage = folder / ".part"
    remove(stage)  # what a killed run may have left
    stage.mkdir()
    try:
        yield stage
        for name in PRODUCTS:
            remove(folder / name)
            if (stage / name).exists():
                (stage / name).replace(folder / name)
    finally:
        remove(stage)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write each table as ``NAME.csv``; a named index becomes the first column.

    Text that a spreadsheet would run as a formula gets a single quote before it (`harmless`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        index = table.index.name is not None
        harmless_table(table.reset_index() if index else table).to_csv(
            folder / f"{name}.csv", index=False
        )


def harmless_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of which no header and no text cell is a formula to a spreadsheet."""
    columns = {
        position: table.iloc[:, position]
        if pd.api.types.is_numeric_dtype(dtype)
        else [harmless(value) for value in table.iloc[:, position]]
        for position, dtype in enumerate(table.dtypes)
    }
    safe = pd.DataFrame(columns, index=table.index)
    safe.columns = pd.Index([harmless(name) for name in table.columns])
    return safe


def harmless(value: object) -> object:
    """Put a single quote before text that a spreadsheet would run as a formula.

    That is text that begins with ``= + - @``, tab or carriage return and is no number: sample names
    and levels come from a sheet that somebody else wrote. A carriage return, which would end the row
    unquoted, becomes a blank. ``tl.differential_abundance`` takes the
    quote off again where it reads counts.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")
    if not value.startswith(FORMULA_STARTS):
        return text
    try:
        float(value)
    except ValueError:
        return f"'{text}"
    return text


def write_study(adata: AnnData, folder: Path) -> None:
    """Write ``study.h5ad``; of a lazy study ``study.h5``, all but the events that its store holds."""
    if is_lazy(adata.X):
        write_slots(adata, folder / "study.h5")
    else:  # compressed lightly, so that millions of events are quick to write
        adata.write_h5ad(folder / "study.h5ad", compression="lzf")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape results."""
    return {
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
    }


def write_run_facts(adata: AnnData, clock: Clock, path: Path) -> None:
    """Write parameters, versions, input hashes, seconds and peak memory as ``run.json``."""
    steps = adata.uns[schema.UNS]
    files = steps[schema.READ_STUDY]["files"]
    facts = {
        "fingerprint": steps[schema.RUN]["fingerprint"],
        "parameters": steps[schema.RUN]["params"],
        "versions": versions(),
        "inputs": files[["sample", "file", "sha256", "n_events"]].to_dict("records"),
        "steps": clock.rows,
        "n_events_kept": int(adata.n_obs),
        "products": [name for name in PRODUCTS if (path.parent / name).exists()],
    }
    path.write_text(json.dumps(facts, indent=2, default=str) + "\n")


def result_tables(adata: AnnData) -> dict[str, pd.DataFrame]:
    """Collect the tables that a run leaves, by file name."""
    steps = adata.uns[schema.UNS]
    tables = {
        "counts": get.counts(adata).rename_axis("population"),
        "qc": steps[schema.FILTER_EVENTS]["counts"].rename_axis(schema.SAMPLE),
    }
    names = {
        schema.ANNOTATE_PHENOTYPES: ("phenotypes", "clusters", "cluster"),
        schema.SUBCLUSTER_LINEAGES: ("lineages", "clusters", "cluster"),
        schema.MAP_EVENTS: ("mapped", "samples", schema.SAMPLE),
    }
    for step, (file, key, index) in names.items():
        if step in steps:
            tables[file] = steps[step][key].rename_axis(index)
    results = {
        "differential_abundance": "abundance",
        "abundance_levels": "abundance_levels",
        "differential_state": "state",
        "trajectories": "trajectories",
    }
    return tables | {file: steps[step]["table"] for step, file in results.items() if step in steps}
