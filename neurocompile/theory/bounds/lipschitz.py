"""An upper bound of a model's Lipschitz constant: per-layer spectral norms, composed along the
graph.

It bounds the network whose neurons are ramps (:mod:`neurocompile.theory.bounds.ramp`), in the Euclidean
norm, from the input to the logits: residuals add, compositions multiply, a product of bounded
values takes the product rule (:mod:`.magnitude` bounds them), a softmax counts half of its gain.
Being a product over all layers it is far above what any data show;
:mod:`neurocompile.theory.measure.sensitivity` measures that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import ceil, inf, prod, sqrt
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.functions import function
from neurocompile.ir.nodes.base import STAGES
from neurocompile.ir.shapes import Shape, shapes
from neurocompile.ir.tables import KindTable
from neurocompile.theory.bounds.magnitude import magnitudes
from neurocompile.theory.bounds.operator_norm import convolution_norm, matrix_norm
from neurocompile.theory.bounds.ramp import ramp_of

__all__ = ["GAINS", "LayerGain", "LipschitzBound", "layer_gains", "lipschitz_bound"]


@dataclass(frozen=True)
class LayerGain:
    """``gain``: of this node alone; ``to_here``: of everything from the input to it; None for
    unknown. ``method`` names how.
    """

    node: str
    kind: str
    gain: float | None
    to_here: float | None
    method: str


@dataclass(frozen=True)
class LipschitzBound:
    """The bound (infinite where a neuron is a step), and the layers that make it."""

    value: float
    layers: tuple[LayerGain, ...]

    @property
    def unbounded(self) -> tuple[str, ...]:
        """Neurons that keep nothing from step to step, whose rate is a step."""
        return tuple(layer.node for layer in self.layers if layer.gain == inf)


def lipschitz_bound(graph: s.SpikingGraph) -> LipschitzBound:
    """Bound ``|f(x) - f(y)| <= L |x - y|`` for the ramp network of ``graph`` (any stage; logits of
    the output's unit).

    Raises NC8005 for a product of values that nothing bounds, and for the integers of a softmax.
    """
    layers, found = layer_gains(graph)
    if isinstance(found, NeurocompileError):
        raise found
    return LipschitzBound(found, layers)


def layer_gains(graph: s.SpikingGraph) -> tuple[tuple[LayerGain, ...], float | NeurocompileError]:
    """The layers of :func:`lipschitz_bound`, and its value or why there is none.

    A layer of unknown gain (``unknown`` is its method) leaves what lies behind it a gain of its
    own, and no bound up to it.
    """
    around = _Around(graph, shapes(graph), magnitudes(graph))
    total: dict[str, float | None] = {}
    layers, missing = [], None
    for node in graph.nodes:
        incoming = [total[i] for i in node.inputs]
        known = [1.0 if x is None else x for x in incoming]
        gain: float | None
        to_here: float | None
        try:
            gain, to_here, method = GAINS.of(node)(around, node, known)
        except NeurocompileError as error:
            missing = missing or error
            gain, to_here, method = None, None, "unknown"
        to_here = None if None in incoming else to_here
        total[node.name] = to_here
        if method:
            layers.append(LayerGain(node.name, type(node).__name__, gain, to_here, method))
    value = total[graph.output.name]
    if value is None:
        assert missing is not None
        return tuple(layers), missing
    return tuple(layers), value


Composed = tuple[float, float, str]
"""(gain of the node, bound up to it, method); an empty method for nodes not worth a line."""


@dataclass(frozen=True)
class _Around:
    """What rules may look at beside the node."""

    graph: s.SpikingGraph
    size: dict[str, Shape]
    bounds: dict[str, float | None]


GAINS: KindTable[Callable[[_Around, Any, list[float]], Composed]] = KindTable(
    "Lipschitz gains", STAGES, "its gain"
)
"""(around, node, bounds up to its inputs) -> its gain, the bound up to it, and how it was found."""


def _one_input(rule: Callable[[_Around, Any], tuple[float, str]]) -> Callable[..., Composed]:
    """A rule of a node with one input, whose bound its gain multiplies."""

    @wraps(rule)
    def composed(around: _Around, node: Any, incoming: list[float]) -> Composed:
        gain, method = rule(around, node)
        return gain, _times(gain, incoming[0]), method

    return composed


@GAINS.rule(s.Input)
def _input(around: _Around, node: s.Input, incoming: list[float]) -> Composed:
    gain = 1 / node.unit if around.graph.stage == "quantized" else 1.0
    return gain, gain, ""


def _spread(around: _Around, node: s.Node) -> list[float]:
    """How often each operand is repeated, as a factor of its norm."""
    size = around.size
    return [sqrt(prod(size[node.name]) / max(prod(size[i]), 1)) for i in node.inputs]


@GAINS.rule(s.Add)
def _add(around: _Around, node: s.Add, incoming: list[float]) -> Composed:
    pairs = zip(_spread(around, node), incoming, strict=True)
    return 1.0, sum(k * x for k, x in pairs), "sum"


@GAINS.rule(s.Mul)
def _mul(around: _Around, node: s.Mul, incoming: list[float]) -> Composed:
    spread = _spread(around, node)
    a, b = (_largest(around.graph, node, i, around.bounds) for i in node.inputs)
    to_here = _times(b * spread[0], incoming[0]) + _times(a * spread[1], incoming[1])
    return max(a, b), to_here, "product rule"


@GAINS.rule(s.MatMul)
def _matmul(around: _Around, node: s.MatMul, incoming: list[float]) -> Composed:
    a, b = (_largest(around.graph, node, i, around.bounds) for i in node.inputs)
    (*lead_a, n, k), (*lead_b, _, m) = (around.size[i] for i in node.inputs)
    lead = np.broadcast_shapes(tuple(lead_a), tuple(lead_b))
    left = b * sqrt(k * m) * sqrt(prod(lead) / max(prod(lead_a), 1))
    right = a * sqrt(n * k) * sqrt(prod(lead) / max(prod(lead_b), 1))
    to_here = _times(left, incoming[0]) + _times(right, incoming[1])
    return max(left, right), to_here, "product rule"


@GAINS.rule(s.Conv2d)
@_one_input
def _conv(around: _Around, node: s.Conv2d) -> tuple[float, str]:
    channels, height, width = around.size[node.x]
    norm, method = convolution_norm(
        around.graph.tensors[node.weight],
        (channels, height, width),
        node.stride,
        node.padding,
        node.dilation,
        node.groups,
    )
    return norm * 2.0**node.exponent, method


@GAINS.rule(s.Linear)
@_one_input
def _linear(around: _Around, node: s.Linear) -> tuple[float, str]:
    return matrix_norm(around.graph.tensors[node.weight]) * 2.0**node.exponent, "exact"


@GAINS.rule(s.BatchNorm)
@_one_input
def _batch_norm(around: _Around, node: s.BatchNorm) -> tuple[float, str]:
    scale, var = (around.graph.tensors[t].astype(np.float64) for t in (node.scale, node.var))
    return float(np.abs(scale / np.sqrt(var + node.eps)).max()), "exact"


@GAINS.rule(s.LIF, s.IntegerLIF, s.SoftIntegerLIF, s.Or)
@_one_input
def _neuron(around: _Around, node: s.Node) -> tuple[float, str]:
    return ramp_of(node, around.graph.tensors).slope, "ramp"


@GAINS.rule(s.MaxPool2d)
@_one_input
def _max_pool(around: _Around, node: s.MaxPool2d) -> tuple[float, str]:
    return sqrt(_windows(node)), "windows"  # a value wins in so many windows at most


@GAINS.rule(s.SumPool2d)
@_one_input
def _sum_pool(around: _Around, node: s.SumPool2d) -> tuple[float, str]:
    # rows hold a window's ones, columns the windows of a value: sqrt(|A|_1 |A|_inf)
    return sqrt(prod(node.kernel) * _windows(node)), "windows"


def _windows(node: s.MaxPool2d | s.SumPool2d) -> int:
    """Of which a value is part, at most."""
    return prod(ceil(k / step) for k, step in zip(node.kernel, node.stride, strict=True))


@GAINS.rule(s.Sum)
@_one_input
def _sum(around: _Around, node: s.Sum) -> tuple[float, str]:
    return sqrt(prod(around.size[node.x][i] for i in node.axes)), "exact"


@GAINS.rule(s.Rearrange)
@_one_input
def _viewed(around: _Around, node: s.Rearrange) -> tuple[float, str]:
    """A value that repeats counts as often."""
    repeats = prod(n for n, stride in zip(node.sizes, node.strides) if not stride)
    return sqrt(repeats), "" if repeats == 1 else "exact"


@GAINS.rule(s.TimeMean, s.Offset, s.Delay)
@_one_input
def _kept(around: _Around, node: s.Node) -> tuple[float, str]:
    return 1.0, ""


@GAINS.rule(s.RateSoftmax)
@_one_input
def _rate_softmax(around: _Around, node: s.RateSoftmax) -> tuple[float, str]:
    raise NeurocompileError(
        "NC8005",
        f"layer '{node.name}' (RateSoftmax) counts thresholds, which are steps: integers keep no gain of the softmax; "
        "give the model's ONNX file, whose softmax has one",
    )


@GAINS.rule(s.Function)
@_one_input
def _function(around: _Around, node: s.Function) -> tuple[float, str]:
    found = around.bounds[node.x]
    if found is None:
        raise NeurocompileError(
            "NC8005",
            f"layer '{node.name}' ({node.function}) reads '{node.x}', a real value that nothing bounds",
        )
    x = np.linspace(-found, found, 65537)
    slopes = np.abs(np.diff(function(node.function, node.gain * x))) / max(x[1] - x[0], 1e-300)
    return float(slopes.max()), "sampled slope"


@GAINS.rule(s.Normalization)
@_one_input
def _normalization(around: _Around, node: s.Normalization) -> tuple[float, str]:
    # its Jacobian is a projection over sqrt(var + epsilon)
    return (1 / sqrt(node.epsilon) if node.epsilon else inf), "exact"


@GAINS.rule(s.Integrator, s.IntegerIntegrator, s.Previous, s.Clip, s.Maximum)
@GAINS.rule(s.IntegerFunction, s.Falling, s.Combination, s.DigitMul, s.DigitMatMul)
@GAINS.rule(s.SquareSum, s.DigitSum, s.Quotient, s.TokenMean)
@_one_input
def _integrator(around: _Around, node: s.Node) -> tuple[float, str]:
    raise NeurocompileError(
        "NC8005", f"layer '{node.name}' ({type(node).__name__}) has no known Lipschitz constant"
    )


# the Jacobian of a softmax, diag(p) - p p^T, has norm 1/2 at most
GAINS.add(_one_input(lambda around, node: (abs(node.gain) / 2, "exact")), s.Softmax, s.StepSoftmax)
GAINS.add(_one_input(lambda around, node: (abs(node.factor), "")), s.Scale)
# its rounding aside, like that of all integers here
GAINS.add(_one_input(lambda around, node: (2.0**-node.bits, "")), s.Shift)
GAINS.add(_one_input(lambda around, node: (float(node.steps), "")), s.TimeSum)
GAINS.add(_one_input(lambda around, node: (abs(node.unit), "exact")), s.Output)


def _largest(
    graph: s.SpikingGraph, node: s.Node, name: str, bounds: dict[str, float | None]
) -> float:
    found = bounds[name]
    if found is None:
        raise NeurocompileError(
            "NC8005",
            f"layer '{node.name}' ({type(node).__name__}) multiplies by '{name}', a real value that nothing bounds: "
            "no Lipschitz bound exists; use the measured local value",
        )
    return found


def _times(a: float, b: float) -> float:
    """A product in which nothing times infinity is nothing."""
    return 0.0 if a == 0 or b == 0 else a * b
