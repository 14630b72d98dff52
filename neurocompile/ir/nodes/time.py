"""The step before; means and sums over the steps of a sample, and the softmax of such a mean."""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.nodes.base import FLOATING, QUANTIZED, Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["Previous", "RateSoftmax", "Softmax", "TimeMean", "TimeSum"]


@dataclass(frozen=True, kw_only=True)
class Previous(Node):
    """What the spiking layer ``of`` sent one step before, 0 in a sample's first step: spikes that
    feed back into their own layer.

    The layer comes later in the graph, for it depends on this value, so ``of`` is a name and none
    of :attr:`Node.inputs`.
    """

    of: str
    shape: tuple[int, ...]
    """Of the layer."""
    levels: int = 1
    """The layer's largest number of spikes in a step."""


@dataclass(frozen=True, kw_only=True)
class TimeMean(Node):
    """Mean over the steps of a sample, the same in every step."""

    x: Ref


@dataclass(frozen=True, kw_only=True)
class TimeSum(Node):
    """Sum over all ``steps`` steps of a sample, the same in every step: the quantized TimeMean
    inside of a model, in units of 1/steps. Quantized graphs only."""

    stages = QUANTIZED

    x: Ref
    steps: int
    largest: int = 0
    """Largest magnitude of a partial sum, where more is known than interval arithmetic finds; 0 for
    unknown.
    """


@dataclass(frozen=True, kw_only=True)
class Softmax(Node):
    """``softmax(gain * x)`` over the last axis, of a value that is constant over the steps (a
    TimeMean).
    """

    stages = FLOATING

    x: Ref
    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RateSoftmax(Node):
    """The quantized Softmax: spikes whose rates over the steps are the softmax, along the last axis
    of a constant ``x``::

        N = number of k with  max(x - max x + span, 0) >> shift  >=  thresholds[k]
        s_j(t) = floor(((t + 1) N_j + o_j) / S) - floor((t N_j + o_j) / S),    S = sum N,  o_j = a_j S >> 5

    The thresholds, int32 and rising, make N proportional to ``exp(gain x)``, rounded. s is 0 or 1:
        N of one row is at most S.
    a_j is 1, 17, 9, 25, 5, .. of 32, so that equal scores take turns
    (:mod:`neurocompile.circuits.normalize`).
    """

    stages = QUANTIZED

    x: Ref
    thresholds: TensorRef
    span: int
    shift: int = 0
    """0..7."""
