"""Neurons that their bias decides alone, whatever arrives: they fire in every step, or never.

A bias far beyond what the weights can reach leaves its field, or takes the bits of every other
channel with it. What it says is one bit: a row of zeros with a bias just above the threshold, or of 0, says
the same exactly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.calibration import Calibration
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges
from neurocompile.ir.text import TensorRef, unique_name

__all__ = ["settle_decided"]

_ENOUGH = 1.125
"""Thresholds of bias that fire in every step, whatever rounding takes."""
_MARGIN = 1e-5
"""Of the sums: float rounding of the model itself."""


def settle_decided(graph: s.SpikingGraph, calibration: Calibration) -> s.SpikingGraph:
    """The graph with the rows of such neurons replaced; itself where there are none.

    Args:
        graph: stage canonical.
        calibration: inputs lie within its range, for they are clipped to it.
    """
    integer, nodes, tensors = ranges(graph), dict(graph.node), dict(graph.tensors)
    for lif in graph.nodes:
        layer = graph.node[lif.x] if isinstance(lif, s.LIF) else None
        if (
            not isinstance(lif, s.LIF)
            or not isinstance(layer, (s.Conv2d, s.Linear))
            or lif.bias is None
            or lif.levels > 1
            or lif.current
            or lif.soft_reset
            and lif.taken != lif.v_threshold
            or graph.users[layer.name] != (lif,)
        ):
            continue
        bound, found = integer[layer.x], calibration.input
        if bound is not None:
            low, high = float(bound.low), float(bound.high)
        elif isinstance(graph.node[layer.x], s.Input):
            low, high = found.min, found.max
        else:
            continue
        always, never = _decided(graph, layer, lif, min(low, 0.0), max(high, 0.0))
        if not (always | never).any():
            continue
        weight = np.array(graph.tensors[layer.weight], np.float64)
        weight[always | never] = 0
        bias = np.array(graph.tensors[lif.bias], np.float64)
        channels = _channels_first(layer, bias)
        # a bias that costs no other channel a bit stays, and with it a grid on which biases lie
        least, most = (_each(channels).min(axis=1), _each(channels).max(axis=1))
        room = max(2 * lif.v_threshold, np.abs(most[~(always | never)]).max(initial=0.0))
        replaced = always & ((least < _ENOUGH * lif.v_threshold) | (most > room))
        channels[replaced], channels[never] = _ENOUGH * lif.v_threshold, 0.0
        names = [
            unique_name(f"{t}.decided", tensors.__contains__) for t in (layer.weight, lif.bias)
        ]
        tensors[names[0]], tensors[names[1]] = weight, bias
        nodes[layer.name] = replace(layer, weight=TensorRef(names[0]))
        nodes[lif.name] = replace(lif, bias=TensorRef(names[1]))
    if len(tensors) == len(graph.tensors):
        return graph
    return graph.replace(nodes=tuple(nodes[n.name] for n in graph.nodes), tensors=tensors)


def _decided(
    graph: s.SpikingGraph, layer: s.Conv2d | s.Linear, lif: s.LIF, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """(channels,) bool: those that always fire, and those that never do."""
    weight = np.asarray(graph.tensors[layer.weight], np.float64)
    flat = weight.reshape(len(weight), -1)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    least, most = positive * low + negative * high, positive * high + negative * low
    bias = np.asarray(graph.tensors[lif.bias], np.float64) / lif.gain  # type: ignore[index]
    channels = _channels_first(layer, bias)
    if len(channels) != len(weight):
        return np.zeros(len(weight), bool), np.zeros(len(weight), bool)
    each = channels.reshape(len(weight), -1)
    threshold = lif.v_threshold / lif.gain
    room = _MARGIN * (np.abs(least) + np.abs(most) + np.abs(each).max(axis=1) + threshold)
    always = each.min(axis=1) + least - room >= threshold
    never = each.max(axis=1) + most + room <= 0  # so the membrane never rises above 0
    return always & flat.any(axis=1), never & flat.any(axis=1)


def _each(channels: np.ndarray) -> np.ndarray:
    """(channels, values of one)."""
    return channels.reshape(len(channels), -1)


def _channels_first(layer: s.Conv2d | s.Linear, bias: np.ndarray) -> np.ndarray:
    """A view of a neuron's bias with the layer's channels as the first axis."""
    return bias if isinstance(layer, s.Conv2d) else np.moveaxis(bias, -1, 0)
