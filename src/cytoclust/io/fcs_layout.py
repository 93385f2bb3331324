"""How the events of a data set are stored: width, kind and byte order of each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from cytoclust.io.fcs_text import Segments

Kind = Literal["I", "F", "D", "A"]
FLOAT_BITS = {"F": 32, "D": 64}
CONTAINERS = (8, 16, 32, 64)


@dataclass
class Layout:
    """Storage of one event.

    `bits` are widths in bits (characters for kind A, 0 where values are separated by commas or
    blanks). `significant` is how many low bits of an integer count, from $PnR.
    `order` holds the significance of each stored byte, 1 for the lowest, as in $BYTEORD.
    `padding` are unused bits after each event.
    """

    kinds: list[Kind]
    bits: list[int]
    significant: list[int]
    order: tuple[int, ...]
    padding: int = 0

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.bits)

    @property
    def ascii(self) -> bool:
        """Whether the values are written as text."""
        return self.kinds[0] == "A"

    @property
    def row_bits(self) -> int:
        """Bits of one event, 0 where events have no fixed length."""
        if self.ascii:
            return 8 * sum(self.bits) if all(self.bits) else 0
        return sum(self.bits) + self.padding

    def length(self, n_events: int) -> int:
        """Bytes that `n_events` take."""
        return -(-n_events * self.row_bits // 8)

    @property
    def little(self) -> bool:
        """Whether bytes stand lowest first."""
        return self.order == tuple(range(1, len(self.order) + 1))

    @property
    def big(self) -> bool:
        """Whether bytes stand highest first."""
        return self.order == tuple(range(len(self.order), 0, -1))

    def places(self, n_bytes: int) -> list[int]:
        """Return the significance, 0 for the lowest, of each byte of a value of `n_bytes`."""
        if self.little or n_bytes == 1:
            return list(range(n_bytes))
        if self.big:
            return list(range(n_bytes - 1, -1, -1))
        head = self.order[:n_bytes]
        return [sorted(head).index(rank) for rank in head]


def channel_count(segments: Segments) -> int:
    """Return $PAR, refusing counts that the keywords cannot describe."""
    keywords = segments.keywords
    n_channels = keywords.integer("$PAR")
    if n_channels is None or n_channels < 1:
        detail = f"$PAR must be the number of channels, found {keywords.text('$PAR')!r}."
        raise segments.fail(detail, segment="TEXT")
    if n_channels > len(keywords):
        detail = (
            f"$PAR is {n_channels}, but there are only {len(keywords)} keywords in all; "
            f"$P{n_channels}B and others are missing. Correct $PAR."
        )
        raise segments.fail(detail, segment="TEXT")
    for number in range(1, n_channels + 1):
        if not any(f"$P{number}{letter}" in keywords for letter in "BNR"):
            detail = (
                f"$PAR is {n_channels}, but $P{number}B, $P{number}N and $P{number}R are missing."
            )
            raise segments.fail(detail, segment="TEXT")
    described = described_channels(segments, n_channels)
    if described > n_channels:
        segments.oddities.append(f"$PAR is {n_channels}, but {described} channels are described")
    return n_channels


def described_channels(segments: Segments, n_channels: int) -> int:
    """Count the channels that have a width, beyond $PAR too."""
    number = n_channels
    while segments.keywords.text(f"$P{number + 1}B") and segments.keywords.text(f"$P{number + 1}N"):
        number += 1
    return number


def read_layout(segments: Segments, n_channels: int) -> Layout:
    """Read $DATATYPE, $BYTEORD, $PnB, $PnR and $PnDATATYPE."""
    keywords = segments.keywords
    mode = keywords.text("$MODE").upper()
    if mode not in {"", "L"}:
        detail = f"$MODE is {mode!r}; only list mode (L) holds single events."
        raise segments.fail(detail, segment="TEXT")
    overall = keywords.text("$DATATYPE").upper()
    if overall not in {"I", "F", "D", "A"}:
        detail = f"$DATATYPE must be I, F, D or A; found {overall!r}."
        raise segments.fail(detail, segment="TEXT")
    kinds: list[Kind] = []
    for number in range(1, n_channels + 1):
        kind = keywords.text(f"$P{number}DATATYPE").upper() or overall
        if kind not in {"I", "F", "D", "A"} or (kind == "A") != (overall == "A"):
            detail = f"$P{number}DATATYPE must be I, F or D; found {kind!r}."
            raise segments.fail(detail, segment="TEXT")
        kinds.append(kind)  # type: ignore[arg-type]  # checked above
    bits = [_width(segments, number, kind) for number, kind in enumerate(kinds, start=1)]
    significant = [
        _significant(segments, number, width) if kind == "I" else width
        for number, (kind, width) in enumerate(zip(kinds, bits, strict=True), start=1)
    ]
    _report_float_widths(segments, kinds)
    layout = Layout(kinds, bits, significant, _byte_order(segments, kinds, bits))
    if layout.ascii and not layout.row_bits:
        layout.bits = [0] * n_channels
    return layout


def _width(segments: Segments, number: int, kind: Kind) -> int:
    key = f"$P{number}B"
    written = segments.keywords.text(key)
    width = segments.keywords.integer(key)
    if kind == "A" and (written == "*" or width == 0):
        return 0
    if kind in FLOAT_BITS:
        return FLOAT_BITS[kind]
    if width is None or not 1 <= width <= 64:
        unit = "characters or *" if kind == "A" else "bits from 1 to 64"
        detail = f"{key} must be a number of {unit}; found {written!r}."
        raise segments.fail(detail, segment="TEXT")
    return width


def _report_float_widths(segments: Segments, kinds: list[Kind]) -> None:
    wrong = [
        number
        for number, kind in enumerate(kinds, start=1)
        if kind in FLOAT_BITS and segments.keywords.integer(f"$P{number}B") != FLOAT_BITS[kind]
    ]
    if wrong:
        key, kind = f"$P{wrong[0]}B", kinds[wrong[0] - 1]
        segments.oddities.append(
            f"{key} is {segments.keywords.text(key)!r}, but $DATATYPE {kind} has "
            f"{FLOAT_BITS[kind]} bits ({len(wrong)} channels like that)"
        )


def channel_range(segments: Segments, number: int) -> float:
    """Return $PnR as a number, NaN where there is none."""
    text = segments.keywords.text(f"$P{number}R")
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _significant(segments: Segments, number: int, width: int) -> int:
    """Return the bits that $PnR needs: those of the next power of two."""
    key = f"$P{number}R"
    exact = segments.keywords.integer(key)
    value = channel_range(segments, number)
    if exact is None and np.isfinite(value) and 0 < value < 2.0**64:
        exact = int(np.ceil(value))
    if value >= 2.0**width and value != float("inf"):
        return width
    if exact is None or exact <= 0:
        segments.oddities.append(
            f"{key} is {segments.keywords.text(key)!r}, no range; all {width} bits are kept"
        )
        return width
    return min(width, max(1, (exact - 1).bit_length()))


def _byte_order(segments: Segments, kinds: list[Kind], bits: list[int]) -> tuple[int, ...]:
    written = segments.keywords.text("$BYTEORD")
    if kinds[0] == "A":
        return (1,)
    parts = [part.strip() for part in written.split(",")]
    order = tuple(
        int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 3
    )
    if len(order) != len(parts) or sorted(order) != list(range(1, len(order) + 1)):
        if not written and all(width <= 8 for width in bits):
            return (1,)
        detail = f"$BYTEORD must order the bytes, as 1,2,3,4 or 4,3,2,1; found {written!r}."
        raise segments.fail(detail, segment="TEXT")
    layout = Layout(kinds, bits, bits, order)
    longest = max(-(-width // 8) for width in bits)
    if not (layout.little or layout.big) and (
        longest > len(order) or any(width % 8 for width in bits)
    ):
        detail = f"$BYTEORD {written!r} does not say how values of {max(bits)} bits are stored."
        raise segments.fail(detail, segment="TEXT")
    return order


def padded_layout(layout: Layout) -> Layout | None:
    """Return the layout with each integer in the next container of 8, 16, 32 or 64 bits."""
    bits = [
        next(size for size in CONTAINERS if size >= width) if kind == "I" else width
        for kind, width in zip(layout.kinds, layout.bits, strict=True)
    ]
    if bits == layout.bits:
        return None
    return Layout(layout.kinds, bits, layout.significant, layout.order)


def row_padded_layout(layout: Layout) -> Layout | None:
    """Return the layout with each event filled up to whole bytes."""
    over = -layout.row_bits % 8
    if not over:
        return None
    return Layout(layout.kinds, layout.bits, layout.significant, layout.order, over)


def float_layout(segments: Segments, layout: Layout) -> Layout | None:
    """Return the layout with F and D as $PnB says, where $DATATYPE says otherwise."""
    kinds = list(layout.kinds)
    bits = list(layout.bits)
    by_width: dict[int | None, Kind] = {32: "F", 64: "D"}
    for column, kind in enumerate(layout.kinds):
        written = segments.keywords.integer(f"$P{column + 1}B")
        if kind in FLOAT_BITS and written in by_width and written != FLOAT_BITS[kind]:
            kinds[column], bits[column] = by_width[written], written or 0
    if bits == layout.bits:
        return None
    significant = [
        width if kind in FLOAT_BITS else low
        for kind, width, low in zip(kinds, bits, layout.significant, strict=True)
    ]
    return Layout(kinds, bits, significant, layout.order)
