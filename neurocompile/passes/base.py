"""What a pass is: a frozen dataclass with a name that maps a graph to a graph, with what it requires
of the one and ensures of the other, checked whenever it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.ir.rules import Rule, raise_broken, unmet
from neurocompile.ir.spiking import Node, SpikingGraph
from neurocompile.ir.spiking_rules import check_spiking
from neurocompile.ir.text import Ref, TensorRef, unique_name

__all__ = ["CircuitPass", "Pass", "Rewriter", "SpikingPass"]


Graph = SpikingGraph | CircuitGraph
Made = TypeVar("Made", SpikingGraph, CircuitGraph)
Taken = TypeVar("Taken", SpikingGraph, CircuitGraph)


@dataclass(frozen=True)
class Pass(Generic[Taken, Made]):
    """A pass from one graph to another. Calling it checks :attr:`requires`, runs :meth:`apply`, and
    checks the result by the rules of its stage and :attr:`ensures`, always.
    """

    name: ClassVar[str]
    takes: ClassVar[type[Graph]]
    """The kind of graph that it takes."""
    requires: ClassVar[tuple[Rule, ...]] = ()
    """Of the graph that it takes; NC2014 otherwise, with the pass that ensures what is missing."""
    ensures: ClassVar[tuple[Rule, ...]] = ()
    """Of the graph that it makes, beside the rules of its stage; NC2004 otherwise."""

    def apply(self, graph: Taken) -> Made:
        """The transformed graph."""
        raise NotImplementedError

    def __call__(self, graph: Taken) -> Made:
        self.check_required(graph)
        result = self.apply(graph)
        if isinstance(result, SpikingGraph):
            check_spiking(result, self.name)
        else:
            check_circuit(result, self.name)
        promised = [f"{why} (rule: {rule.text})" for rule, why in unmet(self.ensures, result)]
        raise_broken(promised, self.name)
        return result

    def check_required(self, graph: Any) -> None:
        """NC2014 unless ``graph`` is what the pass requires."""
        if not isinstance(graph, self.takes):
            raise NeurocompileError(
                "NC2014",
                f"pass '{self.name}' takes a {self.takes.__name__}, this is a "
                f"{type(graph).__name__}; {_who_makes(self.takes)}",
            )
        for rule, why in unmet(self.requires, graph):
            first = [one.name for one in _all_passes() if rule in vars(one).get("ensures", ())]
            advice = f"; run {' or '.join(first)} before it" if first else ""
            raise NeurocompileError(
                "NC2014", f"pass '{self.name}' requires that {rule.text}: {why}{advice}"
            )


class SpikingPass(Pass[SpikingGraph, SpikingGraph]):
    """A pass over SpikingGraphs."""

    takes = SpikingGraph


class CircuitPass(Pass[CircuitGraph, CircuitGraph]):
    """A pass over CircuitGraphs."""

    takes = CircuitGraph


def _all_passes(of: type[Pass[Any, Any]] = Pass) -> Iterator[type[Pass[Any, Any]]]:
    """Every kind of pass that is defined so far."""
    for kind in of.__subclasses__():
        if hasattr(kind, "name"):
            yield kind
        yield from _all_passes(kind)


def _who_makes(graph: type[Graph]) -> str:
    return "lower makes one" if graph is CircuitGraph else "it comes before lower"


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
        self.tensors[name] = np.asarray(value)
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
