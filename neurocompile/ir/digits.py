"""Definitions and bounds of the integer forms of real operators (:mod:`neurocompile.ir.nodes.digits`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurocompile.ir.nodes import digits as d

__all__ = [
    "combination",
    "digit_matmul",
    "digit_product",
    "falling",
    "falling_range",
    "falling_values",
    "piecewise",
    "piecewise_range",
    "planes",
]


def piecewise(node: d.IntegerFunction, x: np.ndarray, tensors: list[np.ndarray]) -> np.ndarray:
    """:class:`IntegerFunction` of int64 ``x``."""
    knots, weights = (t.astype(np.int64) for t in tensors)
    total = np.full(x.shape, node.constant, np.int64)
    for knot, weight in zip(knots, weights, strict=True):
        total += weight * np.maximum(x - knot, 0)
    return total >> node.shift


def falling(node: d.Falling, x: np.ndarray, tensors: list[np.ndarray]) -> np.ndarray:
    """:class:`Falling` of int64 ``x``."""
    return falling_values(x, node.constant, tensors)


def falling_values(x: np.ndarray, constant: int, tensors: list[np.ndarray]) -> np.ndarray:
    """The same of its tensors: ends, lengths, weights, exponents, drops."""
    ends, lengths, weights, exponents, drops = (t.astype(np.int64) for t in tensors)
    y = np.full(x.shape, constant, np.int64)
    for e, drop in sorted(set(zip(exponents.tolist(), drops.tolist(), strict=True))):
        total = np.zeros(x.shape, np.int64)
        for k in np.flatnonzero((exponents == e) & (drops == drop)):
            total += weights[k] * np.clip(ends[k] - (x >> drop), 0, lengths[k])
        y += total >> e if e >= 0 else total << -e
    return y


def combination(node: d.Combination, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """:class:`Combination`."""
    return node.times_a * a + node.times_b * b


def planes(
    node: d.DigitMul, digits: np.ndarray, value: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """(digits d_k, values floor(value 2^k / 2^shift), sign) of each plane of digits."""
    found = []
    for k in range(node.bits + node.signed):
        shifted = value << k - node.shift if k >= node.shift else value >> node.shift - k
        found.append((digits >> k & 1, shifted, -1 if k == node.bits else 1))
    return found


def digit_product(node: d.DigitMul, digits: np.ndarray, value: np.ndarray) -> np.ndarray:
    """:class:`DigitMul`; the arrays broadcast."""
    return np.sum(
        [sign * (bit * part) for bit, part, sign in planes(node, digits, value)], axis=0
    ).astype(np.int64)


def digit_matmul(node: d.DigitMatMul, value: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """:class:`DigitMatMul`."""
    return (value @ digits) >> node.shift


def piecewise_range(
    node: d.IntegerFunction, tensors: list[np.ndarray], low: int, high: int
) -> tuple[int, int]:
    """Least and largest value for x in ``low``..``high``: its corners are the knots."""
    inside = [k for k in tensors[0].tolist() if low < k < high]
    return _extremes(lambda x: piecewise(node, x, tensors), [low, high, *inside])


def falling_range(
    node: d.Falling, tensors: list[np.ndarray], low: int, high: int
) -> tuple[int, int]:
    """The same of a falling function: its ends."""
    return _extremes(lambda x: falling(node, x, tensors), [low, high])


def _extremes(f: Callable[[np.ndarray], np.ndarray], points: list[int]) -> tuple[int, int]:
    found: Any = f(np.array(points, np.int64))
    return int(found.min()), int(found.max())
