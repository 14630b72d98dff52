"""ONNX operators that compute something: each becomes one node of the SpikingGraph."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.affine import AFFINE_RULES
from neurocompile.frontends.onnx.borders import BORDER_RULES
from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.convolutions import CONVOLUTION_RULES, linear, linear_along
from neurocompile.frontends.onnx.einsum import EINSUM_RULES
from neurocompile.frontends.onnx.feedback import previous
from neurocompile.frontends.onnx.general import (
    DELAY,
    INTEGRATOR,
    NO_LEAK,
    PREVIOUS,
    SOFT_TYPE,
    TOKEN_MEAN,
)
from neurocompile.frontends.onnx.joins import JOIN_RULES
from neurocompile.frontends.onnx.maxima import MAXIMUM_RULES
from neurocompile.frontends.onnx.pools import POOL_RULES
from neurocompile.frontends.onnx.real import REAL_RULES
from neurocompile.frontends.onnx.slices import SLICE_RULES
from neurocompile.frontends.onnx.upsampling import UPSAMPLING_RULES
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout, shown
from neurocompile.ir.spiking_rules import LARGEST_LEVELS
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["LAYER_RULES"]


def _lif(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    wanted = node.name or node.output[0]
    taus = im.constant(node, 1) if node.op_type in ("ChannelLIF", SOFT_TYPE) else None
    if node.op_type != SOFT_TYPE or taus is None or (taus != 1.0).any():
        _check_leading(im, x, wanted)  # without a memory all steps and samples are alike
    if taus is not None and taus.size and (taus == taus.flat[0]).all():
        tau = float(taus.flat[0])
        attributes, taus = {**attributes, "tau": np.inf if tau == NO_LEAK else tau}, None
    soft = node.op_type == SOFT_TYPE
    names = ["tau", "subtract"] if soft else ["tau", "v_threshold", "v_reset"]
    names = names[taus is not None :]
    values = {k: float(attributes[k]) for k in names if k in attributes}
    missing = set(names) - set(values)
    fixed = [v for k, v in values.items() if k != "tau"]
    reset = values.get("subtract", 0.0) >= 0
    if missing or not np.isfinite(fixed).all() or not values.get("tau", 1.0) >= 1 or not reset:
        raise im.error(
            "NC1009",
            f"LIF attributes {values} lack {sorted(missing)} or are out of range (tau >= 1)",
        )
    more: list[float] = []
    raised = 0.0
    if soft:
        values["v_threshold"], *more = _thresholds(im, node)
        if values["v_threshold"] <= 0:
            raised = _raised(im, values, more)
    # A view of a feature map is left as it lies: neurons act on each element alone.
    shape = im.shapes[x.ref]
    lies = (
        len(shape) == 3
        and wanted not in im.fed_back
        and any(im.axis_of(x, k) == 0 for k in range(1, len(x.dims)))
    )
    axis, decays = 0, bool(attributes.get("decay_input", 1))
    if taus is not None:
        dim = _channel_axis(im, x, taus)
        lies = lies and im.axis_of(x, dim) is not None
        axis = im.axis_of(x, dim) if lies else im.place(x, dim)  # type: ignore[assignment]
    x_ref = x.ref if lies else im.features(x)
    fields: dict[str, float | TensorRef] = dict(values)
    if taus is not None:
        # an infinite tau is no leak, for which a number that float32 cannot tell from it stands
        tau = np.minimum(taus.reshape(-1).astype(np.float64), np.finfo(np.float32).max)
        if decays:
            x_ref = _divided(im, f"{wanted}.input", x_ref, axis, tau)
        broad = tau.reshape(-1, *[1] * (len(im.shapes[x_ref]) - 1 - axis))
        fields["tau"], decays = im.store(f"{wanted}.tau", broad), False
    ref = im.emit(
        s.LIF,
        wanted,
        im.shapes[x_ref],
        x=x_ref,
        **fields,
        decay_input=decays,
        soft_reset=soft or bool(attributes.get("soft_reset", 0)),
        more=tuple(more),
        bias=im.store(f"{wanted}.raised", np.asarray([raised], np.float32)) if raised else None,
    )
    y = im.over(x, ref) if lies else im.fresh(ref, im.pattern(x))
    im.neurons[wanted] = ref
    im.layer_values[ref], im.layouts[ref] = node.output[0], y.layout
    im.keep(node, y)


def _thresholds(im: Importer, node: onnx.NodeProto) -> list[float]:
    found = im.constant(node, 2)
    values = [] if found is None or found.ndim != 1 else found.astype(np.float64).tolist()
    if not 1 <= len(values) <= LARGEST_LEVELS or values != sorted(values):
        raise im.error("NC1009", f"a neuron has 1 to {LARGEST_LEVELS} thresholds, rising")
    return values


def _raised(im: Importer, values: dict[str, float], more: list[float]) -> float:
    """What is added to thresholds, in place, and to the current, so that all thresholds are above 0.

    A power of two, which currents on a grid take without rounding; thresholds are rounded up, so
    that a current just below one, as half a unit is for torch.round, stays below it.
    """
    if values.get("tau") != 1.0 or values["subtract"]:
        raise im.error("NC1009", "thresholds of a neuron with memory are above 0")
    raised = 2.0 ** (np.floor(np.log2(max(abs(values["v_threshold"]), 0.5))) + 1)

    def lifted(theta: float) -> float:
        near = np.float32(theta + raised)
        return float(near if near >= theta + raised else np.nextafter(near, np.float32(np.inf)))

    values["v_threshold"] = lifted(values["v_threshold"])
    more[:] = [lifted(theta) for theta in more]
    return float(raised)


def _integrator(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x, wanted = im.traced[node.input[0]], node.name or node.output[0]
    _check_leading(im, x, wanted)
    decay = float(attributes.get("decay", -1.0))
    if not 0 <= decay <= 1:
        raise im.error("NC1009", f"an integrator that keeps {decay:.6g} of its value; 0 to 1")
    x_ref = im.features(x)
    ref = im.emit(s.Integrator, wanted, im.shapes[x_ref], x=x_ref, decay=decay)
    im.keep(node, im.fresh(ref, im.pattern(x)))


def _token_mean(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x, v, wanted = im.traced[node.input[0]], im.traced[node.input[1]], node.name or node.output[0]
    for value in (x, v):
        _check_leading(im, value, wanted)
    decay, first = (np.asarray(im.constant(node, k), np.float32) for k in (2, 3))
    if not (decay.size and (decay >= 0).all() and (decay <= 1).all()):
        raise im.error("NC1009", "a mean that keeps a share of its weights outside of 0 to 1")
    if not (first.size and (first >= 2.0**-20).all() and (first <= 1 << 20).all()):
        raise im.error(
            "NC1009", "a mean that counts its own step by a factor outside of 2^-20 to 2^20"
        )
    x_ref, v_ref = im.features(x), im.features(v)
    size = im.shapes[x_ref]
    if im.shapes[v_ref] != size or np.broadcast_shapes(decay.shape, first.shape, size) != size:
        shapes = [*im.shapes[v_ref], *decay.shape, *first.shape]
        raise im.error("NC1006", f"values and factors {shapes} of weights {shown(size)}")
    fields = {k: im.store(f"{wanted}.{k}", t) for k, t in (("decay", decay), ("first", first))}
    ref = im.emit(s.TokenMean, wanted, size, k=x_ref, v=v_ref, **fields)
    im.keep(node, im.fresh(ref, im.pattern(x)))


def _delay(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x, wanted = im.traced[node.input[0]], node.name or node.output[0]
    _check_leading(im, x, wanted)
    im.keep(node, im.over(x, im.emit(s.Delay, wanted, im.shapes[x.ref], x=x.ref)))


def _channel_axis(im: Importer, x: Traced, taus: np.ndarray) -> int:
    """The axis of ``x`` whose elements have a tau each."""
    wide = [len(x.dims) - taus.ndim + k for k, n in enumerate(taus.shape) if n > 1]
    if (
        len(wide) != 1
        or wide[0] < 1
        or not im.fits(taus, x)
        or any(a.axis for a in x.dims[wide[0]])
    ):
        raise im.error(
            "NC1009",
            f"a tau of shape {list(taus.shape)} for {shown(x.layout.shape)}; one for each channel is supported",
        )
    if not (taus >= 1).all():
        raise im.error("NC1009", f"a tau of {taus.min():.6g}; it is at least 1")
    return wide[0]


def _divided(im: Importer, wanted: str, x: Ref, axis: int, by: np.ndarray) -> Ref:
    """``x`` divided by a number for each element of ``axis``."""
    arrays = {"scale": 1 / by, "shift": 0 * by, "mean": 0 * by, "var": np.ones_like(by)}
    fields = {name: im.store(f"{wanted}.{name}", array) for name, array in arrays.items()}
    return im.emit(s.BatchNorm, wanted, im.shapes[x], x=x, eps=0.0, axis=axis, **fields)


def _check_leading(im: Importer, x: Traced, name: str) -> None:
    """NC1008 unless axis 0 is time, or time and batch where neurons are to run for each sample
    alone.
    """
    leading = [a.axis for a in x.dims[0] if a.size > 1]
    one = im.model.metadata.get("neurocompile.T") == "1" or any(a.axis == "T" for a in x.dims[0])
    if leading == ["T"] or not leading and one:
        return
    if leading == ["T", "B"] and im.per_sample:
        im.leaking.append(name)
        return
    named = "+".join(a or "feature" for a in leading) or "size 1"
    if leading == ["T", "B"]:
        advice = "; samples of a batch leak into each other. Compile it for each sample alone (`per_sample_lif`)"
    else:
        advice = ""
    raise im.error("NC1008", f"the leading axis of a LIF must be time; here it is {named}{advice}")


def _gemm(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if attributes.get("transA", 0):
        raise im.error("NC1009", "Gemm with transA is not supported")
    weight = im.constant(node, 1) * np.float32(attributes.get("alpha", 1.0))
    if weight.ndim != 2:
        raise im.error("NC1009", f"a constant of shape {list(weight.shape)}; a matrix is supported")
    bias = im.constant(node, 2)
    bias = None if bias is None else bias * np.float32(attributes.get("beta", 1.0))
    weight = weight if attributes.get("transB", 0) else weight.T
    im.keep(node, linear(im, node, weight, node.input[1], bias))


def _matmul(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    a, b = (im.traced.get(i) for i in node.input)
    if a is not None and b is None:
        weight = im.constant(node, 1)
        if weight.ndim != 2:
            raise im.error(
                "NC1009", f"a constant of shape {list(weight.shape)}; a matrix is supported"
            )
        im.keep(node, linear(im, node, weight.T, node.input[1], None))
        return
    if a is None or b is None:
        assert b is not None
        weight = im.constant(node, 0)
        if weight.ndim != 2 or len(b.dims) < 2:
            raise im.error(
                "NC1009", f"a constant of shape {list(weight.shape)}; a matrix is supported"
            )
        im.keep(node, linear_along(im, node, weight, node.input[0], b, len(b.dims) - 2))
        return
    pattern = im.common(a, b, len(a.dims) - 2)
    if pattern[-1] is not None or pattern[-2] is not None or len(a.dims) != len(b.dims):
        raise im.error("NC1008", "the last two axes of a product must be features")
    left, right = im.features(a, pattern), im.features(b, pattern)
    shape = (
        *np.broadcast_shapes(im.shapes[left][:-2], im.shapes[right][:-2]),
        im.shapes[left][-2],
        im.shapes[right][-1],
    )
    y = im.emit(s.MatMul, node.name or node.output[0], tuple(shape), a=left, b=right)
    im.keep(node, im.fresh(y, pattern))


def _reduce(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    axes = attributes.get("axes")
    axes = im.constant(node, 1) if axes is None else axes
    if axes is None or not len(axes):
        raise im.error("NC1009", "a reduction over all axes would mix samples")
    x = im.traced[node.input[0]]
    _reduce_axes(
        im,
        node,
        x,
        im.axes(axes, len(x.dims)),
        bool(attributes.get("keepdims", 1)),
        node.op_type == "ReduceMean",
    )


def _reduce_axes(
    im: Importer, node: onnx.NodeProto, x: Traced, axes: list[int], keepdims: bool, mean: bool
) -> None:
    wanted = node.name or node.output[0]
    single = [i for i in axes if not any(a.axis or a.size > 1 for a in x.dims[i])]
    if single:  # a sum or mean over one value is that value
        axes = [i for i in axes if i not in single]
        if not keepdims:
            dims = tuple(d for i, d in enumerate(x.dims) if i not in single)
            x, axes = (Traced(x.ref, Layout(dims)), [i - sum(k < i for k in single) for i in axes])
        if not axes:
            im.keep(node, x)
            return
    for i in axes:
        if any(a.axis == "B" and a.size > 1 for a in x.dims[i]):
            raise im.error("NC1008", "a reduction over the batch would mix samples")
    time = [i for i in axes if any(a.axis == "T" for a in x.dims[i])]
    if any(not a.axis for i in time for a in x.dims[i]):
        raise im.error(
            "NC1008", "a reduction over time and features in one axis; reduce them one by one"
        )
    pattern = list(im.pattern(x))
    rest = [i for i in axes if pattern[i] is None]
    ref = im.features(x)
    if rest:
        feature_axes = tuple(im.place(x, i) for i in rest)
        old = im.shapes[ref]
        kept = [1 if k in feature_axes else n for k, n in enumerate(old)]
        shape = (
            tuple(kept)
            if keepdims
            else tuple(n for k, n in enumerate(old) if k not in feature_axes)
        )
        count = prod(old[k] for k in feature_axes)
        ref = im.emit(s.Sum, wanted, shape, x=ref, axes=feature_axes, keepdims=keepdims)
        if mean:
            ref = im.emit(s.Scale, f"{wanted}.mean", shape, x=ref, factor=1.0 / count)
    if time:
        ref = im.emit(s.TimeMean, f"{wanted}.time", im.shapes[ref], x=ref)
        if not mean:  # over the file's T, whatever T the model is compiled for
            ref = im.emit(
                s.Scale, f"{wanted}.sum", im.shapes[ref], x=ref, factor=float(im.exported_T)
            )
    for i in time:
        pattern[i] = tuple(a for a in pattern[i] or () if a.axis == "B")
    im.keep(
        node, im.fresh(ref, tuple(p for i, p in enumerate(pattern) if keepdims or i not in axes))
    )


def _global_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    _reduce_axes(im, node, x, list(range(2, len(x.dims))), True, True)


LAYER_RULES: dict[str, Rule] = {
    "LIF": _lif,
    "ChannelLIF": _lif,
    SOFT_TYPE: _lif,
    INTEGRATOR: _integrator,
    TOKEN_MEAN: _token_mean,
    DELAY: _delay,
    PREVIOUS: previous,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "ReduceSum": _reduce,
    "ReduceMean": _reduce,
    "GlobalAveragePool": _global_pool,
    **AFFINE_RULES,
    **CONVOLUTION_RULES,
    **BORDER_RULES,
    **EINSUM_RULES,
    **JOIN_RULES,
    **MAXIMUM_RULES,
    **POOL_RULES,
    **REAL_RULES,
    **SLICE_RULES,
    **UPSAMPLING_RULES,
}
