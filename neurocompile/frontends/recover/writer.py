"""A new graph of a file: nodes in order, initializers, names that are free."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from neurocompile.frontends.recover.graph import Graph

__all__ = ["Writer"]


class Writer:
    """Makes nodes after those of ``graph``.

    Attributes:
        nodes: made so far, in topological order.
        tensors: initializers that they read, by name.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self._taken, self._node_names = set(graph.inputs), {""}

    def constant(self, wanted: str, value: np.ndarray | np.generic) -> str:
        """An initializer; one of the same name and value is used again."""
        array, name, count = np.asarray(value), wanted, 1
        while name in self._taken:
            if name in self.tensors and _same_array(
                numpy_helper.to_array(self.tensors[name]), array
            ):
                return name
            count += 1
            name = f"{wanted}.{count}"
        self._taken.add(name)
        original = self.graph.initializers.get(name)
        self.tensors[name] = (
            original if original is not None else numpy_helper.from_array(array, name)
        )
        return name

    def emit(self, op_type: str, inputs: list[str], like: str, **fields: Any) -> str:
        """A new node, named after the value ``like``."""
        node = helper.make_node(op_type, inputs, [like], **{"name": f"{like}.{op_type}", **fields})
        self.register(node)
        return node.output[0]

    def register(self, node: onnx.NodeProto) -> None:
        """Append ``node``; its outputs get other names where theirs are taken."""
        for k, output in enumerate(node.output):
            if output:
                name, count = output, 1
                while name in self._taken:
                    count += 1
                    name = f"{output}.{count}"
                self._taken.add(name)
                node.output[k] = name
        if node.name in self._node_names:
            node.name = f"{node.output[0]}.{node.op_type}"
        self._node_names.add(node.name)
        self.nodes.append(node)


def _same_array(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal in type, shape and value."""
    return left.dtype == right.dtype and np.array_equal(left, right)
