"""What token recurrences do from step to step: the value of the step before, and RWKV's weighted mean.

Values ``y_0, y_1, ..``, one a step, are such a mean where arithmetic makes them of two signals k and v::

    y_t = (sum_(i<t) d^(t-1-i) e^(k_i) v_i + f e^(k_t) v_t) / (the same with v = 1)

with d and f of each channel. Files keep exponents below a running maximum, start at 0 or at the first
value, and write any order of sums: no form is looked for. The arithmetic is evaluated in float64, d
and f read off its first steps, and all steps compared with the equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from neurocompile.frontends.onnx.composed import MEANING
from neurocompile.frontends.recover.forms import Neuron
from neurocompile.frontends.recover.graph import Graph, attributes_of
from neurocompile.frontends.recover.values import same_constant

__all__ = ["Successors", "TokenMean", "find_token_mean", "is_zero", "pushed"]

_LINEAR = frozenset({"Mul", "Div", "Neg", "MatMul", "Gemm"})
_TOLERANCE = 1e-5
Lanes = tuple[str, ...]


def is_zero(value: str, graph: Graph) -> bool:
    """Whether a value is 0 whatever the data."""
    return value not in graph.dynamic and graph.uniform.get(value) == 0.0


def pushed(lanes: Lanes, graph: Graph) -> tuple[onnx.NodeProto, int, Lanes] | None:
    """(node, operand, lanes of the operand), where the lanes are 0 and then products of one signal
    with constants: so are products with an operand that is 0 first.
    """
    if len(lanes) < 2 or not is_zero(lanes[0], graph):
        return None
    nodes = [graph.producer.get(v) for v in lanes[1:]]
    first = nodes[0]
    if first is None or first.op_type not in _LINEAR or len(first.output) > 1:
        return None
    columns = []
    for node in nodes:
        if node is None or not _alike(node, first):
            return None
        columns.append([graph.alias(i) for i in node.input])
    moving = [k for k, i in enumerate(columns[0]) if i in graph.dynamic]
    if len(moving) != 1 or first.op_type == "Div" and moving != [0]:
        return None
    (place,) = moving
    for k, own in enumerate(columns[0]):
        same = all(same_constant(c[k], own, graph) for c in columns)
        if k != place and not same or k == 2 and not is_zero(own, graph):
            return None
    return first, place, (lanes[0], *(c[place] for c in columns))


def _alike(node: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    return (
        node.op_type == other.op_type
        and node.domain == other.domain
        and len(node.input) == len(other.input)
        and attributes_of(node) == attributes_of(other)
    )


class Successors:
    """What a value of one step is in the next."""

    def __init__(self, graph: Graph, neurons: Sequence[Neuron]) -> None:
        self.graph = graph
        self._known: dict[str, str | None] = {}
        for neuron in neurons:
            self._known.update(zip(neuron.spikes, (*neuron.spikes[1:], None)))
        self._made: dict[tuple[str, ...], str] = {}
        self._steps: dict[tuple[str, int, bool], str] = {}
        for node in graph.nodes:
            for k, output in enumerate(node.output):
                if output in graph.dynamic:
                    self._made[self._form(node, k, node.input)] = output
                    step = graph.step(output)
                    if step is not None:
                        self._steps.setdefault(step, output)

    def after(self, value: str) -> str | None:
        """None where nothing in the next step is made alike."""
        stack = [self.graph.alias(value)]
        while stack:
            place = stack[-1]
            if place in self._known:
                stack.pop()
                continue
            operands = self._operands(place)
            missing = [i for i in operands if i in self.graph.dynamic and i not in self._known]
            if missing:
                stack += missing
                continue
            self._known[place] = self._found(place, operands)
            stack.pop()
        return self._known[self.graph.alias(value)]

    def _operands(self, value: str) -> list[str]:
        node = self.graph.producer.get(value)
        if node is None or self.graph.step(value) is not None:
            return []
        return [self.graph.alias(i) for i in node.input]

    def _found(self, value: str, operands: list[str]) -> str | None:
        graph, node = self.graph, self.graph.producer.get(value)
        if node is None:
            return None
        step = graph.step(value)
        if step is not None:
            return self._steps.get((step[0], step[1] + 1, step[2]))
        after = [self._known[i] if i in graph.dynamic else i for i in operands]
        if all(i not in graph.dynamic for i in operands) or any(i is None for i in after):
            return None
        return self._made.get(self._form(node, list(node.output).index(value), after))

    def _form(
        self, node: onnx.NodeProto, output: int, inputs: Sequence[str | None]
    ) -> tuple[str, ...]:
        fields = (a.SerializeToString(deterministic=True).hex() for a in node.attribute)
        operands = (self.graph.alias(i) if i else "" for i in inputs)
        return (node.op_type, node.domain, str(output), *sorted(fields), "|", *operands)


@dataclass(frozen=True, eq=False)
class TokenMean:
    """The lanes of k and v, and for each channel what a step keeps of the weights (0..1) and the
    factor of the step's own.
    """

    k: Lanes
    v: Lanes
    decay: np.ndarray
    """float32 (C,)."""
    first: np.ndarray
    """float32 (C,)."""


def find_token_mean(lanes: Lanes, graph: Graph) -> TokenMean | None:
    """What the values ``lanes``, one a step, are, at least three; None if they are no such mean."""
    last = graph.producer.get(lanes[-1])
    dims = graph.shapes.get(lanes[-1])
    if len(lanes) < 3 or last is None or last.op_type != "Div" or not dims or not dims[-1]:
        return None
    region, entries = _region(lanes, graph)
    if entries is None or len(entries) != 2 * len(lanes):
        return None
    try:
        with np.errstate(all="ignore"):
            return _Probe(region, entries, lanes, graph, int(dims[-1])).found()
    except (ValueError, IndexError, KeyError, TypeError):
        return None


def _region(lanes: Lanes, graph: Graph) -> tuple[list[str], list[str] | None]:
    """Values of the arithmetic that makes the lanes, in order, and the signals that it reads."""
    seen, stack = set(lanes), list(lanes)
    inner, entries = set[str](), set[str]()
    while stack:
        value = stack.pop()
        node = graph.producer.get(value)
        if node is None or node.op_type not in MEANING or node.domain not in ("", "ai.onnx"):
            entries.add(value)
            continue
        inner.add(value)
        fresh = {graph.alias(i) for i in node.input if i in graph.dynamic} - seen
        seen |= fresh
        stack += fresh
    order = sorted(inner, key=lambda v: graph.order.get(v, -1))
    return order, sorted(entries, key=lambda v: graph.order.get(v, -1))


class _Probe:
    """The arithmetic as a function of its entries, arrays (rows, channels)."""

    def __init__(
        self, region: list[str], entries: list[str], lanes: Lanes, graph: Graph, channels: int
    ) -> None:
        self.region, self.entries, self.lanes = region, entries, lanes
        self.graph, self.channels = graph, channels

    def run(self, given: np.ndarray) -> np.ndarray:
        """(lanes, rows, channels) of ``given`` (entries, rows, channels)."""
        values = dict(zip(self.entries, given.astype(np.float64)))
        for name in self.region:
            node = self.graph.producer[name]
            operands = [self._operand(i, values) for i in node.input]
            values[name] = MEANING[node.op_type](operands, attributes_of(node))
        return np.stack([np.broadcast_to(values[v], given.shape[1:]) for v in self.lanes])

    def _operand(self, name: str, values: dict[str, np.ndarray]) -> np.ndarray:
        alias = self.graph.alias(name)
        if alias in values:
            return values[alias]
        if name in self.graph.uniform:
            return np.asarray(self.graph.uniform[name], np.float64)
        rows = np.broadcast_to(self.graph.constants[name], (1, self.channels))
        return rows.astype(np.float64)  # a ValueError for what differs between samples

    def found(self) -> TokenMean | None:
        T, C, n = len(self.lanes), self.channels, len(self.entries)
        alone = np.broadcast_to(np.eye(n)[:, :, None], (n, n, C))
        heard = np.abs(self.run(alone)[-1]).max(axis=1) > 0  # all else 0: only a v counts
        v = [i for i in range(n) if heard[i]]
        k = [i for i in range(n) if not heard[i]]
        if len(v) != T:
            return None
        probe = np.zeros((n, 1, C))
        probe[v[0]] = 1.0  # every k is 0
        y = self.run(probe)[:, 0]
        first = 1 / y[1] - 1
        decay = y[2] * (1 + first) / (1 - y[2])
        if not (np.isfinite(first).all() and (first > 0).all() and (decay >= 0).all()):
            return None
        if not (decay <= 1 + _TOLERANCE).all():
            return None
        given = np.random.default_rng(0).normal(0, 1, (n, 4, C))
        expected = token_mean(given[k], given[v], decay, first)
        if np.abs(self.run(given) - expected).max() > _TOLERANCE:
            return None
        return TokenMean(
            tuple(self.entries[i] for i in k),
            tuple(self.entries[i] for i in v),
            np.minimum(decay, 1.0).astype(np.float32),
            first.astype(np.float32),
        )


def token_mean(k: np.ndarray, v: np.ndarray, decay: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The equation, for arrays (steps, ..., channels)."""
    a = b = np.zeros(k.shape[1:])
    found = np.empty(k.shape)
    for t, (weight, value) in enumerate(zip(np.exp(k), v)):
        found[t] = (a + first * weight * value) / (b + first * weight)
        a, b = decay * a + weight * value, decay * b + weight
    return found
