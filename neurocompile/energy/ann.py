"""Multiplications of the same network run once as an ordinary network, without spikes and time."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from neurocompile.ir import spiking as s
from neurocompile.ir.nodes.base import STAGES
from neurocompile.ir.shapes import Shape, shapes
from neurocompile.ir.tables import KindTable

__all__ = ["MACS", "MAC_PJ", "ann_macs"]

MAC_PJ = 4.6
"""32-bit float multiply and add in 45 nm: Horowitz, ISSCC 2014 (the convention of the
spiking-transformer papers).
"""


def ann_macs(graph: s.SpikingGraph) -> int:
    """Multiply-accumulates of one forward pass: convolutions (their padding included, as papers
    count), linear layers, matrix products, element-wise products."""
    size = shapes(graph)
    return sum(MACS.of(node)(graph, node, size) for node in graph.nodes)


MACS: KindTable[Callable[[s.SpikingGraph, Any, dict[str, Shape]], int]] = KindTable(
    "multiplications", STAGES, "how many multiplications it is"
)
"""(graph, node, shapes) -> multiply-accumulates."""
MACS.add(lambda graph, node, size: prod(size[node.name]), s.Mul, s.DigitMul)
MACS.add(lambda graph, node, size: prod(size[node.name]) * size[node.value][-1], s.DigitMatMul)
MACS.add(lambda graph, node, size: prod(size[node.name]) * size[node.a][-1], s.MatMul)


MACS.add(lambda graph, node, size: prod(size[node.x]), s.SquareSum)


@MACS.rule(s.Conv2d, s.Linear)
def _weighted(graph: s.SpikingGraph, node: s.Conv2d | s.Linear, size: dict[str, Shape]) -> int:
    return prod(size[node.name]) * prod(graph.tensors[node.weight].shape[1:])


@MACS.rule(s.LIF, s.Integrator, s.IntegerLIF, s.SoftIntegerLIF, s.IntegerIntegrator, s.Or)
@MACS.rule(
    s.Input,
    s.Previous,
    s.Output,
    s.BatchNorm,
    s.Scale,
    s.Offset,
    s.Shift,
    s.Rearrange,
    s.Add,
    s.Sum,
)
@MACS.rule(s.Function, s.Normalization, s.StepSoftmax, s.Quotient, s.TokenMean, s.Delay, s.Clip)
@MACS.rule(s.Combination, s.Maximum, s.IntegerFunction, s.Falling, s.DigitSum)
@MACS.rule(s.MaxPool2d, s.SumPool2d, s.TimeMean, s.TimeSum, s.Softmax, s.RateSoftmax)
def _none(graph: s.SpikingGraph, node: s.Node, size: dict[str, Shape]) -> int:
    return 0
