"""Integer forms of real operators in torch, exact in int64; importing this fills the table."""

from __future__ import annotations

from typing import Any

import torch

from neurocompile.gpu.nodes import RULES, Rules, aligned
from neurocompile.ir import spiking as s

__all__ = ["planes"]


def planes(
    node: s.DigitMul, digits: torch.Tensor, value: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """(digits, shifted values, sign) of each plane, int64."""
    digits, value, found = digits.long(), value.long(), []
    for k in range(node.bits + node.signed):
        shifted = value << k - node.shift if k >= node.shift else value >> node.shift - k
        found.append((digits >> k & 1, shifted, -1 if k == node.bits else 1))
    return found


def _total(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts).sum(0)


@RULES.rule(s.Clip)
def clip(rules: Rules, node: s.Clip, x: torch.Tensor) -> torch.Tensor:
    return x.long().clamp(node.low, node.high)


@RULES.rule(s.Combination)
def combination(
    rules: Rules, node: s.Combination, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    a, b = aligned(a.long(), b.long())
    return node.times_a * a + node.times_b * b


@RULES.rule(s.Maximum)
def maximum(rules: Rules, node: s.Maximum, x: torch.Tensor) -> torch.Tensor:
    return x.amax(-1, keepdim=True)


@RULES.rule(s.IntegerFunction)
def piecewise(rules: Rules, node: s.IntegerFunction, x: torch.Tensor) -> torch.Tensor:
    x = x.long()
    total = torch.full_like(x, node.constant)
    for knot, weight in zip(rules.tensor(node.knots), rules.tensor(node.weights), strict=True):
        total += weight * (x - knot).clamp(min=0)
    return total >> node.shift


@RULES.rule(s.Falling)
def falling(rules: Rules, node: s.Falling, x: torch.Tensor) -> torch.Tensor:
    x, columns = x.long(), [rules.tensor(t).tolist() for t in node.tensors]
    y, groups = torch.full_like(x, node.constant), dict[tuple[int, int], Any]()
    for end, length, weight, e, drop in zip(*columns, strict=True):
        part = weight * (end - (x >> drop)).clamp(0, length)
        groups[e, drop] = groups.get((e, drop), 0) + part
    for (e, _), total in groups.items():
        y += total >> e if e >= 0 else total << -e
    return y


@RULES.rule(s.DigitMul)
def digit_mul(
    rules: Rules, node: s.DigitMul, digits: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    found = planes(node, *aligned(digits, value))
    return _total([sign * (bit * part) for bit, part, sign in found])


@RULES.rule(s.DigitMatMul)
def digit_matmul(
    rules: Rules, node: s.DigitMatMul, value: torch.Tensor, digits: torch.Tensor
) -> torch.Tensor:
    """Float64 holds every sum: values have 24 bits, digits 16."""
    value, digits = aligned(value, digits)
    return (value.double() @ digits.double()).long() >> node.shift


@RULES.rule(s.DigitSum)
def digit_sum(rules: Rules, node: s.DigitSum, x: torch.Tensor) -> torch.Tensor:
    return x.long().sum([a + 2 for a in node.axes], keepdim=True) >> node.shift


@RULES.rule(s.SquareSum)
def square_sum(rules: Rules, node: s.SquareSum, x: torch.Tensor) -> torch.Tensor:
    x = x.long()
    return (x * x).sum([a + 2 for a in node.axes], keepdim=True) >> node.shift
