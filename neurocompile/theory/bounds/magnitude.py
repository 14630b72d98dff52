"""How large a value can be, whatever the input: real values too, which
:func:`neurocompile.ir.analysis.ranges` leaves open.

Interval arithmetic over the graph, one interval a value (its worst element), from what is bounded
by itself: spikes and rates, and the weights of a softmax, lie in 0..1. It holds for the network of
ramps as for that of spikes.
"""

from __future__ import annotations

from math import prod

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes

__all__ = ["magnitudes"]

Interval = tuple[float, float]
_SPIKES = (s.IntegerLIF, s.Or, s.Softmax, s.RateSoftmax)


def magnitudes(graph: s.SpikingGraph) -> dict[str, float | None]:
    """Largest absolute value of each value; None for what grows with a real input."""
    found: dict[str, Interval | None] = {}
    size = shapes(graph)
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        if isinstance(node, _SPIKES):
            found[node.name] = (0.0, 1.0)
        elif isinstance(node, (s.LIF, s.SoftIntegerLIF)):
            found[node.name] = (0.0, float(node.levels))
        elif isinstance(node, s.Input):
            found[node.name] = (
                (float(node.low), float(node.high)) if graph.stage == "quantized" else None
            )
        elif any(i is None for i in inputs):
            found[node.name] = None
        else:
            found[node.name] = _interval(graph, node, [i for i in inputs if i is not None], size)
    return {name: None if i is None else max(abs(i[0]), abs(i[1])) for name, i in found.items()}


def _interval(
    graph: s.SpikingGraph, node: s.Node, inputs: list[Interval], size: dict[str, tuple[int, ...]]
) -> Interval | None:
    low, high = inputs[0]
    if isinstance(node, (s.Conv2d, s.Linear)):
        return _weighted(graph, node, low, high)
    if isinstance(node, s.BatchNorm):
        scale, shift, mean, var = (graph.tensors[t].astype(np.float64) for t in node.tensors)
        factor = scale / np.sqrt(var + node.eps)
        ends = [factor * (end - mean) + shift for end in (low, high)]
        return float(np.minimum(*ends).min()), float(np.maximum(*ends).max())
    if isinstance(node, s.Add):
        return low + inputs[1][0], high + inputs[1][1]
    if isinstance(node, (s.Mul, s.MatMul)):
        products = [a * b for a in inputs[0] for b in inputs[1]]
        terms = size[node.a][-1] if isinstance(node, s.MatMul) else 1
        return terms * min(products), terms * max(products)
    if isinstance(node, s.Scale):
        ends = sorted((node.factor * low, node.factor * high))
        return ends[0], ends[1]
    if isinstance(node, s.Offset):
        offset = graph.tensors[node.offset].astype(np.float64)
        return low + float(offset.min()), high + float(offset.max())
    if isinstance(node, s.Shift):
        return low / 2**node.bits - 1, high / 2**node.bits
    if isinstance(node, (s.Sum, s.TimeSum)):
        terms = (
            node.steps if isinstance(node, s.TimeSum) else prod(size[node.x][i] for i in node.axes)
        )
        return terms * low, terms * high
    if isinstance(node, s.SumPool2d):  # the border counts as 0
        return prod(node.kernel) * min(low, 0.0), prod(node.kernel) * max(high, 0.0)
    if isinstance(node, (s.MaxPool2d, s.Rearrange, s.TimeMean)):
        return low, high
    if isinstance(node, s.IntegerIntegrator):
        return -float(node.largest), float(node.largest)
    if isinstance(node, s.Integrator) and node.decay < 1:
        return min(low, 0.0) / (1 - node.decay), max(high, 0.0) / (1 - node.decay)
    return None


def _weighted(
    graph: s.SpikingGraph, node: s.Conv2d | s.Linear, low: float, high: float
) -> Interval:
    if isinstance(node, s.Conv2d) and any(node.padding):  # the border counts as 0
        low, high = min(low, 0.0), max(high, 0.0)
    weight = (
        graph.tensors[node.weight].astype(np.float64).reshape(len(graph.tensors[node.weight]), -1)
        * 2.0**node.exponent
    )
    positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
    bias = 0.0 if node.bias is None else graph.tensors[node.bias].astype(np.float64)
    least, most = positive * low + negative * high + bias, positive * high + negative * low + bias
    return float(least.min()), float(most.max())
