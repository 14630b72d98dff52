"""Products without multipliers: gates that are exact on integers (THEORY: coincidence of a graded
value and a spike).

* AND of two spikes: a LIF without memory that two inputs of weight 1 reach, threshold 1.
* Graded value a in 0..M times spike s: ``a s = relu(a + M s - M)``, one graded ReLU with a constant
  inhibition.
* The same for a value in -M..M, a membrane potential or a weighted sum: ``relu(a + 2 M s - M) = (a
  + M) s``, so that one gate and an inhibition of M by the spike itself make ``a s``.
* Two graded values, one of them a in 0..A: ``a b = [a >= 1] b + .. + [a >= A] b``, so that A
  comparators and A gates are exact.
* OR: a LIF that any input makes fire.
"""

from __future__ import annotations

from math import prod

from neurocompile.circuits.builder import Builder, Signal, strided
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.ir.layout import Layout

__all__ = ["and_gate", "at_least", "graded_gate", "or_gate", "signed_gate"]

_FORGET = ALL - 1
"""Voltage decay that leaves trunc0(v / 4096): nothing of |v| < 4096."""


def and_gate(
    builder: Builder,
    a: Signal,
    b: Signal,
    shape: tuple[int, ...],
    layout: Layout,
    name: str,
    layer: str,
) -> Signal:
    """``a * b`` of two spike signals, broadcast to the logical shape of ``layout`` over an array of
    ``shape``.
    """
    # one input leaves v = 64 <= vth * 64, two make 128; what is left decays to 0 before the next
    # step
    gate = builder.population(c.LIF, name, shape, layer, vth=1, dv=_FORGET)
    builder.drive(gate, (*builder.carry(a, layout), *builder.carry(b, layout)))
    return Signal(gate, layout)


def at_least(builder: Builder, value: Signal, k: int, name: str, layer: str) -> Signal:
    """Spikes where a graded value is ``k`` or more, in the layout of the value."""
    shape = builder.shape(str(value.base))
    n = prod(shape)
    gate = builder.population(c.LIF, name, shape, layer, vth=k - 1, dv=ALL)
    builder.drive(gate, [strided(str(value.base), (n,), (1,), (1,))])
    return Signal(gate, value.layout)


def graded_gate(
    builder: Builder,
    value: Signal,
    largest: int,
    spike: Signal,
    shape: tuple[int, ...],
    layout: Layout,
    name: str,
    layer: str,
) -> Signal:
    """``value * spike`` for a graded value in 0..``largest``, broadcast like :func:`and_gate`."""
    bias = max(largest, 1)
    exponent = max(bias.bit_length() - builder.fields.weight_bits, 0)
    bias = -(-bias >> exponent) << exponent  # rounded up to a synapse's bits and an exponent
    gate = builder.population(c.GradedRelu, name, shape, layer)
    one = Signal(builder.always_on(name), Layout(((),) * len(layout.dims)))
    builder.drive(
        gate,
        (
            *builder.carry(value, layout),
            *builder.carry(spike, layout, bias),
            *builder.carry(one, layout, -bias),
        ),
    )
    return Signal(gate, layout)


def signed_gate(
    builder: Builder,
    value: Signal,
    largest: int,
    spike: Signal,
    shape: tuple[int, ...],
    layout: Layout,
    name: str,
    layer: str,
) -> tuple[Signal, int]:
    """Gates of a value in -``largest``..``largest`` and a spike, and M: the product is the gate
    minus M times the spike.
    """
    bias = max(largest, 1)
    exponent = max(bias.bit_length() - builder.fields.weight_bits, 0)
    bias = -(-bias >> exponent) << exponent  # one synapse where that suffices
    gate = builder.population(c.GradedRelu, name, shape, layer)
    one = Signal(builder.always_on(name), Layout(((),) * len(layout.dims)))
    builder.drive(
        gate,
        (
            *builder.carry(value, layout),
            *builder.carry(spike, layout, 2 * bias),
            *builder.carry(one, layout, -bias),
        ),
    )
    return Signal(gate, layout), bias


def or_gate(
    builder: Builder, shape: tuple[int, ...], layout: Layout, name: str, layer: str
) -> Signal:
    """``x >= 1`` for the input of the caller's choice, integers >= 0: drive it with weight 1."""
    return Signal(builder.population(c.LIF, name, shape, layer, vth=0), layout)
