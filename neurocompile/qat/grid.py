"""Weights on the compiler's grid while they are trained: ``step * q`` with ``|q| <= 2^(bits-1) - 1``.

Steps are floating-point numbers of 6 significant bits. Sums of weights that spikes select are then
exact in float32, in any order, as long as they stay below 2^18 steps: what training computes is
what the chip's integers compute, spike for spike.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

__all__ = ["FakeQuantizer", "short_step"]

_SIGNIFICANT = 6


def short_step(step: float) -> float:
    """The number of 6 significant bits nearest to ``step`` > 0."""
    mantissa, exponent = math.frexp(step)
    return math.ldexp(round(mantissa * (1 << _SIGNIFICANT)), exponent - _SIGNIFICANT)


class _Round(torch.autograd.Function):
    """To the nearest multiple of a step within +-levels of them; gradients pass where nothing is
    clipped (the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
    """

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, step: torch.Tensor, levels: int) -> torch.Tensor:
        multiples = torch.round(value / step)
        ctx.save_for_backward(multiples.abs() <= levels)
        return multiples.clamp(-levels, levels) * step

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0] * kept, None, None


class FakeQuantizer(nn.Module):
    """A parameter in, the same on its grid out, float32.

    Args:
        step: distance of the grid's points; :func:`short_step` makes sums exact.
        levels: largest multiple, 7 for 4-bit weights.
    """

    step: torch.Tensor

    def __init__(self, step: float, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("step", torch.tensor(step, dtype=torch.float32))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return _Round.apply(value, self.step, self.levels)

    def extra_repr(self) -> str:
        return f"step={float(self.step):g}, levels={self.levels}"
