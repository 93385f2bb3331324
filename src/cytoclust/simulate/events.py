"""Events of one simulated sample: cells, doublets, dead cells, debris and margin events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cytoclust.simulate.panel import (
    CHANNELS,
    COLUMN,
    DYES,
    RANGE,
    SCATTER,
    TIMESTEP,
    VIABILITY,
    autofluorescence_spectrum,
)
from cytoclust.simulate.populations import BACKGROUND, POPULATIONS, expression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

KINDS: Final = ("cell", "doublet", "dead", "debris", "margin")
NO_POPULATION: Final = -1

# shares of all events, drawn for each sample
DOUBLETS: Final = (0.02, 0.04)
DEAD: Final = (0.03, 0.06)
DEBRIS: Final = (0.03, 0.05)
MARGIN: Final = (0.003, 0.01)

SIZE_SPREAD: Final = 0.08  # large cells carry more of everything
UNEVENNESS: Final = 0.2  # some cells differ from their kind in every marker: heavy tails
ACTIVATION_LOADING: Final = 0.4  # markers of mixed populations come on together
AUTOFLUORESCENCE_SPREAD: Final = 0.25
ELECTRONIC_NOISE: Final = 35.0  # standard deviation, units of the file
LIVE_DYE: Final = 260.0
SATURATED: Final = RANGE - 1  # highest value of a channel whose $PnR is RANGE
THRESHOLD: Final = 5_000.0  # FSC-A below which the cytometer does not trigger
DRIFT_SIGNAL: Final = (0.40, 0.60)
DRIFT_LENGTH: Final = (0.10, 0.20)


@dataclass(frozen=True)
class Setting:
    """What the events of one sample depend on.

    `shares` (n_populations,) sum to 1; `shift` (n_populations, n_dyes) is added to the logarithm of
    staining; `gain` (n_dyes,) multiplies staining; `spillover` (n_dyes, n_dyes).
    """

    n_events: int
    shares: NDArray[np.float64]
    shift: FloatArray
    gain: FloatArray
    spillover: FloatArray
    drift: bool


@dataclass(frozen=True)
class SampleEvents:
    """Values as acquired (n_events, n_channels), population and kind codes, rows with drift."""

    events: FloatArray
    population: NDArray[np.int16]
    kind: NDArray[np.int8]
    drift: tuple[int, int]


@dataclass
class Pool:
    """Light of each dye (n, n_dyes), autofluorescence, forward and side scatter (n,)."""

    stain: FloatArray
    glow: FloatArray
    forward: FloatArray
    side: FloatArray

    def take(self, rows: NDArray[np.intp]) -> Pool:
        """Return chosen rows."""
        return Pool(self.stain[rows], self.glow[rows], self.forward[rows], self.side[rows])


def _normal(rng: np.random.Generator, shape: int | tuple[int, int]) -> FloatArray:
    return rng.standard_normal(shape, dtype=np.float32)


def draw_cells(rng: np.random.Generator, counts: NDArray[np.int64], setting: Setting) -> Pool:
    """Draw living single cells, population after population (as many of each as `counts` says)."""
    model = expression()
    total = int(counts.sum())
    size = _normal(rng, total) * np.float32(SIZE_SPREAD)
    stain = _normal(rng, (total, len(DYES)))
    stain *= np.exp(_normal(rng, total) * np.float32(UNEVENNESS))[:, None]
    activation = _normal(rng, total)
    ends = np.cumsum(counts)
    for code, (end, count) in enumerate(zip(ends, counts, strict=True)):
        if not count:
            continue
        rows = slice(int(end - count), int(end))
        block = stain[rows]
        block *= model.spread[code]
        block += model.median[code] + setting.shift[code]
        block += size[rows, None]
        for column in np.flatnonzero(model.fraction[code]):
            latent = ACTIVATION_LOADING * activation[rows] + _normal(rng, int(count)) * np.float32(
                np.sqrt(1 - ACTIVATION_LOADING**2)
            )
            on = latent > _normal_quantile(1 - float(model.fraction[code, column]))
            step = model.second[code, column] - model.median[code, column]
            block[:, column] += on * step
    np.exp(stain, out=stain)
    stain *= setting.gain
    stain[:, COLUMN[VIABILITY]] *= np.float32(LIVE_DYE / BACKGROUND)
    codes = np.repeat(np.arange(len(counts)), counts)
    return Pool(stain, *_glow_and_scatter(rng, codes, size))


def _glow_and_scatter(
    rng: np.random.Generator, codes: NDArray[np.intp], size: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    glow = np.array([item.autofluorescence for item in POPULATIONS], dtype=np.float32)[codes]
    forward = np.array([item.forward * 1e3 for item in POPULATIONS], dtype=np.float32)[codes]
    side = np.array([item.side * 1e3 for item in POPULATIONS], dtype=np.float32)[codes]
    n = len(codes)
    glow *= np.exp(size + _normal(rng, n) * np.float32(AUTOFLUORESCENCE_SPREAD))
    forward *= np.exp(size + _normal(rng, n) * np.float32(0.05))
    side *= np.exp(size + _normal(rng, n) * np.float32(0.15))
    return glow, forward, side


def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def detect(rng: np.random.Generator, pool: Pool, spillover: FloatArray) -> FloatArray:
    """Return what the fluorescence detectors report: spillover, photon and electronic noise."""
    light = pool.stain @ spillover
    light += pool.glow[:, None] * autofluorescence_spectrum()
    per_photon = np.array([dye.per_photon for dye in DYES], dtype=np.float32)
    noise = light * per_photon
    noise += np.float32(ELECTRONIC_NOISE**2)
    np.sqrt(noise, out=noise)
    noise *= _normal(rng, light.shape)
    light += noise
    return light


def simulate_sample(rng: np.random.Generator, setting: Setting) -> SampleEvents:
    """Draw all events of one sample in the order of their acquisition."""
    n = setting.n_events
    numbers = [
        int(rng.binomial(n, rng.uniform(*share))) for share in (DOUBLETS, DEAD, DEBRIS, MARGIN)
    ]
    n_doublets, n_dead, n_debris, n_margin = _fitting(numbers, n)
    counts = rng.multinomial(n + n_doublets, setting.shares)
    pool = draw_cells(rng, counts, setting)
    shuffled = rng.permutation(n + n_doublets)
    codes = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
    population = codes[shuffled[:n]].copy()
    events, partners = pool.take(shuffled[:n]), pool.take(shuffled[n:])

    kind = np.zeros(n, dtype=np.int8)
    doublets = slice(0, n_doublets)
    dead = slice(n_doublets, n_doublets + n_dead)
    debris = slice(dead.stop, dead.stop + n_debris)
    margin = slice(debris.stop, debris.stop + n_margin)
    for code, rows in enumerate((doublets, dead, debris, margin), start=1):
        kind[rows] = code
    population[debris] = NO_POPULATION

    _kill(rng, events, dead)
    _crumble(rng, events, debris)
    height = _heights(rng, events.forward), _heights(rng, events.side)
    _join(rng, events, partners, heights=height)

    order = rng.permutation(n)
    events, kind, population = events.take(order), kind[order], population[order]
    height = height[0][order], height[1][order]
    drift = _drift(rng, events, height) if setting.drift else (0, 0)
    values = _assemble(rng, events, height, setting=setting)
    _saturate(rng, values, kind)
    return SampleEvents(values, population, kind, drift)


def _fitting(numbers: list[int], n_events: int) -> list[int]:
    """Shorten the numbers of unwanted events where they exceed all events (tiny samples)."""
    fitted: list[int] = []
    for number in numbers:
        fitted.append(min(number, n_events - sum(fitted)))
    return fitted


def _kill(rng: np.random.Generator, events: Pool, rows: slice) -> None:
    """Dead cells: dye inside, less antigen, more unspecific staining and glow, smaller."""
    n = rows.stop - rows.start
    stain = events.stain[rows]
    stain *= np.float32(0.6)
    stain += np.float32(150) * np.exp(_normal(rng, stain.shape) * np.float32(0.5))
    dye = DYES[COLUMN[VIABILITY]]
    stain[:, COLUMN[VIABILITY]] = dye.positive * np.exp(_normal(rng, n) * np.float32(dye.spread))
    events.glow[rows] *= np.float32(4)
    events.forward[rows] *= np.float32(0.68) * np.exp(_normal(rng, n) * np.float32(0.12))
    events.side[rows] *= np.float32(1.3) * np.exp(_normal(rng, n) * np.float32(0.15))


def _crumble(rng: np.random.Generator, events: Pool, rows: slice) -> None:
    """Debris: small pieces that keep up to a tenth of a cell's staining."""
    n = rows.stop - rows.start
    piece = rng.uniform(0.0, 0.1, n).astype(np.float32)
    events.stain[rows] *= piece[:, None]
    events.glow[rows] *= np.float32(0.3)
    events.forward[rows] = 13_000 * np.exp(_normal(rng, n) * np.float32(0.40))
    events.side[rows] = 8_000 * np.exp(_normal(rng, n) * np.float32(0.60))
    np.clip(events.forward[rows], THRESHOLD, 40_000, out=events.forward[rows])


def _heights(rng: np.random.Generator, area: FloatArray) -> FloatArray:
    return area * np.float32(0.92) * np.exp(_normal(rng, len(area)) * np.float32(0.025))


def _join(
    rng: np.random.Generator,
    events: Pool,
    partners: Pool,
    *,
    heights: tuple[FloatArray, FloatArray],
) -> None:
    """Doublets: the first events, and partners that pass the laser close behind them."""
    n = len(partners.glow)
    overlap = rng.uniform(0.0, 0.5, n).astype(np.float32)
    pairs = (
        (events.forward, partners.forward, heights[0]),
        (events.side, partners.side, heights[1]),
    )
    for area, other, height in pairs:
        second = other * np.float32(0.92)
        height[:n] = np.maximum(height[:n], second) + overlap * np.minimum(height[:n], second)
        area[:n] += other
    events.stain[:n] += partners.stain
    events.glow[:n] += partners.glow


def _drift(
    rng: np.random.Generator, events: Pool, heights: tuple[FloatArray, FloatArray]
) -> tuple[int, int]:
    """Weaken all signals for a stretch of the acquisition, as a clog in the fluidics does."""
    n = len(events.glow)
    length = int(n * rng.uniform(*DRIFT_LENGTH))
    start = int(rng.uniform(0.05, 0.95 - DRIFT_LENGTH[1]) * n)
    rows = slice(start, start + length)
    weak = np.float32(rng.uniform(*DRIFT_SIGNAL))
    for signal in (events.stain, events.glow, events.forward, events.side, *heights):
        signal[rows] *= weak
    return start, start + length


def _assemble(
    rng: np.random.Generator,
    events: Pool,
    heights: tuple[FloatArray, FloatArray],
    *,
    setting: Setting,
) -> FloatArray:
    """Put the channels side by side in the order of `panel.CHANNELS`."""
    n = len(events.glow)
    values = np.empty((n, len(CHANNELS)), dtype=np.float32)
    scatter = ((events.forward, heights[0]), (events.side, heights[1]))
    for index, (area, height) in enumerate(scatter):
        values[:, 3 * index] = area
        values[:, 3 * index + 1] = height
        values[:, 3 * index + 2] = 65_536 * area / height
    values[:, len(SCATTER) : -1] = detect(rng, events, setting.spillover)
    seconds = np.cumsum(rng.exponential(1 / rng.uniform(800, 3000), n))
    values[:, -1] = np.floor(seconds / TIMESTEP)
    return values


def _saturate(rng: np.random.Generator, values: FloatArray, kind: NDArray[np.int8]) -> None:
    """Drive margin events out of a detector's range and cut all channels there."""
    rows = np.flatnonzero(kind == KINDS.index("margin"))
    chosen = rng.choice(len(CHANNELS) - 1, len(rows), p=_margin_chances())
    values[rows, chosen] = RANGE
    measured = values[:, :-1]
    # a cell that is too bright by chance is a margin event too
    beyond = (measured >= SATURATED).any(axis=1) & (kind == KINDS.index("cell"))
    kind[beyond] = KINDS.index("margin")
    np.minimum(measured, np.float32(SATURATED), out=measured)


def _margin_chances() -> NDArray[np.float64]:
    chances = np.full(len(CHANNELS) - 1, 0.3 / len(DYES))
    chances[: len(SCATTER)] = 0.0
    chances[0], chances[3] = 0.4, 0.3
    return chances / chances.sum()
