"""Where the compiler puts the grid of each layer's weights and of its neuron's bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurocompile.calibration import Calibration, mean_values
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.passes.quantization.means import per_input_channel
from neurocompile.passes.quantization.scales import best_scale
from neurocompile.passes.trunk import find_trunks
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["Grid", "grids", "largest_multiple"]

_ROOM = 1.1
"""By which sums may grow in training before they leave their field."""


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

    Biases of layers that read values which are no integers, and of the layers of a residual of real
    values, are left to the compiler.

    Args:
        unit: of the quantized input.
        fields: of the chip.
    """
    size, integer = shapes(graph), ranges(graph)
    mean = mean_values(graph, statistics, size)
    trunks, seen = find_trunks(graph, integer, size), set[str]()
    largest = max(abs(statistics.input.min), abs(statistics.input.max)) / unit
    for node in graph.nodes:
        if not isinstance(node, (s.Conv2d, s.Linear)) or node.weight in seen:
            continue
        seen.add(node.weight)
        weight = np.asarray(graph.tensors[node.weight], np.float64)
        if not weight.any():
            continue
        rates, levels = mean.get(node.x), largest_multiple(bits)
        moments = None if rates is None else per_input_channel(node, rates + rates * rates)
        of_pixels = isinstance(graph.node[node.x], s.Input)
        step = best_scale(weight, float(np.abs(weight).max()), levels, moments)
        if of_pixels:
            reach = float(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max()) * largest
            step = max(step, _ROOM * reach / fields.current)
        yield Grid(str(node.weight), step, levels)
        lif = None if node.name in trunks else _neuron(graph, node)
        if lif is None or lif.bias is None or str(lif.bias) in seen:
            continue
        seen.add(str(lif.bias))
        of_input = unit if of_pixels else 1.0
        if integer[node.x] is not None or of_pixels:
            yield Grid(str(lif.bias), lif.gain * of_input * step, fields.mantissa)


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
