"""A row of 16-bit weights, times one value, to neighbouring sums: in whole registers; bits of a word."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from neurocompile.lanes import data, load, loop, splat, store

__all__ = ["REGISTER", "add_lanes", "add_row", "lowest"]

REGISTER = 16
"""Lanes of a register; sums and weights have as many elements more, which it may reach."""
_i32, _i64 = ir.IntType(32), ir.IntType(64)
_wide = ir.VectorType(_i32, REGISTER)


@intrinsic
def add_row(typing, sums, to, weights, of, count, factor, right):  # type: ignore[no-untyped-def]
    """``sums[to + k] += factor * (weights[of + k] >> right)`` (int32, modulo 2^32) for k in 0..count;
    weights int16. Sums up to the end of the last register are written as they were.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        sums_, to_, weights_, of_, count_, factor_, right_ = arguments
        places = builder.gep(data(context, builder, kinds[0], sums_), [to_])
        table = builder.gep(data(context, builder, kinds[2], weights_), [of_])
        by = splat(builder, builder.trunc(factor_, _i32), REGISTER)
        shift = splat(builder, builder.trunc(right_, _i32), REGISTER)
        number = ir.Constant(_wide, list(range(REGISTER)))
        zero = ir.Constant(_wide, [0] * REGISTER)

        def add(k: Any, held: list[Any]) -> list[Any]:
            place = builder.gep(places, [k])
            part = load(builder, builder.gep(table, [k]), REGISTER)
            part = builder.ashr(builder.sext(part, _wide), shift)
            left = splat(builder, builder.trunc(builder.sub(count_, k), _i32), REGISTER)
            part = builder.select(builder.icmp_signed("<", number, left), part, zero)
            store(
                builder, builder.add(load(builder, place, REGISTER), builder.mul(part, by)), place
            )
            return []

        loop(builder, ir.Constant(_i64, 0), count_, REGISTER, [], add)
        return context.get_dummy_value()

    n64 = types.int64
    return types.void(sums, n64, weights, n64, n64, n64, n64), generate


@intrinsic
def add_lanes(typing, sums, to, lane, value, item, stop, block, weight, left, right):  # type: ignore[no-untyped-def]
    """``sums[to + lane[i] * block] += value[i] * weight << left >> right`` (int32, modulo 2^32) for i in
    item..stop: one synapse in several lanes; lanes and values int32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        sums_, to_, lane_, value_, item_, stop_, block_, weight_, left_, right_ = arguments
        places = builder.gep(data(context, builder, kinds[0], sums_), [to_])
        lanes, values = (
            data(context, builder, kind, one)
            for kind, one in ((kinds[2], lane_), (kinds[3], value_))
        )

        def add(i: Any, held: list[Any]) -> list[Any]:
            number = builder.sext(builder.load(builder.gep(lanes, [i])), _i64)
            place = builder.gep(places, [builder.mul(number, block_)])
            part = builder.mul(builder.sext(builder.load(builder.gep(values, [i])), _i64), weight_)
            part = builder.trunc(builder.ashr(builder.shl(part, left_), right_), _i32)
            builder.store(builder.add(builder.load(place), part), place)
            return []

        loop(builder, item_, stop_, 1, [], add)
        return context.get_dummy_value()

    n64 = types.int64
    return types.void(sums, n64, lane, value, n64, n64, n64, n64, n64, n64), generate


@intrinsic
def lowest(typing, bits):  # type: ignore[no-untyped-def]
    """Number of the lowest bit that is set, int64; of no bits, undefined."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate
