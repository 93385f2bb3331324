"""The 24 populations of a simulated study, as data.

A profile lists markers that differ from "-". Levels, relative to the marker's positive median:
``-`` background, ``d`` dim (0.12), ``l`` low (0.3), ``m`` middle (0.55), ``+`` positive (1),
``h`` high (2.2), ``b`` bright (5). ``l~`` is a broad gradient. ``-|+30`` means that 30 % of the cells are ``+``
and the others ``-``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from cytoclust.simulate.panel import COLUMN, DYES

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS: Final = {"d": 0.12, "l": 0.30, "m": 0.55, "+": 1.0, "h": 2.2, "b": 5.0}
BACKGROUND: Final = 25.0  # units of unspecific staining
BACKGROUND_SPREAD: Final = 0.5
GRADIENT: Final = 1.7  # a gradient is this much broader


@dataclass(frozen=True)
class Population:
    """Share of events in blood and marrow (%), scatter (1,000 units), autofluorescence, markers."""

    name: str
    blood: float
    marrow: float
    forward: float
    side: float
    autofluorescence: float
    profile: str


T4 = "CD3:+ CD45:h CD4:+"
T8 = "CD3:+ CD45:h CD8:+"
NK = "CD45:h CD45RA:l~ TIM-3:l TIGIT:l~"
POPULATIONS: Final = (
    Population("CD4 naive", 9, 4, 78, 22, 60, f"{T4} CD45RA:+ CCR7:+ CD27:+ CD127:+ CD25:-|d20"),
    Population(
        "CD4 CM",
        8,
        4,
        82,
        24,
        65,
        f"{T4} CD45RA:d~ CCR7:m CD27:+ CD127:+ CD25:d~ FoxP3:-|d15 PD-1:l TIGIT:d~ LAG-3:d TIM-3:d HLA-DR:-|l8",
    ),
    Population(
        "CD4 EM",
        5,
        5,
        83,
        26,
        70,
        f"{T4} CD45RA:d~ CCR7:-|d40 CD27:l~ CD127:l~ CD25:d~ FoxP3:-|d15 PD-1:l TIGIT:l~ LAG-3:d TIM-3:d CD57:-|+12 "
        "HLA-DR:-|l25",
    ),
    Population(
        "CD4 TEMRA",
        0.8,
        0.6,
        80,
        26,
        70,
        f"{T4} CD45RA:+ CCR7:- CD27:d~ CD127:d~ PD-1:d~ TIGIT:l~ LAG-3:d TIM-3:d CD57:-|+50 HLA-DR:-|l20",
    ),
    Population(
        "naive Treg",
        0.4,
        0.25,
        78,
        22,
        60,
        f"{T4} CD45RA:+ CCR7:+ CD27:+ CD127:d~ CD25:+ FoxP3:m CD39:d~ TIGIT:l~",
    ),
    Population(
        "effector Treg",
        1.2,
        1.4,
        84,
        25,
        70,
        f"{T4} CD45RA:d~ CCR7:-|l45 CD27:+ CD127:d~ CD25:h FoxP3:h CD39:l TIGIT:+ PD-1:l LAG-3:d "
        "TIM-3:d HLA-DR:-|+40",
    ),
    Population("CD8 naive", 4, 2, 77, 22, 60, f"{T8} CD45RA:h CCR7:+ CD27:+ CD127:+"),
    Population(
        "CD8 CM",
        1.5,
        1.8,
        81,
        24,
        65,
        f"{T8} CD45RA:d~ CCR7:m CD27:+ CD127:+ PD-1:l TIGIT:l~ LAG-3:d TIM-3:d HLA-DR:-|l12",
    ),
    Population(
        "CD8 EM",
        5,
        6,
        84,
        27,
        70,
        f"{T8} CD45RA:d~ CCR7:-|d40 CD27:l~ CD127:l~ PD-1:l TIGIT:l~ LAG-3:d TIM-3:d CD57:-|+25 "
        "HLA-DR:-|l35 CD39:-|l6",
    ),
    Population(
        "CD8 TEMRA",
        4,
        3,
        82,
        28,
        70,
        f"{T8} CD45RA:+ CCR7:- CD27:d~ CD127:d~ PD-1:d TIGIT:l~ LAG-3:d TIM-3:d CD57:-|+60 HLA-DR:-|l25",
    ),
    Population(
        "gd T",
        1.5,
        1,
        80,
        24,
        65,
        "CD3:h CD45:h TCRgd:+ CD8:-|l25 CD27:l~ CD45RA:l~ CD127:d~ CD57:-|+20 CD16:-|l20 TIGIT:d~ "
        "PD-1:d TIM-3:d",
    ),
    Population(
        "NKT-like",
        1.5,
        1.2,
        82,
        27,
        70,
        "CD3:+ CD45:h CD56:+ CD8:-|+70 CD45RA:l~ CD27:d~ CD127:d~ CD57:-|+45 CD16:-|l20 TIGIT:l~ "
        "PD-1:d TIM-3:d HLA-DR:-|l20",
    ),
    Population("CD56bright NK", 0.4, 0.6, 84, 25, 65, f"{NK} CD56:b CD16:-|d30 CD27:d~ CD127:l"),
    Population("CD56dim CD57- NK", 4, 2.5, 82, 26, 65, f"{NK} CD56:+ CD16:+ CD57:-|d25 CD8:-|d35"),
    Population("CD56dim CD57+ NK", 3, 1.5, 82, 27, 65, f"{NK} CD56:+ CD16:+ CD57:+~ CD8:-|d35"),
    Population("naive B", 3, 2, 76, 22, 60, "CD19:+ CD45:h HLA-DR:h CD45RA:+ CCR7:l~ CD39:l~"),
    Population(
        "memory B",
        1.2,
        0.8,
        80,
        24,
        65,
        "CD19:h CD45:h HLA-DR:h CD45RA:+ CD27:l~ CD25:l~ CCR7:d~ CD39:l~",
    ),
    Population(
        "B-ALL blast",
        5,
        25,
        92,
        24,
        80,
        "CD19:+ CD45:d CD10:h CD34:-|+85 HLA-DR:+ CD123:l~ CD45RA:l~ CD39:l~",
    ),
    Population(
        "haematogone", 0.05, 3, 74, 20, 55, "CD19:+ CD45:l CD10:+ CD34:-|+30 HLA-DR:+ CD45RA:+"
    ),
    Population(
        "classical monocyte",
        10,
        6,
        122,
        66,
        260,
        "CD14:+ CD45:+ HLA-DR:+ CD11c:+ CD4:d~ CD123:d~ CD39:+ TIM-3:l",
    ),
    Population(
        "non-classical monocyte",
        1.2,
        0.5,
        112,
        54,
        220,
        "CD14:d~ CD16:+ CD45:h HLA-DR:h CD11c:h CD4:d~ CD123:d~ CD39:l TIM-3:l",
    ),
    Population(
        "mDC", 0.5, 0.4, 118, 46, 180, "CD45:+ HLA-DR:b CD11c:h CD4:d~ CD123:d~ CD39:l TIM-3:l"
    ),
    Population("pDC", 0.25, 0.3, 96, 36, 130, "CD45:l HLA-DR:h CD123:b CD4:l CD45RA:+ TIM-3:d"),
    Population("neutrophil", 30, 25, 112, 135, 330, "CD16:h CD45:l CD10:d~ CD14:d~ CD11c:d~"),
)
NAMES: Final = tuple(population.name for population in POPULATIONS)
CODE: Final = {name: index for index, name in enumerate(NAMES)}


@dataclass(frozen=True)
class Expression:
    """Natural logarithm of specific staining, per population and dye (n_populations, n_dyes).

    `second` and `fraction` describe the cells of a mixed population that have another level;
    `specific` is true where more than background is stained.
    """

    median: NDArray[np.float32]
    spread: NDArray[np.float32]
    second: NDArray[np.float32]
    fraction: NDArray[np.float32]
    specific: NDArray[np.bool_]


@cache
def expression() -> Expression:
    """Translate the profiles into arrays."""
    shape = (len(POPULATIONS), len(DYES))
    median = np.full(shape, np.log(BACKGROUND), dtype=np.float32)
    spread = np.full(shape, BACKGROUND_SPREAD, dtype=np.float32)
    second, fraction = median.copy(), np.zeros(shape, dtype=np.float32)
    specific = np.zeros(shape, dtype=np.bool_)
    for row, population in enumerate(POPULATIONS):
        for token in population.profile.split():
            marker, text = token.split(":")
            column = COLUMN[marker]
            first, _, other = text.partition("|")
            level = first.rstrip("~")
            width = DYES[column].spread
            if level != "-":
                median[row, column] = _log_level(column, level)
                spread[row, column] = width * (GRADIENT if first.endswith("~") else 1.0)
                specific[row, column] = True
            if other:
                second[row, column] = _log_level(column, other[0])
                fraction[row, column] = float(other[1:]) / 100
                spread[row, column] = width
                specific[row, column] = True
    return Expression(median, spread, second, fraction, specific)


def _log_level(column: int, level: str) -> float:
    return float(np.log(DYES[column].positive * LEVELS[level] + BACKGROUND))


def baseline(*, marrow: bool) -> NDArray[np.float64]:
    """Return the natural logarithm of each population's share before treatment."""
    shares = [item.marrow if marrow else item.blood for item in POPULATIONS]
    return np.log(np.array(shares) / sum(shares))
