"""HEADER and TEXT of an FCS file: where the segments lie, and the keywords."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from cytoclust.errors import FcsFormatError

HEADER_LENGTH = 58
KNOWN_VERSIONS = ("FCS2.0", "FCS3.0", "FCS3.1", "FCS3.2")
STANDARD_KEY = re.compile(rb"\s*\$[A-Za-z][A-Za-z0-9_]*\s*")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
OFFSETS = ("TEXT start", "TEXT end", "DATA start", "DATA end", "ANALYSIS start", "ANALYSIS end")


class Keywords(Mapping[str, str]):
    """Keywords as written, in file order; look-up ignores case and blanks around the name.

    Parameters
    ----------
    pairs
        Keyword and value, as written. Of a keyword that comes twice, the first value counts.

    Examples
    --------
    >>> from cytoclust.io.fcs_text import Keywords
    >>> Keywords([("$CYT", "Aurora")])["$cyt"]
    'Aurora'
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        self._as_written: dict[str, str] = {}
        for key, value in pairs:
            folded = key.strip().upper()
            if folded not in self._values:
                self._values[folded] = value
                self._as_written[folded] = key

    def __getitem__(self, key: str) -> str:
        return self._values[key.strip().upper()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._as_written.values())

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.strip().upper() in self._values

    def __repr__(self) -> str:
        return f"Keywords({dict(self)!r})"

    def text(self, key: str) -> str:
        """Return the value without blanks at its ends, empty where the keyword is missing."""
        return self._values.get(key.upper(), "").strip(" \t\r\n\0")

    def integer(self, key: str) -> int | None:
        """Return the value as a whole number ("12", " 12 ", "12.0"); None where it is none."""
        return whole_number(self.text(key))


@dataclass
class Segments:
    """HEADER and TEXT of one data set; offsets count from the start of the data set."""

    path: str
    start: int
    size: int
    version: str
    offsets: dict[str, int | None]
    keywords: Keywords
    text_spans: list[tuple[int, int]]
    oddities: list[str] = field(default_factory=list)

    def fail(self, detail: str, *, segment: str) -> FcsFormatError:
        """Build the error that names file and segment."""
        where = f" (data set at byte {self.start})" if self.start else ""
        return FcsFormatError(f"{self.path}{where}: {segment}: {detail}")


def whole_number(text: str) -> int | None:
    """Return `text` as an int, None where it is not a whole number."""
    cleaned = text.strip(" \t\r\n\0")
    if len(cleaned) > 32 or not NUMBER.fullmatch(cleaned):
        return None
    if cleaned.lstrip("+-").isdigit():
        return int(cleaned)
    number = float(cleaned)
    return int(number) if number == number // 1 and abs(number) < 2**63 else None


def read_segments(file: BinaryIO, path: str, *, start: int, file_size: int) -> Segments:
    """Read HEADER, TEXT and supplemental TEXT of the data set at byte `start`."""
    file.seek(start)
    header = file.read(HEADER_LENGTH)
    segments = Segments(path, start, file_size - start, "", {}, Keywords([]), [])
    if len(header) < HEADER_LENGTH or not re.fullmatch(rb"FCS\d\.\d", header[:6]):
        detail = (
            f"expected 'FCS' and a version in a header of {HEADER_LENGTH} bytes, found "
            f"{header[:10]!r} in {len(header)} bytes. This is no FCS file, or it is cut short."
        )
        raise segments.fail(detail, segment="HEADER")
    segments.version = header[:6].decode("ascii")
    if segments.version not in KNOWN_VERSIONS:
        segments.oddities.append(f"HEADER: version {segments.version} is not known; read as 3.1")
    for index, name in enumerate(OFFSETS):
        raw = header[10 + 8 * index : 18 + 8 * index].decode("latin-1")
        segments.offsets[name] = whole_number(raw)
    raw_text, delimiter = _read_text(file, segments)
    pairs, odd = split_text(raw_text, delimiter)
    segments.keywords = Keywords(pairs)
    if not len(segments.keywords) or (odd and "$PAR" not in segments.keywords):
        detail = f"no keywords found with delimiter {delimiter!r}. The TEXT offsets are wrong."
        raise segments.fail(detail, segment="TEXT")
    _report_repeated(segments, pairs)
    pairs += _supplemental(file, segments, delimiter)
    segments.keywords = Keywords(pairs)
    return segments


def _read_text(file: BinaryIO, segments: Segments) -> tuple[bytes, bytes]:
    begin, end = segments.offsets["TEXT start"], segments.offsets["TEXT end"]
    if begin is None or begin < HEADER_LENGTH:
        detail = f"TEXT start must be a number of {HEADER_LENGTH} or more; found {begin}."
        raise segments.fail(detail, segment="HEADER")
    if end is None or end <= begin:
        detail = f"TEXT end must lie after TEXT start {begin}; found {end}."
        raise segments.fail(detail, segment="HEADER")
    if end >= segments.size:
        detail = (
            f"TEXT end {end} lies beyond the end of the file ({segments.size} bytes): TEXT is cut "
            "short, or the offset is wrong. Get the file again from the instrument."
        )
        raise segments.fail(detail, segment="HEADER")
    file.seek(segments.start + begin)
    raw = file.read(end - begin + 1)
    segments.text_spans.append((begin, end))
    return raw, raw[:1]


def _supplemental(file: BinaryIO, segments: Segments, delimiter: bytes) -> list[tuple[str, str]]:
    begin = segments.keywords.integer("$BEGINSTEXT") or 0
    end = segments.keywords.integer("$ENDSTEXT") or 0
    if begin <= 0 or end <= begin or (begin, end) in segments.text_spans:
        return []
    if end == segments.size:  # one past the end is a common slip
        end -= 1
    if begin < HEADER_LENGTH or end > segments.size:
        segments.oddities.append(
            f"$BEGINSTEXT {begin} to $ENDSTEXT {end} does not lie in the file; supplemental TEXT "
            "is left out"
        )
        return []
    file.seek(segments.start + begin)
    raw = file.read(end - begin + 1)
    if not raw.strip(b" \0\r\n\t" + delimiter):
        return []
    segments.text_spans.append((begin, end))
    pairs, odd = _split_supplemental(raw, delimiter)
    if odd or not pairs:
        segments.oddities.append(
            f"$BEGINSTEXT {begin} to $ENDSTEXT {end}: supplemental TEXT does not split into pairs of "
            f"keyword and value with delimiter {delimiter!r}; {len(pairs)} pairs are read"
        )
    return pairs


def _split_supplemental(raw: bytes, delimiter: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Split supplemental TEXT, which may lack its first delimiter, or have one of its own."""
    stripped = raw if raw.startswith(delimiter) else raw.lstrip(b" \0\r\n\t")
    if stripped.startswith(delimiter):
        return split_text(stripped, delimiter)
    own, as_before = split_text(stripped, stripped[:1]), split_text(delimiter + stripped, delimiter)
    standard = [
        sum(key.strip().startswith("$") for key, _ in pairs) for pairs, _ in (own, as_before)
    ]
    return own if standard[0] > standard[1] else as_before


def _report_repeated(segments: Segments, pairs: list[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for key, value in pairs:
        folded = key.strip().upper()
        if folded.startswith("$") and seen.setdefault(folded, value).strip() != value.strip():
            segments.oddities.append(
                f"TEXT: {key} is given twice with different values; the first counts"
            )


def split_text(raw: bytes, delimiter: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Split TEXT into keyword and value pairs; also tell whether a keyword had no value.

    A doubled delimiter is an escaped one by the standard, but an empty value in many files.
    Each reading is tried, and the one that yields most standard keywords is taken.
    """
    body = raw[1:].rstrip(b"\0")
    pieces = body.split(delimiter)
    if b"" not in pieces[:-1]:
        tokens = pieces
    else:
        readings = (_escaped(pieces, delimiter), _mixed(pieces, delimiter), pieces)
        tokens = max(readings, key=_standard_keys)  # the first of equals
    if tokens and not tokens[-1].strip():
        tokens = tokens[:-1]
    odd = len(tokens) % 2 == 1
    if odd:
        tokens = [*tokens[:-1]]
    decoded = [_decode(token) for token in tokens]
    return list(zip(decoded[::2], decoded[1::2], strict=True)), odd


def _decode(token: bytes) -> str:
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return token.decode("latin-1")


def _standard_keys(tokens: list[bytes]) -> int:
    return sum(1 for key in tokens[::2] if STANDARD_KEY.fullmatch(key))


def _escaped(pieces: list[bytes], delimiter: bytes) -> list[bytes]:
    """Read every doubled delimiter as an escaped one."""
    tokens, parts, index = [], [pieces[0]], 1
    while index < len(pieces):
        if pieces[index] == b"" and index + 1 < len(pieces):
            parts.append(pieces[index + 1])
            index += 2
            continue
        tokens.append(delimiter.join(parts))
        parts = [pieces[index]]
        index += 1
    tokens.append(delimiter.join(parts))
    return tokens


def _mixed(pieces: list[bytes], delimiter: bytes) -> list[bytes]:
    """Read one right after a keyword as an empty value, any other as an escaped delimiter."""
    tokens: list[bytes] = []
    index = 0
    while index < len(pieces):
        tokens.append(pieces[index])
        index += 1
        if index >= len(pieces):
            break
        parts = [pieces[index]]
        index += 1
        while parts[0] and index + 1 < len(pieces) and pieces[index] == b"":
            parts.append(pieces[index + 1])
            index += 2
        tokens.append(delimiter.join(parts))
    return tokens
