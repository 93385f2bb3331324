"""What a run leaves in its output folder, each file written beside its place and then renamed."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytoclust import schema
from cytoclust.checks import listing, logger, package_version
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from anndata import AnnData

__all__ = [
    "Clock",
    "prepare_folder",
    "versions",
    "write_h5ad",
    "write_run_facts",
    "write_tables",
    "written",
]

PRODUCTS = ("report.html", "study.h5ad", "run.json", "tables", "figures", "fcs")
PACKAGES = (
    "cytoclust", "anndata", "scanpy", "umap-learn", "pynndescent", "leidenalg", "scikit-learn", "numpy", "numba",
    "scipy", "pandas", "matplotlib",
)  # fmt: skip


@dataclass
class Clock:
    """Seconds and peak memory of each step, in order."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block and keep the process's peak memory at its end."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.rows.append(
            {"step": name, "seconds": round(seconds, 2), "peak_mb": round(peak_megabytes(), 1)}
        )
        logger.info("%s took %.1f s", name, seconds)

    def table(self) -> pd.DataFrame:
        """Return one row per finished step."""
        return pd.DataFrame(self.rows, columns=["step", "seconds", "peak_mb"])


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far in MB (10**6 bytes); NaN on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS only
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def prepare_folder(out: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Make the output folder and prove that it can be written, before any long work.

    Raises
    ------
    ArgumentError
        The path is a file, cannot be written, or holds an earlier run and `overwrite` is False.
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
    earlier = [name for name in PRODUCTS if (folder / name).exists()]
    if earlier and not overwrite:
        msg = (
            f"Output folder {folder} already holds results of a run: {listing(earlier)}. "
            "Choose another folder, or ask to overwrite them."
        )
        raise ArgumentError(msg)
    return folder


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; rename it on success, remove it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    remove(beside)  # what an interrupted run may have left
    try:
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        beside.replace(path)
    finally:
        remove(beside)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write each table as ``NAME.csv``; a named index becomes the first column."""
    for name, table in tables.items():
        with written(folder / f"{name}.csv") as path:
            table.to_csv(path, index=table.index.name is not None)


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write the AnnData, compressed lightly so that a study of millions of events is quick to write."""
    with written(path) as beside:
        adata.write_h5ad(beside, compression="lzf")


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
        "parameters": steps["run"]["params"],
        "versions": versions(),
        "inputs": files[["sample", "file", "sha256", "n_events"]].to_dict("records"),
        "steps": clock.rows,
        "n_events_kept": int(adata.n_obs),
    }
    with written(path) as beside:
        beside.write_text(json.dumps(facts, indent=2, default=str) + "\n")
