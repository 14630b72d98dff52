"""ONNX operators of real values in one step: functions of each element, normalizations, softmax, and
the masks of attention.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.affine import affine
from neurocompile.frontends.onnx.bounds import changes_nothing
from neurocompile.frontends.onnx.composed import FUNCTION, NORMALIZATION
from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.masks import MASKED, only_softmaxes
from neurocompile.frontends.onnx.values import has_time
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout, shown
from neurocompile.ir.text import Ref

__all__ = ["REAL_RULES"]


def _applied(
    im: Importer, node: onnx.NodeProto, name: str, gain: float = 1.0, scale: float = 1.0
) -> None:
    """``scale * function(gain * x)``; the value lies as it is."""
    x, wanted = im.traced[node.input[0]], node.name or node.output[0]
    fields: dict[str, Any] = {"function": name, "gain": gain}
    y = im.emit(s.Function, wanted, im.shapes[x.ref], x=x.ref, **fields)
    if scale != 1.0:
        y = im.emit(s.Scale, f"{wanted}.scaled", im.shapes[y], x=y, factor=scale)
    im.keep(node, im.over(x, y))


def _plain(name: str, **required: float) -> Rule:
    """The function ``name``, for the attributes' values ``required``."""

    def rule(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if changes_nothing(im, node):
            im.keep(node, im.traced[node.input[0]])
            return
        for key, value in required.items():
            if not np.isclose(attributes.get(key, value), value, rtol=1e-5):
                raise im.error(
                    "NC1009", f"{key} is {attributes[key]:.6g}; {value:.6g} is supported"
                )
        _applied(im, node, name)

    return rule


def _gelu(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    exact = attributes.get("approximate", b"none") == b"none"
    _applied(im, node, "gelu" if exact else "gelu_tanh")


def _swish(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    alpha = float(attributes.get("alpha", 1.0))
    if not alpha:
        raise im.error("NC1009", "alpha is 0")
    _applied(im, node, "silu", alpha, 1 / alpha)


def _hard_sigmoid(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    attributes = {"alpha": 0.2, **attributes}  # ONNX's own, which torch never writes
    _plain("hardsigmoid", alpha=1 / 6, beta=0.5)(im, node, attributes)


def _pow(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    power = im.constants.get(node.input[1])
    same = power is not None and power.size and (power == power.reshape(-1)[0]).all()
    value = float(power.reshape(-1)[0]) if power is not None and same else 0.0
    if value not in (1.0, 2.0, 3.0):
        raise im.error("NC1009", "a power; squares and cubes of a signal are supported")
    x = im.traced[node.input[0]]
    if value == 1.0:
        im.keep(node, x)
        return
    _applied(im, node, "square")
    if value == 3.0:
        y = im.traced[node.output[0]]
        name = f"{node.name or node.output[0]}.cube"
        im.keep(node, im.over(x, im.emit(s.Mul, name, im.shapes[x.ref], a=y.ref, b=x.ref)))


def _clip(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """``low + relu(x - low) - relu(x - high)``."""
    if changes_nothing(im, node):
        im.keep(node, im.traced[node.input[0]])
        return
    ends = [attributes.get("min"), attributes.get("max")]
    for i in (1, 2):
        found = im.constant(node, i)
        ends[i - 1] = ends[i - 1] if found is None else float(found.reshape(-1)[0])
    low, high = (None if e is None or not np.isfinite(e) else float(e) for e in ends)
    if low is None or high is not None and high < low:
        raise im.error("NC1009", f"a cut to {ends}; to values from a number on is supported")
    x, wanted = im.traced[node.input[0]], node.name or node.output[0]

    def shifted(ref: Ref, by: float, name: str) -> Ref:
        if not by:
            return ref
        tensor = im.store(f"{wanted}.{name}", np.full((1,) * len(im.shapes[ref]), by))
        return im.emit(s.Offset, f"{wanted}.{name}", im.shapes[ref], x=ref, offset=tensor)

    def above(end: float, name: str) -> Ref:
        inner, size = shifted(x.ref, -end, f"{name}.less"), im.shapes[x.ref]
        return im.emit(s.Function, f"{wanted}.{name}", size, x=inner, function="relu")

    y, size = above(low, "low"), im.shapes[x.ref]
    if high is not None:
        cut = im.emit(s.Scale, f"{wanted}.cut", size, x=above(high, "high"), factor=-1.0)
        y = im.emit(s.Add, f"{wanted}.between", size, a=y, b=cut)
    im.keep(node, im.over(x, shifted(y, low, "more")))


def _leaky_relu(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """``alpha x + (1 - alpha) relu(x)``."""
    if changes_nothing(im, node):
        im.keep(node, im.traced[node.input[0]])
        return
    alpha = float(attributes.get("alpha", 0.01))
    _applied(im, node, "relu", 1.0, 1 - alpha)
    x, y, wanted = (
        im.traced[node.input[0]],
        im.traced[node.output[0]],
        node.name or node.output[0],
    )
    size = im.shapes[x.ref]
    leak = im.emit(s.Scale, f"{wanted}.leak", size, x=x.ref, factor=alpha)
    im.keep(node, im.over(x, im.emit(s.Add, f"{wanted}.sum", size, a=y.ref, b=leak)))


def _function(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    gain, scale = float(attributes["gain"]), float(attributes["scale"])
    _applied(im, node, attributes["function"].decode(), gain, scale)


def _negative(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x, wanted = im.traced[node.input[0]], node.name or node.output[0]
    im.keep(node, im.over(x, im.emit(s.Scale, wanted, im.shapes[x.ref], x=x.ref, factor=-1.0)))


# ---- normalizations ------------------------------------------------------------------------------


def _normalized(
    im: Importer, node: onnx.NodeProto, axes: list[int], epsilon: float, centered: bool
) -> Traced:
    """The signal normalized over ``axes``, all of features."""
    x = im.settled(im.traced[node.input[0]])
    if any(a.axis for i in axes for a in x.dims[i]):
        raise im.error(
            "NC1008",
            f"a normalization over time or samples of {shown(x.layout.shape)}; over features is supported",
        )
    if not epsilon >= 0:
        raise im.error("NC1009", f"epsilon is {epsilon:.6g}")
    ref = im.features(x)
    y = im.emit(
        s.Normalization,
        node.name or node.output[0],
        im.shapes[ref],
        x=ref,
        axes=tuple(sorted(im.place(x, i) for i in axes)),
        epsilon=epsilon,
        centered=centered,
    )
    return im.fresh(y, im.pattern(x))


def _weighted(im: Importer, node: onnx.NodeProto, y: Traced, rank: int) -> None:
    """Keep ``y`` times the node's weight plus its bias; ``rank`` axes of theirs end at the last."""
    one = np.ones((1,) * rank)
    weight, bias = im.constant(node, 1, one), im.constant(node, 2, 0 * one)
    for value in (weight, bias):
        if not np.isfinite(value).all():
            raise im.error("NC1004", "a weight or bias that is NaN or infinite")
    shape = np.broadcast_shapes(weight.shape, bias.shape)
    weight, bias = (np.broadcast_to(v, shape).astype(np.float64) for v in (weight, bias))
    affine(im, node, y, weight, bias)


def _layer_norm(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if len([o for o in node.output if o]) > 1:
        raise im.error("NC1009", "one output is supported")
    rank = len(im.traced[node.input[0]].dims)
    (first,) = im.axes([attributes.get("axis", -1)], rank)
    centered = node.op_type == "LayerNormalization"
    epsilon = float(attributes.get("epsilon", 1e-5))
    y = _normalized(im, node, list(range(first, rank)), epsilon, centered)
    _weighted(im, node, y, rank - first)


def _by_parts(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Arithmetic that is a normalization."""
    rank = len(im.traced[node.input[0]].dims)
    axes = im.axes(attributes["axes"], rank)
    centered = bool(attributes["centered"])
    im.keep(node, _normalized(im, node, axes, float(attributes["epsilon"]), centered))


def _group_norm(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.settled(im.traced[node.input[0]])
    shape = x.layout.shape
    if len(shape) < 3 or any(a.axis for d in x.dims[1:] for a in d) or im.place(x, 1):
        raise im.error("NC1008", f"samples, channels and more are wanted of {shown(shape)}")
    channels = shape[1]
    groups = int(attributes.get("num_groups", channels))
    if groups < 1 or channels % groups:
        raise im.error("NC1009", f"{groups} groups of {channels} channels")
    ref, wanted = im.features(x), node.name or node.output[0]
    size = im.shapes[ref]
    rows = (groups, prod(size) // groups)

    def view(name: str, of: Ref, shape: tuple[int, ...]) -> Ref:
        fields: dict[str, Any] = {"sizes": (prod(shape),), "strides": (1,)}
        return im.emit(s.Rearrange, f"{wanted}.{name}", shape, x=of, shape=shape, **fields)

    y = im.emit(
        s.Normalization,
        wanted,
        rows,
        x=view("groups", ref, rows),
        axes=(1,),
        epsilon=float(attributes.get("epsilon", 1e-5)),
    )
    arrays = [im.constant(node, 1), im.constant(node, 2)]
    if any(v.shape not in ((channels,), (groups,)) for v in arrays):
        raise im.error("NC1006", f"weights {[list(v.shape) for v in arrays]}")
    weight, bias = (
        np.repeat(np.asarray(v, np.float64), channels // len(v)).reshape(
            -1, *[1] * (len(shape) - 2)
        )
        for v in arrays
    )
    affine(im, node, im.fresh(view("together", y, size), im.pattern(x)), weight, bias)


# ---- attention -----------------------------------------------------------------------------------


def _softmax(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    old = any(o.domain in ("", "ai.onnx") and o.version < 13 for o in im.model.proto.opset_import)
    rank = len(x.dims)
    (axis,) = im.axes([attributes.get("axis", 1 if old else -1)], rank)
    if any(a.axis for a in x.dims[axis]) or old and axis != rank - 1:
        raise im.error(
            "NC2012",
            f"a softmax over axis {axis} of {shown(x.layout.shape)}; over an axis of features is supported",
        )
    if node.output[0] in {o.name for o in im.graph.output}:
        raise im.error(
            "NC1009",
            "a softmax of the logits: leave it to the host, which needs only the largest one for a prediction",
        )
    order = [i for i in range(rank) if i != axis] + [axis]
    turned = Traced(x.ref, Layout(tuple(x.dims[i] for i in order)))
    ref = im.features(turned)
    kind = s.StepSoftmax if has_time(x.layout) or not _is_mean(im, x.ref) else s.Softmax
    y = im.fresh(
        im.emit(kind, node.name or node.output[0], im.shapes[ref], x=ref), im.pattern(turned)
    )
    back = tuple(y.dims[order.index(i)] for i in range(rank))
    im.keep(node, Traced(y.ref, Layout(back)))


def _is_mean(im: Importer, ref: Ref) -> bool:
    """Whether the value depends on a mean over time."""
    averaged: set[str] = set()
    for n in im.nodes:
        if isinstance(n, s.TimeMean) or averaged.intersection(n.inputs):
            averaged.add(n.name)
    return ref in averaged


def _where(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    chosen = im.constants.get(node.input[0])
    if chosen is None:
        raise im.error(
            "NC1003", "a choice by values; by a constant, or a product with spikes, is supported"
        )
    chosen = chosen.astype(bool)
    for k, all_of in ((1, chosen.all()), (2, not chosen.any())):
        if all_of and node.input[k] in im.traced and chosen.size:
            im.keep(node, im.traced[node.input[k]])
            return
    signals = [k for k in (1, 2) if node.input[k] in im.traced]
    if len(signals) != 1:
        raise im.error("NC1009", "a choice between two signals; of a signal or a constant")
    (k,) = signals
    x, other = im.traced[node.input[k]], np.asarray(im.constants[node.input[3 - k]], np.float64)
    kept = (chosen if k == 1 else ~chosen).astype(np.float64)
    if other.size and (other <= MASKED).all() and only_softmaxes(im, node.output[0]):
        affine(im, node, x, np.ones((1,) * kept.ndim), (1 - kept) * MASKED)
        return
    if not np.isfinite(other).all():
        raise im.error("NC1004", "a constant that is NaN or infinite, and no softmax behind it")
    shape = np.broadcast_shapes(kept.shape, other.shape)
    affine(im, node, x, np.broadcast_to(kept, shape), (1 - kept) * other)


def _is_nan(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """No signal is: what a safe softmax asks."""
    im.constants[node.output[0]] = np.zeros((1,) * len(im.traced[node.input[0]].dims), bool)


REAL_RULES: dict[str, Rule] = {
    "Relu": _plain("relu"),
    "Abs": _plain("abs"),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "Softplus": _plain("softplus"),
    "Elu": _plain("elu", alpha=1.0),
    "HardSwish": _plain("hardswish"),
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "Gelu": _gelu,
    "Swish": _swish,
    "Pow": _pow,
    "Neg": _negative,
    FUNCTION: _function,
    NORMALIZATION: _by_parts,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm,
    "SimplifiedLayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _group_norm,
    "Softmax": _softmax,
    "Where": _where,
    "IsNaN": _is_nan,
}
