"""An upper bound of a model's Lipschitz constant: per-layer spectral norms, composed along the
graph.

It bounds the network whose neurons are ramps (:mod:`neurocompile.theory.bounds.ramp`), in the Euclidean
norm, from the input to the logits: residuals add, compositions multiply, a product of bounded
values takes the product rule (:mod:`.magnitude` bounds them), a softmax counts half of its gain.
Being a product over all layers it is far above what any data show;
:mod:`neurocompile.theory.measure.sensitivity` measures that.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, prod, sqrt

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.theory.bounds.magnitude import magnitudes
from neurocompile.theory.bounds.operator_norm import convolution_norm, matrix_norm
from neurocompile.theory.bounds.ramp import ramp_of

__all__ = ["LayerGain", "LipschitzBound", "layer_gains", "lipschitz_bound"]


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
    size, bounds = shapes(graph), magnitudes(graph)
    total: dict[str, float | None] = {}
    layers, missing = [], None
    for node in graph.nodes:
        if isinstance(node, s.Input):
            total[node.name] = 1 / node.unit if graph.stage == "quantized" else 1.0
            continue
        incoming = [total[i] for i in node.inputs]
        known = [1.0 if x is None else x for x in incoming]
        gain: float | None
        to_here: float | None
        try:
            gain, to_here, method = _compose(graph, node, known, size, bounds)
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


def _compose(
    graph: s.SpikingGraph,
    node: s.Node,
    incoming: list[float],
    size: dict[str, tuple[int, ...]],
    bounds: dict[str, float | None],
) -> tuple[float, float, str]:
    """(gain of the node, bound up to it, method); an empty method for nodes not worth a line."""
    if isinstance(node, (s.Add, s.Mul)):
        spread = [sqrt(prod(size[node.name]) / max(prod(size[i]), 1)) for i in node.inputs]
        if isinstance(node, s.Add):
            return 1.0, sum(k * x for k, x in zip(spread, incoming, strict=True)), "sum"
        a, b = (_largest(graph, node, i, bounds) for i in node.inputs)
        return (
            max(a, b),
            _times(b * spread[0], incoming[0]) + _times(a * spread[1], incoming[1]),
            "product rule",
        )
    if isinstance(node, s.MatMul):
        a, b = (_largest(graph, node, i, bounds) for i in node.inputs)
        (*lead_a, n, k), (*lead_b, _, m) = (size[i] for i in node.inputs)
        lead = np.broadcast_shapes(tuple(lead_a), tuple(lead_b))
        left = b * sqrt(k * m) * sqrt(prod(lead) / max(prod(lead_a), 1))
        right = a * sqrt(n * k) * sqrt(prod(lead) / max(prod(lead_b), 1))
        return (
            max(left, right),
            _times(left, incoming[0]) + _times(right, incoming[1]),
            "product rule",
        )
    gain, method = _gain(graph, node, size)
    return gain, _times(gain, incoming[0]), method


def _gain(
    graph: s.SpikingGraph, node: s.Node, size: dict[str, tuple[int, ...]]
) -> tuple[float, str]:
    """Lipschitz constant of a node with one input, and how it was found."""
    if isinstance(node, s.Conv2d):
        channels, height, width = size[node.x]
        norm, method = convolution_norm(
            graph.tensors[node.weight],
            (channels, height, width),
            node.stride,
            node.padding,
            node.dilation,
            node.groups,
        )
        return norm * 2.0**node.exponent, method
    if isinstance(node, s.Linear):
        return matrix_norm(graph.tensors[node.weight]) * 2.0**node.exponent, "exact"
    if isinstance(node, s.BatchNorm):
        scale, var = (
            graph.tensors[node.scale].astype(np.float64),
            graph.tensors[node.var].astype(np.float64),
        )
        return float(np.abs(scale / np.sqrt(var + node.eps)).max()), "exact"
    if isinstance(node, (s.LIF, s.IntegerLIF, s.SoftIntegerLIF, s.Or)):
        return ramp_of(node, graph.tensors).slope, "ramp"
    if isinstance(node, s.Softmax):
        return node.gain / 2, "exact"  # its Jacobian diag(p) - p p^T has norm 1/2 at most
    if isinstance(node, s.Scale):
        return abs(node.factor), ""
    if isinstance(node, s.Shift):
        return 2.0**-node.bits, ""  # its rounding aside, like that of all integers here
    if isinstance(node, s.TimeSum):
        return float(node.steps), ""
    if isinstance(node, s.Output):
        return abs(node.unit), "exact"
    if isinstance(node, s.Sum):
        return sqrt(prod(size[node.x][i] for i in node.axes)), "exact"
    if isinstance(node, s.MaxPool2d):  # a value wins in so many windows at most
        return sqrt(
            prod(ceil(k / step) for k, step in zip(node.kernel, node.stride, strict=True))
        ), "windows"
    if isinstance(
        node, s.SumPool2d
    ):  # rows hold a window's ones, columns the windows of a value: sqrt(|A|_1 |A|_inf)
        return sqrt(
            prod(node.kernel)
            * prod(ceil(k / step) for k, step in zip(node.kernel, node.stride, strict=True))
        ), "windows"
    if isinstance(node, (s.Rearrange, s.TimeMean, s.Offset)):
        return 1.0, ""
    if isinstance(node, s.RateSoftmax):
        raise NeurocompileError(
            "NC8005",
            f"layer '{node.name}' (RateSoftmax) counts thresholds, which are steps: integers keep no gain of the softmax; "
            "give the model's ONNX file, whose softmax has one",
        )
    raise NeurocompileError(
        "NC8005", f"layer '{node.name}' ({type(node).__name__}) has no known Lipschitz constant"
    )


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
