"""What a file computes twice, once.

Two neurons of one kind that read one value are the same neuron. TorchScript's exporter merges what
their first steps compute, but not comparisons that stand in two modules, and nothing behind those:
a chain of steps then begins once and goes on twice.
"""

from __future__ import annotations

from math import prod

import onnx
from onnx import helper, numpy_helper

from neurocompile.frontends.recover.graph import with_nodes

__all__ = ["merged"]

_DRAWN = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_SMALL = 8
"""Initializers of so few elements are told apart by what they hold."""


def merged(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """A model in which every value is computed once, under the name of its first node; None where
    it is ``proto`` itself. Nodes that draw numbers stay, and all of them where a node has a body,
    which reads values by name.
    """
    if any(a.type in (a.GRAPH, a.GRAPHS) for node in proto.graph.node for a in node.attribute):
        return None
    graph = proto.graph
    same: dict[str, str] = {}
    known: dict[tuple[object, ...], onnx.NodeProto] = {}
    held = {t.name: _content(t) for t in graph.initializer if prod(t.dims) <= _SMALL}
    outputs, kept = {o.name for o in graph.output}, []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [same.get(i, i) for i in node.input]
        if node.op_type not in _DRAWN:
            attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
            operands = tuple(held.get(i, i) for i in copy.input)
            form = (node.domain, node.op_type, *attributes, operands, len(node.output))
            first = known.setdefault(form, copy)
            if first is not copy and all(map(bool, first.output)):
                same |= dict(zip(node.output, first.output))
                kept += [
                    helper.make_node("Identity", [same[o]], [o], name=node.name)
                    for o in node.output
                    if o in outputs
                ]
                continue
        kept.append(copy)
    if not same:
        return None
    return with_nodes(proto, kept)


def _content(tensor: onnx.TensorProto) -> tuple[object, ...]:
    array = numpy_helper.to_array(tensor)
    return array.dtype.str, array.shape, array.tobytes()
