"""Layers with weights, normalizations and windows."""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.nodes.base import Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["BatchNorm", "Conv2d", "Linear", "MaxPool2d", "SumPool2d"]


@dataclass(frozen=True, kw_only=True)
class Conv2d(Node):
    """Cross-correlation of (C, H, W) with ``weight`` (C', C / groups, kH, kW), plus ``bias`` (C',).

    Quantized: times ``2^exponent``.
    """

    x: Ref
    weight: TensorRef
    bias: TensorRef | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    exponent: int = 0


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """``x @ weight.T + bias`` over the last axis; ``weight`` (out, in). Quantized: times
    ``2^exponent``.
    """

    x: Ref
    weight: TensorRef
    bias: TensorRef | None = None
    exponent: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """``(x - mean) / sqrt(var + eps) * scale + shift`` a channel, along ``axis`` (inference mode)."""

    stages = ("imported",)

    x: Ref
    scale: TensorRef
    shift: TensorRef
    mean: TensorRef
    var: TensorRef
    eps: float
    axis: int = 0


@dataclass(frozen=True, kw_only=True)
class MaxPool2d(Node):
    """Largest value of each window of (C, H, W); the border counts as minus infinity."""

    x: Ref
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    more: tuple[int, int] = (0, 0)
    """Border behind the last row and column beyond ``padding``; less of it where negative."""


@dataclass(frozen=True, kw_only=True)
class SumPool2d(Node):
    """Sum of each window of (C, H, W); the border counts as 0. Average pooling is this and a Scale."""

    x: Ref
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    more: tuple[int, int] = (0, 0)
    """Border behind the last row and column beyond ``padding``; less of it where negative."""
