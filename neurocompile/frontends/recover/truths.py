"""Spikes that are compared with a number again, ``spike > 0``, as the truth that they are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from neurocompile.frontends.recover.graph import Graph, with_nodes
from neurocompile.frontends.recover.staircases import run_cone

__all__ = ["settle_truths"]

_COMPARISONS = frozenset("Equal Greater GreaterOrEqual Less LessOrEqual".split())
_TRUTHS = _COMPARISONS | frozenset("And IsNaN Not Or Xor".split())


def settle_truths(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto``, or a copy in which no comparison reads 0 and 1 that a truth was cast to, where it
    tells them apart: such a comparison is that truth, or its contrary, and no neuron's.
    """
    made = {o: n for n in proto.graph.node for o in n.output}
    sources = {n.output[0]: truth for n in made.values() if (truth := _cast(n, made))}
    wanted = [
        n
        for n in proto.graph.node
        if n.op_type in _COMPARISONS and not n.domain and sources.keys() & set(n.input)
    ]
    if not wanted:
        return proto
    graph, settled = Graph(proto), {}
    for node in wanted:
        numbers = [i for i in node.input if i not in graph.uniform]
        if len(numbers) != 1 or numbers[0] not in sources:
            continue
        pair = np.asarray([0, 1], np.float32)
        low, high = run_cone(numbers[0], [node], graph, pair)[node.output[0]]
        if low != high:
            kind = "Identity" if high else "Not"
            settled[node.output[0]] = helper.make_node(
                kind, [sources[numbers[0]]], list(node.output), node.name
            )
    if not settled:
        return proto
    return with_nodes(proto, [settled.get(n.output[0], n) for n in proto.graph.node])


def _cast(node: onnx.NodeProto, made: dict[str, onnx.NodeProto]) -> str:
    """The truth that ``node`` casts to numbers, if it does."""
    source = made.get(node.input[0]) if node.op_type == "Cast" else None
    to = next((a.i for a in node.attribute if a.name == "to"), 0)
    is_truth = source is not None and source.op_type in _TRUTHS and not source.domain
    return node.input[0] if is_truth and to == onnx.TensorProto.FLOAT else ""
