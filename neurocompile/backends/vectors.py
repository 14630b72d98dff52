"""Vector code of the emulator that numba does not make of loops: whole registers of narrow integers.

numba widens every integer to 64 bits, and keeps no array in registers. These functions are written
in LLVM's vector types instead (:mod:`neurocompile.lanes`). Each takes whole arrays and offsets, and none checks
bounds: arrays are padded (:data:`PAD` elements), so that the last register may reach past the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.lanes import data, load, loop, splat, store

__all__ = [
    "PAD",
    "add_row",
    "add_row8",
    "copy_shifted",
    "halving_row",
    "lif_row",
    "mask16",
    "mask64",
    "store_row",
    "sum_rows8",
    "trailing",
]

PAD = 256
"""Elements past the end of every array that a register may read, or write what it read."""

_i8, _i16, _i32, _i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_i1 = ir.IntType(1)


def _widened(builder: Any, kind: Any, value: Any, wide: Any) -> Any:
    if value.type == wide:
        return value
    return builder.sext(value, wide) if kind.signed else builder.zext(value, wide)


def _row_sum(columns: int) -> Any:
    """``sum_rows8`` for so many columns, all of them in registers."""
    lanes = 32

    @intrinsic
    def rows(typing, acc, a0, weight, w0, stride, chosen, first, end, shift):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            acc_, a0_, weight_, w0_, stride_, chosen_, first_, end_, shift_ = arguments
            sums = builder.gep(data(context, builder, kinds[0], acc_), [a0_])
            table = builder.gep(data(context, builder, kinds[2], weight_), [w0_])
            numbers = data(context, builder, kinds[5], chosen_)
            zero = ir.Constant(ir.VectorType(_i16, lanes), [0] * lanes)

            def add(j: Any, held: list[Any]) -> list[Any]:
                number = builder.sext(builder.load(builder.gep(numbers, [j])), _i64)
                row = builder.gep(table, [builder.mul(number, stride_)])
                parts = []
                for k, value in enumerate(held):
                    part = load(builder, builder.gep(row, [ir.Constant(_i64, k * lanes)]), lanes)
                    parts.append(builder.add(value, builder.sext(part, value.type)))
                return parts

            found = loop(builder, first_, end_, 1, [zero] * (columns // lanes), add)
            by = splat(builder, builder.trunc(shift_, _i32), lanes)
            for k, value in enumerate(found):
                place = builder.gep(sums, [ir.Constant(_i64, k * lanes)])
                wide = builder.shl(builder.sext(value, ir.VectorType(_i32, lanes)), by)
                store(builder, builder.add(load(builder, place, lanes), wide), place)
            return context.get_dummy_value()

        integers = (types.int64,) * 2
        return types.void(
            acc, types.int64, weight, *integers, chosen, *integers, types.int64
        ), generate

    return rows


_rows256, _rows128, _rows64, _rows32 = (_row_sum(columns) for columns in (256, 128, 64, 32))


@njit(inline="always")
def sum_rows8(acc, a0, weight, w0, columns, chosen, first, end, shift):  # type: ignore[no-untyped-def]
    """``acc[a0 + k] += sum(weight[w0 + chosen[j] * columns + k] for j in first..end) << shift``.

    The sum is held as int16, so ``end - first`` times the largest weight must stay below 2^15.

    Args:
        acc: int32; weight: int8; chosen: int32; columns: a multiple of 32, of each row.
    """
    k = 0
    while k + 256 <= columns:
        _rows256(acc, a0 + k, weight, w0 + k, columns, chosen, first, end, shift)
        k += 256
    if k + 128 <= columns:
        _rows128(acc, a0 + k, weight, w0 + k, columns, chosen, first, end, shift)
        k += 128
    if k + 64 <= columns:
        _rows64(acc, a0 + k, weight, w0 + k, columns, chosen, first, end, shift)
        k += 64
    if k < columns:
        _rows32(acc, a0 + k, weight, w0 + k, columns, chosen, first, end, shift)


def _scaled_row(lanes: int) -> Any:
    @intrinsic
    def row(typing, acc, a0, weight, w0, columns, factor):  # type: ignore[no-untyped-def]
        """``acc[a0 + k] += factor * weight[w0 + k]`` (int32, modulo 2^32) for k in 0..columns, a
        multiple of the lanes; of integers of any width."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            acc_, a0_, weight_, w0_, columns_, factor_ = arguments
            sums = builder.gep(data(context, builder, kinds[0], acc_), [a0_])
            table = builder.gep(data(context, builder, kinds[2], weight_), [w0_])
            by = splat(builder, builder.trunc(factor_, _i32), lanes)
            wide = ir.VectorType(_i32, lanes)

            def add(k: Any, held: list[Any]) -> list[Any]:
                place = builder.gep(sums, [k])
                part = _widened(
                    builder, kinds[2].dtype, load(builder, builder.gep(table, [k]), lanes), wide
                )
                total = builder.add(load(builder, place, lanes), builder.mul(part, by))
                store(builder, total, place)
                return []

            loop(builder, ir.Constant(_i64, 0), columns_, lanes, [], add)
            return context.get_dummy_value()

        return types.void(acc, types.int64, weight, types.int64, types.int64, types.int64), generate

    return row


add_row, add_row8 = _scaled_row(32), _scaled_row(8)
"""For multiples of 32, and of 8."""


@intrinsic
def copy_shifted(typing, values, first, count, shift, at):  # type: ignore[no-untyped-def]
    """``values[at + i] = values[first + i] + shift`` (int32) for i in 0..count, and up to 15 more."""
    lanes = 16

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        values_, first_, count_, shift_, at_ = arguments
        source = builder.gep(data(context, builder, kinds[0], values_), [first_])
        place = builder.gep(data(context, builder, kinds[0], values_), [at_])
        by = splat(builder, builder.trunc(shift_, _i32), lanes)

        def copy(i: Any, _: list[Any]) -> list[Any]:
            found = builder.add(load(builder, builder.gep(source, [i]), lanes), by)
            store(builder, found, builder.gep(place, [i]))
            return []

        loop(builder, ir.Constant(_i64, 0), count_, lanes, [], copy)
        return context.get_dummy_value()

    n64 = types.int64
    return types.void(values, n64, n64, n64, n64), generate


def _mask(lanes: int) -> Any:
    @intrinsic
    def mask(typing, values, at):  # type: ignore[no-untyped-def]
        """Bit i of the int64 result: ``values[at + i] != 0``."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = builder.gep(
                data(context, builder, signature.args[0], arguments[0]), [arguments[1]]
            )
            vector = load(builder, address, lanes)
            zero = ir.Constant(vector.type, [0] * lanes)
            bits = builder.bitcast(builder.icmp_signed("!=", vector, zero), ir.IntType(lanes))
            return bits if lanes == 64 else builder.zext(bits, _i64)

        return types.int64(values, types.int64), generate

    return mask


mask64, mask16 = _mask(64), _mask(16)


@intrinsic
def trailing(typing, bits):  # type: ignore[no-untyped-def]
    """Number of zeros below the lowest bit of an int64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_i1, 1))

    return types.int64(types.int64), generate


@intrinsic
def store_row(typing, acc, a0, out, o0, n, rectifies):  # type: ignore[no-untyped-def]
    """``out[o0 + i] = acc[a0 + i]`` for i in 0..n, and up to 31 more; its positive part if
    ``rectifies``.
    """
    lanes = 32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        acc_, a0_, out_, o0_, n_, rectifies_ = arguments
        sums = builder.gep(data(context, builder, kinds[0], acc_), [a0_])
        place = builder.gep(data(context, builder, kinds[2], out_), [o0_])
        narrow = ir.VectorType(place.type.pointee, lanes)
        wide = ir.VectorType(_i32, lanes)
        lowest = builder.select(
            builder.icmp_signed("!=", rectifies_, ir.Constant(_i64, 0)),
            ir.Constant(wide, [0] * lanes),
            ir.Constant(wide, [-(1 << 31)] * lanes),
        )

        def put(i: Any, _: list[Any]) -> list[Any]:
            found = load(builder, builder.gep(sums, [i]), lanes)
            found = builder.select(builder.icmp_signed("<", found, lowest), lowest, found)
            found = found if narrow == wide else builder.trunc(found, narrow)
            store(builder, found, builder.gep(place, [i]))
            return []

        loop(builder, ir.Constant(_i64, 0), n_, lanes, [], put)
        return context.get_dummy_value()

    n64 = types.int64
    return types.void(acc, n64, out, n64, n64, n64), generate


@intrinsic
def halving_row(typing, acc, a0, bias, b0, state, v0, out, o0, n, limit, shift):  # type: ignore[no-untyped-def]
    """:func:`lif_row` without a current that stays, of a voltage that loses all but ``2^-shift`` (all
    with 31), and of inputs within 2^17 of 0, whose current cannot wrap.
    """
    lanes = 16

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        acc_, a0_, bias_, b0_, state_, v0_, out_, o0_, n_, limit_, shift_ = arguments
        sums = builder.gep(data(context, builder, kinds[0], acc_), [a0_])
        biases = builder.gep(data(context, builder, kinds[2], bias_), [b0_])
        voltages = builder.gep(data(context, builder, kinds[4], state_), [v0_])
        spikes = builder.gep(data(context, builder, kinds[6], out_), [o0_])
        wide = ir.VectorType(_i32, lanes)

        def constant(value: int) -> Any:
            return ir.Constant(wide, [value] * lanes)

        threshold = splat(builder, builder.trunc(limit_, _i32), lanes)
        by = splat(builder, builder.trunc(shift_, _i32), lanes)
        lost = builder.sub(builder.shl(constant(1), by), constant(1))
        top = PAYLOAD + 1

        def step(i: Any, _: list[Any]) -> list[Any]:
            place = builder.gep(voltages, [i])
            voltage = load(builder, place, lanes)
            up = builder.and_(builder.ashr(voltage, constant(31)), lost)  # rounds towards 0
            voltage = builder.ashr(builder.add(voltage, up), by)
            current = builder.shl(load(builder, builder.gep(sums, [i]), lanes), constant(6))
            voltage = builder.add(voltage, current)
            voltage = builder.add(voltage, load(builder, builder.gep(biases, [i]), lanes))
            low, high = constant(1 - top), constant(top - 1)
            voltage = builder.select(builder.icmp_signed("<", voltage, low), low, voltage)
            voltage = builder.select(builder.icmp_signed(">", voltage, high), high, voltage)
            fired = builder.icmp_signed(">", voltage, threshold)
            store(builder, builder.select(fired, constant(0), voltage), place)
            found = builder.zext(fired, ir.VectorType(_i8, lanes))
            store(builder, found, builder.gep(spikes, [i]))
            return []

        loop(builder, ir.Constant(_i64, 0), n_, lanes, [], step)
        return context.get_dummy_value()

    n64 = types.int64
    return types.void(acc, n64, bias, n64, state, n64, out, n64, n64, n64, n64), generate


@intrinsic
def lif_row(typing, acc, a0, bias, b0, state, u0, v0, out, o0, n, limit, keep_u, keep_v):  # type: ignore[no-untyped-def]
    """One step of n LIF neurons, exactly :func:`neurocompile.backends.kernels.lif`, in int32.

    ``trunc0(x * keep / 4096)`` is ``sign(x) (h * keep + (l * keep >> 12))`` with ``|x| = 4096 h +
    l``, which needs no more than 24 bits. Inputs must be within 2^24 of 0, or within 2^17 where a
    current stays, as every proven one is.

    Args:
        acc: int32 inputs, from a0; bias: int32 (shifted), from b0; state: int32, currents from u0 (unused
            if keep_u is 0), voltages from v0; out: uint8 spikes, from o0.
        limit: the threshold, shifted by 6 bits; keep_u, keep_v: 4096ths that stay.
    """
    lanes = 16

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        acc_, a0_, bias_, b0_, state_, u0_, v0_, out_ = arguments[:8]
        o0_, n_, limit_, keep_u_, keep_v_ = arguments[8:]
        sums = builder.gep(data(context, builder, kinds[0], acc_), [a0_])
        biases = builder.gep(data(context, builder, kinds[2], bias_), [b0_])
        held = data(context, builder, kinds[4], state_)
        currents, voltages = builder.gep(held, [u0_]), builder.gep(held, [v0_])
        spikes = builder.gep(data(context, builder, kinds[7], out_), [o0_])
        wide = ir.VectorType(_i32, lanes)

        def constant(value: int) -> Any:
            return ir.Constant(wide, [value] * lanes)

        def spread(value: Any) -> Any:
            return splat(builder, builder.trunc(value, _i32), lanes)

        threshold, stay_u, stay_v = spread(limit_), spread(keep_u_), spread(keep_v_)
        zero, top = constant(0), PAYLOAD + 1

        def decayed(x: Any, keep: Any) -> Any:
            negative = builder.icmp_signed("<", x, zero)
            size = builder.select(negative, builder.sub(zero, x), x)
            high = builder.mul(builder.lshr(size, constant(12)), keep)
            low = builder.lshr(
                builder.mul(builder.and_(size, constant(ALL - 1)), keep), constant(12)
            )
            left = builder.add(high, low)
            return builder.select(negative, builder.sub(zero, left), left)

        def step(with_current: bool) -> Callable[..., list[Any]]:
            def body(i: Any, _: list[Any]) -> list[Any]:
                current = builder.shl(load(builder, builder.gep(sums, [i]), lanes), constant(6))
                place = builder.gep(currents, [i])
                if with_current:
                    current = builder.add(current, decayed(load(builder, place, lanes), stay_u))
                over = builder.icmp_signed(">", current, constant(top))
                under = builder.icmp_signed("<=", current, constant(-top))
                turn = builder.select(
                    over, constant(-2 * top), builder.select(under, constant(2 * top), zero)
                )
                current = builder.add(current, turn)
                if with_current:
                    store(builder, current, place)
                place = builder.gep(voltages, [i])
                voltage = decayed(load(builder, place, lanes), stay_v)
                voltage = builder.add(voltage, current)
                voltage = builder.add(voltage, load(builder, builder.gep(biases, [i]), lanes))
                low, high = constant(1 - top), constant(top - 1)
                voltage = builder.select(builder.icmp_signed("<", voltage, low), low, voltage)
                voltage = builder.select(builder.icmp_signed(">", voltage, high), high, voltage)
                fired = builder.icmp_signed(">", voltage, threshold)
                store(builder, builder.select(fired, zero, voltage), place)
                store(
                    builder,
                    builder.zext(fired, ir.VectorType(_i8, lanes)),
                    builder.gep(spikes, [i]),
                )
                return []

            return body

        start = ir.Constant(_i64, 0)
        with builder.if_else(builder.icmp_signed("!=", keep_u_, start)) as (yes, no):
            with yes:
                loop(builder, start, n_, lanes, [], step(True))
            with no:
                loop(builder, start, n_, lanes, [], step(False))
        return context.get_dummy_value()

    n64 = types.int64
    return types.void(acc, n64, bias, n64, state, n64, n64, out, n64, n64, n64, n64, n64), generate
