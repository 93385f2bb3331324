"""Where DATA lies: HEADER and TEXT may disagree, and the evidence in the file decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from cytoclust.io.fcs_data import count_numbers
from cytoclust.io.fcs_evidence import Place, best_place, fitting_layout
from cytoclust.io.fcs_layout import Layout, described_channels
from cytoclust.io.fcs_text import HEADER_LENGTH

if TYPE_CHECKING:
    from cytoclust.io.fcs_text import Segments


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
    places = _places(segments, layout, total)
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
        places[0]
        if len(places) == 1
        else best_place(file, segments, layout, places=places, total=total)
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
    return _count(file, segments, layout, place=place, total=total, keep=keep)


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


def _places(segments: Segments, layout: Layout, total: int | None) -> list[Place]:
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
            same[0].end = _likelier_end(same[0], last, layout=layout, total=total)
            continue
        found.append(Place(begin, last, source))
    return found


def _likelier_end(
    place: Place, last: int | None, *, layout: Layout, total: int | None
) -> int | None:
    """Choose between two ends that differ by a byte: one of them is one past the end."""
    ends = sorted(end for end in (place.end, last) if end is not None)
    if len(ends) < 2:
        return ends[0] if ends else None
    if total is not None or not layout.row_bits:
        return ends[1]
    whole = [end for end in ends if (end - place.begin + 1) * 8 % layout.row_bits == 0]
    return whole[0] if whole else ends[1]


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


def _count(
    file: BinaryIO,
    segments: Segments,
    layout: Layout,
    *,
    place: Place,
    total: int | None,
    keep: bool,
) -> Located:
    """Fit $TOT, the length of DATA and the length of the file to each other."""
    available = segments.size - place.begin
    declared = place.length
    _refuse_uncounted(segments, layout, declared=declared, total=total)
    if not layout.row_bits:
        return _count_text(file, segments, layout, place=place, total=total, keep=keep)
    layout = fitting_layout(file, segments, layout, place=place, total=total)
    if total is None:
        return _count_without_total(segments, layout, place, keep=keep)
    needed = layout.length(total)
    over = 0 if declared is None else declared - needed
    if needed > available or over < -1:
        if not keep:
            raise _too_short(segments, layout, place, claim=f"$TOT {total}")
        present = available if declared is None else min(declared, available)
        holds = min(present * 8 // layout.row_bits, total)
        return Located(place.begin, holds, layout, layout.length(holds), total - holds)
    if over > 1 and needed + over <= available + 1:
        return _more_than_total(segments, layout, place, total=total)
    if over > 1:
        segments.oddities.append(
            f"$ENDDATA {place.end} lies beyond the end of the file ({segments.size} bytes), which "
            f"holds all {total} events of $TOT"
        )
    elif over == -1:
        segments.oddities.append(
            f"$ENDDATA is {place.end}, one byte before the end of the {total} events of $TOT"
        )
    return Located(place.begin, total, layout, needed)


def _count_text(
    file: BinaryIO,
    segments: Segments,
    layout: Layout,
    *,
    place: Place,
    total: int | None,
    keep: bool,
) -> Located:
    """Count the events of numbers that are separated by blanks or commas."""
    available = segments.size - place.begin
    length = available if place.length is None else min(place.length, available)
    cut = place.length is not None and place.length > available + 1
    file.seek(segments.start + place.begin)
    numbers, open_end = count_numbers(file.read(length))
    if cut and open_end:
        numbers -= 1  # its last digits may be missing
    whole, rest = divmod(numbers, layout.n_channels)
    found = f"DATA from $BEGINDATA {place.begin} holds {numbers} numbers of {layout.n_channels} channels"
    if not keep and (cut or whole < (total or 0)):
        detail = (
            f"{found}, {whole} whole events; $TOT is {total}, $ENDDATA {place.end}. The file is cut "
            "short, or one of these is wrong; on_truncated='keep' reads the whole events."
        )
        raise segments.fail(detail, segment="DATA")
    if total is not None and whole < total:
        return Located(place.begin, whole, layout, length, total - whole)
    if total is not None and (numbers == total * layout.n_channels or place.length is None):
        return Located(place.begin, total, layout, length)
    if rest and not keep:
        detail = f"{found}, which are no whole events, and $TOT is {total}. One of these is wrong."
        raise segments.fail(detail, segment="DATA")
    if total is not None or rest:
        segments.oddities.append(f"$TOT is {total}, but {found}; all {whole} whole events are read")
    return Located(place.begin, whole, layout, length)


def _refuse_uncounted(
    segments: Segments, layout: Layout, *, declared: int | None, total: int | None
) -> None:
    """Refuse data whose events cannot be counted, or are counted by a $PAR that is in doubt."""
    if total is None and declared is None:
        detail = "$TOT and $ENDDATA are both missing, so that events cannot be counted."
        raise segments.fail(detail, segment="DATA")
    described = described_channels(segments, layout.n_channels)
    if described > layout.n_channels and (total is None or declared is None):
        raise _wrong_par(segments, layout, described, why="$TOT or $ENDDATA is missing")


def _wrong_par(segments: Segments, layout: Layout, described: int, *, why: str) -> Exception:
    detail = (
        f"$PAR is {layout.n_channels}, but {described} channels are described ($P{described}B), "
        f"and {why}. Correct $PAR."
    )
    return segments.fail(detail, segment="TEXT")


def _count_without_total(
    segments: Segments, layout: Layout, place: Place, *, keep: bool
) -> Located:
    """Count the events that the declared length of DATA holds."""
    available = segments.size - place.begin
    declared = place.length or 0
    if declared > available + 1 and not keep:
        raise _too_short(segments, layout, place, claim=f"$ENDDATA {place.end}")
    present = min(declared, available)
    holds = present * 8 // layout.row_bits
    _report_rest(segments, layout, present, events=holds)
    missing = max(0, declared * 8 // layout.row_bits - holds)
    return Located(place.begin, holds, layout, layout.length(holds), missing)


def _too_short(segments: Segments, layout: Layout, place: Place, *, claim: str) -> Exception:
    present = segments.size - place.begin
    if place.length is not None:
        present = min(present, place.length)
    events = f", {present * 8 // layout.row_bits} whole events" if layout.row_bits else ""
    detail = (
        f"{claim} needs more than DATA holds: from $BEGINDATA {place.begin} to $ENDDATA {place.end} "
        f"and the end of the file at {segments.size} there are {present} "
        f"bytes{events}. The file is cut short, or $TOT or "
        "$ENDDATA is wrong; on_truncated='keep' reads the whole events that are there."
    )
    return segments.fail(detail, segment="DATA")


def _more_than_total(segments: Segments, layout: Layout, place: Place, *, total: int) -> Located:
    """Decide where DATA is longer than $TOT needs: by padding, or by more events."""
    present = min(place.length or 0, segments.size - place.begin)
    described = described_channels(segments, layout.n_channels)
    if described > layout.n_channels:
        why = f"DATA of {present} bytes does not fit $PAR and $TOT {total}"
        raise _wrong_par(segments, layout, described, why=why)
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
