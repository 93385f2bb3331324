"""Events counted into the pixels of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cytoclust.event_arrays import EventArrays, let_go
from cytoclust.pl.style import SMALL, bare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

PIXELS: Final = 420  # of an image's longer side
EVENTS_AT_ONCE: Final = 1 << 22
CODES_AT_ONCE: Final = 32  # 45 MB of counts, and no place beyond int32


class Canvas:
    """Which pixel each event falls into; pixels grow where events are few.

    Parameters
    ----------
    coordinates
        (n_events, 2) embedding; events with NaN are left out.
    pixels
        Pixels of the longer side.
    arrays
        What makes the arrays with an element per event; by default they are in memory.
    """

    def __init__(
        self, coordinates: np.ndarray, *, pixels: int = PIXELS, arrays: EventArrays | None = None
    ) -> None:
        n_events = len(coordinates)
        arrays = EventArrays(n_events) if arrays is None else arrays
        self.placed = arrays.zeros(np.bool_)
        for block in event_blocks(n_events):
            np.isfinite(coordinates[block]).all(axis=1, out=self.placed[block])
            let_go(coordinates, self.placed)
        placed = self.of_placed(coordinates)
        self.arrays = replace(arrays, n_events=len(placed))
        low, high = limits(placed)
        margin = 0.02 * max(float((high - low).max()), 1e-9)
        self.low, self.high = low.astype(float) - margin, high.astype(float) + margin
        span = self.high - self.low
        self.size = np.maximum((pixels * span / span.max()).astype(int), 8)
        self.radius = int(np.select([len(placed) < n for n in (2e3, 2e4, 2e5)], [3, 2, 1], 0))
        self.pixel = self.arrays.zeros(np.int32)
        for block in event_blocks(len(placed)):
            places = ((placed[block] - self.low) * (self.size / span)).astype(np.int32)
            column, row = np.minimum(places, self.size - 1).astype(np.int32).T
            self.pixel[block] = row * np.int32(self.size[0]) + column
            let_go(placed, self.pixel)

    def of_placed(self, values: np.ndarray) -> np.ndarray:
        """Return the elements of the events that have coordinates."""
        return values if self.placed.all() else values[self.placed]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top in embedding coordinates."""
        return (self.low[0], self.high[0], self.low[1], self.high[1])

    def total(
        self, weights: np.ndarray | None = None, keep: np.ndarray | None = None
    ) -> np.ndarray:
        """Sum `weights` (default 1 each) of the events `keep` per pixel: (rows, columns)."""
        n = int(self.size.prod())
        flat = np.zeros(n)
        for block in event_blocks(len(self.pixel)):
            chosen = slice(None) if keep is None else keep[block]
            own = None if weights is None else weights[block][chosen]
            flat += np.bincount(self.pixel[block][chosen], weights=own, minlength=n)
            let_go(self.pixel, weights, keep)
        image = flat.astype(np.float32).reshape(self.size[1], self.size[0])
        return spread(image, self.radius)

    def by_code(
        self, codes: np.ndarray, n_codes: int, keep: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the events per pixel (rows, columns) of each code 0, 1, ...; one pass per 32 codes.

        Parameters
        ----------
        codes
            (n_placed,) category of each placed event; others than 0 .. n_codes - 1 count nowhere.
        n_codes
            Number of categories.
        keep
            (n_placed,) events to count; all by default.
        """
        n = int(self.size.prod())
        for first in range(0, n_codes, CODES_AT_ONCE):
            some = min(CODES_AT_ONCE, n_codes - first)
            flat = np.zeros((some + 1) * n, dtype=np.int64)
            for block in event_blocks(len(self.pixel)):
                # what belongs to no code of this pass is counted behind the others
                place = codes[block].astype(np.int32) - first
                place[(place < 0) | (place >= some)] = some
                if keep is not None:
                    place[~keep[block]] = some
                flat += np.bincount(place * np.int32(n) + self.pixel[block], minlength=len(flat))
                let_go(self.pixel, codes, keep)
            for image in flat[: some * n].reshape(some, self.size[1], self.size[0]):
                yield spread(image.astype(np.float32), self.radius)


def limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest coordinates, (2,) each; 0 and 1 without events."""
    if not len(points):
        return np.zeros(2), np.ones(2)
    low, high = points[0], points[0]
    for block in event_blocks(len(points)):
        low = np.minimum(low, points[block].min(axis=0))
        high = np.maximum(high, points[block].max(axis=0))
        let_go(points)
    return low, high


def event_blocks(n_events: int) -> Iterator[slice]:
    """Yield blocks of events, so that what is worked out for each event never stands for all."""
    for start in range(0, n_events, EVENTS_AT_ONCE):
        yield slice(start, min(start + EVENTS_AT_ONCE, n_events))


def spread(image: np.ndarray, radius: int) -> np.ndarray:
    """Add each pixel to its neighbours within a disc, so that single events can be seen."""
    if radius == 0:
        return image
    padded = np.pad(image, radius)
    rows, columns = image.shape
    reach = np.arange(-radius, radius + 1)
    out = np.zeros_like(image)
    for dy in reach:
        for dx in reach:
            if dx * dx + dy * dy <= radius * radius + 0.5:
                out += padded[radius + dy : radius + dy + rows, radius + dx : radius + dx + columns]
    return out


def opacity(count: np.ndarray) -> np.ndarray:
    """Map events per pixel to 0 (none) and 0.45..1 (few to many, on a log scale)."""
    top = np.log1p(np.quantile(count[count > 0], 0.98)) if (count > 0).any() else 1.0
    return np.where(count > 0, 0.45 + 0.55 * np.minimum(np.log1p(count) / top, 1), 0.0)


def majority_image(
    canvas: Canvas, codes: np.ndarray, *, colors: list[str], keep: np.ndarray | None = None
) -> np.ndarray:
    """Colour each pixel by its commonest category, (rows, columns, 4) RGBA; codes below 0 are none."""
    from matplotlib.colors import to_rgb

    best = np.zeros(tuple(canvas.size[::-1]), np.float32)
    winner = np.full(best.shape, -1)
    count = np.zeros_like(best)
    for code, here in enumerate(canvas.by_code(codes, len(colors), keep)):
        count += here
        ahead = here > best
        winner[ahead] = code
        best[ahead] = here[ahead]
    rgb = np.array([to_rgb(color) for color in colors] + [(1.0, 1.0, 1.0)])
    return np.dstack([rgb[winner], opacity(count)])


def paint(ax: Axes, image: np.ndarray, canvas: Canvas, **style: Any) -> Any:
    """Draw an image at its embedding coordinates with equal scales."""
    drawn = ax.imshow(
        image,
        origin="lower",
        extent=canvas.extent,
        interpolation="nearest",
        aspect="equal",
        **style,
    )
    bare(ax)
    return drawn


def color_bar(ax: Axes, drawn: Any, text: str) -> None:
    """Put a small colour bar inside the lower right corner's margin."""
    inset = ax.inset_axes((1.01, 0.0, 0.025, 0.4))
    bar = ax.figure.colorbar(drawn, cax=inset)
    bar.outline.set_visible(False)
    inset.tick_params(labelsize=SMALL, length=2, width=0.5)
    inset.set_title(text, fontsize=SMALL, loc="left")


def paint_values(
    ax: Axes, canvas: Canvas, values: np.ndarray, *, text: str, bar: bool = True
) -> None:
    """Colour each pixel by the mean of its events' values, between their 1 and 99 % quantiles."""
    values = canvas.of_placed(values)
    known = np.isfinite(values)
    count = canvas.total(keep=known)
    with np.errstate(invalid="ignore"):
        mean = canvas.total(values, keep=known) / np.where(count > 0, count, np.nan)
    shown = mean[np.isfinite(mean)]
    low, high = np.quantile(shown, [0.01, 0.99]) if len(shown) else (0.0, 1.0)
    drawn = paint(ax, mean, canvas, cmap="viridis", vmin=low, vmax=max(high, low + 1e-6))
    if bar:
        color_bar(ax, drawn, text)
