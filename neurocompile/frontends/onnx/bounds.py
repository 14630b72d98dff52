"""Bounds of imported values that follow from the layers alone, and the operators that they make
no-ops: a Relu, Clip or Cast of spikes.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref

__all__ = ["bounds_of", "changes_nothing"]

_CUTS = ("Relu", "Clip", "LeakyRelu", "Abs")
_TYPES = onnx.TensorProto
_INTEGERS = (_TYPES.INT8, _TYPES.INT16, _TYPES.INT32, _TYPES.INT64, _TYPES.UINT8, _TYPES.BOOL)
_LARGEST = {_TYPES.BOOL: 1, _TYPES.INT8: 127, _TYPES.UINT8: 255, _TYPES.INT16: 32767}

Bounds = tuple[float, float, bool]
"""Smallest and largest value, and whether all are integers."""


def changes_nothing(im: Importer, node: onnx.NodeProto) -> bool:
    """Whether ``node``, a Relu, Clip, Abs or Cast of a signal, gives what it takes."""
    x = im.traced.get(node.input[0]) if node.input else None
    found = None if x is None else bounds_of(im, x.ref)
    if found is None:
        return False
    low, high, integer = found
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Cast":
        kind = attributes.get("to")
        return kind in _INTEGERS and integer and 0 <= low and high <= _LARGEST.get(kind, 1 << 31)
    if node.op_type == "Clip":
        ends = [attributes.get("min"), attributes.get("max")]
        for i in (1, 2):
            if len(node.input) > i and node.input[i]:
                given = im.constants.get(node.input[i])
                if given is None or given.size != 1:
                    return False
                ends[i - 1] = float(given.reshape(-1)[0])
        least = -np.inf if ends[0] is None else ends[0]
        most = np.inf if ends[1] is None else ends[1]
        return least <= low and high <= most
    return node.op_type in _CUTS and low >= 0


def bounds_of(im: Importer, ref: Ref) -> Bounds | None:
    """Bounds of the value ``ref``; None where they depend on weights or on the input."""
    known: dict[str, Bounds | None] = {}
    for node in im.nodes:
        x = [known.get(i) for i in node.inputs]
        known[node.name] = _of(node, x, [im.shapes[i] for i in node.inputs])
    return known.get(ref)


def _of(node: s.Node, x: list[Bounds | None], shapes: list[tuple[int, ...]]) -> Bounds | None:
    if isinstance(node, (s.LIF, s.Previous)):
        return 0.0, float(node.levels), True
    if not x or any(b is None for b in x):
        return None
    low, high, integer = x[0]  # type: ignore[misc]
    if isinstance(node, (s.Rearrange, s.MaxPool2d)):
        return low, high, integer
    if isinstance(node, s.TimeMean):
        return low, high, False
    if isinstance(node, s.Scale):
        ends = sorted((low * node.factor, high * node.factor))
        return ends[0], ends[1], integer and float(node.factor).is_integer()
    if isinstance(node, (s.Sum, s.SumPool2d)):
        terms = (
            prod(node.kernel)
            if isinstance(node, s.SumPool2d)
            else prod(shapes[0][i] for i in node.axes)
        )
        return terms * min(low, 0.0), terms * max(high, 0.0), integer
    if isinstance(node, (s.Add, s.Mul, s.MatMul)):
        other = x[1]
        assert other is not None
        both = integer and other[2]
        if isinstance(node, s.Add):
            return low + other[0], high + other[1], both
        corners = [a * b for a in (low, high) for b in other[:2]]
        terms = shapes[0][-1] if isinstance(node, s.MatMul) else 1
        return terms * min(corners), terms * max(corners), both
    return None
