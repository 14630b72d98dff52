"""Neurons without a memory beside others: numbers of spikes that each step makes of its own value.

``round(clamp(v, 0, 4))`` runs over no steps, so it may stand on any layout of time and samples:
over (T, B, ...), over (T B, ...), or once in each step of a loop. It becomes a SoftLIF with tau 1
there where it stands.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.general import SOFT_TYPE
from neurocompile.frontends.onnx.lif import DOMAIN, VERSION, lif_functions
from neurocompile.frontends.recover.graph import Graph, captured, with_nodes
from neurocompile.frontends.recover.names import neuron_names
from neurocompile.frontends.recover.staircases import Staircase, find_staircases
from neurocompile.frontends.recover.values import constant

__all__ = ["count_each_step", "with_pointwise"]

_ROUNDING = frozenset({"Ceil", "Floor", "Round", "Sign"})


def count_each_step(stairs: Staircase, name: str, graph: Graph) -> list[onnx.NodeProto]:
    """Make the nodes of a count without memory, and enter them in the graph."""
    inputs = [
        stairs.source,
        constant("tau", 1.0, graph),
        constant("thresholds", np.asarray(stairs.thresholds), graph),
    ]
    counted = graph.fresh(f"{name}.count") if stairs.below else stairs.value
    nodes = [
        helper.make_node(
            SOFT_TYPE, inputs, [counted], name=name, domain=DOMAIN, subtract=0.0, decay_input=0
        )
    ]
    if stairs.below:
        below = constant("below", float(stairs.below), graph)
        nodes.append(helper.make_node("Sub", [counted, below], [stairs.value], name=counted))
    for node in nodes:
        graph.add(node, like=stairs.value)
    return nodes


def with_pointwise(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A file that has neurons of ours, with the counts beside them written as neurons as well; it
    comes back as it is if it has none.
    """
    if not any(node.op_type in _ROUNDING for node in proto.graph.node):
        return proto
    try:
        return _with_pointwise(proto)
    except NeurocompileError:
        raise
    # attributes and operands that the ONNX checker lets pass are of any type and number
    except Exception as error:
        raise NeurocompileError(
            "NC1009",
            f"no numbers of spikes could be read from the file: {type(error).__name__}: {str(error)[:160]}",
        ) from error


def _with_pointwise(proto: onnx.ModelProto) -> onnx.ModelProto:
    graph = Graph(proto)
    found = find_staircases(graph)
    if not found:
        return proto
    makers = [graph.producer[stairs.value] for stairs in found]
    names = neuron_names([[maker] for maker in makers], graph)
    known = set(graph.initializers)
    made = {
        id(maker): count_each_step(stairs, name, graph)
        for maker, stairs, name in zip(makers, found, names)
    }
    nodes = [new for node in graph.nodes for new in made.get(id(node), [node])]
    copy = with_nodes(proto, _live(nodes, graph.outputs))
    copy.graph.initializer.extend(
        tensor for name, tensor in graph.initializers.items() if name not in known
    )
    own = {(f.domain, f.name) for f in copy.functions}
    opset = next(o.version for o in copy.opset_import if o.domain in ("", "ai.onnx"))
    copy.functions.extend(
        f for f in lif_functions(copy.graph.node, opset) if (f.domain, f.name) not in own
    )
    if all(o.domain != DOMAIN for o in copy.opset_import):
        copy.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        copy.ir_version = max(copy.ir_version, 8)  # functions of a model
    onnx.checker.check_model(copy)
    return copy


def _live(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """What the outputs need, in order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(captured(node))
            kept.append(node)
    return kept[::-1]
