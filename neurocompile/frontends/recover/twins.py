"""What a file computes of one step, for every step: the value's twins.

A model may read the last step alone (``head(spikes)`` behind its loop). Lanes of all steps are one
tensor on the chip, of which the host picks a step; those that the file does not hold are entered.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from neurocompile.frontends.recover.graph import Graph

__all__ = ["Twins"]

Label = Callable[[str], "int | str | None"]
Form = tuple[object, ...]


class Twins:
    """Finds the values that are made at other steps as a value is made at its own.

    Args:
        graph: new nodes are entered into it.
        label: the step at which a value is computed; None if it depends on no spike.
        spikes: the spikes of a neuron, by step, of each of them.
    """

    def __init__(self, graph: Graph, label: Label, spikes: dict[str, tuple[str, ...]]) -> None:
        self.graph, self.label, self._spikes = graph, label, spikes
        self._known: dict[Form, str] = {}
        self._twins: dict[tuple[str, int], str | None] = {}
        for node in graph.nodes:
            for k, output in enumerate(node.output):
                self._known.setdefault(self._form(node, list(node.input), k), output)

    def of(self, value: str, steps: int) -> tuple[str, ...] | None:
        """``value`` as made at each of the ``steps``; None where it is made of several of them."""
        found = [self._at(value, t) for t in range(steps)]
        return None if None in found else tuple(v for v in found if v is not None)

    def _at(self, value: str, t: int) -> str | None:
        value = self.graph.alias(value)
        key = value, t
        if key not in self._twins:
            self._twins[key] = self._made(value, t)
        return self._twins[key]

    def _made(self, value: str, t: int) -> str | None:
        own = self.label(value)
        if own is None or own == t:
            return value
        if value in self._spikes:
            return self._spikes[value][t]
        node, picked = self.graph.producer.get(value), self.graph.step(value)
        if node is None or not isinstance(own, int):
            return None
        if picked is not None:
            index = np.asarray([t] if picked[2] else t, np.int64)
            gather = onnx.helper.make_node("Gather", [picked[0], self._constant(index)], [value])
            return self._entered(gather, 0, value)
        operands = [self._at(i, t) if i else "" for i in node.input]
        if None in operands or node.HasField("domain") and node.domain not in ("", "ai.onnx"):
            return None
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.input[:] = [o for o in operands if o is not None]
        return self._entered(twin, list(node.output).index(value), value)

    def _entered(self, node: onnx.NodeProto, index: int, like: str) -> str:
        """The output ``index`` of a node of this form, which is entered if there is none."""
        form = self._form(node, list(node.input), index)
        if form not in self._known:
            node.output[:] = [self.graph.fresh(o) if o else "" for o in node.output]
            node.name = node.output[index]
            self.graph.add(node, like=like)
            self._known[form] = node.output[index]
        return self._known[form]

    def _form(self, node: onnx.NodeProto, inputs: list[str], index: int) -> Form:
        """Equal for nodes that compute the same."""
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        operands = tuple(self._operand(self.graph.alias(i)) for i in inputs)
        return node.domain, node.op_type, tuple(attributes), operands, index

    def _operand(self, name: str) -> object:
        """A small constant by what it holds: exporters write shapes once a step."""
        array = self.graph.constants.get(name)
        if array is None or array.size > 8 or array.dtype.kind not in "ifb":
            return name
        return array.dtype.str, array.shape, array.tobytes()

    def _constant(self, array: np.ndarray) -> str:
        name = self.graph.fresh("step")
        self.graph.constants[name] = array
        self.graph.initializers[name] = numpy_helper.from_array(array, name)
        return name
