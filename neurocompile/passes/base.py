"""What a pass is: a frozen dataclass with a name that maps a graph to a graph and is checked when
it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from neurocompile.ir.spiking import Node, SpikingGraph
from neurocompile.ir.spiking_rules import check_spiking
from neurocompile.ir.text import Ref, TensorRef, unique_name

__all__ = ["Rewriter", "SpikingPass"]


@dataclass(frozen=True)
class SpikingPass:
    """A pass over SpikingGraphs. Calling it runs :meth:`apply` and checks the rules of the result's
    stage.
    """

    name: ClassVar[str]

    def apply(self, graph: SpikingGraph) -> SpikingGraph:
        """The transformed graph."""
        raise NotImplementedError

    def __call__(self, graph: SpikingGraph) -> SpikingGraph:
        result = self.apply(graph)
        check_spiking(result, self.name)
        return result


class Rewriter:
    """Builds the new graph of a pass: nodes in order, uses of replaced values renamed."""

    def __init__(self, graph: SpikingGraph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.tensors: dict[str, np.ndarray] = dict(graph.tensors)
        self._renamed: dict[str, str] = {}
        self._taken = {n.name for n in graph.nodes}

    def resolve(self, ref: Ref) -> Ref:
        """What ``ref`` of the old graph is called now."""
        return Ref(self._renamed.get(ref, ref))

    def resolved(self, node: Node) -> Node:
        """``node`` with its inputs renamed."""
        changes = {
            f.name: self.resolve(value)
            for f in fields(node)
            if isinstance(value := getattr(node, f.name), Ref)
        }
        return replace(node, **changes) if changes else node

    def emit(self, node: Node) -> Ref:
        """Append ``node`` as it is."""
        self.nodes.append(node)
        return Ref(node.name)

    def forward(self, old: Node, new: Ref) -> None:
        """Uses of ``old`` read ``new`` instead."""
        self._renamed[old.name] = new

    def fresh(self, wanted: str) -> str:
        """A name nobody has."""
        name = unique_name(wanted, self._taken.__contains__)
        self._taken.add(name)
        return name

    def tensor(self, name: str, value: np.ndarray) -> TensorRef:
        """Add a tensor (names are unique: an equal one is shared, a different one gets a suffix)."""
        name = unique_name(
            name, lambda n: n in self.tensors and not np.array_equal(self.tensors[n], value)
        )
        self.tensors[name] = value
        return TensorRef(name)

    def finish(self, **changes: object) -> SpikingGraph:
        """The new graph, without nodes that the output does not need and tensors that nobody reads."""
        needed: set[str] = set()
        for node in reversed(self.nodes):
            if node.name in needed or type(node).__name__ in ("Input", "Output"):
                needed.update((node.name, *node.inputs))
        nodes = tuple(n for n in self.nodes if n.name in needed)
        used = {t for n in nodes for t in n.tensors}
        tensors: Mapping[str, np.ndarray] = {k: v for k, v in self.tensors.items() if k in used}
        return self.graph.replace(nodes=nodes, tensors=tensors, **changes)
