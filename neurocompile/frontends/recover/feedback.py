"""Recurrent layers: spikes that feed back into their own layer, one step later.

Written out over time, the current of step t holds what weights make of the spikes of step t - 1. At
t = 0 there are none, and exporters write nothing, a bias, or zeros there. So the first current is
made anew, from that of step 1 with everything one step earlier: the spikes of step 0 become those
*before* it, which are 0. Then all steps are made alike, and ``Previous`` (:mod:`neurocompile.frontends.onnx.general`) stands for the spikes
of the step before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.graph import Graph, captured, label_of

if TYPE_CHECKING:
    from neurocompile.frontends.recover.forms import Neuron

__all__ = ["Earlier", "name_feedback", "with_feedback"]

_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})


class Earlier:
    """Values of one step earlier."""

    def __init__(self, graph: Graph, spikes: Sequence[Sequence[str]]) -> None:
        """``spikes``: of each neuron, by step."""
        self.graph, self.spikes = graph, spikes
        self._place = {v: (k, t) for k, lanes in enumerate(spikes) for t, v in enumerate(lanes)}
        self._known: dict[str, str] = {}
        self._reads: dict[int, set[int]] = {}
        self._nodes: dict[tuple[object, ...], onnx.NodeProto] | None = None
        self._selected = {}
        for value in graph.producer:
            step = graph.step(value)
            if step is not None:
                self._selected[step] = value

    def feeds_back(self, neuron: int, current: str) -> bool:
        """Whether ``current``, of step 1 of a neuron, holds its own spikes of step 0.

        Those of layers in front of it are delayed, no more. Raises NC1009 where it holds those of a
        layer behind it.
        """
        found = {self._place[v] for v in self._cone(current) if v in self._place}
        late = sorted(k for k, t in found if t == 0)
        others = [k for k in late if k != neuron and neuron in self._in_front(k)]
        if others:
            raise NeurocompileError(
                "NC1009",
                f"{label_of(self.graph.producer[self.spikes[neuron][1]])} reads the spikes of another layer, "
                f"{label_of(self.graph.producer[self.spikes[others[0]][0]])}, one step later; only a layer's own "
                "spikes feed back",
            )
        return neuron in late

    def _in_front(self, neuron: int) -> set[int]:
        """The layers whose spikes of one step reach ``neuron`` in that step."""
        seen, stack = {neuron}, [neuron]
        while stack:
            at = stack.pop()
            if at not in self._reads:
                node = self.graph.producer[self.spikes[at][1]]
                cone = {v for i in node.input for v in self._cone(i)}
                places = (self._place[v] for v in cone if v in self._place)
                self._reads[at] = {k for k, t in places if t == 1}
            fresh = self._reads[at] - seen
            seen |= fresh
            stack += fresh
        return seen - {neuron}

    def value(self, value: str) -> str:
        """``value``, of step 1, one step earlier."""
        for place in self._cone(value):
            if place not in self._known:
                self._known[place] = self._moved(place)
        return self._known[value]

    def _cone(self, value: str) -> list[str]:
        """What makes ``value``, down to spikes and steps of inputs, each behind what it reads."""
        found: dict[str, None] = {}
        stack = [(value, False)]
        while stack:
            place, done = stack.pop()
            if place in found:
                continue
            node = self.graph.producer.get(place)
            end = place in self._place or self.graph.step(place) is not None
            if done or end or node is None:
                found[place] = None
                continue
            stack.append((place, True))
            stack += [(i, False) for i in node.input if i in self.graph.dynamic]
        return list(found)

    def _moved(self, value: str) -> str:
        graph = self.graph
        if value in self._place:
            neuron, t = self._place[value]
            return self.spikes[neuron][t - 1] if t else self._before(neuron)
        step = graph.step(value)
        if step is not None:
            return self._selected.get((step[0], step[1] - 1, step[2]), value)
        node = graph.producer.get(value)
        if node is None or value not in graph.dynamic or captured(node):
            return value
        inputs = [self._known.get(i, i) for i in node.input]
        if inputs == list(node.input):
            return value
        return self._made(node, inputs, value)

    def _before(self, neuron: int) -> str:
        """The neuron's spikes before the first step."""
        like = self.spikes[neuron][0]
        for name, k in self.graph.before.items():
            if k == neuron:
                return name
        name = self.graph.fresh(f"{like}.before")
        self.graph.before[name] = neuron
        self.graph.dynamic.add(name)
        self.graph.shapes[name] = self.graph.shapes.get(like)
        return name

    def _made(self, node: onnx.NodeProto, inputs: list[str], value: str) -> str:
        """The output of a node like ``node`` of other inputs, a new one if there is none."""
        graph, index = self.graph, list(node.output).index(value)
        if self._nodes is None:
            self._nodes = {_key(n, list(n.input)): n for n in reversed(graph.nodes)}
        found = self._nodes.get(_key(node, inputs))
        if found is None or len(found.output) != len(node.output):
            found = onnx.NodeProto()
            found.CopyFrom(node)
            found.input[:] = inputs
            found.output[:] = [graph.fresh(f"{o}.earlier") if o else "" for o in node.output]
            found.name = graph.fresh(f"{node.name or node.output[0]}.earlier")
            graph.add(found, like=value)
            graph.shapes.update((n, graph.shapes.get(o)) for o, n in zip(node.output, found.output))
            self._nodes[_key(node, inputs)] = found
        return found.output[index]


def _key(node: onnx.NodeProto, inputs: list[str]) -> tuple[object, ...]:
    attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
    return node.domain, node.op_type, tuple(attributes), tuple(inputs)


def with_feedback(graph: Graph, neurons: list[Neuron]) -> list[Neuron]:
    """The neurons, the first currents of those whose spikes feed back made like the others."""
    earlier, found = Earlier(graph, [n.spikes for n in neurons]), []
    for k, neuron in enumerate(neurons):
        if len(neuron.spikes) > 1 and earlier.feeds_back(k, neuron.currents[1]):
            first = earlier.value(neuron.currents[1])
            neuron = replace(neuron, currents=(first, *neuron.currents[1:]))
        found.append(neuron)
    return found


def name_feedback(error: NeurocompileError, graph: Graph) -> NeurocompileError:
    """``error``, or one that names the recurrent connection that may be the reason of it."""
    node = _feedback(graph) if error.code in ("NC1003", "NC1009") else None
    if node is None:
        return error
    return NeurocompileError(
        "NC1009",
        f"{label_of(node)} is a recurrent connection, and this one is not supported: {error.message}. Spikes of the "
        "step before may feed back into their own layer, through linear layers and sums, from zeros at first",
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
