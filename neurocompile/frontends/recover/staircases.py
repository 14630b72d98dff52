"""Numbers of spikes: values that are a staircase of one real value, whatever operators write it.

``round(clamp(v, 0, 4))`` (MultiSpike, ILIF), ``(v > 0) * trunc(v / theta)`` (sinabs), sums of
comparisons: the arithmetic between ``v`` and the count is evaluated, in float32 as the file does it,
and its steps are found by bisection. A staircase that rises by 1 from 0 at finitely many thresholds
is a neuron that sends so many spikes; one that goes on for ever is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from neurocompile.frontends.recover.graph import Graph, attributes_of
from neurocompile.ir.spiking_rules import LARGEST_LEVELS

__all__ = ["KNOWN", "Staircase", "find_staircases", "run_cone"]


@dataclass(frozen=True)
class Staircase:
    """``value = count - below``, with the number of ``thresholds`` that ``source`` reaches."""

    value: str
    source: str
    thresholds: tuple[float, ...]
    below: int
    """The value far below all thresholds, negated: 1 for ternary spikes."""
    within: frozenset[str]
    """Values between source and value, and what is a multiple of the count."""
    multiples: dict[str, float]
    """Values that are the count times a number."""


_ROUNDING = frozenset({"Floor", "Ceil", "Round", "Sign"})
_COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_REACH = 2.0**30
_OPEN_LEVELS = 31
"""Of a staircase that goes on for ever."""
_SAMPLES = 4001


def _round(x: np.ndarray) -> np.ndarray:
    return np.rint(x)


_UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Identity": lambda x: x,
    "IsNaN": np.isnan,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Relu": lambda x: np.maximum(x, 0),
    "Round": _round,
    "Sign": np.sign,
}
_BINARY: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
}
KNOWN = frozenset({*_UNARY, *_BINARY, "Cast", "Clip", "Where"})
"""Operators that :func:`run_cone` evaluates."""


def find_staircases(graph: Graph) -> list[Staircase]:
    """Every staircase of a live value, in topological order."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        for i in node.input:
            readers.setdefault(i, []).append(node)
    found: list[Staircase] = []
    seen: set[str] = set()
    nodes = list(graph.live())
    several = _compared_with_several(nodes, graph)
    for node in nodes:
        rounds = node.op_type in _ROUNDING or _truncates(node)
        compares = node.op_type in _COMPARISONS and several.issuperset(_dynamic(node, graph))
        if (rounds or compares) and node.output[0] in graph.dynamic and node.output[0] not in seen:
            tried = (
                _staircase(source, list(_cone(source, graph, readers)), graph, readers)
                for source in (_sources(node, graph) if rounds else _dynamic(node, graph))
            )
            stairs = next(filter(None, tried), None)
            if stairs is not None and (rounds or len(stairs.thresholds) > 1):
                found.append(stairs)
                seen |= stairs.within
    return found


def _compared_with_several(nodes: list[onnx.NodeProto], graph: Graph) -> set[str]:
    """Values that are compared with two numbers or more: their comparisons may be summed."""
    bounds: dict[str, set[float]] = {}
    for node in nodes:
        if node.op_type not in _COMPARISONS or node.domain:
            continue
        numbers = [graph.uniform[i] for i in node.input if i in graph.uniform]
        for value in _dynamic(node, graph):
            bounds.setdefault(value, set()).update(numbers)
    return {value for value, numbers in bounds.items() if len(numbers) > 1}


def _truncates(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and attributes_of(node)["to"] in _INTEGERS


def _dynamic(node: onnx.NodeProto, graph: Graph) -> list[str]:
    return list(dict.fromkeys(i for i in node.input if i and graph.number(i) is None))


def _sources(node: onnx.NodeProto, graph: Graph) -> list[str]:
    """Values that ``node`` may count, the furthest first: up from it as long as there is one operand,
    to what others read as well. Of one that another count reads too, such as that of its negative,
    a nearer one is taken.
    """
    (value, *others) = _dynamic(node, graph)
    found = [value]
    while not others:
        made = graph.producer.get(value)
        if made is None or made.op_type not in KNOWN or made.domain:
            break
        inner = _dynamic(made, graph)
        if len(inner) != 1 or _read_elsewhere(value, graph):
            break
        value = inner[0]
        found.append(value)
    return found[::-1]


def _read_elsewhere(value: str, graph: Graph) -> bool:
    """Whether what reads ``value`` also needs other real values: a reset, for instance."""
    for node in graph.nodes:
        if value in node.input and len(_dynamic(node, graph)) > 1:
            return True
    return False


def _cone(
    source: str, graph: Graph, readers: dict[str, list[onnx.NodeProto]]
) -> Iterator[onnx.NodeProto]:
    """Nodes whose outputs are functions of ``source`` alone, in topological order."""
    inside, stack, nodes = {source}, [source], {}
    while stack:
        for node in readers.get(stack.pop(), ()):
            output = node.output[0]
            fits = node.op_type in KNOWN and not node.domain and len(node.output) == 1
            if output not in inside and fits and all(i in inside for i in _dynamic(node, graph)):
                inside.add(output)
                stack.append(output)
                nodes[output] = node
    for output in sorted(nodes, key=lambda v: graph.order[v]):
        yield nodes[output]


def run_cone(
    source: str, cone: list[onnx.NodeProto], graph: Graph, x: np.ndarray
) -> dict[str, np.ndarray]:
    """Values of the cone on samples ``x``, float32."""
    values: dict[str, np.ndarray] = {source: x}

    def operand(name: str) -> np.ndarray:
        return values[name] if name in values else np.asarray(graph.number(name), np.float32)

    with np.errstate(all="ignore"):
        for node in cone:
            kind, inputs = node.op_type, {k: operand(i) for k, i in enumerate(node.input) if i}
            if kind in _UNARY:
                y = _UNARY[kind](inputs[0])
            elif kind in _BINARY:
                y = _BINARY[kind](inputs[0], inputs[1])
            elif kind == "Where":
                y = np.where(inputs[0].astype(bool), inputs[1], inputs[2])
            elif kind == "Clip":
                bounded = 1 in inputs or 2 in inputs
                y = np.clip(inputs[0], inputs.get(1), inputs.get(2)) if bounded else inputs[0]
            else:
                y = inputs[0].astype(helper.tensor_dtype_to_np_dtype(attributes_of(node)["to"]))
            y = np.asarray(y)
            values[node.output[0]] = y.astype(np.float32) if y.dtype == np.float64 else y
    return values


def _staircase(
    source: str, cone: list[onnx.NodeProto], graph: Graph, readers: dict[str, list[onnx.NodeProto]]
) -> Staircase | None:
    """The first value of the cone that counts, and that all others of its steps are multiples of."""
    grid = np.linspace(-1, 1, _SAMPLES, dtype=np.float32)
    tests = np.concatenate([grid * np.float32(4.0**k) for k in range(-6, 9)])
    values = run_cone(source, cone, graph, np.unique(tests))
    meant = ~np.any([np.isnan(values[n.output[0]]) for n in cone], axis=0)  # a log: above 0 alone
    values = {name: y[meant] for name, y in values.items()}
    flat = [n for n in cone if _is_flat(values[n.output[0]])]
    names = {n.output[0] for n in flat}
    outer = [
        v
        for v in names
        if v in graph.outputs or any(r.output[0] not in names for r in readers.get(v, ()))
    ]
    for node in flat:
        value = node.output[0]
        y = values[value].astype(np.float64)
        if not _counts(y):
            continue
        steps = y - y[0]
        rates = {v: _multiple(values[v].astype(np.float64), y) for v in names}
        below = _computed_from(value, cone)
        if steps.max() == 0 or any(rates[v] is None and v not in below for v in outer):
            continue
        prefix = cone[: cone.index(node) + 1]
        thresholds = _thresholds(source, prefix, graph, value, float(y[0]), float(y[-1]))
        multiples = {v: r for v, r in rates.items() if r is not None}
        return Staircase(value, source, thresholds, round(-y[0]), frozenset(names), multiples)
    return None


def _computed_from(value: str, cone: list[onnx.NodeProto]) -> set[str]:
    """Values that need nothing of the cone's source but ``value``: arithmetic of the count."""
    inside = {value}
    made = {node.output[0] for node in cone}
    for node in cone:
        own = [i for i in node.input if i in made]
        if own and all(i in inside for i in own):
            inside.add(node.output[0])
    return inside


def _is_flat(y: np.ndarray) -> bool:
    """Piecewise constant: few values for many samples."""
    return 1 < len(np.unique(y[np.abs(y) < 1e3])) < len(y) // 8


def _counts(y: np.ndarray) -> bool:
    """Integers that never fall, and not far below 0."""
    near = y[np.abs(y) < LARGEST_LEVELS]
    return bool((near == np.rint(near)).all() and (np.diff(y) >= 0).all() and -8 <= y[0] <= 0)


def _multiple(y: np.ndarray, count: np.ndarray) -> float | None:
    """c, where ``y = c count``."""
    near = (count != 0) & (np.abs(count) <= LARGEST_LEVELS)
    c = float(y[near][0] / count[near][0]) if near.any() else 0.0
    good = np.abs(count) <= LARGEST_LEVELS
    return c if c and np.allclose(y[good], c * count[good], rtol=1e-5, atol=0) else None


def _thresholds(
    source: str, cone: list[onnx.NodeProto], graph: Graph, value: str, low: float, high: float
) -> tuple[float, ...]:
    """The least float32 at which each level is reached, by bisection over the float32 numbers."""
    most = high - low if high - low <= LARGEST_LEVELS else _OPEN_LEVELS
    levels = np.arange(low + 1, low + most + 1)

    def number(order: np.ndarray) -> np.ndarray:
        """Float32 numbers in the order of integers."""
        return (
            np.where(order >= 0, order, np.int32(-(1 << 31)) - order)
            .astype(np.int32)
            .view(np.float32)
        )

    span = int(np.float32(_REACH).view(np.int32))
    below, above = (np.full(len(levels), v, np.int64) for v in (-span, span))
    while (above - below > 1).any():
        middle = (below + above) // 2
        reached = run_cone(source, cone, graph, number(middle))[value].astype(np.float64) >= levels
        below, above = np.where(reached, below, middle), np.where(reached, middle, above)
    return tuple(float(v) for v in number(above))
