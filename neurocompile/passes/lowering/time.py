"""What goes beyond a step of a sample: spikes of the step before, sums over time, and a softmax as rates of
spikes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Drive, Signal, compact, strided
from neurocompile.circuits.latch import total
from neurocompile.circuits.softmax import Exponentials, steady_softmax
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import INSTANT
from neurocompile.ir.layout import Layout
from neurocompile.passes.lowering.state import LOWERINGS, Lowering


@LOWERINGS.rule(s.Previous)
def lower_previous(at: Lowering, node: s.Previous) -> Signal:
    return at.loops.open(at.builder, node)


@LOWERINGS.rule(s.Delay)
def lower_delay(at: Lowering, node: s.Delay) -> Signal:
    """A relay that a recurrent connection reaches, one step later; what integrates feeds a loop as it
    is.
    """
    found, sums = at.range(node.x), at.signals[node.x]
    if isinstance(at.graph.node[node.x], s.IntegerIntegrator) and isinstance(sums.base, Drive):
        name = at.builder.population(
            c.GradedRelay,
            node.name,
            sums.base.shape,
            at.layer(node),
            largest=max(found.magnitude, 1),
        )
        at.builder.drive(name, [replace(p, recurrent=True) for p in sums.base.projections])
        return Signal(name, sums.layout)
    signal = at.population(node, node.x)
    assert isinstance(signal.base, str)
    shape = at.builder.shape(signal.base)
    source = next(p for p in reversed(at.builder.populations) if p.name == signal.base)
    # what the host sends comes in one step alone, and a current that lasts is hard to silence
    if isinstance(source, c.HostInput) or isinstance(source, c.LIF) and source.du != INSTANT:
        relay = at.builder.population(c.GradedRelay, f"{node.name}.now", shape, at.layer(node))
        at.builder.drive(relay, at.builder.carry(signal, compact(signal.layout)[1]))
        signal = Signal(relay, compact(signal.layout)[1])
    largest = max(found.magnitude, 1)
    at.builder.bounded(str(signal.base), largest)
    name = at.builder.population(c.GradedRelay, node.name, shape, at.layer(node), largest=largest)
    one = strided(str(signal.base), (int(np.prod(shape)),), (1,), (1,))
    at.builder.drive(name, [replace(one, recurrent=True)])
    return Signal(name, signal.layout)


@LOWERINGS.rule(s.TimeMean)
def lower_time_mean(at: Lowering, node: s.TimeMean) -> Signal:
    """The host takes the mean of what it reads."""
    return at.signals[node.x]


@LOWERINGS.rule(s.TimeSum)
def lower_time_sum(at: Lowering, node: s.TimeSum) -> Signal:
    signal = at.as_drive(at.signals[node.x])
    assert isinstance(signal.base, Drive)
    shape, found = at.neuron_shape(signal.base, signal.layout), at.range(node.name)
    name = total(
        at.builder,
        signal.base.projections,
        shape,
        (found.low, found.high),
        at.steps,
        node.name,
        at.layer(node),
    )
    return Signal(name, signal.layout)


@LOWERINGS.rule(s.RateSoftmax)
def lower_softmax(at: Lowering, node: s.RateSoftmax) -> Signal:
    signal = at.population(node, node.x)
    rows, n = int(np.prod(signal.shape[:-1])), signal.shape[-1]
    shape, layout = compact(signal.layout)
    last = layout.simplified().dims[-1]
    if layout != signal.layout or (
        n > 1 and (len(last) != 1 or last[0].stride != 1)
    ):  # rows lie one behind the other
        layout = Layout.contiguous(signal.shape)
        name = at.builder.population(c.GradedRelay, f"{node.name}.rows", signal.shape, node.name)
        at.builder.drive(name, at.builder.carry(signal, layout))
        signal = Signal(name, layout)
    grid = Exponentials(at.graph.tensors[node.thresholds].astype(np.int64), node.span, node.shift)
    assert isinstance(signal.base, str)
    return Signal(
        steady_softmax(at.builder, signal.base, rows, n, grid, at.steps, node.name), layout
    )
