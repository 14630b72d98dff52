"""A row of 16-bit weights, times one value, to neighbouring sums: in whole registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from neurocompile.lanes import data, load, loop, splat, store

__all__ = ["REGISTER", "add_row"]

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
