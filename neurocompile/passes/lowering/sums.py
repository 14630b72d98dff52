"""Sums, maxima, constants and shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Drive, Signal, channels_last, compact, loops, strided
from neurocompile.circuits.maximum import max_pool
from neurocompile.circuits.soft_reset import add_constants
from neurocompile.circuits.sum_pool import sum_pool
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.passes.lowering.state import LOWERINGS, Lowering, laid_out


@LOWERINGS.rule(s.Add)
def lower_add(at: Lowering, node: s.Add) -> Signal:
    first, second = (at.signals[i] for i in node.inputs)
    if first.shape != second.shape:
        shapes = f"{first.shape} and {second.shape}"
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' adds {shapes}; equal shapes are supported",
            layer=node.name,
        )
    first = at.as_drive(first)
    assert isinstance(first.base, Drive)
    if isinstance(second.base, Drive):
        convolved = any(isinstance(p, c.Conv2d) for p in second.base.projections)
        if at.loops.joins(first.base, second.base):
            return _add_feedback(at, node, first, second)
        if second.layout != first.layout or (convolved and second.base.shape != first.base.shape):
            second = at.population(node, node.b)
    return Signal(
        Drive(first.base.shape, first.base.projections + at.builder.carry(second, first.layout)),
        first.layout,
    )


def _add_feedback(at: Lowering, node: s.Add, first: Signal, second: Signal) -> Signal:
    """A sum of drives of which one comes from spikes that feed back, and stays as it lies."""
    back, other, name = second, first, node.a
    assert isinstance(first.base, Drive) and isinstance(second.base, Drive)
    if not at.loops.joins(second.base):
        back, other, name = first, second, node.b
    assert isinstance(back.base, Drive) and isinstance(other.base, Drive)
    if back.layout != other.layout:
        projections = at.builder.carry(at.population(node, name), back.layout)
        return Signal(Drive(back.base.shape, projections + back.base.projections), back.layout)
    convolved = any(isinstance(p, c.Conv2d) for p in back.base.projections)
    shape = back.base.shape if convolved else other.base.shape
    return Signal(Drive(shape, other.base.projections + back.base.projections), back.layout)


@LOWERINGS.rule(s.Sum)
def lower_sum(at: Lowering, node: s.Sum) -> Signal:
    signal = at.population(node, node.x)
    dims = signal.layout.dims
    kept = Layout(tuple(() if i in node.axes else d for i, d in enumerate(dims)))
    shape, target = compact(kept)
    assert isinstance(signal.base, str)
    projection = strided(signal.base, *loops(signal.layout, target))
    logical = (
        target.dims
        if node.keepdims
        else tuple(d for i, d in enumerate(target.dims) if i not in node.axes)
    )
    return Signal(Drive(shape, (projection,)), Layout(logical))


@LOWERINGS.rule(s.MaxPool2d)
def lower_max_pool(at: Lowering, node: s.MaxPool2d) -> Signal:
    source = at.feature_map(node, node.x)
    winners, shape = max_pool(
        at.builder,
        source,
        node.kernel,
        node.stride,
        node.padding,
        node.name,
        at.layer(node),
        node.more,
    )
    height, width, channels = shape
    projections = tuple(strided(w, (int(np.prod(shape)),), (1,), (1,)) for w in winners)
    return Signal(Drive(shape, projections), channels_last((channels, height, width)))


@LOWERINGS.rule(s.SumPool2d)
def lower_sum_pool(at: Lowering, node: s.SumPool2d) -> Signal:
    source = at.feature_map(node, node.x)
    projection, shape = sum_pool(
        at.builder, source, node.kernel, node.stride, node.padding, node.name, node.more
    )
    height, width, channels = shape
    return Signal(Drive(shape, (projection,)), channels_last((channels, height, width)))


@LOWERINGS.rule(s.Offset)
def lower_offset(at: Lowering, node: s.Offset) -> Signal:
    signal = at.as_drive(at.signals[node.x])
    assert isinstance(signal.base, Drive)
    shape = at.neuron_shape(signal.base, signal.layout)
    name = at.builder.population(c.GradedRelay, node.name, shape, at.layer(node))
    at.builder.drive(name, signal.base.projections)
    add_constants(
        at.builder,
        name,
        laid_out(at.graph.tensors[node.offset], signal.layout, shape),
        at.layer(node),
    )
    return Signal(name, signal.layout)


@LOWERINGS.rule(s.Shift)
def lower_shift(at: Lowering, node: s.Shift) -> Signal:
    signal = at.population(node, node.x)
    assert isinstance(signal.base, str)
    shape = at.builder.shape(signal.base)
    name = at.builder.population(c.GradedRelay, node.name, shape, at.layer(node))
    at.builder.drive(
        name,
        [replace(strided(signal.base, (int(np.prod(shape)),), (1,), (1,)), weight_exp=-node.bits)],
    )
    return Signal(name, signal.layout)
