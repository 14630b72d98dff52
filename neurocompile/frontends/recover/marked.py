"""Files of our own exporter in which neurons are called once a step: roll time up, as for the files
of others.

The node ``ai.neurocompile::Step`` exists only in between: it stands for call ``index`` of the
neuron ``path``.
"""

from __future__ import annotations

import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx import lif as onnx_lif
from neurocompile.frontends.onnx.recover import rolled
from neurocompile.frontends.recover.feedback import name_feedback, with_feedback
from neurocompile.frontends.recover.forms import Neuron
from neurocompile.frontends.recover.graph import Graph, attributes_of
from neurocompile.frontends.recover.selects import settle_selects

__all__ = ["roll_marked"]


def roll_marked(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` with one LIF node in place of all Step nodes of a neuron.

    Raises:
        NeurocompileError: NC1003 for what treats steps differently; NC1013 for a step whose spikes
            nothing reads.
    """
    proto = settle_selects(proto)
    graph = Graph(proto)
    calls: dict[str, dict[int, onnx.NodeProto]] = {}
    for node in graph.nodes:
        if node.domain == onnx_lif.DOMAIN and node.op_type in onnx_lif.STEPS:
            attributes = attributes_of(node)
            calls.setdefault(attributes["path"].decode(), {})[attributes["index"]] = node
    neurons = []
    for path, nodes in calls.items():
        count = max(nodes) + 1
        gone = [t for t in range(count) if t not in nodes]
        if gone:
            raise NeurocompileError(
                "NC1013",
                f"neuron '{path}' is called {count} times, and what it gives at step {gone[0]} is not used",
            )
        steps = [nodes[t] for t in range(count)]
        attributes = {k: v for k, v in attributes_of(steps[0]).items() if k in onnx_lif.ATTRIBUTES}
        neurons.append(
            Neuron(
                path,
                attributes,
                tuple(n.input[0] for n in steps),
                tuple(n.output[0] for n in steps),
                False,
                True,
                tau=steps[0].input[1] if len(steps[0].input) > 1 else "",
                kind=onnx_lif.STEPS[steps[0].op_type],
            )
        )
    try:
        return rolled(proto, graph, with_feedback(graph, neurons))
    except NeurocompileError as error:
        named = name_feedback(error, graph)
        if named is error:
            raise
        raise named from error
