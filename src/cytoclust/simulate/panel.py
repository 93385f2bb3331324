"""The antibody panel and the cytometer of a simulated study, as data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANGE: Final = 262_144  # $PnR of scatter and fluorescence channels
TIMESTEP: Final = 0.01  # seconds per unit of the Time channel
VIABILITY: Final = "Viability"
SCATTER: Final = ("FSC-A", "FSC-H", "FSC-W", "SSC-A", "SSC-H", "SSC-W")
TIME: Final = "Time"

# steepness of emission spectra in nm and the share that another laser excites
RED_TAIL, BLUE_TAIL = 45.0, 14.0
STRONGEST_SPILLOVER, WEAKEST_SPILLOVER = 0.25, 0.003
EXCITED_BY_NEIGHBOUR, EXCITED_BY_OTHER = 0.22, 0.04
SPECTRA_SEED = 1907  # the dyes are the same in every study


@dataclass(frozen=True)
class Dye:
    """One fluorescence channel: what it measures, where it emits, how bright and broad it is.

    `positive` is the median of a population at level "+" (units of the file); `spread` the standard
    deviation of the natural logarithm within a population; `per_photon` the units that one
    photo-electron adds.
    """

    marker: str
    channel: str
    laser: int
    wavelength: float
    positive: float
    spread: float
    per_photon: float
    marker_class: str = "type"


DYES: Final = (
    Dye("CD3", "BUV395-A", 355, 395, 11_000, 0.28, 6),
    Dye("CD16", "BUV496-A", 355, 496, 12_000, 0.42, 9),
    Dye("CD56", "BUV563-A", 355, 563, 6_000, 0.42, 8),
    Dye("CD27", "BUV661-A", 355, 661, 7_000, 0.38, 8),
    Dye("CD8", "BUV737-A", 355, 737, 22_000, 0.30, 8),
    Dye("CD4", "BUV805-A", 355, 805, 14_000, 0.26, 10),
    Dye("CCR7", "BV421-A", 405, 421, 1_600, 0.55, 5),
    Dye("CD19", "BV480-A", 405, 480, 8_000, 0.32, 7),
    Dye(VIABILITY, "V510-A", 405, 510, 26_000, 0.55, 9, "none"),
    Dye("CD45", "BV570-A", 405, 570, 9_000, 0.25, 8),
    Dye("CD25", "BV605-A", 405, 605, 1_500, 0.50, 6),
    Dye("CD127", "BV650-A", 405, 650, 1_900, 0.50, 7),
    Dye("PD-1", "BV711-A", 405, 711, 1_300, 0.60, 7, "state"),
    Dye("CD39", "BV750-A", 405, 750, 3_000, 0.60, 8, "state"),
    Dye("CD123", "BV786-A", 405, 786, 5_000, 0.40, 8),
    Dye("CD57", "BB515-A", 488, 515, 11_000, 0.55, 7),
    Dye("CD34", "BB630-A", 488, 630, 5_000, 0.45, 8),
    Dye("TCRgd", "BB660-A", 488, 660, 5_500, 0.38, 8),
    Dye("CD14", "BB700-A", 488, 700, 16_000, 0.35, 8),
    Dye("CD11c", "BB790-A", 488, 790, 9_000, 0.42, 10),
    Dye("FoxP3", "PE-A", 561, 578, 1_700, 0.50, 5),
    Dye("TIGIT", "PE-CF594-A", 561, 612, 1_600, 0.60, 6, "state"),
    Dye("CD10", "PE-Cy5-A", 561, 667, 6_000, 0.45, 7),
    Dye("TIM-3", "PE-Cy7-A", 561, 785, 1_200, 0.60, 8, "state"),
    Dye("LAG-3", "APC-A", 637, 660, 1_100, 0.60, 5, "state"),
    Dye("CD45RA", "AF700-A", 637, 719, 9_000, 0.45, 9),
    Dye("HLA-DR", "APC-H7-A", 637, 780, 8_000, 0.45, 9),
)
MARKERS: Final = tuple(dye.marker for dye in DYES if dye.marker != VIABILITY)
STATE_MARKERS: Final = tuple(dye.marker for dye in DYES if dye.marker_class == "state")
COLUMN: Final = {dye.marker: index for index, dye in enumerate(DYES)}
FLUORESCENCE: Final = tuple(dye.channel for dye in DYES)
CHANNELS: Final = (*SCATTER, *FLUORESCENCE, TIME)


@cache
def base_spillover() -> NDArray[np.float64]:
    """Return the share of each dye's light (rows) in each channel (columns), as $SPILLOVER."""
    lasers = np.array([dye.laser for dye in DYES], dtype=float)
    peaks = np.array([dye.wavelength for dye in DYES], dtype=float)
    shift = peaks[None, :] - peaks[:, None]
    share = np.where(shift > 0, 0.40 * np.exp(-shift / RED_TAIL), 0.12 * np.exp(shift / BLUE_TAIL))
    gap = np.abs(lasers[None, :] - lasers[:, None])
    excited = np.where(gap == 0, 1.0, np.where(gap < 90, EXCITED_BY_NEIGHBOUR, EXCITED_BY_OTHER))
    quirks = np.random.default_rng(SPECTRA_SEED).uniform(0.4, 1.4, share.shape)
    matrix = np.minimum(share * excited * quirks, STRONGEST_SPILLOVER)
    matrix[matrix < WEAKEST_SPILLOVER] = 0.0
    np.fill_diagonal(matrix, 1.0)
    return matrix


def batch_spillover(rng: np.random.Generator, *, scale: float) -> NDArray[np.float64]:
    """Return one batch's spillover: tandem dyes of another lot spill 10 % more or less."""
    matrix = base_spillover() * np.exp(rng.normal(0.0, 0.1, (len(DYES), len(DYES)))) * scale
    np.fill_diagonal(matrix, 1.0)
    return np.round(matrix, 5)


def autofluorescence_spectrum() -> NDArray[np.float32]:
    """Return the relative autofluorescence of each channel: strongest in blue and green."""
    peaks = np.array([dye.wavelength for dye in DYES])
    violet = np.array(
        [1.5 if dye.laser <= 405 else 1.0 if dye.laser == 488 else 0.5 for dye in DYES]
    )
    return (violet * np.exp(-0.5 * ((peaks - 520) / 110) ** 2) + 0.15).astype(np.float32)


def panel_table() -> pd.DataFrame:
    """Return panel.csv: channel, marker, marker_class."""
    dyes = {dye.channel: (dye.marker, dye.marker_class) for dye in DYES}
    rows = [(name, *dyes.get(name, (name, "none"))) for name in CHANNELS]
    return pd.DataFrame(rows, columns=["channel", "marker", "marker_class"])
