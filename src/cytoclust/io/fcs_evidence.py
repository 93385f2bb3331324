"""What the bytes of a file say where its keywords contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cytoclust.io.fcs_data import decode_events
from cytoclust.io.fcs_layout import Layout, float_layout, padded_layout, row_padded_layout
from cytoclust.io.fcs_text import HEADER_LENGTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.io.fcs_text import Segments

EVENTS_LOOKED_AT = 500
GAP_LOOKED_AT = 4096
CHECKSUM_LENGTH = 8
PADDING = b" \0\r\n\t"


@dataclass
class Place:
    """A place of DATA: first byte, last byte or None, and where that is written."""

    begin: int
    end: int | None
    source: str

    @property
    def length(self) -> int | None:
        """Bytes from first to last, None where the last is not known."""
        return None if self.end is None else self.end - self.begin + 1


def best_place(
    file: BinaryIO,
    segments: Segments,
    layout: Layout,
    *,
    places: list[Place],
    total: int | None,
) -> Place:
    """Take the place that the file's bytes speak for, and say so."""
    scores = [_evidence(file, segments, layout, place=place, total=total) for place in places]
    best = max(range(len(places)), key=lambda index: tuple(scores[index].values()))
    taken, other = places[best], places[1 - best]
    reasons = [reason for reason, value in scores[best].items() if value > scores[1 - best][reason]]
    why = reasons[0] if reasons else "both fit equally well, and HEADER goes first"
    segments.oddities.append(
        f"DATA offsets disagree: {taken.source} says {taken.begin} to {taken.end}, {other.source} "
        f"says {other.begin} to {other.end}; {taken.source} taken: {why}"
    )
    return taken


def _evidence(
    file: BinaryIO, segments: Segments, layout: Layout, *, place: Place, total: int | None
) -> dict[str, float]:
    """Weigh a place; the reasons stand in order of their weight."""
    declared = place.length or 0
    needed = layout.length(total) if total is not None else declared
    last = place.begin + max(needed, 1) - 1
    inside = place.begin >= HEADER_LENGTH and last < segments.size
    begins_inside = HEADER_LENGTH <= place.begin < segments.size
    overlaps = any(place.begin <= stop and last >= start for start, stop in segments.text_spans)
    return {
        "it lies outside TEXT": float(not overlaps),
        "it lies inside the file": float(inside),
        "its length fits $TOT": float(bool(needed) and declared - needed in {0, 1}),
        "its values keep to $PnR": (
            _plausibility(file, segments, layout, begin=place.begin, length=needed)
            if begins_inside
            else 0.0
        ),
        "no bytes are left over beside it": -float(
            _bytes_before(file, segments, place.begin) + _bytes_after(file, segments, last)
        ),
    }


def _first_values(
    file: BinaryIO, segments: Segments, layout: Layout, *, begin: int, length: int
) -> NDArray[np.float64]:
    """Decode the first events of DATA, without the masks of $PnR."""
    fitting = min(segments.size - begin, length) * 8 // layout.row_bits
    n_events = max(0, min(EVENTS_LOOKED_AT, fitting))
    file.seek(segments.start + begin)
    raw = file.read(layout.length(n_events))
    unmasked = Layout(layout.kinds, layout.bits, layout.bits, layout.order, layout.padding)
    with np.errstate(invalid="ignore"):  # signalling NaN
        return decode_events(raw, n_events, unmasked).astype(np.float64)


def _plausibility(
    file: BinaryIO, segments: Segments, layout: Layout, *, begin: int, length: int
) -> float:
    """Return the share of the first values that the channels can have, in steps of a hundredth."""
    if layout.ascii:
        return 0.0
    values = _first_values(file, segments, layout, begin=begin, length=length)
    if not values.size:
        return 0.0
    fits = np.zeros(values.shape, dtype=bool)
    for column, kind in enumerate(layout.kinds):
        if kind == "I":
            fits[:, column] = values[:, column] < 2.0 ** layout.significant[column]
        else:
            size = np.abs(values[:, column])
            fits[:, column] = (size == 0) | ((size > 1e-12) & (size < 1e12))
    return round(float(fits.mean()), 2)


def _bytes_before(file: BinaryIO, segments: Segments, begin: int) -> int:
    """Count the bytes between the segment before and `begin`, padding aside."""
    ends = [stop + 1 for _, stop in segments.text_spans if stop < begin]
    start = max(ends, default=HEADER_LENGTH)
    if not start <= begin <= segments.size:
        return GAP_LOOKED_AT
    file.seek(segments.start + max(start, begin - GAP_LOOKED_AT))
    return len(file.read(min(begin - start, GAP_LOOKED_AT)).strip(PADDING))


def _bytes_after(file: BinaryIO, segments: Segments, last: int) -> int:
    """Count the bytes between `last` and the segment after, padding and a checksum aside."""
    if last >= segments.size:
        return GAP_LOOKED_AT
    known = [start for start, _ in segments.text_spans]
    known += [segments.offsets["ANALYSIS start"] or 0, segments.keywords.integer("$NEXTDATA") or 0]
    stop = min((start for start in known if start > last), default=segments.size)
    file.seek(segments.start + last + 1)
    rest = file.read(max(0, min(stop - last - 1, GAP_LOOKED_AT)))
    if rest[:CHECKSUM_LENGTH].isdigit():
        rest = rest[CHECKSUM_LENGTH:]
    return len(rest.strip(PADDING))


def fitting_layout(
    file: BinaryIO, segments: Segments, layout: Layout, *, place: Place, total: int | None
) -> Layout:
    """Find widths that were written wrongly ($PnB 10, stored 16 bits) by the length of DATA.

    Where the length says nothing, since $TOT or $ENDDATA is missing, the values do.
    """
    if layout.ascii:
        return layout
    by_width = float_layout(segments, layout)
    others = [
        other for other in (padded_layout(layout), row_padded_layout(layout), by_width) if other
    ]
    declared = place.length
    if declared is not None and total:
        if declared - layout.length(total) in {0, 1}:
            return layout
        found = [other for other in others if declared - other.length(total) in {0, 1}]
        if found:
            segments.oddities.append(
                f"$PnB: {_described(layout)} do not fit DATA of {declared} bytes and $TOT {total}; "
                f"{_described(found[0])} do and are taken"
            )
            return found[0]
    if by_width is not None and total != 0:
        detail = (
            f"$PnB and $DATATYPE contradict each other, and the length of DATA ({declared} bytes "
            f"for $TOT {total}) fits neither. Correct $PnB, $DATATYPE or $TOT."
        )
        raise segments.fail(detail, segment="TEXT")
    padded = padded_layout(layout)
    if padded is None or (declared is not None and total is not None):
        return layout
    present = segments.size - place.begin
    length = min(present, declared) if declared is not None else present
    if total is not None:
        length = min(length, padded.length(total))
    values = _first_values(file, segments, padded, begin=place.begin, length=length)
    if values.any() and (values < np.exp2(np.array(layout.bits, dtype=np.float64))).all():
        segments.oddities.append(
            f"$PnB: {_described(layout)}, but the values stand in {_described(padded)}; so they are read"
        )
        return padded
    return layout


def _described(layout: Layout) -> str:
    per_event = ", each event in whole bytes" if layout.padding else ""
    return f"widths of {sorted(set(layout.bits))} bits{per_event}"
