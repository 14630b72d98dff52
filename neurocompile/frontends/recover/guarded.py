"""Functions that an exporter writes beside a branch for large inputs, where both say the same.

torch writes ``softplus(x) = x where beta x > 20 else log(1 + exp(beta x)) / beta``, and its exporter
both branches and the comparison, which is no neuron's.
"""

from __future__ import annotations

import onnx
from onnx import helper

from neurocompile.frontends.recover.graph import Graph

__all__ = ["settle_guarded"]

_LEAST = 15.0
"""From here on x and log(1 + exp(x)) are within float32's rounding."""


def settle_guarded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto``, or a copy in which a guarded softplus is its branch of small inputs."""
    if not any(n.op_type == "Softplus" for n in proto.graph.node):
        return proto
    graph = Graph(proto)
    settled = onnx.ModelProto()
    settled.CopyFrom(proto)
    found = False
    for node in settled.graph.node:
        if node.op_type == "Where" and _guards(graph, *node.input):
            small = helper.make_node("Identity", [node.input[2]], list(node.output), node.name)
            node.CopyFrom(small)
            found = True
    return settled if found else proto


def _guards(graph: Graph, condition: str, large: str, small: str) -> bool:
    """Whether the branches of a Where are x and softplus(x), and large x take the former."""
    compared, soft = graph.producer.get(condition), graph.producer.get(small)
    if compared is None or soft is None or compared.op_type != "Greater":
        return False
    value, level = compared.input[0], graph.uniform.get(compared.input[1])
    if level is None or level < _LEAST:
        return False
    if soft.op_type == "Softplus":
        return soft.input[0] == value == large
    inner, scaled = graph.producer.get(soft.input[0]), graph.producer.get(value)
    if soft.op_type != "Div" or inner is None or scaled is None or scaled.op_type != "Mul":
        return False
    betas = [graph.uniform.get(i) for i in scaled.input if i != large]
    beta = graph.uniform.get(soft.input[1])
    found = inner.op_type == "Softplus" and inner.input[0] == value and large in scaled.input
    return found and beta is not None and beta > 0 and betas == [beta]
