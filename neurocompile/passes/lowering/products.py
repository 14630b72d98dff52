"""Products of values: gates, one for each pair of numbers that meet."""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Drive, Signal, compact
from neurocompile.circuits.gates import and_gate, at_least, graded_gate, signed_gate
from neurocompile.circuits.latch import hold
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range
from neurocompile.ir.layout import Layout
from neurocompile.passes.lowering.state import LOWERINGS, Lowering

_LARGEST_FACTOR = 16
"""Of a number of spikes that multiplies a graded value: so many gates a product."""
Product = tuple[Signal, tuple[Signal, int] | None]


@LOWERINGS.rule(s.Mul)
def lower_mul(at: Lowering, node: s.Mul) -> Signal:
    a, b = (at.population(node, i) for i in node.inputs)
    logical = np.broadcast_shapes(a.shape, b.shape)
    shape, layout = logical, Layout.contiguous(logical)
    for full in (b, a):  # the gates lie like the factor that has all axes, if one has
        if full.shape == logical:
            shape, layout = compact(full.layout)
    a, b = (
        Signal(i.base, Layout(((),) * (len(logical) - len(i.shape)) + i.layout.dims))
        for i in (a, b)
    )
    products = _product(at, node, node.a, node.b, a, b, shape, layout, node.name)
    if len(products) == 1 and not products[0][1]:
        return products[0][0]
    return Signal(Drive(shape, _summed(at, products, layout)), layout)


@LOWERINGS.rule(s.MatMul)
def lower_matmul(at: Lowering, node: s.MatMul) -> Signal:
    a, b = (at.population(node, i) for i in node.inputs)
    if isinstance(
        at.graph.node[node.a], s.RateSoftmax
    ):  # its spikes come one sample later than what it reads
        found = at.range(node.b)
        assert isinstance(b.base, str)
        b = Signal(
            hold(
                at.builder,
                b.base,
                (found.low, found.high),
                at.steps,
                f"{node.b}.held",
                at.layer(node),
            ),
            b.layout,
        )
    *lead, n, k = a.shape
    m = b.shape[-1]
    if tuple(lead) != b.shape[:-2]:
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' broadcasts {a.shape} @ {b.shape}; equal heads are supported",
            layer=node.name,
        )
    # gates (..., n, k, m), tokens first in memory; then the sum over k
    rank = len(lead)
    gate_shape = (n, *lead, k, m)
    order = (*range(1, rank + 1), 0, rank + 1, rank + 2)
    gates = Layout.contiguous(gate_shape).transpose(order)
    left = Signal(a.base, Layout((*a.layout.dims, ())))
    right = Signal(b.base, Layout((*b.layout.dims[:-2], (), *b.layout.dims[-2:])))
    products = _product(
        at, node, node.a, node.b, left, right, gate_shape, gates, f"{node.name}.gate"
    )
    shape = (n, *lead, m)
    result = Layout.contiguous(shape).transpose((*range(1, rank + 1), 0, rank + 1))
    target = Layout((*result.dims[:-1], (), result.dims[-1]))
    return Signal(Drive(shape, _summed(at, products, target)), result)


def _product(
    at: Lowering,
    node: s.Node,
    a_name: str,
    b_name: str,
    a: Signal,
    b: Signal,
    shape: tuple[int, ...],
    layout: Layout,
    name: str,
) -> list[Product]:
    """Element-wise product of two signals, broadcast to ``layout``, as the sum of populations
    of gates; and of those whose factor may be negative the spikes, and M, that are still to be
    taken from them."""
    left, right = at.range(a_name), at.range(b_name)
    if not left.is_spike and (
        right.is_spike or left.low < 0 or 0 <= right.low <= right.high < left.high
    ):
        a, b, left, right = b, a, right, left
    if left.low < 0 or left.high > _LARGEST_FACTOR:
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' multiplies {left.low}..{left.high} by {right.low}..{right.high}; one factor "
            f"must be spikes, or numbers of spikes up to {_LARGEST_FACTOR}",
            layer=node.name,
        )
    layer = at.layer(node)
    if left.is_spike:
        return [_gated(at, node, a, b, right, shape, layout, name, layer)]
    products = []
    for k in range(1, left.high + 1):
        plane = at_least(at.builder, a, k, f"{name}.at_least{k}", layer)
        gate = _gated(at, node, plane, b, right, shape, layout, f"{name}.times{k}", layer)
        products.append(gate)
    return products


def _gated(
    at: Lowering,
    node: s.Node,
    a: Signal,
    b: Signal,
    right: Range,
    shape: tuple[int, ...],
    layout: Layout,
    name: str,
    layer: str,
) -> Product:
    """The product of the spikes ``a`` and ``b``, which lies in ``right``."""
    if right.magnitude > (most := at.builder.fields.gated):
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' gates values up to {right.magnitude:,}; the limit is {most:,}",
            layer=node.name,
        )
    if right.is_spike:
        return and_gate(at.builder, a, b, shape, layout, name, layer), None
    if right.low >= 0:
        return graded_gate(at.builder, b, right.high, a, shape, layout, name, layer), None
    gate, largest = signed_gate(at.builder, b, right.magnitude, a, shape, layout, name, layer)
    return gate, (a, largest)


def _summed(at: Lowering, products: list[Product], target: Layout) -> tuple[c.Projection, ...]:
    """The sum of ``products``, broadcast and summed to ``target``. What a signed one still
    needs: minus M times its spikes.
    """
    found: tuple[c.Projection, ...] = ()
    for product, inhibition in products:
        found += at.builder.carry(product, target)
        if inhibition:
            spike, largest = inhibition
            found += at.builder.carry(spike, target, -largest)
    return found
