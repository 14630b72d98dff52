"""What is left once positions are summed: heads, and neurons that read a sum over all positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.circuits.builder import strided
from neurocompile.folding import memory
from neurocompile.folding.slots import Axis, Slots
from neurocompile.folding.values import Driven, Real, Spikes, Total, Value
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref

if TYPE_CHECKING:
    from neurocompile.folding.lower import Lowering

__all__ = ["hidden", "is_head", "output", "settled"]


def _sources(low: Lowering, node: s.Node, value: Value, name: str) -> list[tuple[str, int, int]]:
    """(population, lanes, weight) whose sum over lanes and windows is the sum over positions."""
    base = value.base
    if not isinstance(base, (Spikes, Real)):
        low.values[name] = value
        base = low.real(name).base
    if isinstance(base, Real):
        return [(base.population, int(np.prod(base.slots.lanes)), 1)]
    assert isinstance(base, Spikes)
    return [(p.population, int(np.prod(p.slots.lanes)), p.weight) for p in base.parts]


def is_head(graph: s.SpikingGraph, name: str) -> bool:
    """Whether all that reads a value are Linear layers and sums in front of outputs."""
    users = graph.users[name]
    return bool(users) and all(
        isinstance(u, s.Output)
        or (isinstance(u, (s.TimeMean, s.Linear, s.Add)) and is_head(graph, u.name))
        for u in users
    )


def output(low: Lowering, node: s.Output) -> Value:
    """A window's share of the logits; the host adds up the windows of a sample."""
    end = low.graph.node[node.x].x  # type: ignore[attr-defined]
    logits = _share(low, node, end, node.name)
    bias = None
    if node.bias is not None:
        bias = low.builder.tensor(node.bias, low.graph.tensors[node.bias])
    low.builder.readout(logits, node.unit, bias, per_step=node.per_step)
    return low.values[end]


def _share(low: Lowering, node: s.Output, name: str, label: str) -> str:
    """A population of a window's share of value ``name`` of the head, in its elements' order."""
    driving = _driving(low, node, name, label)
    depth = low.net.need((q.src, q.lag) for q in driving)
    made = low.net.population(c.GradedRelay, label, low.shapes[name], node.name, depth)
    low.net.drive(made, driving)
    return made


def _driving(low: Lowering, node: s.Output, name: str, label: str) -> list[c.Projection]:
    """The projections that make a window's share of a value."""
    made = low.graph.node[name]
    if isinstance(made, s.Add):
        ends = ((made.a, f"{label}.a"), (made.b, f"{label}.b"))
        return [q for x, part in ends for q in _driving(low, node, x, part)]
    if isinstance(made, s.Linear):
        joined = isinstance(low.graph.node[made.x], (s.Add, s.Linear))
        if joined and isinstance(low.values[made.x].base, Total):
            inner = _share(low, node, made.x, f"{label}.inner")
            (channels,) = low.shapes[made.x]
            return [_dense(low, made, inner, Layout.contiguous((channels,)), channels)]
        driving, layout, channels = _total(low, made, made.x)
        depth = low.net.need((q.src, q.lag) for q in driving)
        total = low.net.population(c.GradedRelay, f"{label}.total", (channels,), node.name, depth)
        low.net.drive(total, driving)
        return [_dense(low, made, total, layout, channels)]
    driving, layout, channels = _total(low, made, name)
    if not np.array_equal(layout.indices().reshape(-1), np.arange(channels)):
        raise low.refused(made, "gives the output its channels in another order")
    return driving


def _total(low: Lowering, reader: s.Node, name: str) -> tuple[list[c.Projection], Layout, int]:
    """The projections that add up the positions of a value in a window; of its channels, where
    each element lies, and how many there are.
    """
    value = low.values[name]
    summed = isinstance(value.base, Total)
    inner = value.base.x if isinstance(value.base, Total) else value
    (height, width, channels), _ = low.map_of(inner.base)
    if not summed and height * width > 1:
        what = "has weights of its own for each position"
        if not isinstance(reader, s.Linear):
            what = "is an output for each position"
        raise low.refused(reader, what)
    source = low.graph.node[name].x if summed else name  # type: ignore[attr-defined]
    return (
        [
            strided(population, (lanes, channels), (channels, 1), (0, 1), weight=factor)
            for population, lanes, factor in _sources(low, reader, inner, source)
        ],
        value.layout,
        channels,
    )


def _dense(low: Lowering, node: s.Linear, src: str, layout: Layout, channels: int) -> c.Dense:
    """The weights from ``channels`` neurons, of which ``layout`` says where an element lies."""
    weight = low.graph.tensors[node.weight]
    columns = np.zeros((len(weight), channels), np.int16)
    columns[:, layout.indices().reshape(-1)] = weight
    return c.Dense(
        name="",
        src=Ref(src),
        dst=Ref(""),
        weight=low.stored(node.weight, columns),
        weight_bits=low.weight_bits,
        weight_exp=node.exponent,
    )


def hidden(low: Lowering, node: s.Linear) -> Value:
    """A Linear in front of neurons: it reads a map of one position, or a sum over all positions."""
    if isinstance(low.values[node.x].base, Total):
        settled(low, node.x)
    value = low.aligned(node, node.x)
    base = value.base
    assert isinstance(base, (Spikes, Real))
    height, width, channels = base.shape
    if height * width > 1:
        raise low.refused(node, "has weights of its own for each position")
    one = base.parts[0] if isinstance(base, Spikes) else base
    dense = _dense(low, node, one.population, value.layout, channels)
    (size,) = low.shapes[node.name]
    driven = Driven(one.slots, (1, 1, size), base.scale, (dense,))
    return Value(driven, Layout.contiguous((size,)))


def settled(low: Lowering, name: str) -> Value:
    """The sum over all positions as a value of its own: it grows in a loop, window after window, and
    is let out once, in window 0 of what reads it.
    """
    value, node = low.values[name], low.graph.node[name]
    total = value.base
    assert isinstance(total, Total)
    inner, source_name = total.x, node.x  # type: ignore[attr-defined]
    (_, _, channels), scale = low.map_of(inner.base)
    sources = _sources(low, node, inner, source_name)
    if not isinstance(inner.base, (Spikes, Real)):
        inner = low.values[source_name]
    found, net, layer = low.range(name), low.net, low.layer(node)
    share = net.population(
        c.GradedRelay,
        f"{name}.share",
        (channels,),
        layer,
        net.need((population, 0) for population, *_ in sources),
    )
    for population, lanes, weight in sources:
        net.drive(
            share, [strided(population, (lanes, channels), (channels, 1), (0, 1), weight=weight)]
        )
    bounds = (min(found.low, 0), max(found.high, 0))
    kept = memory.accumulate(low, name, layer, share, bounds, _last(inner))
    one = Slots(Axis(1, 1), Axis(1, 1))
    lag = -kept.ahead
    depth = net.need([(kept.population, lag)])
    halves = [(1, bounds[1])] + ([(-1, -bounds[0])] if bounds[0] < 0 else [])
    whole = net.population(
        c.GradedRelay, name, (1, 1, channels), layer, depth + 1, one.digits, largest=kept.largest
    )
    for sign, amount in halves:
        half = net.population(
            c.GradedRelu,
            f"{name}.once" + (".negative" if sign < 0 else ""),
            (channels,),
            layer,
            depth,
            one.digits,
            largest=max(amount, 1),
        )
        net.drive(half, [strided(kept.population, (channels,), (1,), (1,), weight=sign)], lag)
        net.close(half, one.digits, max(amount, 1), layer)
        net.drive(whole, [strided(half, (channels,), (1,), (1,), weight=sign)])
    made = Value(Real(whole, one, (1, 1, channels), scale), value.layout)
    low.values[name] = made
    return made


def _last(value: Value) -> int:
    """Last window in which any part of ``value`` emits."""
    base = value.base
    if isinstance(base, Spikes):
        return max(p.slots.last for p in base.parts)
    assert isinstance(base, Real)
    return base.slots.last
