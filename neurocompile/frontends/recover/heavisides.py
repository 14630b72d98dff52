"""Steps that an exporter writes in two parts, at a number and beside it, as one comparison.

``torch.heaviside(v, values)`` is 0 below 0, 1 above it and ``values`` at it, and torch's exporter
writes it as that: ``Where(v == 0, values, Where(v < 0 or isnan(v), 0, 1))``. With ``values`` 1 it is
``v >= 0``, with 0 ``v > 0``.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from neurocompile.frontends.recover.graph import Graph, with_nodes
from neurocompile.frontends.recover.staircases import KNOWN, run_cone

__all__ = ["settle_heavisides"]

_MOST = 12
"""Nodes between a value and its step."""
_FAR = 1e30


def settle_heavisides(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto``, or a copy in which such steps compare once."""
    if not any(n.op_type == "Equal" for n in proto.graph.node):
        return proto
    graph = Graph(proto)
    settled, nodes = False, []
    for node in proto.graph.node:
        made = _compared(graph, node) if node.op_type == "Where" and not node.domain else None
        nodes += made or [node]
        settled = settled or made is not None
    if not settled:
        return proto
    compared = with_nodes(proto, nodes)
    return with_nodes(compared, Graph(compared).live())


def _compared(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """A comparison and a Cast that make the output of ``node``, if it is a step at a number."""
    equal = graph.producer.get(node.input[0])
    if equal is None or equal.op_type != "Equal":
        return None
    numbers = [graph.uniform.get(i) for i in equal.input]
    if (numbers[0] is None) == (numbers[1] is None):
        return None
    k = int(numbers[0] is not None)
    source, bound, level = equal.input[k], equal.input[1 - k], np.float32(numbers[1 - k] or 0.0)
    cone = _cone(graph, node, source)
    if cone is None or not np.isfinite(level):
        return None
    beside = [np.nextafter(level, np.float32(end)) for end in (-np.inf, np.inf)]
    samples = np.asarray([-_FAR, beside[0], level, beside[1], _FAR], np.float32)
    below, under, at, over, above = run_cone(source, cone, graph, samples)[node.output[0]]
    if (below, under, over, above) != (0, 0, 1, 1) or at not in (0, 1):
        return None
    name, kind = graph.fresh(f"{node.output[0]}.step"), "GreaterOrEqual" if at else "Greater"
    return [
        helper.make_node(kind, [source, bound], [name], node.name),
        helper.make_node("Cast", [name], list(node.output), to=onnx.TensorProto.FLOAT),
    ]


def _cone(graph: Graph, node: onnx.NodeProto, source: str) -> list[onnx.NodeProto] | None:
    """The nodes from ``source`` to ``node``, in order, if there are few and no other value is read."""
    found: dict[str, onnx.NodeProto] = {}
    stack = [node]
    while stack:
        n = stack.pop()
        if n.op_type not in KNOWN or n.domain or len(found) > _MOST:
            return None
        found[n.output[0]] = n
        for i in n.input:
            if i == source or i in found or graph.uniform.get(i) is not None:
                continue
            if i not in graph.producer:
                return None
            stack.append(graph.producer[i])
    return sorted(found.values(), key=lambda n: graph.order[n.output[0]])
