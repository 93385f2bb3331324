"""Finished steps of a long run, kept beside its results until they are there.

A run's fingerprint is a SHA-256 over the content of its inputs and everything that shapes the
result; a checkpoint of another fingerprint is never used.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cytoclust.checks import listing, package_version, steps
from cytoclust.chunks import is_lazy
from cytoclust.errors import StudyWarning
from cytoclust.io.sheets import read_panel, read_sheet
from cytoclust.slots import put_slots, restore_events, write_slots

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from anndata import AnnData

    from cytoclust.outputs import Clock

__all__ = ["FOLDER", "Checkpoints", "run_fingerprint"]

FOLDER: Final = ".resume"
EVENTS: Final = "events.h5ad"  # values, as they are after quality control and transformation
STATE: Final = "state.json"  # written last: what it does not name does not count


def file_digests(files: Iterable[Path]) -> list[str]:
    """Return the SHA-256 of each file's content, several files at a time."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, files))


def fingerprint(
    samples: pd.DataFrame, panel: pd.DataFrame | None, *, digests: list[str], params: dict[str, Any]
) -> str:
    """Return the SHA-256 of sheet, panel, event files, parameters and version.

    Parameters
    ----------
    samples, panel
        Checked sample sheet and panel.
    digests
        SHA-256 of each event file, in the order of the sheet.
    params
        Everything asked for that shapes the result (not the number of threads).
    """
    sheet = samples.astype(object).where(samples.notna(), None)
    levels = {
        str(name): [str(level) for level in column.cat.categories]
        for name, column in samples.items()
        if hasattr(column, "cat")
    }
    facts = {
        "version": package_version("cytoclust"),
        "samples": sheet.reset_index().to_dict("split", index=False),
        "levels": levels,  # their order decides baseline and contrasts
        "panel": None if panel is None else panel.reset_index().to_json(orient="split"),
        "files": digests,
        "params": params,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def run_fingerprint(
    samples: str | os.PathLike[str] | pd.DataFrame,
    panel: str | os.PathLike[str] | pd.DataFrame | None,
    params: dict[str, Any],
    *,
    digests: list[str] | None = None,
) -> str:
    """Return what tells this run from others; event files are hashed unless `digests` are known."""
    sheet = read_sheet(samples)
    own = [Path(name) for name in params["definitions"] if Path(name).is_file()]
    return fingerprint(
        sheet.table,
        None if panel is None else read_panel(panel),
        digests=[
            *(digests or file_digests(sheet.files)),
            *file_digests(own),
        ],
        params=params,
    )


class Checkpoints:
    """Checkpoints of one run in ``OUT/.resume``; without a folder nothing is kept or found.

    Parameters
    ----------
    folder
        Output folder of the run; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.place = None if folder is None else folder / FOLDER
        self.key = ""
        self.steps: list[str] = []

    def waiting(self) -> bool:
        """Tell whether an earlier run left finished steps."""
        return self.place is not None and (self.place / STATE).is_file()

    def load(self, clock: Clock) -> AnnData | None:
        """Return the events as the last finished step left them, if that was a run with this key.

        The clock gets the finished steps' times. Checkpoints of another run are removed.
        """
        if self.place is None or not self.waiting():
            return None
        try:
            state = json.loads((self.place / STATE).read_text(encoding="utf-8"))
            if state["fingerprint"] != self.key:
                steps.info(
                    "The steps kept from an interrupted run are of other inputs or parameters; starting anew"
                )
                self.remove()
                return None
            adata = self._read(state)
        except (OSError, ValueError, KeyError) as error:
            msg = f"the steps kept in {self.place} cannot be read ({error}); the run starts anew."
            warnings.warn(msg, StudyWarning, stacklevel=3)
            self.remove()
            return None
        self.steps = [str(step) for step in state["steps"]]
        clock.rows.extend(state["clock"])
        steps.info("Going on after %s, finished by an interrupted run", listing(self.steps))
        return adata

    def _read(self, state: Mapping[str, Any]) -> AnnData:
        """Put together the values and what later steps added to them."""
        import anndata as ad

        assert self.place is not None
        if state["lazy"]:
            return restore_events(self.place / state["slots"])
        adata = ad.read_h5ad(self.place / EVENTS)
        if state["slots"]:
            put_slots(adata, self.place / state["slots"])
        return adata

    def done(self, step: str) -> bool:
        """Tell whether a step is finished."""
        return step in self.steps

    def keep(self, step: str, adata: AnnData, clock: Clock) -> None:
        """Keep the state after a step; what cannot be written is said once, and the run goes on."""
        self.steps.append(step)
        if self.place is None:
            return
        try:
            self._write(adata, clock)
        except OSError as error:
            msg = f"finished steps cannot be kept in {self.place} ({error.strerror or error}); an interrupted run would start anew."
            warnings.warn(msg, StudyWarning, stacklevel=3)
            self.remove()
            self.place = None

    def _write(self, adata: AnnData, clock: Clock) -> None:
        """Write values once, added slots after each step, and last the state that names them."""
        assert self.place is not None
        self.place.mkdir(exist_ok=True)
        slots, lazy = "", is_lazy(adata.X)
        if len(self.steps) == 1 and not lazy:
            beside = self.place / f"{EVENTS}.part"
            adata.write_h5ad(beside)
            beside.replace(self.place / EVENTS)
        else:
            slots = f"{len(self.steps)}_{self.steps[-1]}.h5"
            write_slots(adata, self.place / f"{slots}.part")
            (self.place / f"{slots}.part").replace(self.place / slots)
        state = {
            "fingerprint": self.key,
            "steps": self.steps,
            "slots": slots,
            "lazy": lazy,
            "clock": clock.rows,
        }
        beside = self.place / f"{STATE}.part"
        beside.write_text(json.dumps(state), encoding="utf-8")
        beside.replace(self.place / STATE)
        for old in self.place.glob("*.h5"):
            if old.name != slots:
                old.unlink()

    def remove(self) -> None:
        """Remove every checkpoint; an unreadable folder is left."""
        import shutil

        if self.place is not None:
            shutil.rmtree(self.place, ignore_errors=True)
