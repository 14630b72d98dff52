"""Weights of an ONNX file as the integers that they were trained as: a quarter of the bytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["pack_integers"]

_LEAST = 64
"""Elements of a tensor that is worth it."""
_OPSET = 10
"""That has DequantizeLinear."""


def pack_integers(model: onnx.ModelProto, steps: Iterable[float]) -> int:
    """Replace each float32 initializer that is int8 times one of ``steps`` by these integers and a
    DequantizeLinear, in place: the same values bit for bit. How many were replaced.
    """
    if not any(o.domain in ("", "ai.onnx") and o.version >= _OPSET for o in model.opset_import):
        return 0
    graph, scales, nodes = model.graph, sorted({float(s) for s in steps}, reverse=True), []
    taken = {i.name for i in graph.initializer} | {o for n in graph.node for o in n.output}
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or not tensor.dims:
            continue
        found = _integers(numpy_helper.to_array(tensor), scales)
        if found is None:
            continue
        integers, step = found
        names = [f"{tensor.name}.{end}" for end in ("int8", "step")]
        if not taken.isdisjoint(names):
            continue
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(integers, names[0]))
        graph.initializer.append(numpy_helper.from_array(np.asarray(step, np.float32), names[1]))
        nodes.append(helper.make_node("DequantizeLinear", names, [tensor.name]))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])  # readers come behind what they read
    return len(nodes)


def _integers(values: np.ndarray, scales: list[float]) -> tuple[np.ndarray, float] | None:
    """int8 and the first of ``scales`` of which ``values`` are whole multiples, exactly."""
    if values.size < _LEAST or not np.isfinite(values).all():
        return None
    largest = float(np.abs(values).max())
    for step in scales:
        if not step > 0 or largest > 127 * step:
            continue
        whole = np.rint(values / np.float32(step))
        if np.array_equal(whole * np.float32(step), values):
            return whole.astype(np.int8), step
    return None
