"""Products of two graded values by binary digits: exact, without a loop, one value a step.

A digit is a spike, and a spike waits for nothing in a synaptic delay. So a product is unrolled in
space: digits come off a value one a step, from the highest; each opens a gate for the other value,
shifted; the sum of the gates is the product::

    d_bits = [x < 0]                                            only of a signed value
    d_k    = [x + 2^bits d_bits - sum_(j > k) 2^j d_j >= 2^k]     a LIF without memory
    g_k    = relu(v_k + M d_k - M) = v_k d_k                     v_k = floor(v 2^k / 2^shift), 0 <= v_k <= M
    P      = sum g_k - g_bits                                    the gate of the sign counts negative

A value of either sign takes ``relu(v_k + 2 M d_k - M) - M d_k``. bits + 3 steps from x to P; bits
digits a value, bits gates a product. Digits are shared by all products of a value. Nothing of one
sample or step reaches the next, so T steps stay T steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from neurocompile.circuits.builder import Builder, Signal, strided
from neurocompile.circuits.constants import Constants
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.ir.layout import Layout

__all__ = ["Plane", "digit_spikes", "floored_sum", "gated_planes", "shifted", "value_planes"]


@dataclass(frozen=True)
class Plane:
    """What digit k of a product gates: ``weight`` times a population, within ``low``..``high``."""

    population: str
    weight: int
    low: int
    high: int


def digit_spikes(
    builder: Builder, x: str, bits: int, signed: bool, name: str, layer: str
) -> list[str]:
    """Populations of the digits d_0 .. d_(bits - 1), and d_bits if ``signed``, of the graded
    population ``x``.
    """
    shape = builder.shape(x)
    n = prod(shape)
    found: dict[int, str] = {}
    for k in range(bits - (not signed), -1, -1):
        sign = k == bits
        vth = 0 if sign else (1 << k) - 1
        digit = builder.population(c.LIF, f"{name}.digit{k}", shape, layer, vth=vth, dv=ALL)
        builder.drive(digit, [strided(x, (n,), (1,), (1,), weight=-1 if sign else 1)])
        for j, higher in found.items():
            weight = 1 << j if j == bits else -(1 << j)
            builder.drive(digit, [strided(higher, (n,), (1,), (1,), weight=weight)])
        found[k] = digit
    return [found[k] for k in range(bits + signed)]


def shifted(builder: Builder, x: str, bits: int, name: str, layer: str) -> str:
    """``floor(x / 2^bits)``: relays, each as many bits as a weight exponent divides by."""
    n = prod(builder.shape(x))
    while bits:
        part = min(bits, builder.fields.shift)
        relay = builder.population(c.GradedRelay, name, builder.shape(x), layer)
        builder.drive(relay, [replace(strided(x, (n,), (1,), (1,)), weight_exp=-part)])
        x, bits = relay, bits - part
    return x


def value_planes(
    builder: Builder,
    value: str,
    bounds: tuple[int, int],
    count: int,
    shift: int,
    name: str,
    layer: str,
) -> list[Plane]:
    """``floor(value 2^k / 2^shift)`` for k < ``count``."""
    low, high = bounds
    coarse, most = {0: value}, builder.fields.shift  # by bits dropped; floors nest
    for dropped in range(1, shift + 1):
        if dropped % most == 0 or shift - dropped < count:
            base = (dropped - 1) // most * most
            coarse[dropped] = shifted(
                builder, coarse[base], dropped - base, f"{name}.over{dropped}", layer
            )
    found = []
    for k in range(count):
        dropped, weight = max(shift - k, 0), 1 << max(k - shift, 0)
        ends = ((low >> dropped) * weight, (high >> dropped) * weight)
        found.append(Plane(coarse[dropped], weight, *ends))
    return found


def gated_planes(
    builder: Builder,
    digits: Sequence[Signal],
    planes: Sequence[Plane],
    value: Layout,
    shape: tuple[int, ...],
    layout: Layout,
    target: Layout,
    signed: bool,
    name: str,
    layer: str,
) -> Iterator[tuple[c.Projection, ...]]:
    """Projections of each digit, which add up to the product in ``target``.

    Args:
        digits: d_0 .. of the one value, broadcast to the axes of ``layout``.
        planes: of the other, whose populations lie as ``value`` says.
        shape, layout: of the gates.
        target: of the sum; axes of size 1 where products are summed.
        signed: the last digit counts negative.
    """
    constants = Constants(builder, name, layer)
    for k, (digit, plane) in enumerate(zip(digits, planes, strict=True)):
        largest = max(plane.high, -plane.low, 1)
        mantissa, exponent = _rounded_up(largest, builder.fields.weight_bits)
        both = 1 if plane.low < 0 else 0  # a value of either sign: 2 M opens the gate
        gate = builder.population(c.GradedRelu, f"{name}.gate{k}", shape, layer)
        builder.drive(gate, builder.carry(Signal(plane.population, value), layout, plane.weight))
        opened, opens = digit, mantissa << exponent + both
        if opens > builder.fields.synapse:  # one synapse does not reach: a relay on the way
            relay = builder.population(
                c.GradedRelay, f"{name}.open{k}", builder.shape(str(digit.base)), layer
            )
            n = prod(builder.shape(str(digit.base)))
            builder.drive(relay, [strided(str(digit.base), (n,), (1,), (1,), weight=mantissa)])
            opened, opens = Signal(relay, digit.layout), 1 << exponent + both
        builder.drive(gate, builder.carry(opened, layout, opens))
        constants.add(gate, -(mantissa << exponent))
        sign = -1 if signed and k == len(digits) - 1 else 1
        found = builder.carry(Signal(gate, layout), target, sign)
        if both:
            weight = mantissa << exponent if opened is digit else 1 << exponent
            found += builder.carry(opened, target, -sign * weight)
        yield found


def floored_sum(
    builder: Builder,
    parts: Sequence[tuple[c.Projection, ...]],
    shape: tuple[int, ...],
    shift: int,
    name: str,
    layer: str,
) -> str:
    """``floor(sum_k 2^k parts_k / 2^shift)``, from the lowest part up: ``R <- floor(R / 2) + part``, for
    floors nest. No sum is wider than a part and what is left above ``shift``.
    """
    n = prod(shape)
    sums: list[str] = []
    for k, part in enumerate(parts):
        sums.append(builder.population(c.GradedRelay, f"{name}.part{k}", shape, layer))
        builder.drive(sums[-1], part)
    rest = sums[0]
    for k in range(1, shift + 1):
        half = shifted(builder, rest, 1, f"{name}.half{k}", layer)
        rest = builder.population(c.GradedRelay, f"{name}.rest{k}", shape, layer)
        builder.drive(rest, [strided(p, (n,), (1,), (1,)) for p in (half, *sums[k : k + 1])])
    out = builder.population(c.GradedRelay, name, shape, layer)
    builder.drive(out, [strided(rest, (n,), (1,), (1,))])
    for k in range(shift + 1, len(sums)):
        builder.drive(out, [strided(sums[k], (n,), (1,), (1,), weight=1 << k - shift)])
    return out


def _rounded_up(value: int, bits: int) -> tuple[int, int]:
    """(mantissa of ``bits`` bits, exponent) of the least such number from ``value`` on."""
    exponent = max(value.bit_length() - bits, 0)
    mantissa = -(-value >> exponent)
    return (mantissa >> 1, exponent + 1) if mantissa >> bits else (mantissa, exponent)
