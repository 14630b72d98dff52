"""Values that are another one times a number plus a number, and numbers that are as good as equal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurocompile.frontends.recover.algebra import Number
from neurocompile.frontends.recover.graph import Graph

__all__ = ["Affine", "affine_path", "close", "shown"]


def close(a: Number, b: Number) -> bool:
    """Equal up to rounding of float32 constants, in all channels."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=2e-6, abs_tol=2e-6)
    return bool(np.all(np.abs(a - b) <= 2e-6 * np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))))


@dataclass(frozen=True)
class Affine:
    """``scale * value + offset``."""

    value: str
    scale: Number
    offset: Number


def affine_path(value: str, graph: Graph, scaling: bool = True) -> list[Affine]:
    """``value`` in terms of itself, of the operand of the node that makes it, and so on down,
    through constants.
    """
    path, scale, offset = [Affine(value, 1.0, 0.0)], 1.0, 0.0  # type: list[Affine], Number, Number
    while True:
        node = graph.producer.get(value)
        if node is None or node.op_type not in ("Add", "Sub", "Mul", "Div", "Neg", "Identity"):
            return path
        numbers = [graph.number(i) for i in node.input]
        dynamic = [k for k, n in enumerate(numbers) if n is None]
        if len(dynamic) != 1:
            return path
        number = sum(n for n in numbers if n is not None)
        kind, k = node.op_type, dynamic[0]
        if kind in ("Add", "Identity"):
            offset += scale * number
        elif kind == "Sub" and k == 0:
            offset -= scale * number
        elif not scaling or kind == "Div" and (k == 1 or not np.all(number)):
            return path
        elif kind == "Sub":
            offset, scale = offset + scale * number, -scale
        else:
            scale = scale / number if kind == "Div" else scale * (-1.0 if kind == "Neg" else number)
        value = node.input[k]
        path.append(Affine(value, scale, offset))


def shown(number: Number) -> str:
    """For messages."""
    values = np.asarray(number)
    if values.ndim == 0:
        return f"{number:.6g}"
    return f"{values.min():.6g}..{values.max():.6g} (of shape {list(values.shape)})"
