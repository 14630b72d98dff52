"""Integer forms of real operators: what the quantizer makes of functions, normalizations, softmax and
products of two real signals. None has a state; each is exact in int64 (docs/circuits.md has the circuits).
"""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.nodes.base import QUANTIZED, Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = [
    "Clip",
    "Combination",
    "DigitMatMul",
    "DigitMul",
    "DigitSum",
    "Falling",
    "IntegerFunction",
    "Maximum",
    "SquareSum",
]


@dataclass(frozen=True, kw_only=True)
class Clip(Node):
    """``min(max(x, low), high)``."""

    stages = QUANTIZED

    x: Ref
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Combination(Node):
    """``times_a * a + times_b * b``; ``b`` broadcasts against ``a``."""

    stages = QUANTIZED

    a: Ref
    b: Ref
    times_a: int = 1
    times_b: int = 1


@dataclass(frozen=True, kw_only=True)
class Maximum(Node):
    """The largest value along the last axis, which stays as 1."""

    stages = QUANTIZED

    x: Ref


@dataclass(frozen=True, kw_only=True)
class IntegerFunction(Node):
    """A piecewise linear function of each element::

    y = floor((constant + sum_k weights[k] * max(x - knots[k], 0)) / 2^shift)
    """

    stages = QUANTIZED

    x: Ref
    knots: TensorRef
    """int64 (K,), rising."""
    weights: TensorRef
    """int64 (K,): what is added to the slope at each knot."""
    constant: int = 0
    shift: int = 0
    """0..21."""


@dataclass(frozen=True, kw_only=True)
class Falling(Node):
    """A falling function over many octaves, such as 1 / x and 1 / sqrt(x), summed from its right end::

        part_k = min(max(ends[k] - floor(x / 2^drops[k]), 0), lengths[k])
        y = constant + sum over groups of floor(sum over its k of weights[k] * part_k / 2^e)

    A group is all segments with one exponent e and one number of dropped bits; a negative exponent
    multiplies.
    """

    stages = QUANTIZED

    x: Ref
    ends: TensorRef
    """int64 (K,): right end of each segment, in units of 2^drops[k]."""
    lengths: TensorRef
    """int64 (K,), >= 1."""
    weights: TensorRef
    """int64 (K,), 0..255."""
    exponents: TensorRef
    """int64 (K,), -7..42."""
    drops: TensorRef
    """int64 (K,), 0..21."""
    constant: int = 0


@dataclass(frozen=True, kw_only=True)
class DigitMul(Node):
    """``digits * value / 2^shift``, digit by digit; shapes broadcast. With ``digits`` in two's complement,
    ``d = sum_(k < bits) 2^k d_k - 2^bits d_bits`` (its last digit only if ``signed``)::

        y = sum_(k < bits) d_k floor(value 2^k / 2^shift) - d_bits floor(value 2^bits / 2^shift)
    """

    stages = QUANTIZED

    digits: Ref
    value: Ref
    bits: int
    """1..15: ``digits`` lies in 0..2^bits - 1, or from -2^bits if signed."""
    signed: bool = False
    shift: int = 0
    """0..21."""


@dataclass(frozen=True, kw_only=True)
class DigitMatMul(Node):
    """``floor(value @ digits / 2^shift)`` over the last two axes, ``digits`` as those of
    :class:`DigitMul`.
    """

    stages = QUANTIZED

    value: Ref
    digits: Ref
    bits: int
    signed: bool = False
    shift: int = 0
    """0..bits."""
    largest: int = 0
    """Bound of its magnitude where more is known than interval arithmetic finds, such as of the
    rows of a softmax; 0 for unknown.
    """


@dataclass(frozen=True, kw_only=True)
class DigitSum(Node):
    """``floor(sum of x over axes / 2^shift)``; the axes stay as 1. Digits are added up one by one, so
    that the sum may be wider than a payload.
    """

    stages = QUANTIZED

    x: Ref
    axes: tuple[int, ...]
    bits: int
    """As of :class:`DigitMul`."""
    signed: bool = False
    shift: int = 0
    """0..bits."""


@dataclass(frozen=True, kw_only=True)
class SquareSum(Node):
    """``floor(sum of x^2 over axes / 2^shift)``; the axes stay as 1. The digits of x open the gates of x
    itself.
    """

    stages = QUANTIZED

    x: Ref
    axes: tuple[int, ...]
    bits: int
    """As of :class:`DigitMul`."""
    signed: bool = False
    shift: int = 0
    """0..bits."""
