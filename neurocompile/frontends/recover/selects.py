"""Selects from an axis that is cut from features and turned to the front: ``qkv.reshape(T, B, N, 3,
h, d).permute(3, ...)[0]``.

The recovery takes the first axis for steps or samples, so such a select goes in front of the
transposition, along the axis where its numbers lie.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.recover.graph import Graph, attributes_of, with_nodes

__all__ = ["settle_selects", "turn_steps"]

_COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_SELECTS = frozenset({"Gather", "Slice", "Split", "Squeeze"})
_KEEPS_AXES = frozenset({"Identity", "Dropout", "Cast"})


def settle_selects(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto``, or a copy in which ``Transpose(x, perm)[i]`` is ``Transpose(x[.., i, ..])`` where
    that axis is one of features.

    Only behind a neuron: in front of the first one, numbers of features may yet become steps of
        time.
    """
    turned = {
        n.output[0]
        for n in proto.graph.node
        if n.op_type == "Transpose" and list(attributes_of(n).get("perm", (0,)))[0]
    }
    if not any(
        n.op_type in ("Gather", "Slice", "Split") and n.input[0] in turned for n in proto.graph.node
    ):
        return proto
    graph = Graph(proto)
    behind = _behind_neurons(graph)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    for node in graph.nodes:
        selected = _selected(graph, node, turned & behind) if node.op_type in _SELECTS else None
        if selected is None:
            nodes.append(node)
            continue
        source, axis, index, kept = selected
        transpose = graph.producer[source]
        perm = list(attributes_of(transpose)["perm"])
        if not kept:
            perm = [p - (p > axis) for p in perm[1:]]
        name, part = graph.fresh(f"{node.output[0]}.index"), graph.fresh(f"{node.output[0]}.part")
        tensors.append(
            numpy_helper.from_array(np.asarray([index] if kept else index, np.int64), name)
        )
        nodes.append(
            helper.make_node("Gather", [transpose.input[0], name], [part], name=part, axis=axis)
        )
        nodes.append(
            helper.make_node(
                "Transpose", [part], [node.output[0]], name=node.name or node.output[0], perm=perm
            )
        )
    if not tensors:
        return proto
    settled = with_nodes(proto, nodes)
    settled.graph.initializer.extend(tensors)
    return settled


def turn_steps(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy in which steps that are selected from axis 1 of (batch, T, ...), all of them, are
    selected from axis 0 of its transposition; None if there are no such selects.
    """
    graph = Graph(proto)
    steps: dict[str, set[int]] = {}
    selects: dict[str, onnx.NodeProto] = {}
    for node in graph.nodes:
        index = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
        if (
            node.op_type == "Gather"
            and attributes_of(node).get("axis", 0) == 1
            and node.input[0] in graph.dynamic
            and index is not None
            and index.ndim == 0
        ):
            steps.setdefault(node.input[0], set()).add(int(index))
            selects[node.output[0]] = node
    sizes = {v: (graph.shapes.get(v) or [None, None])[1] for v in steps}
    whole = {
        v for v, found in steps.items() if len(found) > 1 and found == set(range(sizes[v] or 0))
    }
    if not whole:
        return None
    turned = with_nodes(proto, ())
    made: dict[str, str] = {}
    for node in graph.nodes:
        source = node.input[0] if node.output and node.output[0] in selects else ""
        if source in whole:
            rank = len(graph.shapes[source] or ())
            if source not in made:
                made[source] = graph.fresh(f"{source}.steps")
                perm = [1, 0, *range(2, rank)]
                turned.graph.node.append(
                    helper.make_node(
                        "Transpose", [source], [made[source]], name=made[source], perm=perm
                    )
                )
            select = helper.make_node(
                "Gather", [made[source], node.input[1]], node.output, name=node.name, axis=0
            )
            select.metadata_props.extend(node.metadata_props)
            turned.graph.node.append(select)
        else:
            turned.graph.node.append(node)
    return turned


def _behind_neurons(graph: Graph) -> set[str]:
    found: set[str] = set()
    for node in graph.nodes:
        if node.op_type in _COMPARISONS or node.domain == DOMAIN or found.intersection(node.input):
            found.update(node.output)
    return found


def _selected(
    graph: Graph, node: onnx.NodeProto, turned: set[str]
) -> tuple[str, int, int, bool] | None:
    """(transposed value, axis in front of the transposition, index, axis kept), of a node whose
    only output is such a select.
    """
    if len(node.output) != 1:
        return None
    step = graph.step(node.output[0])
    if step is None or step[0] not in turned:
        return None
    axis = list(attributes_of(graph.producer[step[0]])["perm"])[0]
    return (
        (step[0], axis, step[1], step[2])
        if _is_of_features(graph, graph.producer[step[0]].input[0], axis)
        else None
    )


def _is_of_features(graph: Graph, value: str, axis: int) -> bool:
    """True if ``axis`` of ``value`` is a part of one axis other than the first, which a Reshape has
    cut.
    """
    node = graph.producer.get(value)
    while node is not None and (node.op_type in _KEEPS_AXES or node.op_type == "Transpose"):
        axis = list(attributes_of(node)["perm"])[axis] if node.op_type == "Transpose" else axis
        value, node = node.input[0], graph.producer.get(node.input[0])
    if node is None or node.op_type != "Reshape":
        return False
    before, after = graph.shapes.get(node.input[0]), graph.shapes.get(value)
    if not before or not after:
        return False
    # The axes up to a known one are kept, so the rest is cut from the rest.
    kept = next(
        (k for k, (m, n) in enumerate(zip(before, after)) if m != n), min(len(before), len(after))
    )
    while kept and before[kept - 1] is None:
        kept -= 1
    if None in after[axis:]:
        return 0 < kept <= axis
    inside = prod(n for n in after[axis:] if n is not None)
    return any(
        None not in before[k:] and prod(n for n in before[k:] if n is not None) == inside
        for k in range(1, len(before))
    )
