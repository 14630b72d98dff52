"""The host's ends, and views: other orders of the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurocompile.circuits.builder import Drive, Signal, channels_last, compact, loops, strided
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.passes.lowering.state import LOWERINGS, Lowering


@LOWERINGS.rule(s.Input)
def lower_input(at: Lowering, node: s.Input) -> Signal:
    node.check_steps(at.steps)
    fields: dict[str, Any] = {
        "low": node.low,
        "high": node.high,
        "scale": node.unit,
        "stepwise": node.steps > 0,
    }
    if len(node.shape) == 3:
        shape = (*node.shape[1:], node.shape[0])
        name = at.builder.population(
            c.HostInput, node.name, shape, node.name, source_axes=(1, 2, 0), **fields
        )
        return Signal(name, channels_last(node.shape))
    name = at.builder.population(c.HostInput, node.name, node.shape, node.name, **fields)
    return Signal(name, Layout.contiguous(node.shape))


@LOWERINGS.rule(s.Rearrange)
def lower_rearrange(at: Lowering, node: s.Rearrange) -> Signal:
    signal = at.signals[node.x]
    if np.prod(node.shape) < np.prod(signal.shape):
        return _slice(at, node)
    if np.prod(node.shape) > np.prod(signal.shape):
        return _repeated(at, node)
    return Signal(signal.base, signal.layout.rearranged(node.shape, node.sizes, node.strides))


def _slice(at: Lowering, node: s.Rearrange) -> Signal:
    """A piece of a value, relayed."""
    signal = at.population(node, node.x)
    assert isinstance(signal.base, str)
    source = signal.layout.rearranged(node.shape, node.sizes, node.strides)
    shape, layout = compact(source)
    name = at.builder.population(c.GradedRelay, node.name, shape, at.layer(node))
    start = signal.layout.memory(node.offset)
    at.builder.drive(name, [strided(signal.base, *loops(source, layout), src_offset=start)])
    return Signal(name, layout)


def _repeated(at: Lowering, node: s.Rearrange) -> Signal:
    """A value that repeats along the axes of stride 0, relayed."""
    signal = at.population(node, node.x)
    once = tuple(n if stride else 1 for n, stride in zip(node.sizes, node.strides))
    source = Signal(signal.base, signal.layout.rearranged(once, once, node.strides))
    name = at.builder.population(c.GradedRelay, node.name, node.sizes, at.layer(node))
    whole = Layout.contiguous(node.sizes)
    at.builder.drive(name, at.builder.carry(source, whole))
    return Signal(name, whole.reshape(node.shape))


@LOWERINGS.rule(s.Output)
def lower_output(at: Lowering, node: s.Output) -> Signal:
    signal = at.as_drive(at.signals[node.x])
    if not signal.layout.is_contiguous:  # the host reads the array as it lies
        target = Layout.contiguous(signal.shape)
        signal = Signal(
            Drive(signal.shape, at.builder.carry(at.population(node, node.x), target)), target
        )
    name = at.builder.population(c.GradedRelay, node.name, signal.base.shape, node.name)  # type: ignore[union-attr]
    at.builder.drive(name, signal.base.projections)  # type: ignore[union-attr]
    shape = signal.shape if node.shape is None else node.shape
    bias = None
    if node.bias is not None:
        values = np.broadcast_to(at.graph.tensors[node.bias], signal.shape)
        bias = at.builder.tensor(node.bias, np.array(values.reshape(shape)))
    at.builder.readout(
        name, node.unit, bias, per_step=node.per_step, shape=None if len(shape) == 1 else shape
    )
    return Signal(name, signal.layout)
