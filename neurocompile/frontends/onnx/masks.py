"""Minus infinity in front of a softmax: masks of attention, causal ones and those of padding."""

from __future__ import annotations

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer

__all__ = ["MASKED", "finite_mask", "only_softmaxes"]

MASKED = -1e4
"""What stands for minus infinity: its exponential is 0 in float32, as is that of what is smaller."""

_VIEWS = frozenset("Identity Reshape Transpose Unsqueeze Squeeze Expand Cast Dropout".split())


def finite_mask(im: Importer, node: onnx.NodeProto, value: np.ndarray) -> np.ndarray:
    """The summand ``value`` of ``node`` with :data:`MASKED` for what is smaller, where nothing but
    softmaxes are behind it.

    NC1009 for a row of nothing but masked positions, of which no softmax is defined.
    """
    if not value.size or not value.min() < MASKED or not only_softmaxes(im, node.output[0]):
        return value
    if value.ndim and (value < MASKED).all(-1).any():
        raise im.error("NC1009", "a mask that hides every position from one")
    return np.maximum(value, MASKED)


def only_softmaxes(im: Importer, name: str) -> bool:
    """Whether all that reads ``name`` is a softmax, views and further summands aside."""
    seen, found = {name}, False
    for node in im.graph.node:
        if not seen.intersection(node.input):
            continue
        if node.op_type == "Softmax":
            found = True
        elif node.op_type in _VIEWS or node.op_type == "Add":
            seen.update(node.output)
        else:
            return False
    return found and not seen.intersection(o.name for o in im.graph.output)
