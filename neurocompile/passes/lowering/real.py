"""Integer forms of real operators: products by digits, functions by segments, maxima of rows."""

from __future__ import annotations

import numpy as np

from neurocompile.circuits import segments
from neurocompile.circuits.builder import Signal, compact
from neurocompile.circuits.digits import (
    Plane,
    digit_spikes,
    floored_sum,
    gated_planes,
    value_planes,
)
from neurocompile.circuits.maximum import row_maximum
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref
from neurocompile.passes.lowering.state import LOWERINGS, Lowering


@LOWERINGS.rule(s.Clip)
def lower_clip(at: Lowering, node: s.Clip) -> Signal:
    signal = at.population(node, node.x)
    made = segments.clip(
        at.builder, str(signal.base), node.low, node.high, node.name, at.layer(node)
    )
    return Signal(made, signal.layout)


@LOWERINGS.rule(s.IntegerFunction)
def lower_function(at: Lowering, node: s.IntegerFunction) -> Signal:
    signal = at.population(node, node.x)
    made = segments.piecewise(
        at.builder,
        str(signal.base),
        at.graph.tensors[node.knots],
        at.graph.tensors[node.weights],
        node.constant,
        node.shift,
        node.name,
        at.layer(node),
    )
    return Signal(made, signal.layout)


@LOWERINGS.rule(s.Falling)
def lower_falling(at: Lowering, node: s.Falling) -> Signal:
    signal = at.population(node, node.x)
    tensors = [at.graph.tensors[t] for t in node.tensors]
    made = segments.falling(
        at.builder, str(signal.base), tensors, node.constant, node.name, at.layer(node)
    )
    return Signal(made, signal.layout)


@LOWERINGS.rule(s.Combination)
def lower_combination(at: Lowering, node: s.Combination) -> Signal:
    a, b = (at.population(node, i) for i in node.inputs)
    shape, layout = compact(a.layout)
    rank = len(a.shape) - len(b.shape)
    b = Signal(b.base, Layout(((),) * rank + b.layout.dims))
    parts = [
        projection
        for signal, times in ((a, node.times_a), (b, node.times_b))
        if times
        for projection in at.builder.carry(signal, layout, times)
    ]
    name = at.builder.population(c.GradedRelay, node.name, shape, at.layer(node))
    at.builder.drive(name, parts)
    return Signal(name, layout)


@LOWERINGS.rule(s.Maximum)
def lower_maximum(at: Lowering, node: s.Maximum) -> Signal:
    signal = at.population(node, node.x)
    *lead, n = signal.shape
    rows = Layout.contiguous(signal.shape)
    relay = str(signal.base)
    if signal.layout.simplified() != rows:
        relay = at.builder.population(
            c.GradedRelay, f"{node.name}.rows", signal.shape, at.layer(node)
        )
        at.builder.drive(relay, at.builder.carry(signal, rows))
    made = row_maximum(at.builder, relay, int(np.prod(lead)), n, node.name, at.layer(node))
    return Signal(made, Layout.contiguous((*lead, 1)))


def _digits(
    at: Lowering, node: s.DigitMul | s.DigitMatMul | s.SquareSum | s.DigitSum, name: Ref
) -> tuple[list[str], Layout]:
    """Populations of the digits of what ``node`` takes apart, made once a value."""
    found = at.range(name)
    if found.low < (-(1 << node.bits) if node.signed else 0) or found.high >= 1 << node.bits:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' takes {node.bits} digits of '{name}', {found.low}..{found.high}",
            layer=node.name,
        )
    signal = at.population(node, name)
    key = (str(signal.base), node.bits, node.signed)
    if key not in at.digits:
        at.digits[key] = digit_spikes(
            at.builder, key[0], node.bits, node.signed, name, at.layer(node)
        )
    return at.digits[key], signal.layout


@LOWERINGS.rule(s.DigitMul)
def lower_digit_mul(at: Lowering, node: s.DigitMul) -> Signal:
    digits, lies = _digits(at, node, node.digits)
    value = at.population(node, node.value)
    logical = np.broadcast_shapes(lies.shape, value.shape)
    full = next((i for i in (lies, value.layout) if i.shape == logical), Layout.contiguous(logical))
    shape, layout = compact(full)
    drive = _product(
        at, node, digits, _ranked(lies, logical), value, shape, layout, layout, node.name
    )
    name = at.builder.population(c.GradedRelay, node.name, shape, at.layer(node))
    at.builder.drive(name, drive)
    return Signal(name, layout)


@LOWERINGS.rule(s.DigitMatMul)
def lower_digit_matmul(at: Lowering, node: s.DigitMatMul) -> Signal:
    digits, lies = _digits(at, node, node.digits)
    value = at.population(node, node.value)
    *lead, n, k = value.shape
    m = lies.shape[-1]
    if tuple(lead) != lies.shape[:-2]:
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' broadcasts {value.shape} @ {lies.shape}; equal heads are supported",
            layer=node.name,
        )
    rank = len(lead)
    gates = Layout.contiguous((n, *lead, k, m)).transpose(
        (*range(1, rank + 1), 0, rank + 1, rank + 2)
    )
    left = Signal(value.base, Layout((*value.layout.dims, ())))
    right = Layout((*lies.dims[:-2], (), *lies.dims[-2:]))
    shape = (n, *lead, m)
    result = Layout.contiguous(shape).transpose((*range(1, rank + 1), 0, rank + 1))
    target = Layout((*result.dims[:-1], (), result.dims[-1]))
    parts = _summands(at, node, node.value, digits, right, left, ((n, *lead, k, m), gates), target)
    return Signal(
        floored_sum(at.builder, parts, shape, node.shift, node.name, at.layer(node)), result
    )


def _ranked(layout: Layout, logical: tuple[int, ...]) -> Layout:
    return Layout(((),) * (len(logical) - len(layout.shape)) + layout.dims)


def _product(
    at: Lowering,
    node: s.DigitMul,
    digits: list[str],
    lies: Layout,
    value: Signal,
    shape: tuple[int, ...],
    layout: Layout,
    target: Layout,
    name: str,
) -> tuple[c.Projection, ...]:
    """Projections of the product, which add up in ``target``."""
    bounds, layer = at.range(node.value), at.layer(node)
    planes = value_planes(
        at.builder,
        str(value.base),
        (bounds.low, bounds.high),
        len(digits),
        node.shift,
        f"{name}.value",
        layer,
    )
    rank = len(layout.shape) - len(value.shape)
    parts = gated_planes(
        at.builder,
        [Signal(d, lies) for d in digits],
        planes,
        Layout(((),) * rank + value.layout.dims),
        shape,
        layout,
        target,
        node.signed,
        name,
        layer,
    )
    return tuple(projection for part in parts for projection in part)


@LOWERINGS.rule(s.SquareSum)
def lower_square_sum(at: Lowering, node: s.SquareSum) -> Signal:
    digits, lies = _digits(at, node, node.x)
    x = at.population(node, node.x)
    shape, layout = compact(lies)
    kept = Layout(tuple(() if i in node.axes else d for i, d in enumerate(layout.dims)))
    rows, target = compact(kept)
    parts = _summands(at, node, node.x, digits, lies, x, (shape, layout), target)
    return Signal(
        floored_sum(at.builder, parts, rows, node.shift, node.name, at.layer(node)), target
    )


@LOWERINGS.rule(s.DigitSum)
def lower_digit_sum(at: Lowering, node: s.DigitSum) -> Signal:
    digits, lies = _digits(at, node, node.x)
    kept = Layout(tuple(() if i in node.axes else d for i, d in enumerate(compact(lies)[1].dims)))
    rows, target = compact(kept)
    last = len(digits) - 1 if node.signed else -1
    parts = [
        at.builder.carry(Signal(d, lies), target, -1 if k == last else 1)
        for k, d in enumerate(digits)
    ]
    return Signal(
        floored_sum(at.builder, parts, rows, node.shift, node.name, at.layer(node)), target
    )


def _summands(
    at: Lowering,
    node: s.DigitMatMul | s.SquareSum,
    name: Ref,
    digits: list[str],
    lies: Layout,
    value: Signal,
    gates: tuple[tuple[int, ...], Layout],
    target: Layout,
) -> list[tuple[c.Projection, ...]]:
    """The sum of the value ``name`` where a digit is 1, for each digit: projections to ``target``."""
    found = at.range(name)
    planes = [Plane(str(value.base), 1, found.low, found.high)] * len(digits)
    signals = [Signal(d, lies) for d in digits]
    return list(
        gated_planes(
            at.builder,
            signals,
            planes,
            value.layout,
            *gates,
            target,
            node.signed,
            f"{node.name}.product",
            at.layer(node),
        )
    )
