"""Operators on values of one step: sums, products, factors, constants, views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurocompile.ir.layout import strided_index
from neurocompile.ir.nodes.base import QUANTIZED, Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["Add", "MatMul", "Mul", "Offset", "Rearrange", "Scale", "Shift", "Sum"]


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """``a + b``, shapes broadcast."""

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class Mul(Node):
    """``a * b`` (Hadamard), shapes broadcast."""

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class MatMul(Node):
    """``a @ b`` over the last two axes."""

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class Scale(Node):
    """``factor * x``."""

    stages = ("imported",)

    x: Ref
    factor: float


@dataclass(frozen=True, kw_only=True)
class Sum(Node):
    """Sum over ``axes`` (removed, unless ``keepdims``)."""

    x: Ref
    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True, kw_only=True)
class Offset(Node):
    """``x + offset``, which broadcasts against ``x``: a bias in front of what needs it added, such
    as a product.
    """

    x: Ref
    offset: TensorRef


@dataclass(frozen=True, kw_only=True)
class Shift(Node):
    """``floor(x / 2^bits)``: a graded value in a coarser unit. Quantized graphs only."""

    stages = QUANTIZED

    x: Ref
    bits: int


@dataclass(frozen=True, kw_only=True)
class Rearrange(Node):
    """Reshape, permute and slice: element i of the result (row-major over ``shape``) is element
    ``offset + sum_k i_k * strides[k]`` of ``x``, where i_k are the digits of i in the mixed radix
    ``sizes``."""

    x: Ref
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def apply(self, array: np.ndarray, leading: int = 0) -> np.ndarray:
        """The rearranged array; the first ``leading`` axes are kept."""
        kept, index = array.shape[:leading], strided_index(self.sizes, self.strides, self.offset)
        return array.reshape((*kept, -1))[..., index].reshape((*kept, *self.shape))
