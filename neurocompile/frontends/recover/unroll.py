"""Write out what a file repeats: the steps of a ``Loop`` or ``Scan``, and a graph that holds one
step.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.graph import Graph, attributes_of, label_of, with_nodes

__all__ = ["copy_renamed", "unroll_loops"]

_LARGEST_T = 1 << 10
"""Steps that are written out."""
_LARGEST_GRAPH = 1 << 18
"""Nodes."""


def unroll_loops(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` with every step of every Loop and Scan of its graph as nodes of their own.

    A scan output becomes ``Concat(Unsqueeze(v_0, 0), Unsqueeze(v_1, 0), ...)``, the counter a
    constant.

    Raises:
        NeurocompileError: NC1009 for a loop whose number of steps depends on the data, or a Scan
            over another axis.
    """
    while any(n.op_type in ("Loop", "Scan") and not n.domain for n in proto.graph.node):
        graph = Graph(proto)
        loops = [n for n in graph.nodes if n.op_type in ("Loop", "Scan") and not n.domain]
        counts = {id(n): _count(n, graph) for n in loops}
        if all(count is None for count in counts.values()):
            raise NeurocompileError(
                "NC1009",
                f"{label_of(loops[0])}: the number of its steps must follow from the shape of the input",
            )
        unrolled = _Unrolled(proto, graph)
        for node in graph.nodes:
            count = counts.get(id(node))
            if count is None:
                unrolled.nodes.append(node)
            else:
                (unrolled.loop if node.op_type == "Loop" else unrolled.scan)(node, count)
        if len(unrolled.nodes) > _LARGEST_GRAPH:
            raise NeurocompileError(
                "NC1009",
                f"its loops written out are {len(unrolled.nodes):,} nodes, at most {_LARGEST_GRAPH:,} are supported",
            )
        proto = unrolled.model()
    return proto


def copy_renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of ``node`` that reads and writes other names; bodies too, where they read values from
    outside.
    """
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(i, i) for i in node.input]
    copy.output[:] = [names.get(o, o) for o in node.output]
    for attribute in copy.attribute:
        if attribute.type == attribute.GRAPH:
            body = attribute.g
            own = {i.name for i in body.input} | {i.name for i in body.initializer}
            own |= {o for n in body.node for o in n.output}
            outer = {k: v for k, v in names.items() if k not in own}
            inner = [copy_renamed(n, outer) for n in body.node]
            del body.node[:]
            body.node.extend(inner)
    return copy


def _count(node: onnx.NodeProto, graph: Graph) -> int | None:
    """Steps of a Loop or Scan; None if not known (yet)."""
    if node.op_type == "Loop":
        trips = graph.constants.get(node.input[0])
        count = None if trips is None or trips.size != 1 else int(trips.flat[0])
    else:
        attributes = attributes_of(node)
        axes = [*attributes.get("scan_input_axes", ()), *attributes.get("scan_output_axes", ())]
        if (
            any(axes)
            or any(attributes.get("scan_input_directions", ()))
            or any(attributes.get("scan_output_directions", ()))
        ):
            raise NeurocompileError(
                "NC1009", f"{label_of(node)}: a Scan over axis 0, forwards, is supported"
            )
        dims = [
            graph.shapes.get(i)
            for i in node.input[len(node.input) - attributes["num_scan_inputs"] :]
        ]
        count = next((d[0] for d in dims if d), None)
    if count is not None and not 1 <= count <= _LARGEST_T:
        raise NeurocompileError(
            "NC1007",
            f"{label_of(node)} runs for {count:,} steps; 1 to {_LARGEST_T:,} are written out",
        )
    return count


def _is_true(condition: np.ndarray | None) -> bool:
    """Of a loop's condition: known, one value, and true."""
    return (
        condition is not None
        and condition.dtype == bool
        and condition.size == 1
        and bool(condition.reshape(-1)[0])
    )


class _Unrolled:
    """The nodes and initializers of the new graph, while they are made."""

    def __init__(self, proto: onnx.ModelProto, graph: Graph) -> None:
        self.proto, self.graph = proto, graph
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        model = with_nodes(self.proto, self.nodes)
        model.graph.initializer.extend(self.tensors)
        return model

    def loop(self, node: onnx.NodeProto, count: int) -> None:
        body = next(a.g for a in node.attribute if a.name == "body")
        self._check_condition(node, body)
        counter, goes_on = body.input[0].name, body.input[1].name
        prefix = node.name or node.output[-1]
        states = list(node.input[2:])
        steps = []
        for t in range(count):
            given = {
                counter: self._constant(f"{prefix}.{t}.t", np.int64(t)),
                goes_on: self._constant("true", np.True_),
            }
            given |= dict(zip([i.name for i in body.input[2:]], states))
            results = self._step(body, prefix, t, given)[1:]
            states = results[: len(states)]
            steps.append(results[len(states) :])
        self._finish(node, prefix, states, steps)

    def scan(self, node: onnx.NodeProto, count: int) -> None:
        body = next(a.g for a in node.attribute if a.name == "body")
        scanned = attributes_of(node)["num_scan_inputs"]
        states, sources = (
            list(node.input[: len(node.input) - scanned]),
            node.input[len(node.input) - scanned :],
        )
        prefix = node.name or node.output[-1]
        names = [i.name for i in body.input]
        steps = []
        for t in range(count):
            index = self._constant(f"{prefix}.{t}.t", np.int64(t))
            rows = [self.graph.fresh(f"{source}.{t}") for source in sources]
            self.nodes += [
                helper.make_node("Gather", [x, index], [r], axis=0) for x, r in zip(sources, rows)
            ]
            results = self._step(body, prefix, t, dict(zip(names, [*states, *rows])))
            states = results[: len(states)]
            steps.append(results[len(states) :])
        self._finish(node, prefix, states, steps)

    def _check_condition(self, node: onnx.NodeProto, body: onnx.GraphProto) -> None:
        """A Loop that only its counter ends."""
        value, makers = body.output[0].name, {o: n for n in body.node for o in n.output}
        while value in makers and makers[value].op_type == "Identity":
            value = makers[value].input[0]
        kept = value == body.input[1].name or _is_true(self.graph.constants.get(value))
        if value in makers and makers[value].op_type == "Constant":
            kept = _is_true(numpy_helper.to_array(makers[value].attribute[0].t))
        kept |= any(
            t.name == value and _is_true(numpy_helper.to_array(t)) for t in body.initializer
        )
        first = not node.input[1] or _is_true(self.graph.constants.get(node.input[1]))
        if not (kept and first):
            raise NeurocompileError(
                "NC1009", f"{label_of(node)}: a loop that may end early is not supported"
            )

    def _constant(self, wanted: str, value: np.generic) -> str:
        name = self.graph.fresh(wanted)
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _step(self, body: onnx.GraphProto, prefix: str, t: int, given: dict[str, str]) -> list[str]:
        """Copy the body once, its inputs bound to ``given``; the names of its outputs."""
        names = dict(given)
        for tensor in body.initializer:
            names[tensor.name] = self.graph.fresh(f"{prefix}.{t}.{tensor.name}")
            self.tensors.append(onnx.TensorProto())
            self.tensors[-1].CopyFrom(tensor)
            self.tensors[-1].name = names[tensor.name]
        for node in body.node:
            names |= {o: self.graph.fresh(f"{prefix}.{t}.{o}") for o in node.output if o}
            copy = copy_renamed(node, names)
            copy.name = f"{prefix}.{t}.{node.name or node.output[0]}"
            self.nodes.append(copy)
        return [names.get(o.name, o.name) for o in body.output]

    def _finish(
        self, node: onnx.NodeProto, prefix: str, states: list[str], steps: list[list[str]]
    ) -> None:
        """The loop's outputs: its last states, and what the steps scanned, stacked."""
        self.nodes += [
            helper.make_node("Identity", [s], [o]) for s, o in zip(states, node.output) if o
        ]
        axis = (
            self._constant(f"{prefix}.axis", np.int64(0)) if len(node.output) > len(states) else ""
        )
        if axis:
            self.tensors[-1].CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), axis))
        for column, output in enumerate(node.output[len(states) :]):
            rows = [self.graph.fresh(f"{output}.{t}") for t in range(len(steps))]
            self.nodes += [
                helper.make_node("Unsqueeze", [s[column], axis], [r]) for s, r in zip(steps, rows)
            ]
            self.nodes.append(helper.make_node("Concat", rows, [output], axis=0))
