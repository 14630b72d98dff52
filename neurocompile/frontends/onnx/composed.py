"""Functions, normalizations and softmaxes that a file writes out as arithmetic, by what they compute.

An exporter says GELU by Div, Erf, Add and Mul, LayerNorm by ReduceMean, Sub, Pow, Sqrt and Div, in
whatever order. No pattern of names is looked for: arithmetic that reads one signal alone is
evaluated in float64 and compared with what each operator would give. What is equal becomes one
node, :data:`FUNCTION`, :data:`NORMALIZATION` or :data:`SOFTMAX`, the largest such part first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from neurocompile.frontends.onnx.constants import uniform
from neurocompile.frontends.onnx.fold import fold
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.ir.functions import FUNCTIONS
from neurocompile.ir.functions import function as value_of

__all__ = ["FUNCTION", "MEANING", "NORMALIZATION", "SOFTMAX", "composed"]

FUNCTION = "neurocompile.Function"
"""Operator with attributes ``function``, ``gain`` and ``scale``: ``scale * function(gain * x)``."""
NORMALIZATION = "neurocompile.Normalization"
"""Operator with attributes ``axes``, ``epsilon`` and ``centered``."""
SOFTMAX = "Softmax"

_LARGEST = 32
"""Nodes of the arithmetic of one operator."""
_TOLERANCE = 2e-6
"""Constants of files are float32."""
_GRID = np.concatenate([np.linspace(-6, 6, 97), [-0.013, 0.007]])

Values = Mapping[str, np.ndarray]
Evaluation = Callable[[list[np.ndarray], dict[str, Any]], np.ndarray]


def _reduction(of: Callable[..., np.ndarray]) -> Evaluation:
    def evaluate(x: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
        axes = attributes.get("axes") if len(x) < 2 else x[1].astype(np.int64).reshape(-1).tolist()
        if not axes or not attributes.get("keepdims", 1):
            raise ValueError("a reduction that removes its axes")
        return of(x[0], axis=tuple(axes), keepdims=True)

    return evaluate


def _clip(x: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    ends = [attributes.get("min", -np.inf), attributes.get("max", np.inf)]
    ends[: len(x) - 1] = x[1:]
    return np.clip(x[0], *ends)


def _activation(name: str) -> Evaluation:
    return lambda x, attributes: value_of(name, x[0])


def _softmax(x: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    axis = attributes.get("axis", -1)
    e = np.exp(x[0] - x[0].max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


MEANING: dict[str, Evaluation] = {
    "Identity": lambda x, a: x[0],
    "Dropout": lambda x, a: x[0],
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": lambda x, a: x[0] / x[1],
    "Pow": lambda x, a: x[0] ** x[1],
    "Max": lambda x, a: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Min": lambda x, a: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Neg": lambda x, a: -x[0],
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Reciprocal": lambda x, a: 1 / x[0],
    "Log": lambda x, a: np.log(x[0]),
    "Exp": lambda x, a: np.exp(x[0]),
    "Clip": _clip,
    "Where": lambda x, a: np.where(x[0].astype(bool), x[1], x[2]),
    "Greater": lambda x, a: x[0] > x[1],
    "GreaterOrEqual": lambda x, a: x[0] >= x[1],
    "Less": lambda x, a: x[0] < x[1],
    "LessOrEqual": lambda x, a: x[0] <= x[1],
    "Softmax": _softmax,
    "ReduceMean": _reduction(np.mean),
    "ReduceSum": _reduction(np.sum),
    "ReduceMax": _reduction(np.max),
    "ReduceSumSquare": _reduction(lambda x, **axes: np.sum(x * x, **axes)),
    "ReduceL2": _reduction(lambda x, **axes: np.sqrt(np.sum(x * x, **axes))),
    **{
        kind: _activation(name)
        for kind, name in {
            "Erf": "erf",
            "Tanh": "tanh",
            "Sigmoid": "sigmoid",
            "Relu": "relu",
            "Abs": "abs",
            "Softplus": "softplus",
        }.items()
    },
}
"""Operators that are evaluated; of elements, or along axes that they keep."""
_LINEAR = frozenset("Identity Dropout Add Sub Neg ReduceMean ReduceSum".split())
"""What rules import one by one, so that nothing of these alone is worth a look."""
_TELLING = frozenset(
    "Erf Tanh Sigmoid Exp Sqrt Reciprocal Pow Log Softplus ReduceL2 ReduceSumSquare".split()
)
"""One of these is in all such arithmetic."""
_FOLDED = frozenset(MEANING) | {"Cast", "Constant"}


def composed(
    graph: onnx.GraphProto, constants: Values, opsets: Sequence[onnx.OperatorSetIdProto]
) -> onnx.GraphProto:
    """A copy of ``graph``, without initializers, in which what arithmetic says in front of a neuron
    is one node, behind the arithmetic, which other nodes may read too; ``graph`` itself where there
    is none.

    Args:
        constants: values that do not depend on the input.
        opsets: of the file.
    """
    nodes = list(graph.node)
    if not any(node.op_type in _TELLING for node in nodes):
        return graph
    behind = behind_neurons(nodes)
    known = dict(constants)
    for node in nodes:
        if node.op_type in _FOLDED and node.input and all(i in known for i in node.input if i):
            feeds = {i: known[i] for i in node.input if i}
            known.update(zip(node.output, fold(node, feeds, opsets, node.name), strict=False))
    made = _replaced(nodes, known, lambda node: not behind.issuperset(filter(None, node.output)))
    if made is None:
        return graph
    copy = onnx.GraphProto(name=graph.name, input=graph.input, output=graph.output)
    copy.node.extend(made)
    return copy


def behind_neurons(nodes: list[onnx.NodeProto]) -> set[str]:
    """Tensors from which no neuron is reached; none if there is no neuron."""
    needed: set[str] = set()
    neurons = False
    for node in reversed(nodes):
        neuron = node.domain == DOMAIN
        neurons |= neuron
        if neuron or needed.intersection(node.output):
            needed.update(node.input)
    made = {o for node in nodes if node.domain != DOMAIN for o in node.output}
    return made - needed if neurons else set()


def _replaced(
    nodes: list[onnx.NodeProto], constants: Values, takes: Callable[[onnx.NodeProto], bool]
) -> list[onnx.NodeProto] | None:
    """``nodes`` with one for each operator that arithmetic says; None where there is none."""
    search = _Search(nodes, constants)
    found: dict[int, onnx.NodeProto] = {}
    inside: set[int] = set()
    for place in reversed(range(len(nodes))):
        if place in inside or not takes(nodes[place]) or nodes[place].op_type not in MEANING:
            continue
        match = search.ending_at(place)
        if match is not None:
            made, region = match
            found[place] = made
            inside |= region
    return [found.get(i, node) for i, node in enumerate(nodes)] if found else None


class _Search:
    def __init__(self, nodes: list[onnx.NodeProto], constants: Values) -> None:
        self.nodes, self.constants = nodes, constants
        self.made_by = {o: i for i, node in enumerate(nodes) for o in node.output if o}

    def ending_at(self, place: int) -> tuple[onnx.NodeProto, set[int]] | None:
        """The largest operator whose result node ``place`` makes, and the nodes of its arithmetic."""
        region: set[int] = set()
        best = None
        signals: set[str] = {self.nodes[place].output[0]}
        while signals and len(region) < _LARGEST:  # none are left of arithmetic of constants
            nearest = max(signals, key=lambda name: self.made_by.get(name, -1))
            at = self.made_by.get(nearest, -1)
            if at < 0 or not self._takes(self.nodes[at]):
                break
            region.add(at)
            signals.discard(nearest)
            signals |= {i for i in self.nodes[at].input if i and i not in self.constants}
            if len(signals) == 1 and len(region) > 1:
                (entry,) = signals
                made = self._named(region, entry, place)
                best = best if made is None else (made, set(region))
        return best

    def _takes(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in MEANING or node.domain not in ("", "ai.onnx"):
            return False
        if len([o for o in node.output if o]) > 1:
            return False
        along = node.op_type.startswith("Reduce")
        return all(
            along and k == 1 or uniform(self.constants[i]).size == 1
            for k, i in enumerate(node.input)
            if i in self.constants
        )

    def _named(self, region: set[int], entry: str, place: int) -> onnx.NodeProto | None:
        kinds = {self.nodes[i].op_type for i in region}
        if kinds <= _LINEAR:
            return None
        try:
            with np.errstate(all="ignore"):
                if any(kind.startswith("Reduce") or kind == "Softmax" for kind in kinds):
                    attributes = self._along(region, entry, place)
                else:
                    attributes = self._element(region, entry, place)
        except (ValueError, IndexError, TypeError):
            return None
        if attributes is None:
            return None
        kind = attributes.pop("kind")
        last = self.nodes[place]
        node = helper.make_node(kind, [entry], list(last.output), last.name, **attributes)
        node.metadata_props.extend(last.metadata_props)
        return node

    def _run(self, region: set[int], entry: str, place: int, x: np.ndarray) -> np.ndarray:
        """What the last node gives where ``entry`` is ``x``, float64."""
        values: dict[str, np.ndarray] = {entry: x}
        for i in sorted(region):
            node = self.nodes[i]
            operands = []
            for k, name in enumerate(node.input):
                if name in values:
                    operands.append(values[name])
                elif name:
                    constant = np.asarray(self.constants[name], np.float64)
                    kept = node.op_type.startswith("Reduce") and k == 1
                    operands.append(constant if kept else uniform(constant).reshape(()))
            values[node.output[0]] = MEANING[node.op_type](operands, _attributes(node))
        return values[self.nodes[place].output[0]]

    def _element(self, region: set[int], entry: str, place: int) -> dict[str, Any] | None:
        """A function of each element."""
        y = self._run(region, entry, place, _GRID)
        if y.shape != _GRID.shape or not np.isfinite(y).all():
            return None
        for gain in self._gains(region):
            for name in FUNCTIONS:
                z = value_of(name, gain * _GRID)
                for scale in dict.fromkeys((1.0, 1 / gain)):
                    if _equal(y, scale * z):
                        return {"kind": FUNCTION, "function": name, "gain": gain, "scale": scale}
        return None

    def _gains(self, region: set[int]) -> Iterable[float]:
        """Factors of the input that the arithmetic may have."""
        numbers = {
            float(np.asarray(self.constants[i]).reshape(-1)[0])
            for at in region
            for i in self.nodes[at].input
            if i in self.constants and np.asarray(self.constants[i]).size
        }
        factors = [1.0, -1.0]
        for n in sorted(numbers):
            factors += [n, -n, 1 / n, -1 / n] if n and np.isfinite(n) else []
        return dict.fromkeys(factors)

    def _along(self, region: set[int], entry: str, place: int) -> dict[str, Any] | None:
        """A normalization or softmax along the axes that all reductions have."""
        found: set[tuple[int, ...]] = set()
        for at in region:
            node = self.nodes[at]
            if node.op_type == "Softmax":
                found.add((_attributes(node).get("axis", -1),))
            if node.op_type.startswith("Reduce"):
                axes = _attributes(node).get("axes")
                if axes is None:
                    axes = self.constants[node.input[1]].reshape(-1)
                found.add(tuple(sorted(int(a) for a in axes)))
        if len(found) != 1:
            return None
        (axes,) = found
        if not axes or min(axes) < 0 <= max(axes):
            return None
        rank = max(max(axes) + 2, 1 - min(axes))
        shape = tuple(3 + k for k in range(rank))
        x = np.random.default_rng(0).normal(0.3, 1.0, shape)
        y = self._run(region, entry, place, x)
        if y.shape != shape:
            return None
        if len(axes) == 1 and _equal(y, _softmax([x], {"axis": axes[0]})):
            return {"kind": SOFTMAX, "axis": axes[0]}
        small = x * 1e-3  # where an epsilon shows
        seen = self._run(region, entry, place, small)
        for centered in (True, False):
            epsilon = _epsilon(small, seen, axes, centered)
            if epsilon is not None and _equal(y, _normalized(x, axes, epsilon, centered)):
                return {
                    "kind": NORMALIZATION,
                    "axes": list(axes),
                    "epsilon": epsilon,
                    "centered": int(centered),
                }
        return None


def _normalized(x: np.ndarray, axes: tuple[int, ...], epsilon: float, centered: bool) -> np.ndarray:
    x = x - x.mean(axes, keepdims=True) if centered else x
    return x / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon)


def _epsilon(x: np.ndarray, y: np.ndarray, axes: tuple[int, ...], centered: bool) -> float | None:
    """The epsilon with which ``y`` is the normalization of ``x``; None if there is none."""
    x = x - x.mean(axes, keepdims=True) if centered else x
    square = np.broadcast_to((x * x).mean(axes, keepdims=True), x.shape)
    with np.errstate(all="ignore"):
        found = (x / y) ** 2 - square
    epsilon = float(np.median(found))
    if not np.isfinite(epsilon) or epsilon < -1e-12:
        return None
    return float(np.float32(max(epsilon, 0.0)))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= _TOLERANCE * max(1.0, float(np.abs(b).max())))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
