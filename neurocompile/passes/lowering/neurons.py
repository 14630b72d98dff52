"""Neurons: LIFs with hard and soft reset, a population for each kind of channel; integrators, ORs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Drive, Signal, strided
from neurocompile.circuits.gates import or_gate
from neurocompile.circuits.soft_reset import soft_reset
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes import split_channels
from neurocompile.passes.lowering.feedback import recurrent
from neurocompile.passes.lowering.state import LOWERINGS, Lowering, laid_out

_FIELD = 20
"""Bits of a threshold, a reset or a leak."""


@LOWERINGS.rule(s.IntegerLIF)
def lower_lif(at: Lowering, node: s.IntegerLIF) -> Signal:
    signal = at.as_drive(at.signals[node.x])
    drive = signal.base
    assert isinstance(drive, Drive)
    shape = at.neuron_shape(drive, signal.layout)
    bias = (
        None if node.bias is None else laid_out(at.graph.tensors[node.bias], signal.layout, shape)
    )
    drive, back = at.loops.split(node.name, drive, signal.layout)
    if isinstance(node.dv, TensorRef) or isinstance(node.vth, TensorRef):
        at.loops.refuse_parts(node.name, back)
        return _lif_parts(at, node, drive, shape, signal.layout, bias)
    name = _population(at, node, node.name, shape, node.vth, node.dv, bias)
    for projections in (drive.projections, recurrent(back, name)):
        at.builder.drive(name, (at.builder.weighted(p, node.gain) for p in projections))
    return Signal(name, signal.layout)


def _population(
    at: Lowering,
    node: s.IntegerLIF,
    name: str,
    shape: tuple[int, ...],
    vth: int,
    dv: int,
    bias: np.ndarray | None,
) -> str:
    stored = None if bias is None else at.builder.tensor(f"{node.bias}", bias)
    return at.builder.population(
        c.LIF,
        name,
        shape,
        node.name,
        vth=vth,
        dv=dv,
        du=node.current - 1,
        bias=stored,
        bias_exp=node.bias_exp,
        reset=True,
    )


def _lif_parts(
    at: Lowering,
    node: s.IntegerLIF,
    drive: Drive,
    shape: tuple[int, ...],
    layout: Layout,
    bias: np.ndarray | None,
) -> Signal:
    """A leak, or a threshold, for each channel."""
    thresholds, leaks = (
        laid_out(at.graph.tensors[v].astype(np.int64), layout, shape)
        if isinstance(v, TensorRef)
        else v
        for v in (node.vth, node.dv)
    )
    both = np.asarray(thresholds << 13 | leaks)
    parts, made = split_channels.parts(both, layout, shape), []
    read = split_channels.source(
        at.builder, drive, shape, parts[0].by_channel, f"{node.name}.in", node.name
    )
    for part in parts:
        own = None if bias is None else part.take(bias, shape)
        vth, dv = divmod(int(np.broadcast_to(both, shape).flat[part.first]), 1 << 13)
        name = f"{node.name}.vth{vth}" if isinstance(node.vth, TensorRef) else node.name
        name = f"{name}.leak{dv}" if isinstance(node.dv, TensorRef) else name
        name = _population(at, node, name, part.shape, vth, dv, own)
        at.builder.drive(name, split_channels.inputs(at.builder, part, read, node.gain))
        made.append((part, name))
    return split_channels.gather(at.builder, made, shape, layout, node.name)


@LOWERINGS.rule(s.SoftIntegerLIF)
def lower_soft_lif(at: Lowering, node: s.SoftIntegerLIF) -> Signal:
    signal = at.as_drive(at.signals[node.x])
    drive = signal.base
    assert isinstance(drive, Drive)
    shape = at.neuron_shape(drive, signal.layout)
    bias = None
    if node.bias is not None:
        bias = laid_out(at.graph.tensors[node.bias], signal.layout, shape)
    found = at.range(node.x)
    # tighter than interval arithmetic on the circuit, which knows neither rows of weights nor
    # tournaments
    bound = node.gain * found.magnitude + (0 if bias is None else int(np.abs(bias).max(initial=0)))
    largest = ((bound >> node.shift) + 1) * at.steps
    drive, back = at.loops.split(node.name, drive, signal.layout)
    back = tuple(at.builder.weighted(p, node.gain) for p in back)
    if any(isinstance(v, TensorRef) for v in (node.threshold, node.reset, node.decay)):
        at.loops.refuse_parts(node.name, back)
        return _soft_parts(at, node, drive, shape, signal.layout, bias, bound, largest)
    current = at.builder.population(
        c.GradedRelay, f"{node.name}.in", shape, node.name, largest=bound
    )
    at.builder.drive(current, (at.builder.weighted(p, node.gain) for p in drive.projections))
    made = soft_reset(at.builder, current, bias, node, largest, feedback=back)
    return Signal(made, signal.layout)


def _soft_parts(
    at: Lowering,
    node: s.SoftIntegerLIF,
    drive: Drive,
    shape: tuple[int, ...],
    layout: Layout,
    bias: np.ndarray | None,
    bound: int,
    largest: int,
) -> Signal:
    """A threshold or a leak for each channel."""
    fields = {"vth": node.threshold, "reset": node.reset, "leak": node.decay}
    thresholds, resets, decays = (
        laid_out(at.graph.tensors[v].astype(np.int64), layout, shape)
        if isinstance(v, TensorRef)
        else np.asarray(v, np.int64)
        for v in fields.values()
    )
    kinds = np.broadcast_to((thresholds << _FIELD | resets) << _FIELD | decays, shape)
    several = [name for name, value in fields.items() if isinstance(value, TensorRef)]
    parts, made = split_channels.parts(kinds, layout, shape), []
    read = split_channels.source(
        at.builder, drive, shape, parts[0].by_channel, f"{node.name}.in", node.name
    )
    for part in parts:
        both, decay = divmod(int(kinds.flat[part.first]), 1 << _FIELD)
        threshold, reset = divmod(both, 1 << _FIELD)
        one = {"vth": threshold, "reset": reset, "leak": decay}
        name = ".".join([node.name, *(f"{field}{one[field]}" for field in several)])
        own = replace(node, name=name, threshold=threshold, reset=reset, decay=decay)
        current = at.builder.population(
            c.GradedRelay, f"{own.name}.in", part.shape, node.name, largest=bound
        )
        at.builder.drive(current, split_channels.inputs(at.builder, part, read, node.gain))
        taken = None if bias is None else part.take(bias, shape)
        made.append((part, soft_reset(at.builder, current, taken, own, largest, node.name)))
    return split_channels.gather(at.builder, made, shape, layout, node.name, node.levels)


@LOWERINGS.rule(s.IntegerIntegrator)
def lower_integrator(at: Lowering, node: s.IntegerIntegrator) -> Signal:
    """Its positive and its negative part, each a rectifier that reads both, one step before: one
    of the two is 0, so that one rounded product arrives.
    """
    signal = at.population(node, node.x)
    assert isinstance(signal.base, str)
    shape = at.builder.shape(signal.base)
    if isinstance(node.weight, TensorRef):
        return _integrator_parts(at, node, signal, shape)
    n, layer = int(np.prod(shape)), at.layer(node)
    parts = [
        (
            at.builder.population(
                c.GradedRelu, f"{node.name}.{part}", shape, layer, largest=node.largest
            ),
            sign,
        )
        for part, sign in (("plus", 1), ("minus", -1))
    ]
    for name, sign in parts:
        at.builder.drive(name, [strided(signal.base, (n,), (1,), (1,), weight=sign)])
        for src, other in parts if node.weight else ():
            own = strided(src, (n,), (1,), (1,), weight=sign * other * node.weight)
            at.builder.drive(name, [replace(own, weight_exp=-7, recurrent=True)])
    both = tuple(strided(name, (n,), (1,), (1,), weight=sign) for name, sign in parts)
    return Signal(Drive(shape, both), signal.layout)


def _integrator_parts(
    at: Lowering, node: s.IntegerIntegrator, signal: Signal, shape: tuple[int, ...]
) -> Signal:
    """What is kept differs: two populations for each share."""
    source, layer = str(signal.base), at.layer(node)
    weights = np.broadcast_to(
        laid_out(at.graph.tensors[node.weight], signal.layout, shape),  # type: ignore[index]
        shape,
    )
    gathered: list[c.Projection] = []
    for part in split_channels.parts(weights, signal.layout, shape):
        weight, n = int(weights.reshape(-1)[part.first]), int(np.prod(part.shape))
        halves = [
            (
                at.builder.population(
                    c.GradedRelu,
                    f"{node.name}.keep{weight}.{half}",
                    part.shape,
                    layer,
                    largest=node.largest,
                ),
                sign,
            )
            for half, sign in (("plus", 1), ("minus", -1))
        ]
        for half, sign in halves:
            at.builder.drive(half, part.projections(source, whole=False, weight=sign))
            for src, other in halves if weight else ():
                own = strided(src, (n,), (1,), (1,), weight=sign * other * weight)
                at.builder.drive(half, [replace(own, weight_exp=-7, recurrent=True)])
            gathered += part.projections(Ref(half), whole=True, weight=sign)
    return Signal(Drive(shape, tuple(gathered)), signal.layout)


@LOWERINGS.rule(s.Or)
def lower_or(at: Lowering, node: s.Or) -> Signal:
    signal = at.as_drive(at.signals[node.x])
    assert isinstance(signal.base, Drive)
    gate = or_gate(
        at.builder, at.neuron_shape(signal.base, signal.layout), signal.layout, node.name, node.name
    )
    at.builder.drive(str(gate.base), signal.base.projections)
    return gate
