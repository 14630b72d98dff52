"""What is left once positions are summed: heads, and neurons that read a sum over all positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.circuits.builder import strided
from neurocompile.folding import memory
from neurocompile.folding.slots import Axis, Slots, Unfoldable
from neurocompile.folding.values import Real, Spikes, Total, Value
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref

if TYPE_CHECKING:
    from neurocompile.folding.lower import Lowering

__all__ = ["lif_of_total", "output"]


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


def output(low: Lowering, node: s.Output) -> Value:
    """A window's share of the logits; the host adds up the windows of a sample."""
    linear = low.graph.node[low.graph.node[node.x].x]  # type: ignore[attr-defined]
    if not isinstance(linear, s.Linear):
        raise low.refused(linear, "in front of the output is no Linear")
    value = low.values[linear.x]
    inner = value.base.x if isinstance(value.base, Total) else value
    (height, width, channels), _ = low.map_of(inner.base)
    if not isinstance(value.base, Total) and height * width > 1:
        raise low.refused(linear, "has weights of its own for each position")
    name = linear.x if not isinstance(value.base, Total) else low.graph.node[linear.x].x  # type: ignore[attr-defined]
    sources = _sources(low, node, inner, name)
    net = low.net
    depth = net.need((population, 0) for population, *_ in sources)
    total = net.population(c.GradedRelay, f"{node.name}.total", (channels,), node.name, depth)
    for population, lanes, weight in sources:
        q = strided(population, (lanes, channels), (channels, 1), (0, 1), weight=weight)
        net.drive(total, [q])
    weight = low.graph.tensors[linear.weight]
    columns = np.zeros((len(weight), channels), np.int16)
    columns[:, value.layout.indices().reshape(-1)] = weight
    logits = net.population(c.GradedRelay, node.name, (len(weight),), node.name, depth + 1)
    dense = c.Dense(
        name="",
        src=Ref(total),
        dst=Ref(""),
        weight=low.stored(linear.weight, columns),
        weight_bits=low.weight_bits,
        weight_exp=linear.exponent,
    )
    net.drive(logits, [dense])
    bias = None
    if node.bias is not None:
        bias = low.builder.tensor(node.bias, low.graph.tensors[node.bias])
    low.builder.readouts.append(
        c.Readout(
            name=low.builder.name("readout"),
            src=Ref(logits),
            scale=node.unit,
            bias=bias,
            per_step=node.per_step,
        )
    )
    return value


def lif_of_total(low: Lowering, node: s.IntegerLIF, total: Total) -> Value:
    """Neurons on the sum over all positions: the sum grows in a loop, window after window, and is
    read once.
    """
    inner = total.x
    shape, scale = low.map_of(inner.base)
    channels = shape[2]
    sources = _sources(low, node, inner, low.graph.node[node.x].x)  # type: ignore[attr-defined]
    aligned = _slots(low, inner, node)
    found = low.range(node.x)
    net = low.net
    source = net.population(
        c.GradedRelay,
        f"{node.name}.share",
        (channels,),
        node.name,
        net.need((population, 0) for population, *_ in sources),
    )
    for population, lanes, weight in sources:
        q = strided(population, (lanes, channels), (channels, 1), (0, 1), weight=weight)
        net.drive(source, [q])
    kept = memory.accumulate(low, node.name, source, (found.low, found.high), aligned)
    one = Slots(Axis(1, 1), Axis(1, 1))
    value = low.values[node.x]
    layout = Layout(tuple(value.layout.dims))
    fields: dict[str, Any] = {"vth": node.vth, "dv": node.dv, "reset": True}
    amount = node.gain * max(found.high, 0)
    if node.bias is not None:
        bias = low.by_channel(node, node.bias, layout, channels)
        fields["bias"] = low.builder.tensor(node.bias, bias)
        fields["bias_exp"] = node.bias_exp
        amount += max(0, -(-(int(bias.max()) << node.bias_exp) >> 6))
    if amount + node.gain * max(-found.low, 0) >= 1 << 17:
        raise Unfoldable("sums over positions leave no room for an inhibition in 17 bits")
    lag = -kept.ahead
    depth = net.need([(kept.population, lag)])
    made = net.population(
        c.LIF, node.name, (1, 1, channels), node.name, depth, one.digits, **fields
    )
    net.drive(made, [strided(kept.population, (channels,), (1,), (1,), weight=node.gain)], lag)
    net.close(made, one.digits, amount, node.name)
    return low.spikes(node.name, made, one, (1, 1, channels), scale, layout)


def _slots(low: Lowering, value: Value, node: s.Node) -> int:
    """Last window in which any part of ``value`` emits."""
    base = value.base
    if isinstance(base, Spikes):
        return max(p.slots.last for p in base.parts)
    found = low.values[low.graph.node[node.x].x].base  # type: ignore[attr-defined]
    assert isinstance(found, Real)
    return found.slots.last
