"""Real-valued operators of one step: functions, normalizations, softmax; and the value of the step before.

None but :class:`Delay` and :class:`TokenMean` has a state: each is a function of one step's values. What importers emit:

* weight and bias of a normalization are a :class:`BatchNorm` behind it, of mean 0, variance 1 and
  epsilon 0, along the axis of the channels; group normalization is a view (groups, the rest), a
  :class:`Normalization` over axis 1, the view back, and that BatchNorm;
* additive masks and position biases of a softmax are an :class:`Offset` in front of it, -inf a large
  negative number; a softmax over another axis than the last stands between two views;
* products of two real signals are :class:`Mul` and :class:`MatMul`, a quotient :class:`Quotient`.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.nodes.base import FLOATING, Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["Delay", "Function", "Normalization", "Quotient", "StepSoftmax", "TokenMean"]


@dataclass(frozen=True, kw_only=True)
class Function(Node):
    """``function(gain * x)``, element by element."""

    stages = FLOATING

    x: Ref
    function: str
    """A name of :data:`neurocompile.ir.functions.FUNCTIONS`."""
    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Normalization(Node):
    """``(x - mean) / sqrt(var + epsilon)`` of each step, mean and (biased) variance over ``axes``:
    LayerNorm without its weights; not ``centered``: ``x / sqrt(mean(x^2) + epsilon)``, RMSNorm.
    """

    stages = FLOATING

    x: Ref
    axes: tuple[int, ...]
    """Of one sample at one step, rising."""
    epsilon: float
    centered: bool = True


@dataclass(frozen=True, kw_only=True)
class StepSoftmax(Node):
    """``softmax(gain * x)`` over the last axis, in every step (:class:`Softmax` is of a mean over
    time).
    """

    stages = FLOATING

    x: Ref
    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Quotient(Node):
    """``a / b`` in each step; b is above 0, of the shape of a or 1 along some of its axes, as the sum
    of a row.
    """

    stages = FLOATING

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class TokenMean(Node):
    """The weighted mean of the steps so far, RWKV's WKV: weights ``e^(gain k)``, which decay from step to
    step, and this step's own times a factor::

        y_t = (sum_(i<t) decay^(t-1-i) e^(gain k_i) v_i + first e^(gain k_t) v_t) / (the same with v = 1)
    """

    stages = FLOATING

    k: Ref
    v: Ref
    """Of the shape of k."""
    decay: TensorRef
    """float32 that broadcast against the shape, 0..1."""
    first: TensorRef
    """float32 that broadcast against the shape, > 0."""
    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Delay(Node):
    """The value of ``x`` one step before, 0 in a sample's first step."""

    x: Ref
