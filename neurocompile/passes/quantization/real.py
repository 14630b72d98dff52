"""Integer forms of real operators, each a few nodes of :mod:`neurocompile.ir.nodes.digits`.

Ranges come from the calibration, widened by a quarter, and what lies beyond is clipped, so that a
worst case that never comes does not take the bits; without one they are the proven bounds. With B
digits a value that is multiplied has B bits and a sign, segments as many pieces as leave an error of
about 2^-B.

LayerNorm: ``c = n x - sum x`` in B bits, its square by its own digits, the sum over the axes, the
inverse square root by segments (one value a row), times c by the same digits. Softmax: minus the
largest, exp by segments, the sum, its reciprocal by segments, times each exponential by its digits.
"""

from __future__ import annotations

from math import ceil, floor, log, log2, prod, sqrt
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.digits import falling_values
from neurocompile.ir.functions import function
from neurocompile.ir.text import Ref
from neurocompile.passes.quantization.fitting import MARGIN, fitted, range_of_real
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.tables import Descent, Segments, descent, segments

__all__ = [
    "Quantized",
    "bits_of",
    "digits_needed",
    "divided",
    "integer_function",
    "normalization",
    "pieces",
    "product_bits",
    "quotient",
    "real_product",
    "step_softmax",
    "tabulated",
]

_LEAST_SPREAD = 2.0**-8
"""Of the range: the least standard deviation that a normalization resolves without calibration."""
_MANY = 48
"""Values of a softmax from which its exponentials take twice the segments: their errors add up."""
Quantized = tuple[s.Node, Any]


def bits_of(state: Quantization) -> int:
    return min(state.options.digits, state.fields.digits)


def product_bits(state: Quantization) -> int:
    """Bits of a sum of products, beside its sign: one less than a payload has."""
    return state.fields.payload.bit_length() - 1


def _top(state: Quantization) -> int:
    """Of a reciprocal; times B digits over 2^B it stays within a sum of products."""
    return 1 << product_bits(state) - 2


def digits_needed(state: Quantization, x: Ref) -> int:
    """Digits of ``x`` beside its sign."""
    bound = state.bound[x]
    return max(bound.high.bit_length(), (-bound.low - 1 if bound.low < 0 else 0).bit_length(), 1)


def _tensors(state: Quantization, name: str, **values: np.ndarray) -> dict[str, Any]:
    return {k: state.rewriter.tensor(f"{name}.{k}", v.astype(np.int64)) for k, v in values.items()}


def tabulated(state: Quantization, name: str, x: Ref, table: Segments) -> s.IntegerFunction:
    tensors = _tensors(state, name, knots=table.knots, weights=table.weights)
    return s.IntegerFunction(name=name, x=x, constant=table.constant, shift=table.shift, **tensors)


def _falling(state: Quantization, name: str, x: Ref, table: Descent) -> s.Falling:
    fields = ("ends", "lengths", "weights", "exponents", "drops")
    tensors = _tensors(state, name, **dict(zip(fields, _columns(table), strict=True)))
    return s.Falling(name=name, x=x, constant=table.constant, **tensors)


def _columns(table: Descent) -> list[np.ndarray]:
    return [table.ends, table.lengths, table.weights, table.exponents, table.drops]


# ---- functions ----------------------------------------------------------------------------------


def integer_function(state: Quantization, node: s.Function, unit: float) -> Quantized:
    """``function(gain x)`` by segments; ReLU and the absolute value are exact, a square a product."""
    bits, gain = bits_of(state), node.gain
    if node.function in ("relu", "abs"):
        sign = 1 if gain > 0 or node.function == "abs" else -1
        low = min(state.bound[node.x].low, 0)
        # x, -x or |x| where negative and where positive
        slopes = {("relu", 1): (0, 1), ("relu", -1): (-1, 0), ("abs", 1): (-1, 1)}
        left, right = slopes[node.function, sign]
        weights = np.array([left, right - left])
        table = Segments(np.array([low, 0]), weights, left * low, 0, abs(gain) * unit)
        return tabulated(state, node.name, node.x, table), table.unit
    around = range_of_real(state, node.x)
    if node.function == "square":
        x = fitted(state, node.x, (1 << bits) - 1, around)
        bits = digits_needed(state, x)
        shift = max(2 * bits - product_bits(state) + 2, 0)
        new = s.DigitMul(
            name=node.name, digits=x, value=x, bits=bits, signed=state.bound[x].low < 0, shift=shift
        )
        return new, (gain * state.unit[x]) ** 2 * 2**shift
    x = fitted(state, node.x, 1 << min(bits + 3, state.fields.digits), around)
    bound, scale = state.bound[x], gain * state.unit[x]
    table = segments(
        lambda v: function(node.function, scale * v),
        bound.low,
        max(bound.high, bound.low + 1),
        pieces(bits),
        1 << min(bits + 3, 18),
        state.fields,
    )
    return tabulated(state, node.name, x, table), table.unit


def pieces(bits: int, most: int = 64) -> int:
    """Segments of a smooth function: their error falls with the square of their number."""
    return min(max(ceil(1.5 * 2 ** (bits / 2)), 6), most)


def _octave(bits: int) -> int:
    """Segments an octave of a reciprocal."""
    return min(max(ceil(2 ** (bits / 2 - 2)), 2), 16)


# ---- normalization ------------------------------------------------------------------------------


def normalization(state: Quantization, node: s.Normalization, unit: float) -> Quantized:
    """LayerNorm or RMSNorm over ``node.axes``."""
    shape = state.size[node.x]
    n = prod(shape[i] for i in node.axes)
    bits = min(bits_of(state), product_bits(state) - (n - 1).bit_length())  # sums of n gates
    if bits < 4:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' sums the squares of {n:,} values, which leaves {max(bits, 0)} digits each of "
            f"{product_bits(state)} bits; 4 are needed",
            layer=node.name,
        )
    rows = tuple(1 if i in node.axes else size for i, size in enumerate(shape))
    around = range_of_real(state, node.x)
    spread = state.options.calibration.spreads.get(node.name)
    far = around[1] - around[0] if node.centered else max(-around[0], around[1])
    least = far * _LEAST_SPREAD
    if spread is not None:
        far, least = min(far, (1 + MARGIN) * spread[1]), spread[0] / (1 + 2 * MARGIN)
    least = max(least, sqrt(node.epsilon), far * 2.0**-bits, 1e-30)
    if node.centered:
        levels = min(state.fields.payload // (2 * n), 1 << bits + 5)
        x = fitted(state, node.x, levels, around)
        if levels < 2 or not state.bound[x].magnitude:
            raise NeurocompileError(
                "NC2002",
                f"layer '{node.name}' normalizes {n:,} values: their sum leaves none of {state.fields.payload:,} for each",
                layer=node.name,
            )
        total = s.Sum(
            name=state.rewriter.fresh(f"{node.name}.sum"), x=x, axes=node.axes, keepdims=True
        )
        total_ref = state.put(total, state.unit[x], rows)
        centre = s.Combination(
            name=state.rewriter.fresh(f"{node.name}.centred"),
            a=x,
            b=total_ref,
            times_a=n,
            times_b=-1,
        )
        x = state.put(centre, state.unit[x] / n, shape)
    else:
        x = node.x
    x = fitted(state, x, (1 << bits) - 1, (-far, far))
    bits = digits_needed(state, x)
    signed = state.bound[x].low < 0
    shift = min(max(ceil(log2(n)) + 2 * bits - product_bits(state) + 1, 0), bits)
    square = s.SquareSum(
        name=state.rewriter.fresh(f"{node.name}.squares"),
        x=x,
        axes=node.axes,
        bits=bits,
        signed=signed,
        shift=shift,
    )
    power = state.put(square, state.unit[x] ** 2 * 2**shift, rows)
    factor, low = state.unit[power] / n, least**2 / (state.unit[power] / n)
    half = 0.5 if shift else 0.0  # floors lose that on average
    table = descent(
        lambda q: 1.0 / np.sqrt(factor * (q + half) + node.epsilon),
        floor(low),
        state.bound[power].high,
        _octave(bits),
        _top(state),
        state.fields,
    )
    inverse = _falling(state, state.rewriter.fresh(f"{node.name}.inverse"), power, table)
    root = state.put(inverse, table.unit, rows)
    product = s.DigitMul(
        name=state.rewriter.fresh(f"{node.name}.product"),
        digits=x,
        value=root,
        bits=bits,
        signed=signed,
        shift=bits,
    )
    y = state.put(product, state.unit[x] * table.unit * 2**bits, shape)
    return _last(state, node, y)


def _last(state: Quantization, node: s.Node, x: Ref) -> Quantized:
    """The node's own value: ``x`` clipped to the range that was calibrated, or as it is."""
    unit, bound = state.unit[x], state.bound[x]
    known = state.options.calibration.values.get(node.name)
    low, high = bound.low, bound.high
    if known is not None:
        more = MARGIN * max(abs(v) for v in known)
        low, high = (
            max(low, floor((known[0] - more) / unit)),
            min(high, ceil((known[1] + more) / unit)),
        )
    if low <= bound.low and bound.high <= high:  # no clip: the value under the node's name
        return s.Combination(name=node.name, a=x, b=x, times_a=1, times_b=0), unit
    return s.Clip(name=node.name, x=x, low=low, high=high), unit


# ---- softmax ------------------------------------------------------------------------------------


def step_softmax(state: Quantization, node: s.StepSoftmax | s.Softmax, unit: float) -> Quantized:
    """Softmax of each row in every step; its integers add up to about 2^20 a row."""
    shape = state.size[node.x]
    n, rows = shape[-1], (*shape[:-1], 1)
    # of many values most are far below the largest: half a bit more for each doubling
    bits = min(bits_of(state) + ceil(log2(n) / 2), state.fields.digits)
    if n > 1 << product_bits(state) - 2:
        raise NeurocompileError(
            "NC2002", f"layer '{node.name}' is a softmax of {n:,} values", layer=node.name
        )
    reach = (bits + 2) * log(2)  # what is so far below the largest counts as 0
    fine = reach / (1 << bits + 4) / max(abs(node.gain), 1e-30)
    x = state.dropped(node.x, max(floor(log2(max(fine / unit, 1.0))), 0), nearest=True)
    if node.gain < 0:
        turned = s.Combination(
            name=state.rewriter.fresh(f"{node.name}.turned"), a=x, b=x, times_a=-1, times_b=0
        )
        x = state.put(turned, state.unit[x], shape)
    step = abs(node.gain) * state.unit[x]
    top = s.Maximum(name=state.rewriter.fresh(f"{node.name}.largest"), x=x)
    largest = state.put(top, state.unit[x], rows)
    below = s.Combination(
        name=state.rewriter.fresh(f"{node.name}.below"), a=x, b=largest, times_b=-1
    )
    state.put(below, state.unit[x], shape)
    # never above 0, which intervals do not know of a value and its row's largest
    span = max(ceil(reach / max(step, 1e-12)), 1)
    span = min(span, state.bound[below.name].magnitude + 1)
    clip = s.Clip(
        name=state.rewriter.fresh(f"{node.name}.within"), x=Ref(below.name), low=-span, high=0
    )
    within = state.put(clip, state.unit[x], shape)
    count = pieces(bits, 64 if n < _MANY else 128)
    table = segments(
        lambda v: np.exp(step * v), -span, 0, count, (1 << bits) - 2, state.fields, True
    )
    exponential = tabulated(state, state.rewriter.fresh(f"{node.name}.exp"), within, table)
    e = state.put(exponential, table.unit, shape)
    one = state.bound[e].high  # of the largest of a row
    shift = min(max(ceil(log2(n)) + bits - product_bits(state), 0), bits)
    total = s.DigitSum(
        name=state.rewriter.fresh(f"{node.name}.sum"),
        x=e,
        axes=(len(shape) - 1,),
        bits=bits,
        shift=shift,
    )
    sums = state.put(total, table.unit * 2**shift, rows)
    half = 0.5 if shift else 0.0
    least, most = one >> shift, n * one >> shift
    falls = descent(
        lambda v: 1.0 / (2.0**shift * (v + half)),
        least,
        most,
        _octave(bits),
        _top(state),
        state.fields,
    )
    inverse = _falling(state, state.rewriter.fresh(f"{node.name}.inverse"), sums, falls)
    reciprocal = state.put(inverse, falls.unit, rows)
    product = s.DigitMul(name=node.name, digits=e, value=reciprocal, bits=bits, shift=bits)
    state.row_sums[node.name] = (_row_sum(falls, least, most) << shift) >> bits
    return product, falls.unit * 2**bits


def _row_sum(table: Descent, low: int, high: int) -> int:
    """A bound of ``S f(S)`` over the sums S of a row, by the falling f's values at left ends."""
    points = np.unique(np.rint(np.geomspace(low, high, 4096))).astype(np.int64)
    value = falling_values(points, table.constant, _columns(table))
    return int((points[1:] * value[:-1]).max(initial=int(points[-1] * value[-1])))


# ---- products -----------------------------------------------------------------------------------


def real_product(state: Quantization, node: s.Mul | s.MatMul) -> Quantized:
    """A product of two real signals by the digits of its second factor; of one value a row, by those
    of the other."""
    if isinstance(node, s.MatMul):
        return _matrix_product(state, node)
    whole = state.size[node.b] == state.size[node.name]
    value, digits = (node.a, node.b) if whole else (node.b, node.a)
    a, b, bits, shift = _factors(state, value, digits, 1)
    fields: dict[str, Any] = {"bits": bits, "signed": state.bound[b].low < 0, "shift": shift}
    return s.DigitMul(name=node.name, digits=b, value=a, **fields), _unit(state, a, b, shift)


def quotient(state: Quantization, node: s.Quotient) -> Quantized:
    """``a / b``: the reciprocal of b by segments, times a by its digits, rounded once."""
    bits = min(bits_of(state) + 3, state.fields.digits - (state.bound[node.a].low < 0))
    a = fitted(state, node.a, (1 << bits) - 1, range_of_real(state, node.a))
    bits = digits_needed(state, a)
    unit, bound = state.unit[node.b], state.bound[node.b]
    low, high = bound.low * unit, bound.high * unit
    known = state.options.calibration.values.get(node.b)
    if known is not None:
        low, high = max(low, known[0] / (1 + 2 * MARGIN)), min(high, (1 + MARGIN) * known[1])
    if high < unit or low <= 0 and known is not None:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' divides by '{node.b}', which is {low:.4g} to {high:.4g}; above 0 is supported",
            layer=node.name,
        )
    return divided(state, node, a, node.b, (floor(low / unit), ceil(high / unit)), bits)


def divided(
    state: Quantization, node: s.Node, a: Ref, b: Ref, between: tuple[int, int], bits: int
) -> Quantized:
    """``a / b`` as ``node``'s value: a by ``bits`` digits, the integers of b mostly ``between`` two
    above 0, below which its reciprocal stays.
    """
    unit, signed = state.unit[b], state.bound[a].low < 0
    table = descent(
        lambda v: 1.0 / (unit * v), *between, _octave(bits), 2 * _top(state), state.fields
    )
    inverse = _falling(state, state.rewriter.fresh(f"{node.name}.inverse"), b, table)
    factor = state.put(inverse, table.unit, state.size[b])
    shape, rows = state.size[a], (prod(state.size[a]), 1, 1)

    def view(of: Ref, name: str, shape: tuple[int, ...], **order: tuple[int, ...]) -> Ref:
        fields: dict[str, Any] = {"sizes": (prod(shape),), "strides": (1,), **order}
        made = s.Rearrange(
            name=state.rewriter.fresh(f"{node.name}.{name}"), x=of, shape=shape, **fields
        )
        return state.put(made, state.unit[of], shape)

    once = _repeated(shape, state.size[b])
    shift = max(bits - 1, 0)
    product = s.DigitMatMul(
        name=state.rewriter.fresh(f"{node.name}.product"),
        value=view(factor, "factors", rows, sizes=shape, strides=once),
        digits=view(a, "digits", rows),
        bits=bits,
        signed=signed,
        shift=shift,
    )
    y = state.put(product, state.unit[a] * table.unit * 2.0**shift, rows)
    return _last(state, node, view(y, "quotients", shape))


def _repeated(shape: tuple[int, ...], of: tuple[int, ...]) -> tuple[int, ...]:
    """Strides that read an array ``of`` that broadcasts against ``shape`` in the order of that."""
    strides, stride = [], 1
    for size in reversed(of):
        strides.append(stride if size > 1 else 0)
        stride *= size
    return (*(0,) * (len(shape) - len(of)), *reversed(strides))


def _matrix_product(state: Quantization, node: s.MatMul) -> Quantized:
    count, largest = state.size[node.a][-1], 0
    a, b, bits, shift = _factors(state, node.a, node.b, count)
    if node.a in state.row_sums:
        largest = (_most(state, node.a, a, count) << bits >> shift) + 1
    shift = min(shift, bits)
    fields: dict[str, Any] = {"bits": bits, "signed": state.bound[b].low < 0, "shift": shift}
    new = s.DigitMatMul(name=node.name, value=a, digits=b, largest=largest, **fields)
    return new, _unit(state, a, b, shift)


def _factors(state: Quantization, value: Ref, digits: Ref, count: int) -> tuple[Ref, Ref, int, int]:
    """(value, digits, their number, bits that a sum of ``count`` products drops), each in the unit
    that its bits allow."""
    bits = bits_of(state)
    b = fitted(state, digits, (1 << bits) - 1, range_of_real(state, digits))
    levels = min((1 << bits + 1) - 1, state.fields.payload // (4 * count))
    if value in state.row_sums:  # small weights of many values keep all of their bits
        levels = state.fields.payload // 4
    a = fitted(state, value, levels, range_of_real(state, value))
    bits = digits_needed(state, b)
    most = _most(state, value, a, count)
    return a, b, bits, max(ceil(log2(max(most, 1))) + bits + 1 - product_bits(state), 0)


def _most(state: Quantization, value: Ref, a: Ref, count: int) -> int:
    """Of a sum of ``count`` of ``a``, which is ``value`` in a coarser unit: a softmax's rows are
    known."""
    most = count * state.bound[a].magnitude
    if value in state.row_sums:
        ratio = state.unit[a] / state.unit[value]
        most = min(most, ceil(state.row_sums[value] / ratio) + count)
    return most


def _unit(state: Quantization, a: Ref, b: Ref, shift: int) -> float:
    return float(state.unit[a] * state.unit[b] * 2.0**shift)
