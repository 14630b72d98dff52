"""Where the compiler puts the grid of each layer's weights and of its neuron's bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from neurocompile.calibration import Calibration, mean_values
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.passes.quantization.means import per_input_channel
from neurocompile.passes.quantization.scales import best_scale
from neurocompile.passes.trunk import Trunk, find_trunks
from neurocompile.qat.grid import short_step
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["Grid", "grids", "largest_multiple"]

_ROOM = 1.1
"""By which sums may grow in training before they leave their field."""
_MEMBRANE_BITS = 5
"""Below the grid of a residual's weights, where the weights do not need them."""
_FEWEST_BITS = 4
"""That weights keep when their grid gets coarser for the sake of membranes."""


@dataclass(frozen=True)
class Grid:
    """Of one tensor: multiples of ``step`` up to ``levels`` of them."""

    tensor: str
    step: float
    levels: int


def largest_multiple(bits: int) -> int:
    """Of a weight of so many bits."""
    return int((1 << (bits - 1)) - 1)


def grids(
    graph: s.SpikingGraph,
    statistics: Calibration,
    bits: int,
    unit: float,
    fields: ChipFields = LOIHI2,
) -> Iterator[Grid]:
    """The grids of a canonical graph's weights and of the biases that count in their units.

    Layers of a residual of real values that read spikes have steps that are powers of two apart, so
    that one unit holds them all, and biases of its neurons are multiples of the least of them. Biases
    behind layers that read values which are no integers are left to the compiler.

    Args:
        unit: of the quantized input.
        fields: of the chip.
    """
    size, integer = shapes(graph), ranges(graph)
    mean = mean_values(graph, statistics, size)
    trunks, levels = find_trunks(graph, integer, size), largest_multiple(bits)
    largest = max(abs(statistics.input.min), abs(statistics.input.max)) / unit
    steps: dict[str, float] = {}
    for node in _layers(graph):
        weight = np.asarray(graph.tensors[node.weight], np.float64)
        rates = mean.get(node.x)
        moments = None if rates is None else per_input_channel(node, rates + rates * rates)
        step = best_scale(weight, float(np.abs(weight).max()), levels, moments)
        if isinstance(graph.node[node.x], s.Input):
            step = max(step, _ROOM * _reach(weight) * largest / fields.current)
        steps[node.name] = step
    seen = set[str]()
    of_input = {
        n.name: unit if isinstance(graph.node[n.x], s.Input) else 1.0 for n in _layers(graph)
    }
    related = set[str]()
    for trunk in {trunk.producers: trunk for trunk in trunks.values()}.values():
        values = _apart_by_powers(graph, integer, trunk, steps, of_input, largest, bits, fields)
        related.update(values)
        steps.update({name: value / of_input[name] for name, value in values.items()})
        for neuron, _ in trunk.neurons if values else ():
            if neuron.bias is not None and not neuron.soft_reset and str(neuron.bias) not in seen:
                seen.add(str(neuron.bias))
                yield Grid(str(neuron.bias), neuron.gain * min(values.values()), fields.mantissa)
    for node in _layers(graph):
        step = steps[node.name] if node.name in related else short_step(steps[node.name])
        yield Grid(str(node.weight), step, levels)
        lif = None if node.name in trunks else _neuron(graph, node)
        if lif is None or lif.bias is None or str(lif.bias) in seen:
            continue
        seen.add(str(lif.bias))
        if integer[node.x] is not None or isinstance(graph.node[node.x], s.Input):
            of_bias = short_step(lif.gain * of_input[node.name] * step)
            yield Grid(str(lif.bias), of_bias, fields.mantissa)


def _layers(graph: s.SpikingGraph) -> Iterator[s.Conv2d | s.Linear]:
    """Those that have weights, one of each tensor."""
    seen = set[str]()
    for node in graph.nodes:
        if isinstance(node, (s.Conv2d, s.Linear)) and node.weight not in seen:
            seen.add(node.weight)
            if np.any(graph.tensors[node.weight]):
                yield node


def _reach(weight: np.ndarray) -> float:
    """The largest sum of inputs of up to 1."""
    return float(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max())


def _apart_by_powers(
    graph: s.SpikingGraph,
    integer: Mapping[str, Range | None],
    trunk: Trunk,
    own: Mapping[str, float],
    of_input: Mapping[str, float],
    largest: float,
    bits: int,
    fields: ChipFields,
) -> dict[str, float]:
    """Steps of the values that the layers of ``trunk`` add, each the nearest power of two times one
    step; none where a layer reads values that are no integers, which take units of their own.

    Args:
        own: the weights' best steps.
        of_input: what a weight's step counts in: the unit of the pixels that a layer reads, or 1.
        largest: pixel, in its unit.
    """
    layers = [n for n in trunk.producers if n.name in own]
    steps, reach = {n.name: own[n.name] * of_input[n.name] for n in layers}, 0.0
    for n in layers:
        bound = integer[n.x]
        if isinstance(graph.node[n.x], s.Input):
            most = largest
        elif bound is None:
            return {}
        else:
            most = bound.magnitude
        reach += _reach(np.asarray(graph.tensors[n.weight], np.float64)) * most * of_input[n.name]
    if not layers:
        return {}
    # A grid may be as coarse as the unit, in which the sum of all has its field; bits that it leaves
    # below for what membranes keep of a step before make thresholds exact.
    unit, finest = _ROOM * reach / fields.current, min(steps[n.name] for n in layers)
    spared = finest * 2.0 ** (bits - _FEWEST_BITS)
    below = next(b for b in range(_MEMBRANE_BITS, -1, -1) if b == 0 or unit * 2**b <= spared)
    least, most = short_step(unit * 2**below), max(steps[n.name] for n in layers)
    between = (
        _powers(short_step(max(most / 2 ** (k / 4), least)), least, steps, layers, fields)
        for k in range(4)
    )
    return min(between, key=lambda found: max(abs(np.log2(found[n] / steps[n])) for n in found))


def _powers(
    coarsest: float,
    least: float,
    steps: Mapping[str, float],
    layers: list[s.Conv2d | s.Linear],
    fields: ChipFields,
) -> dict[str, float]:
    """The nearest steps, at least ``least``, that are ``coarsest`` over a power of two."""
    found = {}
    for n in layers:
        apart = min(max(round(np.log2(coarsest / steps[n.name])), 0), fields.weight_exponent)
        while apart and coarsest / 2**apart < least:
            apart -= 1
        found[n.name] = coarsest / 2**apart
    return found


def _neuron(graph: s.SpikingGraph, node: s.Node) -> s.LIF | None:
    """The neuron with a hard reset that alone reads a layer, through pools and views."""
    while True:
        users = graph.users[node.name]
        if len(users) != 1:
            return None
        (node,) = users
        if isinstance(node, s.LIF):
            return None if node.soft_reset else node
        if not isinstance(node, (s.MaxPool2d, s.Rearrange)):
            return None
