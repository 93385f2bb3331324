"""Decode the DATA segment: integers of any width, floats and text, in any byte order."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust.io.fcs_layout import CONTAINERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.io.fcs_layout import Layout

Buffer = bytes | memoryview
CHUNK_BYTES = 1 << 18  # small enough to stay in the processor's cache
FEWEST_ROWS = 256
TEXT_AT_ONCE = 1 << 20
LONGEST_NUMBER = 64
UNSIGNED = {8: "u1", 16: "u2", 32: "u4", 64: "u8"}
SEPARATORS = bytes.maketrans(b",\t\r\n\0", b"     ")


class AsciiError(ValueError):
    """Text in DATA that is no number, or too few numbers."""


def stored_dtype(layout: Layout) -> np.dtype[Any] | None:
    """Return the dtype under which DATA can be used as it lies in the file, None if it cannot."""
    if layout.ascii or len(set(layout.kinds)) > 1 or len(set(layout.bits)) > 1:
        return None
    bits, kind = layout.bits[0], layout.kinds[0]
    if bits not in CONTAINERS or not (layout.little or layout.big):
        return None
    if kind == "I" and any(significant < bits for significant in layout.significant):
        return None
    letter = "u" if kind == "I" else "f"
    return np.dtype(f"{'<' if layout.little else '>'}{letter}{bits // 8}")


def decoded_dtype(layout: Layout) -> np.dtype[Any]:
    """Return the dtype that holds every value exactly (64-bit integers beside floats aside)."""
    if layout.ascii:
        return np.dtype(np.int64)
    kinds = set(layout.kinds)
    widest = max(
        (bits for kind, bits in zip(layout.kinds, layout.significant, strict=True) if kind == "I"),
        default=0,
    )
    if kinds == {"I"}:
        return np.dtype(UNSIGNED[next(size for size in CONTAINERS if size >= widest)])
    return np.dtype(np.float32 if "D" not in kinds and widest <= 24 else np.float64)


def decode_events(raw: Buffer, n_events: int, layout: Layout) -> NDArray[Any]:
    """Decode the bytes of DATA.

    Parameters
    ----------
    raw
        The bytes; at least those of `n_events`.
    n_events
        Number of events.
    layout
        Storage of one event.

    Returns
    -------
    Stored values (n_events, n_channels): a read-only view of `raw` where the layout allows it.
    """
    if layout.ascii:
        return _decode_ascii(raw, n_events, layout)
    stored = stored_dtype(layout)
    if stored is not None:
        flat: NDArray[Any] = np.frombuffer(raw, dtype=stored, count=n_events * layout.n_channels)
        return flat.reshape(n_events, layout.n_channels)
    out = np.empty((n_events, layout.n_channels), dtype=decoded_dtype(layout))
    source = np.frombuffer(raw, dtype=np.uint8)
    decoder = BlockDecoder(n_events, layout)
    for start in range(0, n_events, decoder.rows):
        target = out[start : start + decoder.rows]
        begin, end = layout.length(start), layout.length(start + len(target))
        decoder.padded[: end - begin] = source[begin:end]
        decoder.decode(target)
    return out


class BlockDecoder:
    """Decodes up to `rows` events at a time, whose bytes stand in `padded` (room behind the end)."""

    def __init__(self, n_events: int, layout: Layout) -> None:
        self.layout = layout
        # events after which the bits start at a byte again
        self.period = 8 // gcd(layout.row_bits, 8)
        self.block = self.period * layout.row_bits // 8
        # few events with very many channels would be decoded value by value
        fewest = min(-(-n_events // self.period), FEWEST_ROWS)
        self.rows = max(1, CHUNK_BYTES // self.block, fewest) * self.period
        self.padded = np.zeros(self.rows // self.period * self.block + 16, dtype=np.uint8)
        self.stored = stored_dtype(layout)
        self.uniform = (
            len(set(layout.bits)) == 1 and layout.bits[0] % 8 == 0 and len(set(layout.kinds)) == 1
        )

    def decode(self, target: NDArray[Any]) -> None:
        """Write the events whose bytes stand in `padded` to `target`."""
        with np.errstate(invalid="ignore"):  # signalling NaN
            self._decode(target)

    def _decode(self, target: NDArray[Any]) -> None:
        if self.stored is not None:
            flat = self.padded[: target.size * self.stored.itemsize].view(self.stored)
            target[:] = flat.reshape(target.shape)
        elif self.uniform:
            _decode_uniform(self.padded, target, self.layout)
        else:
            _decode_columns(self.padded, target, self.layout, period=self.period, block=self.block)


def _decode_uniform(padded: NDArray[np.uint8], target: NDArray[Any], layout: Layout) -> None:
    """Decode values of one width and kind, all as one column."""
    bits = layout.bits[0]
    values = _extract(padded, 0, bits, layout=layout, count=target.size, stride=bits // 8)
    if layout.kinds[0] != "I":
        values = values.view(f"f{values.itemsize}")
        target[:] = values.reshape(target.shape)
        return
    grid = values.reshape(target.shape)
    if min(layout.significant) < bits:
        masks = np.array([_mask(bits) for bits in layout.significant], dtype=values.dtype)
        np.bitwise_and(grid, masks, out=target, casting="unsafe")
    else:
        target[:] = grid


def _decode_columns(
    padded: NDArray[np.uint8], target: NDArray[Any], layout: Layout, *, period: int, block: int
) -> None:
    """Decode column by column; `period` events share one block of whole bytes."""
    n_events = len(target)
    for phase in range(min(period, n_events)):
        rows = target[phase::period]
        offset = phase * layout.row_bits
        for column, bits in enumerate(layout.bits):
            values = _extract(padded, offset, bits, layout=layout, count=len(rows), stride=block)
            offset += bits
            if layout.kinds[column] != "I":
                values = values.view(f"f{values.itemsize}")
            elif layout.significant[column] < bits:
                values &= values.dtype.type(_mask(layout.significant[column]))
            rows[:, column] = values


def _mask(bits: int) -> int:
    return (1 << bits) - 1


def _extract(
    padded: NDArray[np.uint8],
    offset: int,
    bits: int,
    *,
    layout: Layout,
    count: int,
    stride: int,
) -> NDArray[Any]:
    """Read `count` values of `bits` bits, the first at bit `offset`, each `stride` bytes on."""
    first, shift = divmod(offset, 8)
    if not (layout.little or layout.big):
        return _extract_shuffled(padded, first, bits, layout=layout, count=count, stride=stride)
    size = next((size for size in CONTAINERS if size >= shift + bits), 64)
    order = "<" if layout.little else ">"
    stored: NDArray[Any] = np.ndarray(
        (count,), dtype=f"{order}{UNSIGNED[size]}", buffer=padded, offset=first, strides=(stride,)
    )
    values = stored.astype(UNSIGNED[size])
    over = shift + bits - 64
    down = (shift if layout.little else size - shift - bits) if over <= 0 else shift
    number = values.dtype.type
    if over > 0:  # the value reaches into a ninth byte
        ninth: NDArray[Any] = np.ndarray(
            (count,), dtype="u1", buffer=padded, offset=first + 8, strides=(stride,)
        )
        high = ninth.astype("u8")
        if layout.little:
            values = (values >> number(shift)) | (high << number(64 - shift))
        else:
            values = (values << number(over)) | (high >> number(8 - over))
    elif down:
        values >>= number(down)
    if shift + bits != size or shift:
        values &= number(_mask(bits))
    smallest = next(container for container in CONTAINERS if container >= bits)
    return values if smallest == size else values.astype(UNSIGNED[smallest])


def _extract_shuffled(
    padded: NDArray[np.uint8],
    first: int,
    bits: int,
    *,
    layout: Layout,
    count: int,
    stride: int,
) -> NDArray[Any]:
    """Put whole-byte values together byte by byte, in an order such as 3,4,1,2."""
    size = next(size for size in CONTAINERS if size >= bits)
    values = np.zeros(count, dtype=UNSIGNED[size])
    number = values.dtype.type
    for index, place in enumerate(layout.places(bits // 8)):
        byte: NDArray[Any] = np.ndarray(
            (count,), dtype="u1", buffer=padded, offset=first + index, strides=(stride,)
        )
        values |= byte.astype(values.dtype) << number(8 * place)
    return values


def _decode_ascii(raw: Buffer, n_events: int, layout: Layout) -> NDArray[Any]:
    n_channels = layout.n_channels
    if not layout.row_bits:
        values = _numbers(bytes(raw).translate(SEPARATORS))
        if len(values) < n_events * n_channels:
            detail = f"{n_events * n_channels} numbers expected, {len(values)} found"
            raise AsciiError(detail)
        return values[: n_events * n_channels].reshape(n_events, n_channels)
    width = sum(layout.bits)
    text = np.frombuffer(raw, dtype=np.uint8, count=n_events * width).reshape(n_events, width)
    columns, offset = [], 0
    for bits in layout.bits:
        field = np.full((n_events, bits + 1), ord(" "), dtype=np.uint8)
        field[:, :bits] = text[:, offset : offset + bits]
        offset += bits
        column = _numbers(field.tobytes())
        if len(column) != n_events:
            detail = f"a field of {bits} characters is empty or holds a blank"
            raise AsciiError(detail)
        columns.append(column)
    return np.column_stack(columns)


def count_numbers(raw: Buffer) -> tuple[int, bool]:
    """Count the numbers in text, and tell whether the last one reaches to its end."""
    if not len(raw):
        return 0, False
    inside = np.frombuffer(bytes(raw).translate(SEPARATORS), dtype=np.uint8) != ord(" ")
    starts = int(np.count_nonzero(inside[1:] & ~inside[:-1])) + int(inside[0])
    return starts, bool(inside[-1])


def _numbers(text: bytes) -> NDArray[Any]:
    """Read numbers that are separated by blanks, as int64 if they are all whole."""
    if not text.strip(b" \0"):
        return np.empty(0, dtype=np.int64)
    wrong = text.translate(None, b" 0123456789+-.eE")
    if wrong:
        detail = f"{wrong[:10]!r} is no part of a number"
        raise AsciiError(detail)
    whole = not text.translate(None, b" 0123456789")
    parts, start = [], 0
    while start < len(text):  # in pieces: split text takes many times its own memory
        stop = text.find(b" ", start + TEXT_AT_ONCE)
        stop = len(text) if stop < 0 else stop
        parts.append(_split_numbers(text[start:stop], whole=whole))
        start = stop
    return np.concatenate(parts)


def _split_numbers(text: bytes, *, whole: bool) -> NDArray[Any]:
    tokens = text.split()
    if not tokens:
        return np.empty(0, dtype=np.int64)
    longest = max(map(len, tokens))
    if longest > LONGEST_NUMBER:  # numpy gives every token the room of the longest
        detail = f"a number of {longest} characters"
        raise AsciiError(detail)
    kind = np.int64 if whole and longest < 19 else np.float64
    try:
        return np.array(tokens, dtype=bytes).astype(kind)
    except ValueError as error:
        raise AsciiError(str(error)) from None
