"""A graph under rewriting: producers, readers, constants, shapes and what depends on the input,
each found once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from neurocompile.frontends.recover.constants import Partial, evaluate
from neurocompile.ir.text import unique_name

__all__ = ["Graph", "attributes_of", "captured", "label_of", "with_nodes"]

_COMPARED: dict[str, Callable[..., Any]] = {
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
_COMPUTED: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}
_ALIAS = frozenset({"Identity", "Dropout"})


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def label_of(node: onnx.NodeProto) -> str:
    """How messages call a node."""
    return f"node '{node.name or next(filter(None, node.output), '')}' ({node.op_type})"


def captured(node: onnx.NodeProto) -> set[str]:
    """Values of the graph around ``node`` that its bodies read."""
    found: set[str] = set()
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.type == attribute.GRAPH else list(attribute.graphs)
        for body in bodies:
            own = {i.name for i in body.input} | {i.name for i in body.initializer}
            for inner in body.node:
                found |= ({i for i in inner.input if i} | captured(inner)) - own
                own |= set(inner.output)
            found |= {o.name for o in body.output} - own
    return found


class Graph:
    """An index over a model's straight-line graph (nodes in topological order).

    Attributes:
        nodes: the nodes.
        producer: node by the name of each of its outputs.
        readers: how many nodes and graph outputs read a value.
        order: position of a value's producer in ``nodes``; inputs and initializers have none.
        constants: initializers and folded values as arrays.
        partial: one-dimensional integers of which some are unknown (None), such as shapes with a
            dynamic batch.
        uniform: the one number that all elements of a value have, whatever its shape.
        vectors: constants along one axis, such as one number for each channel, float64; empty
            unless asked for.
        before: values that stand for the spikes of a neuron before the first step, and its number.
        dynamic: values that depend on the data (not only on the shape) of the input.
        shapes: inferred dimensions of a value, None where unknown.
    """

    def __init__(self, proto: onnx.ModelProto, vectors: bool = False) -> None:
        self.proto = proto
        self.suspects = False  # whether a neuron may never be reset, found while neurons are read
        self.vectors: dict[str, np.ndarray] = {}
        self._with_vectors = vectors
        self.nodes = list(proto.graph.node)
        self.outputs = [o.name for o in proto.graph.output]
        self.initializers = {t.name: t for t in proto.graph.initializer}
        self.constants: dict[str, np.ndarray] = {
            n: numpy_helper.to_array(t) for n, t in self.initializers.items()
        }
        self.inputs = [i.name for i in proto.graph.input if i.name not in self.initializers]
        self.producer = {o: n for n in self.nodes for o in n.output if o}
        self.order = {o: k for k, n in enumerate(self.nodes) for o in n.output if o}
        self.readers = Counter(i for n in self.nodes for i in (*n.input, *captured(n))) + Counter(
            self.outputs
        )
        self.partial: dict[str, Partial] = {}
        self.uniform: dict[str, float] = {}
        self.before: dict[str, int] = {}
        self.dynamic = set(self.inputs)
        for node in self.nodes:
            value = evaluate(node, self.constants, {})
            if isinstance(value, np.ndarray):
                self.constants[node.output[0]] = value
        self.shapes = inferred_shapes(proto, self.constants)
        self._taken = set(self.producer) | set(self.constants) | set(self.inputs)
        for name, array in self.constants.items():
            self._note_uniform(name, array)
        for node in self.nodes:
            self._visit(node)

    def _visit(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Shape" and node.input[0] in self.dynamic:
            self._visit_shape(node)
            return
        if self.dynamic.intersection(node.input) or self.dynamic.intersection(captured(node)):
            number = _uniform_of(node, self)
            if number is None:
                self.dynamic.update(o for o in node.output if o)
            else:
                self.uniform[node.output[0]] = number
            return
        known = self.constants.get(node.output[0]) if node.output else None
        value = evaluate(node, self.constants, self.partial) if known is None else known
        if isinstance(value, np.ndarray):
            self.constants[node.output[0]] = value
            self._note_uniform(node.output[0], value)
            return
        if value is not None:
            self.partial[node.output[0]] = value
        number = _uniform_of(node, self)
        if number is not None:
            self.uniform[node.output[0]] = number

    def _visit_shape(self, node: onnx.NodeProto) -> None:
        dims, span = self.shapes.get(node.input[0]), attributes_of(node)
        if dims is None:
            return
        dims = dims[span.get("start", 0) : span.get("end", len(dims))]
        if None in dims:
            self.partial[node.output[0]] = list(dims)
        else:
            self.constants[node.output[0]] = np.asarray(dims, np.int64)

    def _note_uniform(self, name: str, array: np.ndarray) -> None:
        if array.size and array.dtype.kind in "fiub":
            first = array.flat[0]
            if array.size == 1 or bool((array == first).all()):
                self.uniform[name] = float(first)
            elif (
                self._with_vectors
                and array.dtype.kind == "f"
                and max(array.shape) == array.size
                and np.isfinite(array).all()
            ):
                self.vectors[name] = array.astype(np.float64)

    def number(self, value: str) -> float | np.ndarray | None:
        """The number, or the numbers of the channels, that a value is whatever the data; None if it
        is no such value.
        """
        found = self.uniform.get(value)
        return self.vectors.get(value) if found is None else found

    def fresh(self, wanted: str) -> str:
        """A name that no value has yet."""
        name = unique_name(wanted, self._taken.__contains__)
        self._taken.add(name)
        return name

    def add(self, node: onnx.NodeProto, like: str) -> None:
        """Enter a node made during the rewriting; its outputs are shaped and ordered like the value
        ``like``.
        """
        for output in node.output:
            self.producer[output], self.order[output] = node, self.order.get(like, -1)
            self.shapes[output] = self.shapes.get(like)
            self.dynamic.add(output)

    def rank(self, value: str) -> int | None:
        """Number of axes, if inferred."""
        if value in self.constants:
            return self.constants[value].ndim
        dims = self.shapes.get(value)
        return None if dims is None else len(dims)

    def alias(self, value: str) -> str:
        """The value behind identities, and behind a stack of values of which one is selected again."""
        while True:
            node = self.producer.get(value)
            if node is None:
                return value
            step = self.step(value)
            if node.op_type in _ALIAS and value == node.output[0]:
                value = node.input[0]
            elif step is not None and not step[2] and (row := self._stacked(step[0], step[1])):
                value = row
            else:
                return value

    def _stacked(self, value: str, t: int) -> str | None:
        """x_t, where ``value`` is ``Concat(Unsqueeze(x_0, 0), Unsqueeze(x_1, 0), ...)`` or
        ``Unsqueeze(x_0, 0)``.
        """
        node = self.producer.get(value)
        if node is not None and node.op_type == "Concat" and attributes_of(node)["axis"] == 0:
            makers = [self.producer.get(i) for i in node.input]
            if t >= len(makers) or any(m is None or m.op_type != "Unsqueeze" for m in makers):
                return None
            node, t = makers[t], 0
        return (
            node.input[0]
            if node is not None and t == 0 and self.axes(node, "Unsqueeze") == [0]
            else None
        )

    def axes(self, node: onnx.NodeProto, op_type: str) -> list[int] | None:
        """Axes of a node of ``op_type`` with attribute or input ``axes``; None for another node or
        no axes.
        """
        if node.op_type != op_type:
            return None
        axes = attributes_of(node).get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in self.constants:
            axes = self.constants[node.input[1]].reshape(-1)
        return None if axes is None else [int(a) for a in axes]

    def step(self, value: str) -> tuple[str, int, bool] | None:
        """(X, t, kept), where ``value`` is ``X[t]`` over axis 0, the axis kept with size 1 or not."""
        node = self.producer.get(value)
        if node is None:
            return None
        if node.op_type == "Gather" and attributes_of(node).get("axis", 0) == 0:
            index = self.constants.get(node.input[1])
            if index is not None and index.size == 1 and index.ndim < 2:
                return self._counted(node.input[0], int(index.flat[0]), index.ndim == 1)
        if node.op_type == "Squeeze" and self.axes(node, "Squeeze") == [0]:
            inner = self.step(node.input[0])
            return (inner[0], inner[1], False) if inner is not None and inner[2] else None
        if node.op_type == "Slice":
            operands = [self.constants.get(i) for i in node.input[1:]]
            if all(o is not None and o.size == 1 for o in operands) and len(operands) >= 3:
                begin, end, axis, *stride = (int(o.flat[0]) for o in operands if o is not None)
                if (
                    axis == 0
                    and stride in ([], [1])
                    and (end == begin + 1 or begin == -1 and end >= 2**31 - 1)
                ):
                    return self._counted(node.input[0], begin, True)
        if node.op_type == "Split" and attributes_of(node).get("axis", 0) == 0:
            parts = self.constants.get(node.input[1]) if len(node.input) > 1 else None
            dims = self.shapes.get(node.input[0])
            equal = (
                dims is not None and dims[0] == len(node.output)
                if parts is None
                else bool((parts == 1).all())
            )
            if equal:
                return node.input[0], list(node.output).index(value), True
        return None

    def _counted(self, source: str, t: int, kept: bool) -> tuple[str, int, bool] | None:
        """A negative t counts from the end, whose place must be known."""
        dims = self.shapes.get(source)
        if t < 0:
            if not dims or dims[0] is None:
                return None
            t += dims[0]
        return source, t, kept

    def live(self) -> Iterator[onnx.NodeProto]:
        """Nodes that an output depends on."""
        wanted = set(self.outputs)
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                wanted |= captured(node)
        return (n for n in self.nodes if wanted.intersection(n.output))


def inferred_shapes(
    proto: onnx.ModelProto, constants: dict[str, np.ndarray]
) -> dict[str, list[int | None] | None]:
    """Dimensions by value name; only small constants, which may be shapes, go through inference
    with their values.
    """
    light = onnx.ModelProto(
        ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions
    )
    graph = light.graph
    graph.name = "shapes"
    graph.node.extend(
        _shape_node(n) for n in proto.graph.node if not (n.output and n.output[0] in constants)
    )
    graph.input.extend(i for i in proto.graph.input if i.name not in constants)
    for name, array in constants.items():
        if array.ndim <= 1 and array.dtype.kind in "ib":
            graph.initializer.append(numpy_helper.from_array(array, name))
        elif array.dtype.kind in "fiub":
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in proto.graph.output)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    found: dict[str, list[int | None] | None] = {}
    # What the file itself says counts where inference finds nothing.
    for value in (*inferred.value_info, *inferred.input, *inferred.output, *proto.graph.value_info):
        kind = value.type.tensor_type
        if kind.HasField("shape") and value.name not in found:
            found[value.name] = [
                d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim
            ]
    return found


def _shape_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """Itself; a Loop without scan outputs as Identity of its states, whose shapes it keeps, if it
    has one state.
    """
    body = next((a.g for a in node.attribute if a.name == "body"), None)
    states = len(node.input) - 2
    if node.op_type != "Loop" or body is None or states != len(node.output) or node.domain:
        return node
    # Split and friends cannot say "several identities", so all but the accumulator, which comes
    # last, stay unknown.
    return (
        helper.make_node("Identity", [node.input[-1]], [node.output[-1]])
        if node.output[-1]
        else node
    )


def _uniform_of(node: onnx.NodeProto, graph: Graph) -> float | None:
    """The number that every element of the node's output has, if it follows from uniform operands."""
    kind, numbers = node.op_type, [graph.uniform.get(i) for i in node.input]
    if kind in (
        "Expand",
        "Reshape",
        "Tile",
        "Unsqueeze",
        "Squeeze",
        "Identity",
        "CastLike",
        "Transpose",
        "Flatten",
    ):
        return numbers[0]
    if kind == "Cast":
        to = attributes_of(node)["to"]
        return (
            numbers[0]
            if to in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
            else None
        )
    if kind == "ConstantOfShape":
        value = attributes_of(node).get("value")
        return 0.0 if value is None else float(numpy_helper.to_array(value).flat[0])
    if kind in _COMPARED and None not in numbers:
        left, right = (np.float32(n) for n in numbers)
        return float(_COMPARED[kind](left, right))
    if kind == "Not" and numbers[0] is not None:
        return float(not numbers[0])
    if kind == "Where" and numbers[0] is not None:
        return numbers[1] if numbers[0] else numbers[2]
    if kind == "Mul" and 0.0 in numbers:
        return 0.0
    if kind == "Sub" and node.input[0] == node.input[1]:
        return 0.0
    if kind in _COMPUTED and None not in numbers:
        left, right = (np.float32(n) for n in numbers)
        with np.errstate(all="ignore"):
            return float(_COMPUTED[kind](left, right))
    return None


def with_nodes(proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> onnx.ModelProto:
    """A copy of a model whose graph has ``nodes`` in place of its own."""
    nodes = list(nodes)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
