"""Compiled loops of the quick evaluation (:mod:`neurocompile.ir.quick`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from neurocompile.jit import cached_njit
from neurocompile.lanes import borrowed, data, load, loop, splat, store

__all__ = ["LANES", "convolve", "integer_lif", "lif"]

LANES = 16
"""Rows of weights and of sums are padded to a multiple of it."""
_kernel = cached_njit(nogil=True, no_cfunc_wrapper=True)


def _products(registers: int) -> Any:
    """For so many registers: ``out[o0 + k] += values[e] * weight[(w0 + chosen[e]) * columns + k0 +
    k]`` for e in first..end, one after the other, all sums in registers."""

    @intrinsic
    def products(typing, out, o0, weight, w0, columns, k0, chosen, values, first, end):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            out_, o0_, weight_, w0_, columns_, k0_, chosen_, values_, first_, end_ = arguments
            sums = builder.gep(data(context, builder, kinds[0], out_), [builder.add(o0_, k0_)])
            table = builder.gep(data(context, builder, kinds[2], weight_), [k0_])
            numbers = data(context, builder, kinds[6], chosen_)
            factors = data(context, builder, kinds[7], values_)
            places = [
                builder.gep(sums, [ir.Constant(ir.IntType(64), k * LANES)])
                for k in range(registers)
            ]

            def add(e: Any, held: list[Any]) -> list[Any]:
                number = builder.sext(builder.load(builder.gep(numbers, [e])), ir.IntType(64))
                row = builder.gep(table, [builder.mul(builder.add(number, w0_), columns_)])
                factor = splat(builder, builder.load(builder.gep(factors, [e])), LANES)
                found = []
                for k, value in enumerate(held):
                    place = builder.gep(row, [ir.Constant(ir.IntType(64), k * LANES)])
                    part = builder.fmul(load(builder, place, LANES), factor)
                    found.append(builder.fadd(value, part))
                return found

            before = [load(builder, place, LANES) for place in places]
            for value, place in zip(loop(builder, first_, end_, 1, before, add), places):
                store(builder, value, place)
            return context.get_dummy_value()

        n = types.int64
        return types.void(out, n, weight, n, n, n, chosen, values, n, n), generate

    return products


@intrinsic
def _mask(typing, values, at):  # type: ignore[no-untyped-def]
    """Bit i of the int64 result: ``values[at + i] != 0``, of LANES values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(data(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        vector = load(builder, place, LANES)
        zero = ir.Constant(vector.type, [0.0] * LANES)
        bits = builder.bitcast(builder.fcmp_unordered("!=", vector, zero), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(values, types.int64), generate


@intrinsic
def _trailing(typing, bits):  # type: ignore[no-untyped-def]
    """Number of zeros below the lowest bit of an int64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


_products8, _products4, _products1 = _products(8), _products(4), _products(1)


@njit(inline="always")
def _added(out, to, weight, tap, outputs, events, values, first, end):  # type: ignore[no-untyped-def]
    """Some events, each with its row of a tap."""
    k = 0
    if first < end:
        while k + 8 * LANES <= outputs:
            _products8(out, to, weight, tap, outputs, k, events, values, first, end)
            k += 8 * LANES
        if k + 4 * LANES <= outputs:
            _products4(out, to, weight, tap, outputs, k, events, values, first, end)
            k += 4 * LANES
        while k < outputs:
            _products1(out, to, weight, tap, outputs, k, events, values, first, end)
            k += LANES


@njit(inline="always")
def _listed(x, at, pixels, channels, starts, events, values):  # type: ignore[no-untyped-def]
    """Channels and values of what is not 0, pixel after pixel."""
    found = 0
    for p in range(pixels):
        starts[p] = found
        whole = channels // LANES * LANES
        for c in range(0, whole, LANES):
            bits = _mask(x, at + p * channels + c)
            while bits:
                i = c + _trailing(bits)
                bits &= bits - 1
                events[found] = i
                values[found] = x[at + p * channels + i]
                found += 1
        for c in range(whole, channels):
            value = x[at + p * channels + c]
            if value != 0:
                events[found] = c
                values[found] = value
                found += 1
    starts[pixels] = found


@_kernel
def convolve(x, weight, out, sizes, starts, events, values):  # type: ignore[no-untyped-def]
    """What is not 0 adds its row of weights, times itself; sums in the order of taps and channels.

    Args:
        x: float32 (images x H x W x C_in), flat.
        weight: float32 (kH x kW x C_in x C_out), flat; C_out a multiple of :data:`LANES`.
        out: float32 (images x rows x columns x C_out), flat, zeros.
        sizes: images, H, W, C_in, rows, columns, C_out, kH, kW, then strides, paddings and
            dilations of both axes.
        starts, events, values: int32 (H x W + 1), int32 and float32 (H x W x C_in): scratch.
    """
    x, weight, out = borrowed(x), borrowed(weight), borrowed(out)
    starts, events, values = borrowed(starts), borrowed(events), borrowed(values)
    images, height, width, channels, rows, columns, outputs, kh, kw = sizes[:9]
    sh, sw, ph, pw, dh, dw = sizes[9:]
    for n in range(images):
        _listed(x, n * height * width * channels, height * width, channels, starts, events, values)
        for y in range(rows):
            for z in range(columns):
                to = ((n * rows + y) * columns + z) * outputs
                for i in range(kh):
                    top = y * sh - ph + i * dh
                    if top < 0 or top >= height:
                        continue
                    for j in range(kw):
                        left = z * sw - pw + j * dw
                        if left < 0 or left >= width:
                            continue
                        p, tap = top * width + left, (i * kw + j) * channels
                        _added(
                            out, to, weight, tap, outputs, events, values, starts[p], starts[p + 1]
                        )


@_kernel
def lif(x, out, voltage, sizes, decays, numbers, taus, biases):  # type: ignore[no-untyped-def]
    """The definition's float32 LIF with hard reset: the same operations in the same order.

    Args:
        x: (samples x given x neurons), flat; out: spikes, (samples x steps x neurons), flat;
            voltage: scratch (neurons).
        sizes: samples, steps of x (1 where it does not change), steps, neurons.
        decays: whether the input decays too.
        numbers: float32: rest, threshold, gain.
        taus, biases: float32 (neurons).
    """
    samples, given, steps, neurons = sizes
    rest, threshold, gain = numbers[0], numbers[1], numbers[2]
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    for n in range(samples):
        for i in range(neurons):
            voltage[i] = rest
        for t in range(steps):
            at, to = (n * given + min(t, given - 1)) * neurons, (n * steps + t) * neurons
            if decays:
                for i in range(neurons):
                    v = voltage[i]
                    h = v + ((gain * x[at + i] + biases[i]) - (v - rest)) / taus[i]
                    fired = h >= threshold
                    out[to + i] = one if fired else zero
                    voltage[i] = rest if fired else h
            else:
                for i in range(neurons):
                    v = voltage[i]
                    h = v - (v - rest) / taus[i] + (gain * x[at + i] + biases[i])
                    fired = h >= threshold
                    out[to + i] = one if fired else zero
                    voltage[i] = rest if fired else h


@_kernel
def integer_lif(x, out, voltage, sizes, numbers, decays, thresholds, biases):  # type: ignore[no-untyped-def]
    """The definition's integer LIF without a current that stays, int64.

    Args:
        x, out, voltage, sizes: as of :func:`lif`.
        numbers: gain, limit of the voltage.
        decays, thresholds, biases: int64 (neurons): 4096ths that stay, thresholds and biases as the
            voltage counts.
    """
    samples, given, steps, neurons = sizes
    gain, limit = numbers
    for n in range(samples):
        for i in range(neurons):
            voltage[i] = 0
        for t in range(steps):
            at, to = (n * given + min(t, given - 1)) * neurons, (n * steps + t) * neurons
            for i in range(neurons):
                v = voltage[i]
                size = (v if v >= 0 else -v) * decays[i] >> 12
                h = (size if v >= 0 else -size) + ((gain * x[at + i]) << 6) + biases[i]
                h = min(max(h, -limit), limit)
                fired = h > thresholds[i]
                out[to + i] = 1 if fired else 0
                voltage[i] = 0 if fired else h
