"""Recurrent layers: spikes that feed back into their own layer, one step later.

Written out over time, such a layer applies the same weights to what these weights made in a step
before. No feed-forward network does.
"""

from __future__ import annotations

import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.graph import Graph, label_of

__all__ = ["name_feedback"]

_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})


def name_feedback(error: NeurocompileError, graph: Graph) -> NeurocompileError:
    """``error``, or one that names the recurrent connection that is the reason of it."""
    node = _feedback(graph) if error.code in ("NC1003", "NC1009") else None
    if node is None:
        return error
    return NeurocompileError(
        "NC1009",
        f"{label_of(node)} is a recurrent connection: the spikes of a layer feed back into it one step later, which is "
        "not supported; a layer without its recurrent weights is",
    )


def _feedback(graph: Graph) -> onnx.NodeProto | None:
    """The first layer whose input depends on an output of the same weights."""
    bits: dict[str, int] = {}
    above: dict[str, int] = {}
    for node in graph.nodes:
        mask = 0
        for value in node.input:
            mask |= above.get(value, 0)
        if node.op_type in _WEIGHTED and len(node.input) > 1 and node.input[1] in graph.constants:
            bit = bits.setdefault(node.input[1], 1 << len(bits))
            if mask & bit:
                return node
            mask |= bit
        if mask:
            above.update((output, mask) for output in node.output)
    return None
