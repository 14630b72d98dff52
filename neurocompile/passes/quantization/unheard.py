"""Weights that no spike of the calibration reaches do not set the scale of those that some reach.

A batch normalization after a channel that never fired divides by the root of its epsilon, and
composing two of them gives weights 10^5 times the rest. One scale for a layer, or one unit for a
residual, would round all others to zero for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.tables import KindTable
from neurocompile.passes.trunk import Trunk

__all__ = ["active_values", "clip_unheard"]


def clip_unheard(
    graph: s.SpikingGraph, active: Mapping[str, np.ndarray], trunks: Iterable[Trunk]
) -> s.SpikingGraph:
    """The graph with each weight of an input channel that is always 0 clipped to the largest of the
    others of its layer; where a layer of a residual has no others, to the largest of the residual's
    other layers.

    Args:
        graph: stage canonical.
        active: where each value is not always 0, by name (:func:`active_values`).
        trunks: the residuals.
    """
    readers: dict[str, int] = {}
    layers = {n.name: n for n in graph.nodes if isinstance(n, (s.Conv2d, s.Linear))}
    for node in layers.values():
        readers[node.weight] = readers.get(node.weight, 0) + 1
    # a weight of several layers is heard through more inputs than one
    heard = {
        n.name: _heard(n, active[n.x], graph) for n in layers.values() if readers[n.weight] == 1
    }
    clipped: dict[str, np.ndarray] = {}
    for name, mask in heard.items():
        if mask.any() and not mask.all():
            _clip(
                clipped,
                layers[name],
                graph,
                mask,
                _largest(graph.tensors[layers[name].weight], mask),
            )
    for trunk in set(trunks):
        others = [
            clipped.get(p.weight, graph.tensors[p.weight])
            for p in trunk.producers
            if heard.get(p.name, np.ones(1)).any()
        ]
        limit = max((float(np.abs(weight).max(initial=0)) for weight in others), default=0.0)
        for producer in trunk.producers:
            if not (mask := heard.get(producer.name, np.ones(1, bool))).any():
                _clip(clipped, producer, graph, mask, limit)
    return replace(graph, tensors={**graph.tensors, **clipped}) if clipped else graph


def active_values(
    graph: s.SpikingGraph, mean: Mapping[str, np.ndarray], size: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Where each value (full shape) is not always 0, as far as the neurons' rates tell.

    Args:
        graph: stage canonical.
        mean: what calibration expects of values, by name
            (:func:`neurocompile.calibration.mean_values`); a neuron that is not in it counts as one
            that fires.
        size: shapes of all values.
    """
    found: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if node.name in mean:
            active = mean[node.name] > 0
        else:
            active = ACTIVE.of(node)(graph, node, [found[i] for i in node.inputs])
        found[node.name] = np.broadcast_to(active, size[node.name])
    return found


ACTIVE: KindTable[Callable[[s.SpikingGraph, Any, list[np.ndarray]], np.ndarray]] = KindTable(
    "activity", ("canonical",), "where its value is always 0"
)
"""(graph, node, where its inputs are active) -> where it is, which broadcasts against its shape."""
ACTIVE.add(
    lambda graph, node, inputs: np.ones((), bool),
    s.Input,
    s.Previous,
    s.LIF,
    s.Or,
    s.Softmax,
    s.StepSoftmax,
    s.Function,
    s.Normalization,
    s.Offset,
)
ACTIVE.add(lambda graph, node, inputs: node.apply(inputs[0]), s.Rearrange)
ACTIVE.add(lambda graph, node, inputs: inputs[0], s.Delay)
ACTIVE.add(lambda graph, node, inputs: inputs[1], s.TokenMean)
ACTIVE.add(lambda graph, node, inputs: inputs[0] | inputs[1], s.Add)


@ACTIVE.rule(
    s.Mul, s.MatMul, s.Quotient, s.Sum, s.SumPool2d, s.MaxPool2d, s.TimeMean, s.Integrator, s.Output
)
def _if_any(graph: s.SpikingGraph, node: s.Node, inputs: list[np.ndarray]) -> np.ndarray:
    return np.full((), all(i.any() for i in inputs))


@ACTIVE.rule(s.Conv2d, s.Linear)
def _rows(graph: s.SpikingGraph, node: s.Conv2d | s.Linear, inputs: list[np.ndarray]) -> np.ndarray:
    rows = _heard(node, inputs[0], graph) & (_per_channel(graph.tensors[node.weight]) > 0)
    channels = rows.any(axis=1) if node.bias is None else np.ones(len(rows), bool)
    return channels[:, None, None] if isinstance(node, s.Conv2d) else channels


def _heard(node: s.Conv2d | s.Linear, active: np.ndarray, graph: s.SpikingGraph) -> np.ndarray:
    """(outputs or 1, inputs) bool: weights whose input channel is not always 0."""
    if isinstance(node, s.Linear):
        return np.asarray(active.any(axis=tuple(range(active.ndim - 1))))[None]
    channels = active.any(axis=(1, 2))
    out, group_in = graph.tensors[node.weight].shape[:2]
    return (
        np.repeat(channels.reshape(node.groups, group_in), out // node.groups, axis=0)
        if node.groups > 1
        else channels[None]
    )


def _per_channel(weight: np.ndarray) -> np.ndarray:
    """(outputs, inputs): the largest absolute weight of each pair."""
    return np.abs(weight).reshape(*weight.shape[:2], -1).max(axis=2)


def _largest(weight: np.ndarray, mask: np.ndarray) -> float:
    return float(np.where(mask, _per_channel(weight), 0).max())


def _clip(
    clipped: dict[str, np.ndarray],
    node: s.Conv2d | s.Linear,
    graph: s.SpikingGraph,
    mask: np.ndarray,
    limit: float,
) -> None:
    weight = graph.tensors[node.weight]
    if limit == 0:
        return
    spread = mask.reshape(*mask.shape, *[1] * (weight.ndim - 2))
    found = np.where(spread, weight, np.clip(weight, -limit, limit)).astype(weight.dtype)
    if not np.array_equal(found, weight):
        clipped[node.weight] = found
