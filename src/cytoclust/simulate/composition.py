"""Which samples a simulated study has and how many cells of each population they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cytoclust.simulate.populations import NAMES, baseline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# standard deviations of the natural logarithm of abundance
PATIENT_SD: Final = 0.6
COMPARTMENT_SD: Final = 0.4  # patient within compartment
SAMPLE_SD: Final = (0.3, 0.6)
SD_FACTOR: Final = (0.6, 1.4)  # populations vary more or less between patients
BASELINE_MISSING: Final = 0.4  # the first visit is missed less often
ENROLMENT_DAYS: Final = 540


@dataclass(frozen=True)
class Layout:
    """The planned visits: a slot per patient x compartment x visit, and whether it was kept."""

    patient: NDArray[np.int64]
    compartment: NDArray[np.int64]
    visit: NDArray[np.int64]
    day: NDArray[np.int64]
    batch: NDArray[np.int64]
    present: NDArray[np.bool_]


def is_marrow(compartments: Sequence[str]) -> list[bool]:
    """Say which compartments behave like marrow: "BM", and later ones that are not "PB"."""
    return [name == "BM" or (index > 0 and name != "PB") for index, name in enumerate(compartments)]


def plan(
    rng: np.random.Generator,
    *,
    n_patients: int,
    visits: Sequence[str],
    missing: Sequence[float],
    n_batches: int,
) -> Layout:
    """Draw when each patient came, in which batch it was measured, and which visits are missing.

    Every visit is kept at least once in each compartment, which matters to tiny studies only.
    """
    shape = (n_patients, len(missing), len(visits))
    patient, compartment, visit = (index.ravel() for index in np.indices(shape))
    enrolled = np.sort(rng.integers(0, ENROLMENT_DAYS, n_patients))
    day = enrolled[patient] + np.array([_day(name, i) for i, name in enumerate(visits)])[visit]
    edges = np.quantile(day, np.arange(1, n_batches) / n_batches)
    chance = np.asarray(missing)[compartment] * np.where(visit == 0, BASELINE_MISSING, 1.0)
    draw = rng.uniform(size=len(patient)) - chance
    present = (draw >= 0).reshape(shape)
    best = draw.reshape(shape).argmax(axis=0)
    absent = np.argwhere(~present.any(axis=0))
    for index, when in absent:
        present[best[index, when], index, when] = True
    batch = np.searchsorted(edges, day, side="right")
    return Layout(patient, compartment, visit, day, batch, present.ravel())


def _day(name: str, index: int) -> int:
    found = re.search(r"\d+", name)
    return int(found.group()) % 3650 if found else 7 * index


def draw_shares(
    rng: np.random.Generator,
    layout: Layout,
    *,
    marrow: Sequence[bool],
    changes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return each slot's expected share of every population (n_slots, n_populations).

    The logarithm of abundance is baseline + patient + patient within compartment + planted change
    + sample; shares are its softmax, so that the ratio to unchanged populations holds the change.
    """
    size = len(NAMES)
    n_patients = int(layout.patient.max()) + 1
    patient_sd = PATIENT_SD * rng.uniform(*SD_FACTOR, size)
    compartment_sd = COMPARTMENT_SD * rng.uniform(*SD_FACTOR, size)
    sample_sd = rng.uniform(*SAMPLE_SD, size)
    by_patient = rng.normal(size=(n_patients, size)) * patient_sd
    by_compartment = rng.normal(size=(n_patients, len(marrow), size)) * compartment_sd
    by_sample = rng.normal(size=(len(layout.patient), size)) * sample_sd
    level = np.stack([baseline(marrow=is_marrow) for is_marrow in marrow])
    log_abundance = (
        level[layout.compartment]
        + by_patient[layout.patient]
        + by_compartment[layout.patient, layout.compartment]
        + changes[layout.compartment, layout.visit]
        + by_sample
    )
    log_abundance -= log_abundance.max(axis=1, keepdims=True)
    shares = np.exp(log_abundance)
    return shares / shares.sum(axis=1, keepdims=True)
