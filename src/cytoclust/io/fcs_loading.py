"""Load a data set straight into float32, piece by piece: nothing is held beside the result."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cytoclust.checks import listing
from cytoclust.errors import FcsFormatError
from cytoclust.io.fcs_data import (
    CHUNK_BYTES,
    AsciiError,
    BlockDecoder,
    decode_events,
    decoded_dtype,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO
    from pathlib import Path
    from typing import Any, BinaryIO

    from numpy.typing import NDArray

    from cytoclust.io.fcs import FcsHeader
    from cytoclust.io.fcs_scaling import Scaling

LARGEST_EXACT = 1 << 24  # whole numbers above are rounded in float32
VALUES_CHECKED_AT_ONCE = 1 << 16


@dataclass
class Loaded:
    """What was learned while the events of a file were read."""

    sha256: str
    n_not_finite: int
    rounded: list[str]

    @property
    def rounding(self) -> str:
        """Say which channels lost digits, empty if none."""
        if not self.rounded:
            return ""
        return (
            f"channels {listing(self.rounded)} hold whole numbers above {LARGEST_EXACT:,}, which float32 "
            "rounds; io.read_fcs_datasets gives them exactly"
        )


def load_fcs(
    path: Path,
    header: FcsHeader,
    out: NDArray[np.float32],
    *,
    columns: list[int],
    scalings: Sequence[Scaling],
    digest: bool = True,
) -> Loaded:
    """Read the events of `header` into `out`.

    Parameters
    ----------
    path
        The file of `header`.
    header
        What `read_header` gave.
    out
        Filled with the values, (n_events, n_channels).
    columns
        Channels of the file that `out` gets, in its order.
    scalings
        What is done to the stored values of single channels.
    digest
        Take the SHA-256 of the file, else it is empty.

    Raises
    ------
    FcsFormatError
        If the file is no longer as long as `header` says, or text in it is no number.
    """
    hasher = hashlib.sha256() if digest else None
    with path.open("rb", buffering=0) as file:
        loading = _Loading(file, header, out, columns=columns, scalings=scalings, hasher=hasher)
        try:
            loading.run()
        except EOFError:
            msg = f"{path}: DATA: the file became shorter while it was read; read it again."
            raise FcsFormatError(msg) from None
        except AsciiError as problem:
            detail = f"$DATATYPE A from $BEGINDATA {header.located.begin}: {problem}."
            raise header.segments.fail(detail, segment="DATA") from None
    names = [header.channels[columns[place]] for place in np.flatnonzero(loading.rounded)]
    return Loaded(hasher.hexdigest() if hasher else "", loading.n_not_finite, names)


class _Loading:
    """One pass over a file: hash, decode, convert and check each piece while it is in cache."""

    def __init__(
        self,
        file: FileIO,
        header: FcsHeader,
        out: NDArray[np.float32],
        *,
        columns: list[int],
        scalings: Sequence[Scaling],
        hasher: hashlib._Hash | None,
    ) -> None:
        self.file, self.header, self.out, self.columns = file, header, out, columns
        self.hasher = hasher
        layout = header.layout
        self.in_order = columns == list(range(layout.n_channels))
        self.scalings = [
            (columns.index(scaling.column), scaling)
            for scaling in scalings
            if scaling.column in columns
        ]
        self.may_round = layout.ascii or max(layout.significant) > 24
        self.rounded = np.zeros(len(columns), dtype=bool)
        self.n_not_finite = 0

    def run(self) -> None:
        begin = self.header.segments.start + self.header.located.begin
        if self.hasher is None:
            self.file.seek(begin)
        else:
            self._hash_rest(begin)
        if self.header.layout.ascii:
            self._read_text()
        else:
            self._read_blocks()
        if self.hasher is not None:
            self._hash_rest(None)

    def _hash_rest(self, end: int | None) -> None:
        """Hash up to byte `end`, or to the end of the file."""
        assert self.hasher is not None
        while end is None or self.file.tell() < end:
            wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - self.file.tell())
            piece = self.file.read(wanted)
            if not piece:
                if end is None:
                    return
                raise EOFError
            self.hasher.update(piece)

    def _read_into(self, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            count = self.file.readinto(buffer[done:])
            if not count:
                raise EOFError
            done += count
        if self.hasher is not None:
            self.hasher.update(buffer)

    def _read_text(self) -> None:
        raw = bytearray(self.header.located.length)
        self._read_into(memoryview(raw))
        events = decode_events(memoryview(raw), self.header.located.n_events, self.header.layout)
        self._convert(events, self.out)

    def _read_blocks(self) -> None:
        layout, n_events = self.header.layout, self.header.located.n_events
        decoder = BlockDecoder(n_events, layout)
        direct = (
            decoder.stored == np.float32
            and self.in_order
            and not self.scalings
            and self.out.flags.c_contiguous
        )
        block = np.empty(
            (0 if direct else min(decoder.rows, n_events), layout.n_channels), decoded_dtype(layout)
        )
        rows = decoder.rows * 4 if direct else decoder.rows
        for start in range(0, n_events, rows):
            target = self.out[start : start + rows]
            if direct:
                self._read_into(target.reshape(-1).data.cast("B"))
                self.n_not_finite += count_not_finite(target)
                continue
            length = layout.length(start + len(target)) - layout.length(start)
            self._read_into(decoder.padded.data[:length])
            values = block[: len(target)]
            decoder.decode(values)
            self._convert(values, target)

    def _convert(self, events: NDArray[Any], target: NDArray[np.float32]) -> None:
        """Write decoded events to their place in the result."""
        # float64 beyond float32 becomes infinite and is counted, as signalling NaN are
        with np.errstate(over="ignore", invalid="ignore"):
            target[:] = events if self.in_order else events[:, self.columns]
            if self.may_round and events.dtype.kind != "f" and len(events):
                self.rounded |= (events.max(axis=0) > LARGEST_EXACT)[self.columns]
            for place, scaling in self.scalings:
                target[:, place] = scaling.apply(events[:, scaling.column])
                self.rounded[place] = False
        self.n_not_finite += count_not_finite(target)


def mapped(file: BinaryIO) -> mmap.mmap | bytes:
    """Map a file into memory, or read it where it cannot be mapped."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError):  # an empty file, or a file system without mapping
        file.seek(0)
        return file.read()


def count_not_finite(values: NDArray[Any]) -> int:
    """Count the values that are NaN or infinite."""
    if values.dtype.kind != "f":
        return 0
    flat = values.reshape(-1)
    native = flat.dtype.newbyteorder("=")
    counted = 0
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, VALUES_CHECKED_AT_ONCE):
            block = flat[start : start + VALUES_CHECKED_AT_ONCE].astype(native, copy=False)
            # a finite sum of squares rules them out, and is faster than looking at each value
            if not np.isfinite(np.dot(block, block)):
                counted += int(np.count_nonzero(~np.isfinite(block)))
    return counted
