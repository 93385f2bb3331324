# LLVM code is made from values that numba hands over without types
# ruff: noqa: PLR0917
# mypy: disable-error-code="attr-defined"
"""Distances from queries to 32 rows, and sums of channels of 4 events, written in LLVM's vectors.

numba turns a loop into vector instructions only if it runs over contiguous values; a tile
whose sums stay in registers is no such loop. Everything here says what is computed, not on which
machine: LLVM splits the vectors where the processor's are shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EVENTS", "ROWS", "SUMS", "exact_distances", "lowest_bit", "mix_events", "screen_rows"]

LANES = 16
ROWS = 2 * LANES
EVENTS = 4  # of one tile of `mix_events`
SUMS = 2 * LANES  # of each of them
STEP = 4  # dimensions per turn of the loops; rows are padded to a multiple

_value = ir.FloatType()
_vector = ir.VectorType(_value, LANES)
_fused = ir.FunctionType(_vector, [_vector] * 3)


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _splat(builder: Any, value: Any) -> Any:
    """Repeat a value in all lanes."""
    one = builder.insert_element(ir.Constant(_vector, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    return builder.shuffle_vector(one, ir.Constant(_vector, ir.Undefined), zeros)


def _load(builder: Any, pointer: Any, index: Any) -> Any:
    """Load a vector from an index on; it may begin anywhere."""
    place = builder.bitcast(builder.gep(pointer, [index]), _vector.as_pointer())
    return builder.load(place, align=4)


def _store(builder: Any, pointer: Any, index: Any, vector: Any) -> None:
    place = builder.gep(pointer, [index])
    builder.store(vector, builder.bitcast(place, _vector.as_pointer()), align=4)


def _mask(builder: Any, low: Any, high: Any, limit: Any) -> Any:
    """Return which of 32 values are at or below a limit, as bits."""
    limits = _splat(builder, limit)
    bits = ir.IntType(32)
    halves = [
        builder.zext(
            builder.bitcast(builder.fcmp_ordered("<=", half, limits), ir.IntType(LANES)), bits
        )
        for half in (low, high)
    ]
    return builder.or_(halves[0], builder.shl(halves[1], bits(LANES)))


def _over_dimensions(builder: Any, width: Any, body: Callable[[Any], None]) -> None:
    """Emit a loop over all dimensions; `body` gets the first of those of a turn."""
    with cgutils.for_range(builder, builder.udiv(width, width.type(STEP))) as loop:
        body(builder.mul(loop.index, width.type(STEP)))


def _width(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    shape = context.make_array(array_type)(context, builder, array).shape
    return builder.extract_value(shape, 1)


@intrinsic
def screen_rows(
    typing_context: Any, queries: Any, places: Any, limits: Any, block: Any, start: Any, stride: Any,
    halves: Any, first: Any,
) -> Any:  # fmt: skip
    """Say which of 32 rows have |row|^2 / 2 - query . row at or below a limit, for four queries.

    `queries` (n, width) float32 and `places`, four of its rows; `limits`, four float32; the rows stand
    column after column in `block` from `start` on, columns `stride` apart; `halves` of the norms from
    `first` on. Returns four uint32: bit j for row j.
    """
    integer, bits = types.int64, types.uint32
    signature = types.UniTuple(bits, 4)(
        queries, types.UniTuple(integer, 4), types.UniTuple(types.float32, 4), block, integer, integer,
        halves, integer,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table, places, limits, block, start, stride, halves, first = arguments
        width = _width(context, builder, signature.args[0], table)
        table = _data(context, builder, signature.args[0], table)
        block = _data(context, builder, signature.args[3], block)
        halves = _data(context, builder, signature.args[6], halves)
        fused = cgutils.get_or_insert_function(builder.module, _fused, f"llvm.fmuladd.v{LANES}f32")
        starts = [builder.mul(builder.extract_value(places, i), width) for i in range(4)]
        norms = [
            _load(builder, halves, first),
            _load(builder, halves, builder.add(first, first.type(LANES))),
        ]
        sums = [[cgutils.alloca_once_value(builder, norm) for norm in norms] for _ in range(4)]

        def add_dimensions(base: Any) -> None:
            for step in range(STEP):
                dimension = builder.add(base, width.type(step))
                place = builder.add(start, builder.mul(dimension, stride))
                low = _load(builder, block, place)
                high = _load(builder, block, builder.add(place, place.type(LANES)))
                for own, begin in zip(sums, starts, strict=True):
                    value = builder.load(builder.gep(table, [builder.add(begin, dimension)]))
                    minus = _splat(builder, builder.fneg(value))
                    for total, rows in zip(own, (low, high), strict=True):
                        builder.store(
                            builder.call(fused, [minus, rows, builder.load(total)]), total
                        )

        _over_dimensions(builder, width, add_dimensions)
        masks = [
            _mask(builder, builder.load(low), builder.load(high), builder.extract_value(limits, i))
            for i, (low, high) in enumerate(sums)
        ]
        return context.make_tuple(builder, signature.return_type, masks)

    return signature, generate


@intrinsic
def exact_distances(
    typing_context: Any, queries: Any, place: Any, block: Any, start: Any, stride: Any, out: Any
) -> Any:
    """Write the squared distances from one query to 32 rows, summed in a fixed order.

    Queries and rows as in `screen_rows`; `out` (32,) float32. Four dimensions are added at a time,
    without fused multiply-add: the same bits on every machine.
    """
    integer = types.int64
    signature = types.void(queries, integer, block, integer, integer, out)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table, place, block, start, stride, out = arguments
        width = _width(context, builder, signature.args[0], table)
        table = _data(context, builder, signature.args[0], table)
        block = _data(context, builder, signature.args[2], block)
        out = _data(context, builder, signature.args[5], out)
        begin = builder.mul(place, width)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_vector, None)) for _ in range(2)]

        def add_dimensions(base: Any) -> None:
            squares: list[list[Any]] = [[], []]
            for step in range(STEP):
                dimension = builder.add(base, width.type(step))
                at = builder.gep(table, [builder.add(begin, dimension)])
                value = _splat(builder, builder.load(at))
                rows = builder.add(start, builder.mul(dimension, stride))
                for half in range(2):
                    own = _load(builder, block, builder.add(rows, rows.type(half * LANES)))
                    gap = builder.fsub(value, own)
                    squares[half].append(builder.fmul(gap, gap))
            for total, (a, b, c, d) in zip(sums, squares, strict=True):
                four = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
                builder.store(builder.fadd(builder.load(total), four), total)

        _over_dimensions(builder, width, add_dimensions)
        for half, total in enumerate(sums):
            _store(builder, out, ir.IntType(64)(half * LANES), builder.load(total))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def mix_events(
    typing_context: Any, x: Any, start: Any, stride: Any, n: Any, weights: Any, lanes: Any, column: Any,
    out: Any,
) -> Any:  # fmt: skip
    """Write 32 weighted sums of the first `n` channels of each of 4 events.

    `x` and `out` (flat float32) hold events `stride` apart, the first at `start`; `weights` holds a row
    of `lanes` for each channel, of which those from `column` on are taken. All 32 sums are stored from
    `column` on: what lies beyond an event's own channels falls on later events, to be written after it.
    """
    integer = types.int64
    numbers = [integer] * 3
    signature = types.void(x, *numbers, weights, integer, integer, out)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, start, stride, n, weights, lanes, column, out = arguments
        x = _data(context, builder, signature.args[0], x)
        weights = _data(context, builder, signature.args[4], weights)
        out = _data(context, builder, signature.args[7], out)
        fused = cgutils.get_or_insert_function(builder.module, _fused, f"llvm.fmuladd.v{LANES}f32")
        zero = ir.Constant(_vector, None)
        starts = [
            builder.add(start, builder.mul(stride, stride.type(event))) for event in range(EVENTS)
        ]
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in starts]
        with cgutils.for_range(builder, n) as loop:
            place = builder.add(builder.mul(loop.index, lanes), column)
            own = [
                _load(builder, weights, builder.add(place, place.type(i * LANES))) for i in (0, 1)
            ]
            for totals, begin in zip(sums, starts, strict=True):
                value = builder.load(builder.gep(x, [builder.add(begin, loop.index)]))
                value = _splat(builder, value)
                for total, part in zip(totals, own, strict=True):
                    builder.store(builder.call(fused, [value, part, builder.load(total)]), total)
        for totals, begin in zip(sums, starts, strict=True):
            place = builder.add(begin, column)
            for i, total in enumerate(totals):
                _store(builder, out, builder.add(place, place.type(i * LANES)), builder.load(total))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Return the place of the lowest bit that is set in a uint32; 32 if there is none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.cttz(arguments[0], ir.IntType(1)(0))
        return builder.zext(place, ir.IntType(64))

    return types.int64(types.uint32), generate
