"""Where values of single steps come together again: stacked, concatenated, written into rows,
averaged, or added up with a weight for each step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.forms import Neuron
from neurocompile.frontends.recover.graph import Graph, attributes_of, label_of
from neurocompile.frontends.recover.recurrences import find_recurrence
from neurocompile.frontends.recover.values import constant

__all__ = ["Join", "Joins", "Spikes"]

_WHOLE = "whole"
_LINEAR = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean", "Identity"})
_LAYOUT = frozenset({"Reshape", "Expand", "Unsqueeze", "Squeeze", "Identity"})


@dataclass(frozen=True)
class Spikes:
    """Lanes that are the spikes of one neuron, 1 - them if ``inverted``, cast to the ONNX type
    ``to``; those of the step before if ``before``.
    """

    neuron: int
    inverted: bool
    to: int
    before: bool = False


@dataclass(frozen=True)
class Join:
    """A value that is made of one lane a step."""

    form: str
    """"steps": the lanes stacked along a new axis; "rows": concatenated along axis 0; "mean":
    averaged; "weighted": added up, each times its weight.
    """
    lanes: tuple[str, ...]
    axis: int = 0
    """The new axis."""
    factor: float = 1.0
    """What the mean is multiplied by."""
    extras: tuple[tuple[str, float], ...] = ()
    """Further summands and their factors."""
    weights: tuple[np.ndarray, ...] = ()
    """Of "weighted": what each lane is multiplied by, one number or an array that fits a lane."""


class Joins:
    """Knows of every value at which step it is computed, and finds the joins."""

    def __init__(self, graph: Graph, neurons: list[Neuron]) -> None:
        self.graph = graph
        self.count = len(neurons[0].spikes)
        self._lanes = [n.spikes for n in neurons]
        self._kind = {
            v: TensorProto.FLOAT if n.floating else TensorProto.BOOL
            for n in neurons
            for v in n.spikes
        }
        self._spike = {
            v: (k, t, n.inverted) for k, n in enumerate(neurons) for t, v in enumerate(n.spikes)
        }
        for value, k in graph.before.items():
            self._spike[value] = k, -1, neurons[k].inverted
            self._kind[value] = self._kind[neurons[k].spikes[0]]
        self._labels: dict[str, int | str | None] = {}
        self._mixes: set[str] = set()
        for node in graph.nodes:
            for output in node.output:
                self.label(output)

    def label(self, value: str) -> int | str | None:
        """The step at which a value is computed; "whole" if it depends on several, None if on no
        spike.
        """
        if value not in self._labels:
            self._labels[value] = self._label(value)
        return self._labels[value]

    def _label(self, value: str) -> int | str | None:
        if value in self._spike:
            return max(self._spike[value][1], 0)
        node = self.graph.producer.get(value)
        if node is None or value not in self.graph.dynamic:
            return None
        alias = self.graph.alias(value)
        if alias != value:
            return self.label(alias)
        step = self.graph.step(value)
        if step is not None and self.label(step[0]) == _WHOLE:
            return step[1]
        if self.count == 1 and self._stacks_one(node):
            return _WHOLE
        found = {self.label(i) for i in node.input if i} - {None}
        if len(found) < 2:
            if (
                found == {_WHOLE}
                and node.op_type in _LINEAR
                and any(map(self._partial, node.input))
            ):
                self._mixes.add(value)  # a sum that goes on
            return next(iter(found), None)
        if node.op_type in _LINEAR and self.count > 1:
            self._mixes.add(value)
        return _WHOLE

    def _partial(self, value: str) -> bool:
        """Whether ``value`` adds up some steps, and not all."""
        value = self.graph.alias(value)
        if value not in self._mixes and not self._deeper_mix(value):
            return False
        steps = {self.label(v) for v in self._weights(value)}
        return not steps.issuperset(range(self.count))

    def _stacks_one(self, node: onnx.NodeProto) -> bool:
        """Makes the time axis of a single step."""
        if node.op_type == "ScatterND":
            return self.label(node.input[2]) == 0
        front = self.graph.axes(node, "Unsqueeze") == [0] or self._reshaped_in_front(node)
        return front and self.label(node.input[0]) == 0

    def _reshaped_in_front(self, node: onnx.NodeProto) -> bool:
        """A Reshape of (B, ...) to (1, B, ...)."""
        if node.op_type != "Reshape":
            return False
        target, dims = self.graph.constants.get(node.input[1]), self.graph.shapes.get(node.input[0])
        if target is None or not target.size or not dims or None in dims[1:]:
            return False
        front, *own = (int(size) for size in target.reshape(-1))
        return front == 1 and own[1:] == dims[1:] and own[:1] in ([-1], [dims[0]])

    def spikes(self, lanes: tuple[str, ...]) -> Spikes | None:
        """The neuron whose spikes the lanes are, in order."""
        found = [self.spikes_of(v) for v in lanes]
        first = found[0]
        if first is None or first[1] > 0:
            return None
        for neuron in dict.fromkeys(f[0] for f in found if f is not None):
            same = (
                f is not None
                and f[1:] == (t + first[1], *first[2:])
                and (f[0] == neuron or f[1] >= 0 and self._shared(f[0], neuron, f[1]))
                for t, f in enumerate(found)
            )
            if all(same):
                return Spikes(neuron, first[2], first[3], first[1] < 0)
        return None

    def _shared(self, neuron: int, other: int, t: int) -> bool:
        """Whether two neurons have one value for their spikes at ``t``."""
        return self._lanes[neuron][t] == self._lanes[other][t]

    def spikes_of(self, value: str) -> tuple[int, int, bool, int] | None:
        """(neuron, t, inverted, type) of a value that says whether the neuron fires at t."""
        if value in self._spike:
            neuron, t, inverted = self._spike[value]
            return neuron, t, inverted, self._kind[value]
        node = self.graph.producer.get(value)
        if node is None:
            return None
        if node.op_type in ("Cast", "Identity", "CastLike", "Not"):
            inner = self.spikes_of(node.input[0])
            if inner is None:
                return None
            to = {
                "Cast": attributes_of(node).get("to", inner[3]),
                "CastLike": TensorProto.FLOAT,
            }.get(node.op_type, inner[3])
            return inner[0], inner[1], inner[2] != (node.op_type == "Not"), to
        numbers = [self.graph.uniform.get(i) for i in node.input]
        if node.op_type == "Where" and numbers[1:] in ([1.0, 0.0], [0.0, 1.0]):
            inner = self.spikes_of(node.input[0])
            return (
                None
                if inner is None
                else (*inner[:2], inner[2] != (numbers[1] == 0.0), TensorProto.FLOAT)
            )
        if node.op_type == "Sub" and numbers[0] == 1.0:
            inner = self.spikes_of(node.input[1])
            return None if inner is None else (*inner[:2], not inner[2], inner[3])
        return None

    def join(self, value: str, behind: bool = False) -> Join | None:
        """What ``value`` joins, if it joins lanes; ``behind`` the last neurons, a sum of some steps
        alone is no join: the host adds them up.
        """
        node = self.graph.producer[value]
        if node.op_type == "Concat":
            return self._concat(node)
        if node.op_type == "ConcatFromSequence":
            return self._sequence(node)
        if node.op_type == "ScatterND":
            return self._scatter(node)
        if node.op_type in ("Unsqueeze", "Reshape") and self.count == 1 and self._stacks_one(node):
            return Join("steps", (node.input[0],))
        mixes = value in self._mixes or self._scaled_mix(node)
        return self._sum(value, behind) if mixes else None

    def _scaled_mix(self, node: onnx.NodeProto) -> bool:
        """A mix times a constant."""
        return node.op_type in ("Mul", "Div", "Neg") and any(
            self.graph.alias(i) in self._mixes or self._deeper_mix(i) for i in node.input
        )

    def _deeper_mix(self, value: str) -> bool:
        node = self.graph.producer.get(value)
        return node is not None and node.op_type in ("Mul", "Div", "Neg") and self._scaled_mix(node)

    def _in_order(self, lanes: list[str]) -> bool:
        """One lane a step, from the first to the last."""
        return [self.label(v) for v in lanes] == list(range(self.count))

    def _is_recurrence(self, lanes: list[str]) -> bool:
        """A membrane that never fires, whose value of a step holds those before."""
        return len(lanes) == self.count and find_recurrence(tuple(lanes), self.graph) is not None

    def _concat(self, node: onnx.NodeProto) -> Join | None:
        makers = [self.graph.producer.get(self.graph.alias(i)) for i in node.input]
        axes = [self.graph.axes(m, "Unsqueeze") if m is not None else None for m in makers]
        axis = attributes_of(node)["axis"]
        if all(a == [axis] for a in axes):
            lanes = [m.input[0] for m in makers if m is not None]
            if self._in_order(lanes) or self._is_recurrence(lanes):
                return Join("steps", tuple(lanes), axis)
        lanes = list(node.input)
        return Join("rows", tuple(lanes)) if axis == 0 and self._in_order(lanes) else None

    def _sequence(self, node: onnx.NodeProto) -> Join | None:
        sequence = self.graph.producer.get(node.input[0])
        lanes: list[str] = []
        while (
            sequence is not None
            and sequence.op_type == "SequenceInsert"
            and len(sequence.input) == 2
        ):
            lanes.insert(0, sequence.input[1])
            sequence = self.graph.producer.get(sequence.input[0])
        if sequence is not None and sequence.op_type == "SequenceConstruct":
            lanes = [*sequence.input, *lanes]
        attributes = attributes_of(node)
        if not self._in_order(lanes):
            return None
        if attributes.get("new_axis", 0):
            return Join("steps", tuple(lanes), attributes["axis"])
        return Join("rows", tuple(lanes)) if attributes["axis"] == 0 else None

    def _scatter(self, node: onnx.NodeProto | None) -> Join | None:
        """Rows written one after another into a tensor."""
        rows: dict[int, str] = {}
        while node is not None and node.op_type == "ScatterND":
            index = self.graph.constants.get(node.input[1])
            if index is None or index.size != 1:
                return None
            rows.setdefault(int(index.flat[0]), self._behind_layout(node.input[2]))
            node = self.graph.producer.get(self.graph.alias(node.input[0]))
        lanes = [rows[t] for t in sorted(rows)]
        return (
            Join("steps", tuple(lanes))
            if sorted(rows) == list(range(self.count)) and self._in_order(lanes)
            else None
        )

    def _behind_layout(self, value: str) -> str:
        while (node := self.graph.producer.get(value)) is not None and node.op_type in _LAYOUT:
            value = node.input[0]
        return value

    def _sum(self, value: str, behind: bool) -> Join | None:
        """A linear combination of lanes, one a step."""
        found = self._weights(value)
        steps: list[list[tuple[str, float]]] = [[] for _ in range(self.count)]
        extras = []
        for summand, weight in found.items():
            step = self.label(summand)
            if isinstance(step, int):
                if step >= self.count:
                    raise NeurocompileError(
                        "NC1003",
                        f"{label_of(self.graph.producer[value])} adds up step {step + 1} of time; the neurons run for "
                        f"{self.count}. One that fires before it adds its input sends nothing in the first: compare "
                        "behind the input",
                    )
                steps[step].append((summand, weight))
            elif weight and self.graph.uniform.get(summand) != 0.0:
                extras.append((summand, weight))
        if not all(steps) and behind:
            return None
        if not all(steps):
            missing = [t for t, lanes in enumerate(steps) if not lanes]
            raise NeurocompileError(
                "NC1003",
                f"{label_of(self.graph.producer[value])} adds up some steps of time, without "
                f"{missing}; supported is a sum, a mean or a weighted sum over all {self.count} steps",
            )
        most = max(map(len, steps))
        summed = [self._added(self._apart(lanes, most)) for lanes in steps]
        lanes, own = self._weighed(tuple(v for v, _ in summed))
        makers = {getattr(self.graph.producer.get(v), "op_type", "") for v in lanes}
        if behind and len(makers) > 1:
            return None
        weights = [np.asarray(w) * c for (_, w), c in zip(summed, own)]
        first = weights[0]
        if all(w.ndim == 0 and abs(w - first) <= 1e-6 * abs(first) for w in weights):
            return Join("mean", lanes, factor=float(first) * self.count, extras=tuple(extras))
        return Join("weighted", lanes, extras=tuple(extras), weights=tuple(weights))

    def _weights(self, value: str) -> dict[str, float]:
        """The summands of a mix, and how often each counts."""
        weights: dict[str, float] = {}
        open_ = {self._without_zero(value): 1.0}
        while open_:  # what is made last first, so that each value is taken apart once
            place = max(open_, key=lambda v: self.graph.order.get(v, -1))
            weight, node = open_.pop(place), self.graph.producer.get(place)
            mixed = place in self._mixes or node is not None and self._scaled_mix(node)
            parts = self._parts(node) if node is not None and mixed else None
            if parts is None:
                weights[place] = weights.get(place, 0.0) + weight
            for operand, factor in parts or ():
                operand = self._without_zero(operand)
                open_[operand] = open_.get(operand, 0.0) + weight * factor
        return weights

    def _apart(self, lanes: list[tuple[str, float]], count: int) -> list[tuple[str, float]]:
        """The ``count`` summands of a step in the file's order: those of the first step are a value
        of their own, which other steps add to the sum one by one.
        """
        while len(lanes) < count:
            for k, (value, weight) in enumerate(lanes):
                node = self.graph.producer.get(value)
                if node is not None and node.op_type in ("Add", "Sub", "Sum"):
                    parts = self._parts(node) or []
                    own = [(self._without_zero(v), weight * factor) for v, factor in parts]
                    lanes = [*lanes[:k], *own, *lanes[k + 1 :]]
                    break
            else:
                break
        return sorted(lanes, key=lambda lane: self.graph.order.get(lane[0], -1))

    def _added(self, lanes: list[tuple[str, float]]) -> tuple[str, float]:
        """Several lanes of one step as one lane with a weight."""
        graph, (total, weight) = self.graph, lanes[0]
        for other, factor in lanes[1:]:
            if factor != weight:
                times = constant("weight", factor / weight, graph)
                name = graph.fresh(f"{other}.weighed")
                graph.add(helper.make_node("Mul", [other, times], [name], name=name), like=other)
                other = name
            name = graph.fresh(f"{total}.sum")
            graph.add(helper.make_node("Add", [total, other], [name], name=name), like=total)
            total = name
        return total, weight

    def _weighed(self, lanes: tuple[str, ...]) -> tuple[tuple[str, ...], list[np.ndarray]]:
        """x_t and w_t, where the lanes are w_t x_t with constants that differ between steps."""
        own = [np.asarray(1.0)] * len(lanes)
        best = lanes, own
        while True:
            pairs = [self._factor(v) for v in lanes]
            found = [p[1] for p in pairs if p is not None]
            if not found:
                return best
            own = [w if p is None else w * p[1] for p, w in zip(pairs, own)]
            lanes = tuple(v if p is None else p[0] for p, v in zip(pairs, lanes))
            if len(found) < len(lanes) or any(not np.array_equal(f, found[0]) for f in found):
                best = lanes, own  # equal factors of all lanes may stay where they are

    def _factor(self, value: str) -> tuple[str, np.ndarray] | None:
        """(x, w), where ``value`` is ``w x`` or ``x / w`` of a constant w."""
        node = self.graph.producer.get(self.graph.alias(value))
        if node is None or node.op_type not in ("Mul", "Div"):
            return None
        constants = [self._array(i) for i in node.input]
        for k in (1, 0) if node.op_type == "Mul" else (1,):
            array, x = constants[k], self._without_zero(node.input[1 - k])
            rank = self.graph.rank(x)
            if array is not None and constants[1 - k] is None:
                if rank is None or array.ndim > rank or array.ndim == rank and len(array) > 1:
                    return None  # more axes than a lane has, or one number for each sample
                with np.errstate(divide="ignore"):
                    return x, array if node.op_type == "Mul" else 1 / array
        return None

    def _array(self, value: str) -> np.ndarray | None:
        number = self.graph.uniform.get(value)
        array = self.graph.constants.get(value)
        if array is not None:
            return array.astype(np.float64)
        return None if number is None else np.asarray(number)

    def _without_zero(self, value: str) -> str:
        """x, where ``value`` is x + 0 or x - 0, the first term of a running sum."""
        value = self.graph.alias(value)
        node = self.graph.producer.get(value)
        if node is not None and node.op_type in ("Add", "Sub") and value in self.graph.dynamic:
            rest = [i for i in node.input if self.graph.uniform.get(i) != 0.0]
            if len(rest) == 1 and (node.op_type == "Add" or rest[0] == node.input[0]):
                return self._without_zero(rest[0])
        return value

    def _parts(self, node: onnx.NodeProto) -> list[tuple[str, float]] | None:
        """Operands and their weights."""
        numbers = [self.graph.uniform.get(i) for i in node.input]
        if node.op_type in ("Add", "Sum", "Identity"):
            return [(i, 1.0) for i in node.input]
        if node.op_type == "Mean":
            return [(i, 1.0 / len(node.input)) for i in node.input]
        if node.op_type == "Sub":
            return [(node.input[0], 1.0), (node.input[1], -1.0)]
        if node.op_type == "Neg":
            return [(node.input[0], -1.0)]
        if node.op_type == "Mul" and (numbers[0] is None) != (numbers[1] is None):
            return (
                [(node.input[0], numbers[1])]
                if numbers[1] is not None
                else [(node.input[1], numbers[0] or 0.0)]
            )
        if node.op_type == "Div" and numbers[1]:
            return [(node.input[0], 1.0 / numbers[1])]
        return None
