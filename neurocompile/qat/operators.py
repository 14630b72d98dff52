"""What each node of a canonical graph does, in torch and differentiable: (T, B, ...) to the same.

A value that is the same in every step may have a leading axis of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.nn import functional as F

from neurocompile.ir import spiking as s
from neurocompile.ir.layout import strided_index
from neurocompile.ir.tables import KindTable

__all__ = ["OPERATORS", "rearranged"]


def _steps_merged(
    x: torch.Tensor, operator: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """An operator on images (N, C, H, W), of (T, B, C, H, W)."""
    return operator(x.flatten(0, 1)).unflatten(0, (x.shape[0], -1))


def _conv(node: s.Conv2d, x: list[torch.Tensor], tensors: list[torch.Tensor]) -> torch.Tensor:
    bias = tensors[1] if len(tensors) > 1 else None
    return _steps_merged(
        x[0],
        lambda y: F.conv2d(
            y, tensors[0], bias, node.stride, node.padding, node.dilation, node.groups
        ),
    )


def _linear(node: s.Linear, x: list[torch.Tensor], tensors: list[torch.Tensor]) -> torch.Tensor:
    return F.linear(x[0], tensors[0], tensors[1] if len(tensors) > 1 else None)


def _border(node: s.MaxPool2d | s.SumPool2d) -> list[int]:
    (rows, columns), (more_rows, more_columns) = node.padding, node.more
    return [columns, columns + more_columns, rows, rows + more_rows]


def _max_pool(
    node: s.MaxPool2d, x: list[torch.Tensor], tensors: list[torch.Tensor]
) -> torch.Tensor:
    def pool(y: torch.Tensor) -> torch.Tensor:
        if any(node.more):
            return F.max_pool2d(F.pad(y, _border(node), value=-torch.inf), node.kernel, node.stride)
        return F.max_pool2d(y, node.kernel, node.stride, node.padding)

    return _steps_merged(x[0], pool)


def _sum_pool(
    node: s.SumPool2d, x: list[torch.Tensor], tensors: list[torch.Tensor]
) -> torch.Tensor:
    def pool(y: torch.Tensor) -> torch.Tensor:
        y = F.pad(y, _border(node)) if any(node.padding) or any(node.more) else y
        return F.avg_pool2d(y, node.kernel, node.stride) * float(prod(node.kernel))

    return _steps_merged(x[0], pool)


def rearranged(node: s.Rearrange, x: torch.Tensor) -> torch.Tensor:
    """As a reshape and a permutation where it is one (so that an exported file has these), else as
    a gather.
    """
    kept, elements = x.shape[:2], prod(x.shape[2:])
    order = sorted(range(len(node.sizes)), key=lambda k: (-node.strides[k], node.sizes[k] == 1, k))
    expected = elements
    for k in order:
        if node.sizes[k] == 1:
            continue
        expected //= node.sizes[k]
        if node.strides[k] != expected:
            break
    else:
        if not node.offset and prod(node.sizes) == elements:
            split = x.flatten(2).unflatten(2, [node.sizes[k] for k in order])
            axes = [order.index(k) + 2 for k in range(len(order))]
            if axes != sorted(axes):
                split = split.permute(0, 1, *axes)
            return split.flatten(2).unflatten(2, node.shape)
    index = torch.from_numpy(strided_index(node.sizes, node.strides, node.offset)).to(x.device)
    return x.reshape(*kept, elements)[..., index].reshape(*kept, *node.shape)


def _aligned(x: list[torch.Tensor]) -> list[torch.Tensor]:
    """Feature axes of size 1 put behind (T, B), so that shapes broadcast as those of the features."""
    rank = max(y.ndim for y in x)
    return [y if y.ndim == rank else y[(slice(None),) * 2 + (None,) * (rank - y.ndim)] for y in x]


OPERATORS: KindTable[Callable[[Any, list[torch.Tensor], list[torch.Tensor]], torch.Tensor]] = (
    KindTable("fine-tuning", (), "what it computes in torch")
)
"""(node, inputs, tensors) -> value; neurons, input and output are the model's."""
OPERATORS.add(_conv, s.Conv2d)
OPERATORS.add(_linear, s.Linear)
OPERATORS.add(_max_pool, s.MaxPool2d)
OPERATORS.add(_sum_pool, s.SumPool2d)
OPERATORS.add(lambda n, x, t: rearranged(n, x[0]), s.Rearrange)
OPERATORS.add(lambda n, x, t: torch.add(*_aligned(x)), s.Add)
OPERATORS.add(lambda n, x, t: torch.mul(*_aligned(x)), s.Mul)
OPERATORS.add(lambda n, x, t: torch.matmul(*_aligned(x)), s.MatMul)
OPERATORS.add(lambda n, x, t: x[0] * n.factor, s.Scale)
OPERATORS.add(lambda n, x, t: x[0] + t[0], s.Offset)
OPERATORS.add(lambda n, x, t: x[0].sum(tuple(a + 2 for a in n.axes), n.keepdims), s.Sum)
OPERATORS.add(lambda n, x, t: x[0].mean(0, keepdim=True), s.TimeMean)
