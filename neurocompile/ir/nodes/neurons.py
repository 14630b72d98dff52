"""Neurons: in floating point as authors write them, and in the integers of a chip."""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.fields import ALL
from neurocompile.ir.nodes.base import FLOATING, QUANTIZED, Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["IntegerIntegrator", "IntegerLIF", "Integrator", "LIF", "Or", "SoftIntegerLIF"]


@dataclass(frozen=True, kw_only=True)
class LIF(Node):
    """Leaky integrate and fire with SpikingJelly's parameters, over the steps of a sample, from ``v
    = v_reset``::

        h = v + (x' - (v - v_reset)) / tau     decay_input
        h = v - (v - v_reset) / tau + x'       not decay_input
        s = h >= v_threshold
        v = h - subtract * s                   soft_reset (then v_reset counts as 0)
        v = v_reset where s else h             hard reset

    with ``x' = gain * x + bias`` or, where a synapse keeps a share ``current`` of its current from
    step to step, ``x' = current * x'(t - 1) + gain * x + bias``. Canonical form: ``decay_input``
    off and ``v_reset`` 0. ``tau = inf`` is IF; ``tau = 1`` has no memory.

    With several thresholds, a soft reset only, s is a number of spikes, 0..levels: how many of
    ``v_threshold`` and ``more`` h reaches.
    """

    stages = FLOATING

    x: Ref
    tau: float | TensorRef
    """Steps; or those of each channel, which broadcast against the shape (then ``decay_input`` is
    off).
    """
    v_threshold: float
    v_reset: float = 0.0
    decay_input: bool = True
    soft_reset: bool = False
    gain: float = 1.0
    bias: TensorRef | None = None
    subtract: float | None = None
    """What one spike takes from the membrane, before the leak; ``v_threshold`` if None, 0 for a
    neuron that is never reset.
    """
    more: tuple[float, ...] = ()
    """Further thresholds, rising."""
    current: float = 0.0
    """0..1; only with a hard reset (a soft one reads an Integrator)."""

    @property
    def taken(self) -> float:
        """What one spike takes from the membrane of a neuron with soft reset."""
        return self.v_threshold if self.subtract is None else self.subtract

    @property
    def levels(self) -> int:
        """The largest number of spikes in a step."""
        return 1 + len(self.more)

    @property
    def memoryless(self) -> bool:
        """Nothing of one step reaches the next."""
        return not isinstance(self.tau, TensorRef) and self.tau == 1.0


@dataclass(frozen=True, kw_only=True)
class Integrator(Node):
    """``y = decay * y(t - 1) + x``, a real value: a synaptic current, or a membrane that never
    fires. From 0 in a sample's first step.
    """

    stages = FLOATING

    x: Ref
    decay: float
    """0..1."""


@dataclass(frozen=True, kw_only=True)
class IntegerIntegrator(Node):
    """The quantized Integrator, its positive and its negative part, of which one is 0::

        p = max(floor(p * weight / 2^7) + floor(-m * weight / 2^7) + x, 0)
        m = max(floor(m * weight / 2^7) + floor(-p * weight / 2^7) - x, 0)
        y = p - m

    with p and m of the step before on the right.
    """

    stages = QUANTIZED

    x: Ref
    weight: int | TensorRef
    """0..128; or int32 that broadcast against the shape."""
    largest: int = 0
    """Bound of ``|y|`` within a sample."""


@dataclass(frozen=True, kw_only=True)
class IntegerLIF(Node):
    """The quantized LIF, in units of 2^-6 of the input::

    u = trunc0(u * (4096 - current) / 4096) + gain * x * 2^6
    h = clip(trunc0(v * (4096 - dv) / 4096) + u + bias * 2^bias_exp, +-(2^23 - 1))
    s = h > vth * 2^6;   v = 0 where s else h
    """

    stages = QUANTIZED

    x: Ref
    vth: int | TensorRef
    """0..131071; or int32 that broadcast against the shape: channels that count in units of their
    own.
    """
    dv: int | TensorRef
    """0..4096; or int32 that broadcast against the shape. 4096 keeps nothing."""
    gain: int = 1
    bias: TensorRef | None = None
    bias_exp: int = 0
    current: int = ALL
    """1..4096, the decay of the synaptic current; 4096 keeps none of it."""


@dataclass(frozen=True, kw_only=True)
class SoftIntegerLIF(Node):
    """The quantized LIF with soft reset, in units of 2^-6 of the input; ``reset`` is (1 -
    decay/4096) times what a spike takes, rounded, such as the threshold::

        h = trunc0(h * (4096 - decay) / 4096) + 2^6 (floor((gain * x + bias) / 2^shift) - reset * s)
        s = number of theta in (threshold, *more) with h >= theta * 2^6

    with h and s of the step before on the right.
    """

    stages = QUANTIZED

    x: Ref
    threshold: int | TensorRef
    """One, or, as of ``reset`` and ``decay``, int32 that broadcast against the node's shape; one
    with ``more``.
    """
    reset: int | TensorRef
    decay: int | TensorRef
    """0..4096; 0 for integrate and fire, 4096 without memory."""
    gain: int = 1
    bias: TensorRef | None = None
    """int32, in units of ``gain * x``."""
    shift: int = 0
    """0..7."""
    more: tuple[int, ...] = ()
    """Further thresholds, rising; two may be equal."""

    @property
    def levels(self) -> int:
        """The largest number of spikes in a step."""
        return 1 + len(self.more)


@dataclass(frozen=True, kw_only=True)
class Or(Node):
    """``s = x >= 1`` on integers >= 0: a LIF that any input makes fire, and that therefore keeps no
    state.
    """

    x: Ref
