"""Shapes of a SpikingGraph's values: a rule a kind."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.tables import KindTable

__all__ = ["SHAPES", "Shape", "shapes"]

Shape = tuple[int, ...]
SHAPES: KindTable[Callable[[s.SpikingGraph, Any, list[Shape]], Shape]] = KindTable(
    "shapes", ("imported", "canonical", "quantized"), "its shape"
)
"""(graph, node, shapes of its inputs) -> shape of its value; ValueError where they do not match."""


def shapes(graph: s.SpikingGraph) -> dict[str, Shape]:
    """Shape of every value, for one sample at one step.

    Raises:
        ValueError: names the node whose operands do not match.
        NeurocompileError: NC2013 for a kind without a rule.
    """
    found: dict[str, Shape] = {}
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        rule = SHAPES.of(node)
        try:
            found[node.name] = rule(graph, node, inputs)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"%{node.name}: {type(node).__name__} of {inputs}: {error}") from error
    return found


@SHAPES.rule(s.Or, s.Integrator, s.Scale, s.BatchNorm, s.Shift)
@SHAPES.rule(s.TimeMean, s.TimeSum, s.Function, s.Delay)
@SHAPES.rule(s.Clip, s.IntegerFunction, s.Falling)
def _same(graph: s.SpikingGraph, node: s.Node, inputs: list[Shape]) -> Shape:
    return inputs[0]


@SHAPES.rule(s.Input, s.Previous)
def _input(graph: s.SpikingGraph, node: s.Input | s.Previous, inputs: list[Shape]) -> Shape:
    return node.shape


@SHAPES.rule(s.LIF, s.IntegerLIF, s.SoftIntegerLIF, s.IntegerIntegrator)
def _neuron(graph: s.SpikingGraph, node: s.Node, inputs: list[Shape]) -> Shape:
    for tensor in node.tensors:
        if np.broadcast_shapes(inputs[0], graph.tensors[tensor].shape) != inputs[0]:
            raise ValueError(f"@{tensor} {graph.tensors[tensor].shape}")
    return inputs[0]


@SHAPES.rule(s.TokenMean)
def _token_mean(graph: s.SpikingGraph, node: s.TokenMean, inputs: list[Shape]) -> Shape:
    if inputs[0] != inputs[1]:
        raise ValueError("a value for each weight")
    return _neuron(graph, node, inputs)


@SHAPES.rule(s.Offset)
def _offset(graph: s.SpikingGraph, node: s.Offset, inputs: list[Shape]) -> Shape:
    if np.broadcast_shapes(inputs[0], graph.tensors[node.offset].shape) != inputs[0]:
        raise ValueError(f"offset {graph.tensors[node.offset].shape}")
    return inputs[0]


@SHAPES.rule(s.Conv2d)
def _conv(graph: s.SpikingGraph, node: s.Conv2d, inputs: list[Shape]) -> Shape:
    (x,) = inputs
    out, group_in, *kernel = graph.tensors[node.weight].shape
    if len(x) != 3 or x[0] != group_in * node.groups or out % node.groups:
        raise ValueError(f"weight {graph.tensors[node.weight].shape}")
    return (out, *map(_window, x[1:], kernel, node.stride, node.padding, node.dilation))


@SHAPES.rule(s.Linear)
def _linear(graph: s.SpikingGraph, node: s.Linear, inputs: list[Shape]) -> Shape:
    out, width = graph.tensors[node.weight].shape
    if inputs[0][-1] != width:
        raise ValueError(f"weight {(out, width)}")
    return (*inputs[0][:-1], out)


@SHAPES.rule(s.MaxPool2d, s.SumPool2d)
def _pool(graph: s.SpikingGraph, node: s.MaxPool2d | s.SumPool2d, inputs: list[Shape]) -> Shape:
    (x,) = inputs
    ends = [p + more for p, more in zip(node.padding, node.more)]
    if len(x) != 3 or any(
        not (0 <= p < k and 0 <= e < k) for p, e, k in zip(node.padding, ends, node.kernel)
    ):
        raise ValueError(f"a window of {node.kernel} with padding {node.padding}, {ends}")
    wide = [n + more for n, more in zip(x[1:], node.more)]
    return (x[0], *map(_window, wide, node.kernel, node.stride, node.padding))


def _window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        raise ValueError(f"a window of {kernel} does not fit {size}")
    return out


@SHAPES.rule(s.Combination)
def _combination(graph: s.SpikingGraph, node: s.Combination, inputs: list[Shape]) -> Shape:
    if np.broadcast_shapes(*inputs) != inputs[0]:
        raise ValueError("the second is larger")
    return inputs[0]


@SHAPES.rule(s.Maximum)
def _maximum(graph: s.SpikingGraph, node: s.Maximum, inputs: list[Shape]) -> Shape:
    if not inputs[0]:
        raise ValueError("no axis")
    return (*inputs[0][:-1], 1)


@SHAPES.rule(s.Add, s.Mul, s.Quotient, s.DigitMul)
def _broadcast(graph: s.SpikingGraph, node: s.Node, inputs: list[Shape]) -> Shape:
    return np.broadcast_shapes(*inputs)


@SHAPES.rule(s.MatMul, s.DigitMatMul)
def _matmul(graph: s.SpikingGraph, node: s.MatMul, inputs: list[Shape]) -> Shape:
    (*_, n, k), (*_, k2, m) = inputs
    if k != k2:
        raise ValueError("inner sizes differ")
    return (*np.broadcast_shapes(inputs[0][:-2], inputs[1][:-2]), n, m)


@SHAPES.rule(s.Sum)
def _sum(graph: s.SpikingGraph, node: s.Sum, inputs: list[Shape]) -> Shape:
    (x,) = inputs
    if len(set(node.axes)) != len(node.axes) or any(not 0 <= i < len(x) for i in node.axes):
        raise ValueError(f"axes {node.axes}")
    if node.keepdims:
        return tuple(1 if i in node.axes else n for i, n in enumerate(x))
    return tuple(n for i, n in enumerate(x) if i not in node.axes)


@SHAPES.rule(s.Normalization)
def _normalization(graph: s.SpikingGraph, node: s.Normalization, inputs: list[Shape]) -> Shape:
    axes = node.axes
    if not axes or list(axes) != sorted({i for i in axes if 0 <= i < len(inputs[0])}):
        raise ValueError(f"axes {axes}")
    return inputs[0]


@SHAPES.rule(s.SquareSum, s.DigitSum)
def _square_sum(
    graph: s.SpikingGraph, node: s.SquareSum | s.DigitSum, inputs: list[Shape]
) -> Shape:
    if any(not 0 <= i < len(inputs[0]) for i in node.axes):
        raise ValueError(f"axes {node.axes}")
    return tuple(1 if i in node.axes else n for i, n in enumerate(inputs[0]))


@SHAPES.rule(s.Softmax, s.RateSoftmax, s.StepSoftmax)
def _softmax(graph: s.SpikingGraph, node: s.Node, inputs: list[Shape]) -> Shape:
    if not inputs[0]:
        raise ValueError("no axis")
    return inputs[0]


@SHAPES.rule(s.Rearrange)
def _rearrange(graph: s.SpikingGraph, node: s.Rearrange, inputs: list[Shape]) -> Shape:
    last = node.offset + sum((n - 1) * stride for n, stride in zip(node.sizes, node.strides))
    inside = (
        min(node.sizes, default=1) > 0
        and min((*node.strides, node.offset)) >= 0
        and last < prod(inputs[0])
    )
    if prod(node.shape) != prod(node.sizes) or len(node.sizes) != len(node.strides) or not inside:
        raise ValueError(f"shape {node.shape}")
    return node.shape


@SHAPES.rule(s.Output)
def _output(graph: s.SpikingGraph, node: s.Output, inputs: list[Shape]) -> Shape:
    if node.shape is None:
        return inputs[0]
    if prod(node.shape) != prod(inputs[0]):
        raise ValueError(f"shape {node.shape}")
    return node.shape
