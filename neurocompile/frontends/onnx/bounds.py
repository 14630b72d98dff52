"""Bounds of imported values that follow from the layers alone, and the operators that they make
no-ops: a Relu, Clip or Cast of spikes.
"""

from __future__ import annotations

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer
from neurocompile.ir import spiking as s
from neurocompile.ir.bounds import BOUNDS, INTEGRAL, Known
from neurocompile.ir.interval import Interval
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
    known = Known(im.tensors, im.shapes, quantized=False)
    found: dict[str, Bounds | None] = {}
    for node in im.nodes:
        found[node.name] = _of(known, node, [found.get(i) for i in node.inputs])
    return found.get(ref)


_FREE: frozenset[type[s.Node]] = frozenset(
    {s.LIF, s.Previous, s.Delay, s.Rearrange, s.MaxPool2d, s.TimeMean, s.Scale, s.Sum}
    | {s.SumPool2d, s.Add, s.Mul, s.MatMul}
)
"""Kinds bounded whatever weights and input are; what is known of no other kind is no bound."""


def _of(known: Known, node: s.Node, inputs: list[Bounds | None]) -> Bounds | None:
    if type(node) not in _FREE:
        return None
    given = [None if b is None else Interval(b[0], b[1]) for b in inputs]
    found = BOUNDS.of(node)(known, node, given)
    if found is None:
        return None
    whole = all(b is not None and b[2] for b in inputs)
    integer = INTEGRAL.of(node)(False, whole)
    if isinstance(node, s.Scale):  # which the compiler takes for real: its factors move
        integer = whole and float(node.factor).is_integer()
    return float(found.low), float(found.high), integer
