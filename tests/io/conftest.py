"""Small FCS files built byte by byte, so that odd ones can be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def fcs_bytes(
    data: bytes,
    n_events: int | None,
    bits: list[int],
    *,
    datatype: str = "F",
    byteord: str = "1,2,3,4",
    ranges: list[str] | None = None,
    extra: dict[str, str] | None = None,
    replace: dict[str, str | None] | None = None,
    delimiter: str = "/",
    version: str = "FCS3.1",
    header_data: tuple[int, int] | None = None,
    header_shift: tuple[int, int] = (0, 0),
    text_shift: tuple[int, int] = (0, 0),
    gap: bytes = b"",
    tail: bytes = b"",
    encoding: str = "utf-8",
) -> bytes:
    """Return an FCS file: TEXT from byte 256, then `gap` and DATA; shifts make its offsets wrong."""
    pairs = {
        "$BEGINDATA": "{begin}",
        "$ENDDATA": "{end}",
        "$BYTEORD": byteord,
        "$DATATYPE": datatype,
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(len(bits)),
    }
    if n_events is not None:
        pairs["$TOT"] = str(n_events)
    for number, width in enumerate(bits, start=1):
        pairs[f"$P{number}B"] = str(width)
        pairs[f"$P{number}N"] = f"C{number}"
        pairs[f"$P{number}E"] = "0,0"
        pairs[f"$P{number}R"] = ranges[number - 1] if ranges else str(1 << min(width, 32))
    pairs |= extra or {}
    for key, value in (replace or {}).items():
        if value is None:
            pairs.pop(key)
        else:
            pairs[key] = value
    doubled = {
        key.replace(delimiter, delimiter * 2): value.replace(delimiter, delimiter * 2)
        for key, value in pairs.items()
    }
    template = (
        delimiter + delimiter.join(item for pair in doubled.items() for item in pair) + delimiter
    )

    def text(begin: int, end: int) -> bytes:
        filled = template.replace("{begin}", f"{begin:012d}").replace("{end}", f"{end:012d}")
        return filled.encode(encoding)

    text_end = 256 + len(text(0, 0))
    begin = text_end + len(gap)
    end = begin + len(data) - 1
    right = (begin + header_shift[0], end + header_shift[1])
    first, last = header_data if header_data is not None else right
    header = f"{version}    {256:>8}{text_end - 1:>8}{first:>8}{last:>8}{0:>8}{0:>8}"
    written = text(begin + text_shift[0], end + text_shift[1])
    return header.encode().ljust(256) + written + gap + data + tail


def packed(rows: list[list[int]], bits: list[int], *, little: bool) -> bytes:
    """Pack values bit by bit: lowest bit first if little endian, else highest first."""
    stream: list[int] = []
    for row in rows:
        for value, width in zip(row, bits, strict=True):
            ones = [(value >> place) & 1 for place in range(width)]
            stream += ones if little else ones[::-1]
    order = "little" if little else "big"
    return np.packbits(np.array(stream, dtype=np.uint8), bitorder=order).tobytes()


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Write a file made by `fcs_bytes` and return its path."""

    def write(*args: object, name: str = "made.fcs", **options: object) -> Path:
        path = tmp_path / name
        path.write_bytes(fcs_bytes(*args, **options))  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """Give the reference bit packer."""
    return packed


@pytest.fixture
def make() -> Callable[..., bytes]:
    """Give the builder of file contents."""
    return fcs_bytes
