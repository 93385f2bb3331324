"""How staining differs between lots, patients and samples, and what planted changes do to medians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust.simulate.effects import contrasts
from cytoclust.simulate.events import Setting, detect, draw_cells
from cytoclust.simulate.panel import (
    COLUMN,
    DYES,
    MARKERS,
    STATE_MARKERS,
    base_spillover,
    batch_spillover,
)
from cytoclust.simulate.populations import CODE, NAMES, expression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cytoclust.simulate.composition import Layout

# standard deviations of the natural logarithm of staining
PATIENT_MARKER_SD: Final = 0.10
PATIENT_STATE_SD: Final = 0.15
SAMPLE_STATE_SD: Final = 0.12
LEUKAEMIA_SD: Final = 0.30  # each patient's blasts have a phenotype of their own
LEUKAEMIA_MARKERS: Final = ("CD10", "CD34", "CD45", "CD123", "CD19")

STATE_COFACTOR: Final = 150.0
STATE_CELLS: Final = 4_000
STATE_SEED: Final = 20_260


@dataclass(frozen=True)
class Staining:
    """How much lots differ."""

    n_batches: int
    batch_sd: float
    spillover_scale: float


@dataclass(frozen=True)
class DrawnStaining:
    """Differences drawn for one study; `gain` is (n_slots, n_dyes)."""

    gain: NDArray[np.float32]
    spillovers: list[NDArray[np.float64]]
    by_patient: NDArray[np.float32]
    by_sample: NDArray[np.float32]
    patient: NDArray[np.int64]

    def shift(self, slot: int) -> NDArray[np.float32]:
        """Return what is added to log staining in one sample (n_populations, n_dyes)."""
        total = self.by_patient[self.patient[slot]] + self.by_sample[slot]
        return np.where(expression().specific, total, np.float32(0))


def draw_staining(rng: np.random.Generator, layout: Layout, staining: Staining) -> DrawnStaining:
    """Draw the differences between lots, patients and samples."""
    n_patients, n_slots = int(layout.patient.max()) + 1, len(layout.patient)
    antibodies = [COLUMN[marker] for marker in MARKERS]
    state = [COLUMN[marker] for marker in STATE_MARKERS]
    lots = np.zeros((staining.n_batches, len(DYES)))
    lots[:, antibodies] = rng.normal(0, staining.batch_sd, (staining.n_batches, len(antibodies)))
    patients = np.zeros((n_patients, len(DYES)))
    patients[:, antibodies] = rng.normal(0, PATIENT_MARKER_SD, (n_patients, len(antibodies)))
    spillovers = [
        batch_spillover(rng, scale=staining.spillover_scale) for _ in range(staining.n_batches)
    ]
    by_patient = np.zeros((n_patients, len(NAMES), len(DYES)), dtype=np.float32)
    by_patient[:, :, state] = rng.normal(0, PATIENT_STATE_SD, (n_patients, len(NAMES), len(state)))
    leukaemia = [COLUMN[marker] for marker in LEUKAEMIA_MARKERS]
    own = rng.normal(0, LEUKAEMIA_SD, (n_patients, len(leukaemia)))
    by_patient[:, CODE["B-ALL blast"], leukaemia] = own
    by_sample = np.zeros((n_slots, len(NAMES), len(DYES)), dtype=np.float32)
    by_sample[:, :, state] = rng.normal(0, SAMPLE_STATE_SD, (n_slots, len(NAMES), len(state)))
    gain = np.exp(lots[layout.batch] + patients[layout.patient]).astype(np.float32)
    return DrawnStaining(gain, spillovers, by_patient, by_sample, layout.patient)


def state_table(
    changes: NDArray[np.float32], compartments: Sequence[str], visits: Sequence[str]
) -> pd.DataFrame:
    """Return truth/state_effects.csv: planted differences of median arcsinh(compensated / 150)."""
    medians: dict[tuple[int, bytes], NDArray[np.float64]] = {}

    def median(code: int, shift: NDArray[np.float32]) -> NDArray[np.float64]:
        key = (code, shift.tobytes())
        if key not in medians:
            medians[key] = _expected_medians(code, shift)
        return medians[key]

    rows = []
    changed = np.argwhere(np.any(changes != 0, axis=(0, 1)))
    for code, column in changed:
        for index, compartment in enumerate(compartments):
            for name, later, earlier in contrasts(visits):
                shifts = changes[index, later, code], changes[index, earlier, code]
                if shifts[0][column] == shifts[1][column]:
                    continue
                after, before = (median(int(code), shift)[column] for shift in shifts)
                row = (
                    NAMES[code],
                    DYES[column].marker,
                    compartment,
                    name,
                    round(after - before, 4),
                )
                rows.append(row)
    columns = ["population", "marker", "compartment", "contrast", "difference"]
    return pd.DataFrame(rows, columns=columns)


def _expected_medians(code: int, shift: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return medians of one population, the same random cells whatever the shift (n_dyes,)."""
    rng = np.random.default_rng(STATE_SEED)
    shifts = np.zeros((len(NAMES), len(DYES)), dtype=np.float32)
    shifts[code] = shift
    spillover = base_spillover()
    setting = Setting(
        STATE_CELLS,
        np.eye(len(NAMES))[code],
        shifts,
        np.ones(len(DYES), dtype=np.float32),
        spillover.astype(np.float32),
        drift=False,
    )
    counts = np.zeros(len(NAMES), dtype=np.int64)
    counts[code] = STATE_CELLS
    detected = detect(rng, draw_cells(rng, counts, setting), setting.spillover)
    compensated = detected @ np.linalg.inv(spillover)
    return np.asarray(np.median(np.arcsinh(compensated / STATE_COFACTOR), axis=0))
