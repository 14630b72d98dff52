"""Shapes and integer ranges of a SpikingGraph's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from neurocompile.ir import spiking as s

__all__ = ["Range", "range_of", "ranges", "shapes"]


def shapes(graph: s.SpikingGraph) -> dict[str, tuple[int, ...]]:
    """Shape of every value, for one sample at one step. A ValueError names the node whose operands
    do not match.
    """
    found: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        try:
            found[node.name] = _shape(graph, node, inputs)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"%{node.name}: {type(node).__name__} of {inputs}: {error}") from error
    return found


def _window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        raise ValueError(f"a window of {kernel} does not fit {size}")
    return out


def _shape(graph: s.SpikingGraph, node: s.Node, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
    if isinstance(node, s.Input):
        return node.shape
    x = inputs[0]
    if isinstance(node, s.Conv2d):
        out, group_in, *kernel = graph.tensors[node.weight].shape
        if len(x) != 3 or x[0] != group_in * node.groups or out % node.groups:
            raise ValueError(f"weight {graph.tensors[node.weight].shape}")
        return (out, *map(_window, x[1:], kernel, node.stride, node.padding, node.dilation))
    if isinstance(node, s.Linear):
        out, width = graph.tensors[node.weight].shape
        if x[-1] != width:
            raise ValueError(f"weight {(out, width)}")
        return (*x[:-1], out)
    if isinstance(node, (s.MaxPool2d, s.SumPool2d)):
        ends = [p + more for p, more in zip(node.padding, node.more)]
        if len(x) != 3 or any(
            not (0 <= p < k and 0 <= e < k) for p, e, k in zip(node.padding, ends, node.kernel)
        ):
            raise ValueError(f"a window of {node.kernel} with padding {node.padding}, {ends}")
        wide = [n + more for n, more in zip(x[1:], node.more)]
        return (x[0], *map(_window, wide, node.kernel, node.stride, node.padding))
    if isinstance(node, (s.Add, s.Mul)):
        return np.broadcast_shapes(*inputs)
    if isinstance(node, s.Offset) and np.broadcast_shapes(x, graph.tensors[node.offset].shape) != x:
        raise ValueError(f"offset {graph.tensors[node.offset].shape}")
    if isinstance(node, (s.LIF, s.IntegerLIF, s.SoftIntegerLIF)):
        for tensor in node.tensors:
            if np.broadcast_shapes(x, graph.tensors[tensor].shape) != x:
                raise ValueError(f"@{tensor} {graph.tensors[tensor].shape}")
    if isinstance(node, s.MatMul):
        (*_, n, k), (*_, k2, m) = inputs
        if k != k2:
            raise ValueError("inner sizes differ")
        return (*np.broadcast_shapes(inputs[0][:-2], inputs[1][:-2]), n, m)
    if isinstance(node, s.Sum):
        if len(set(node.axes)) != len(node.axes) or any(not 0 <= i < len(x) for i in node.axes):
            raise ValueError(f"axes {node.axes}")
        kept = [(1 if i in node.axes else n) for i, n in enumerate(x)]
        return (
            tuple(kept)
            if node.keepdims
            else tuple(n for i, n in enumerate(x) if i not in node.axes)
        )
    if isinstance(node, s.Output) and node.shape is not None:
        if prod(node.shape) != prod(x):
            raise ValueError(f"shape {node.shape}")
        return node.shape
    if isinstance(node, (s.Softmax, s.RateSoftmax)) and not x:
        raise ValueError("no axis")
    if isinstance(node, s.Rearrange):
        last = node.offset + sum((n - 1) * stride for n, stride in zip(node.sizes, node.strides))
        inside = (
            min(node.sizes, default=1) > 0
            and min((*node.strides, node.offset)) >= 0
            and last < prod(x)
        )
        if (
            prod(node.shape) != prod(node.sizes)
            or len(node.sizes) != len(node.strides)
            or not inside
        ):
            raise ValueError(f"shape {node.shape}")
        return node.shape
    return x


@dataclass(frozen=True)
class Range:
    """An integer value lies in ``low``..``high``."""

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def is_spike(self) -> bool:
        """0 or 1."""
        return self.low >= 0 and self.high <= 1


def ranges(graph: s.SpikingGraph) -> dict[str, Range | None]:
    """Bounds of every value that is an integer by construction; None for real values.

    In a float graph spikes, their sums, maxima and products are integers. In a quantized graph
    everything up to the TimeMean is, and a convolution's bound is that of its worst output channel.
    """
    found: dict[str, Range | None] = {}
    size = shapes(graph)
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        found[node.name] = range_of(node, inputs, graph.tensors, size, graph.stage == "quantized")
    return found


def _corners(a: Range, b: Range) -> Range:
    products = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Range(min(products), max(products))


def range_of(
    node: s.Node,
    inputs: Sequence[Range | None],
    tensors: Mapping[str, np.ndarray],
    size: Mapping[str, tuple[int, ...]],
    quantized: bool,
) -> Range | None:
    """Bounds of one value from those of its inputs; ``size`` has the inputs' shapes. See
    :func:`ranges`.
    """
    if isinstance(node, (s.LIF, s.SoftIntegerLIF)):
        return Range(0, node.levels)
    if isinstance(node, (s.IntegerLIF, s.Or, s.RateSoftmax)):
        return Range(0, 1)
    if isinstance(node, s.Input):
        return Range(node.low, node.high) if quantized else None
    if any(r is None for r in inputs):
        return None
    return _range(node, [r for r in inputs if r is not None], tensors, size, quantized)


def _range(
    node: s.Node,
    inputs: list[Range],
    tensors: Mapping[str, np.ndarray],
    size: Mapping[str, tuple[int, ...]],
    quantized: bool,
) -> Range | None:
    x = inputs[0]
    if isinstance(node, (s.Conv2d, s.Linear)):
        if not quantized:
            return None
        weight = tensors[node.weight].astype(np.int64).reshape(len(tensors[node.weight]), -1)
        weight = weight >> -node.exponent if node.exponent < 0 else weight << node.exponent
        positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
        low, high = min(x.low, 0) if isinstance(node, s.Conv2d) else x.low, x.high
        high = (
            max(high, 0) if isinstance(node, s.Conv2d) else high
        )  # a convolution's border reads zeros
        return Range(
            int((positive * low + negative * high).min()),
            int((positive * high + negative * low).max()),
        )
    if isinstance(node, s.Add):
        return Range(x.low + inputs[1].low, x.high + inputs[1].high)
    if isinstance(node, s.Mul):
        return _corners(x, inputs[1])
    if isinstance(node, s.MatMul):
        corner, n = _corners(x, inputs[1]), size[node.a][-1]
        return Range(n * corner.low, n * corner.high)
    if isinstance(node, s.Sum):
        n = prod(size[node.x][i] for i in node.axes)
        return Range(n * x.low, n * x.high)
    if isinstance(node, s.SumPool2d):
        n = prod(node.kernel)
        low, high = (
            (min(x.low, 0), max(x.high, 0)) if any((*node.padding, *node.more)) else (x.low, x.high)
        )
        return Range(n * low, n * high)
    if isinstance(node, s.Offset) and quantized:
        offset = tensors[node.offset]
        return Range(x.low + int(offset.min()), x.high + int(offset.max()))
    if isinstance(node, s.IntegerIntegrator):
        return Range(-node.largest, node.largest)
    if isinstance(node, s.TimeSum):
        low, high = (
            min(node.steps * x.low, 0),
            max(node.steps * x.high, 0),
        )  # partial sums begin at 0
        return (
            Range(max(low, -node.largest), min(high, node.largest))
            if node.largest
            else Range(low, high)
        )
    if isinstance(node, s.Shift):
        return Range(x.low >> node.bits, x.high >> node.bits)
    if isinstance(node, (s.MaxPool2d, s.Rearrange)):
        return x
    return None
