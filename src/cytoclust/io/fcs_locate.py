"""Where DATA lies: HEADER and TEXT may disagree, and the evidence in the file decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cytoclust.io.fcs_data import decode_events
from cytoclust.io.fcs_layout import Layout, described_channels, padded_layout
from cytoclust.io.fcs_text import HEADER_LENGTH

if TYPE_CHECKING:
    from cytoclust.io.fcs_text import Segments

EVENTS_LOOKED_AT = 500
GAP_LOOKED_AT = 4096


@dataclass
class Place:
    """A place of DATA: first byte, last byte or None, and where that is written."""

    begin: int
    end: int | None
    source: str


@dataclass
class Located:
    """DATA as it will be read. `missing` counts declared events that the file does not hold."""

    begin: int
    n_events: int
    layout: Layout
    length: int
    missing: int = 0


def locate_data(file: BinaryIO, segments: Segments, layout: Layout, *, keep: bool) -> Located:
    """Find DATA and the number of events; `keep` accepts a file that ends too early."""
    total = _total(segments)
    places = _places(segments, total)
    if total == 0 and not places:
        return Located(HEADER_LENGTH, 0, layout, 0)
    if not places:
        detail = (
            f"no usable DATA offset: $BEGINDATA is {segments.keywords.text('$BEGINDATA')!r}, "
            f"HEADER DATA start is {segments.offsets['DATA start']}. The file was damaged, or "
            "written wrongly."
        )
        raise segments.fail(detail, segment="DATA")
    place = (
        places[0] if len(places) == 1 else _best(file, segments, layout, places=places, total=total)
    )
    if not HEADER_LENGTH <= place.begin <= segments.size or (
        place.begin == segments.size and total != 0
    ):
        detail = (
            f"$BEGINDATA {place.begin} (from {place.source}) lies outside the file of "
            f"{segments.size} bytes. The file is cut short, or the offset is wrong."
        )
        raise segments.fail(detail, segment="DATA")
    _check_overlap(segments, place)
    return _count(segments, layout, place, total=total, keep=keep)


def _total(segments: Segments) -> int | None:
    total = segments.keywords.integer("$TOT")
    written = segments.keywords.text("$TOT")
    if total is not None and total >= 0:
        return total
    if written:
        segments.oddities.append(f"$TOT is {written!r}; events are counted from the DATA segment")
    elif segments.version != "FCS2.0":
        segments.oddities.append("$TOT is missing; events are counted from the DATA segment")
    return None


def _places(segments: Segments, total: int | None) -> list[Place]:
    """Return the places that HEADER and TEXT give, each once."""
    header = (segments.offsets["DATA start"], segments.offsets["DATA end"])
    text = (segments.keywords.integer("$BEGINDATA"), segments.keywords.integer("$ENDDATA"))
    found: list[Place] = []
    for (begin, end), source in ((header, "HEADER"), (text, "TEXT")):
        if begin is None or begin <= 0:
            continue
        last = end if end is not None and end >= begin else None
        if last is None and end not in {None, begin - 1} and total != 0:
            key = "$ENDDATA" if source == "TEXT" else "HEADER DATA end"
            segments.oddities.append(f"{key} is {end}, before DATA begins at {begin}; not used")
        same = [place for place in found if place.begin == begin]
        if same and (last is None or same[0].end is None or abs(last - same[0].end) <= 1):
            same[0].end = same[0].end if same[0].end is not None else last
            continue
        found.append(Place(begin, last, source))
    return found


def _overlaps_text(segments: Segments, begin: int, end: int) -> bool:
    return any(begin <= stop and end >= start for start, stop in segments.text_spans)


def _check_overlap(segments: Segments, place: Place) -> None:
    if any(start <= place.begin <= stop for start, stop in segments.text_spans):
        # a TEXT end that is too large by a byte or two is common and harmless
        start, stop = next(
            span for span in segments.text_spans if span[0] <= place.begin <= span[1]
        )
        if stop - place.begin > 2:
            detail = (
                f"$BEGINDATA {place.begin} (from {place.source}) lies inside TEXT, bytes {start} "
                f"to {stop}. One of these offsets is wrong."
            )
            raise segments.fail(detail, segment="DATA")
        segments.oddities.append(f"HEADER: TEXT end {stop} reaches into DATA at {place.begin}")


def _best(
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
    declared = 0 if place.end is None else place.end - place.begin + 1
    needed = layout.length(total) if total is not None else declared
    last = place.begin + max(needed, 1) - 1
    outside = not _overlaps_text(segments, place.begin, last)
    inside = place.begin >= HEADER_LENGTH and last < segments.size
    begins_inside = HEADER_LENGTH <= place.begin < segments.size
    return {
        "it lies outside TEXT": float(outside),
        "it lies inside the file": float(inside),
        "its length fits $TOT": float(bool(needed) and declared - needed in {0, 1}),
        "its values keep to $PnR": (
            _plausibility(file, segments, layout, begin=place.begin) if begins_inside else 0.0
        ),
        "nothing but padding lies before it": float(_padding_before(file, segments, place.begin)),
    }


def _plausibility(file: BinaryIO, segments: Segments, layout: Layout, *, begin: int) -> float:
    """Return the share of the first values that the channels can have, in steps of a hundredth."""
    if layout.ascii:
        return 0.0
    fitting = (segments.size - begin) * 8 // layout.row_bits
    n_events = min(EVENTS_LOOKED_AT, fitting)
    if n_events < 1:
        return 0.0
    file.seek(segments.start + begin)
    raw = file.read(layout.length(n_events))
    unmasked = Layout(layout.kinds, layout.bits, layout.bits, layout.order)
    values = decode_events(raw, n_events, unmasked).astype(np.float64)
    fits = np.zeros(values.shape, dtype=bool)
    for column, kind in enumerate(layout.kinds):
        if kind == "I":
            fits[:, column] = values[:, column] < 2.0 ** layout.significant[column]
        else:
            size = np.abs(values[:, column])
            fits[:, column] = (size == 0) | ((size > 1e-12) & (size < 1e12))
    return round(float(fits.mean()), 2)


def _padding_before(file: BinaryIO, segments: Segments, begin: int) -> bool:
    ends = [stop + 1 for _, stop in segments.text_spans if stop < begin]
    start = max(ends, default=HEADER_LENGTH)
    if not start <= begin <= segments.size:
        return False
    file.seek(segments.start + start)
    gap = file.read(min(begin - start, GAP_LOOKED_AT))
    return len(gap.strip(b" \0\r\n\t")) <= 1


def _count(
    segments: Segments, layout: Layout, place: Place, *, total: int | None, keep: bool
) -> Located:
    """Fit $TOT, the length of DATA and the length of the file to each other."""
    available = segments.size - place.begin
    declared = None if place.end is None else place.end - place.begin + 1
    if not layout.row_bits:  # ASCII values of any length
        length = available if declared is None else min(declared, available)
        return Located(place.begin, total if total is not None else -1, layout, length)
    layout = _other_widths(segments, layout, declared=declared, total=total)
    present = min(declared, available) if declared is not None else available
    holds = present * 8 // layout.row_bits
    if total is None:
        if declared is None:
            detail = "$TOT and $ENDDATA are both missing, so that events cannot be counted."
            raise segments.fail(detail, segment="DATA")
        if declared > available + 1 and not keep:
            raise _too_short(segments, layout, place, claim=f"$ENDDATA {place.end}")
        _report_rest(segments, layout, present, events=holds)
        missing = max(0, declared * 8 // layout.row_bits - holds)
        return Located(place.begin, holds, layout, layout.length(holds), missing)
    needed = layout.length(total)
    if declared is None or declared - 1 <= needed <= declared:
        if needed <= available:
            return Located(place.begin, total, layout, needed)
    elif needed < declared <= available + 1:
        return _more_than_total(segments, layout, place, total=total, present=present)
    elif needed < declared and needed <= available and place.end is not None:
        segments.oddities.append(
            f"$ENDDATA {place.end} lies beyond the end of the file ({segments.size} bytes), which "
            f"holds all {total} events of $TOT"
        )
        return Located(place.begin, total, layout, needed)
    if not keep:
        raise _too_short(segments, layout, place, claim=f"$TOT {total}")
    holds = min(holds, total)
    return Located(place.begin, holds, layout, layout.length(holds), total - holds)


def _too_short(segments: Segments, layout: Layout, place: Place, *, claim: str) -> Exception:
    present = segments.size - place.begin
    if place.end is not None:
        present = min(present, place.end - place.begin + 1)
    detail = (
        f"{claim} needs more than DATA holds: from $BEGINDATA {place.begin} to $ENDDATA {place.end} "
        f"and the end of the file at {segments.size} there are {present} bytes, "
        f"{present * 8 // layout.row_bits} whole events. The file is cut short, or $TOT or "
        "$ENDDATA is wrong; on_truncated='keep' reads the whole events that are there."
    )
    return segments.fail(detail, segment="DATA")


def _more_than_total(
    segments: Segments, layout: Layout, place: Place, *, total: int, present: int
) -> Located:
    """Decide where DATA is longer than $TOT needs: by padding, or by more events."""
    n_channels = layout.n_channels
    described = described_channels(segments, n_channels)
    if described > n_channels:
        detail = (
            f"$PAR is {n_channels}, but {described} channels are described ($P{described}B), and "
            f"DATA of {present} bytes does not fit $PAR and $TOT {total}. Correct $PAR."
        )
        raise segments.fail(detail, segment="TEXT")
    holds = present * 8 // layout.row_bits
    if holds > total and present - layout.length(holds) > 1:
        detail = (
            f"$TOT {total} needs {layout.length(total)} bytes, DATA from $BEGINDATA {place.begin} "
            f"to $ENDDATA {place.end} has {present}, which is no whole number of events either. "
            "$TOT, $PAR, $PnB or an offset is wrong."
        )
        raise segments.fail(detail, segment="DATA")
    if holds > total:
        segments.oddities.append(
            f"$TOT is {total}, but DATA holds {holds} whole events; all {holds} are read"
        )
        return Located(place.begin, holds, layout, layout.length(holds))
    _report_rest(segments, layout, present, events=total)
    return Located(place.begin, total, layout, layout.length(total))


def _report_rest(segments: Segments, layout: Layout, present: int, *, events: int) -> None:
    rest = present - layout.length(events)
    if rest > 1:
        segments.oddities.append(f"DATA has {rest} bytes after its last whole event")


def _other_widths(
    segments: Segments, layout: Layout, *, declared: int | None, total: int | None
) -> Layout:
    """Find widths that were written wrongly ($PnB 10, stored 16 bits) by the length of DATA."""
    if layout.ascii or not declared or not total or "I" not in layout.kinds:
        return layout
    padded = padded_layout(layout)
    if padded.bits == layout.bits or declared - layout.length(total) in {0, 1}:
        return layout
    if declared - padded.length(total) not in {0, 1}:
        return layout
    segments.oddities.append(
        f"$PnB {sorted(set(layout.bits))} does not fit DATA of {declared} bytes and $TOT {total}; "
        f"widths of {sorted(set(padded.bits))} bits do and are taken"
    )
    return padded
