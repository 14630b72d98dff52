"""ONNX operators that compute something: each becomes one node of the SpikingGraph."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx_context import Importer, Rule, Traced
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Atom

__all__ = ["LAYER_RULES"]


def _lif(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    leading = x.dims[0]
    if not (len(leading) == 1 and leading[0].axis == "T") and not (not leading and im.model.metadata.get("neurocompile.T") == "1"):
        named = "+".join(a.axis or "feature" for a in leading) or "size 1"
        raise im.error("NC1008", f"the leading axis of a LIF must be time; here it is {named}")
    x_ref = im.features(x)
    values = {k: float(attributes[k]) for k in ("tau", "v_threshold", "v_reset") if k in attributes}
    missing = {"tau", "v_threshold", "v_reset"} - set(values)
    fixed = [values.get(k, 0.0) for k in ("v_threshold", "v_reset")]
    if missing or not np.isfinite(fixed).all() or not values["tau"] >= 1:
        raise im.error("NC1009", f"LIF attributes {values} lack {sorted(missing)} or are out of range (tau >= 1)")
    ref = im.emit(
        s.LIF, node.name or node.output[0], im.shapes[x_ref], x=x_ref, **values,
        decay_input=bool(attributes.get("decay_input", 1)), soft_reset=bool(attributes.get("soft_reset", 0)),
    )  # fmt: skip
    im.layer_values[ref] = node.output[0]
    im.keep(node, im.fresh(ref, im.pattern(x)))


def _conv(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    weight, groups = im.constant(node, 1), int(attributes.get("group", 1))
    if weight.ndim != 4 or len(x.dims) != 4:
        raise im.error("NC1009", f"a {weight.ndim - 2}-d convolution; Conv over (N, C, H, W) is supported")
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise im.error("NC1009", "auto_pad is not supported; use explicit pads")
    pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
    if len(pads) != 4 or pads[:2] != pads[2:] or min(pads) < 0:
        raise im.error("NC1009", f"pads {list(pads)} differ between begin and end; equal ones are supported")
    stride, dilation = tuple(attributes.get("strides", (1, 1))), tuple(attributes.get("dilations", (1, 1)))
    im.window(stride, dilation, weight.shape[2:])
    ref = im.features(x)
    if len(im.shapes[ref]) != 3:
        raise im.error("NC1008", f"batch and time must be the first axis of {list(x.layout.shape)}")
    channels, *size = im.shapes[ref]
    if groups < 1 or weight.shape[1] * groups != channels or weight.shape[0] % groups:
        raise im.error("NC1006", f"weight {list(weight.shape)} does not match {channels} input channels")
    out = [
        (n + 2 * p - d * (k - 1) - 1) // st + 1
        for n, p, d, k, st in zip(size, pads[:2], dilation, weight.shape[2:], stride)
    ]
    bias = im.tensor(node.input[2]) if im.constant(node, 2) is not None else None
    y = im.emit(
        s.Conv2d, node.name or node.output[0], (weight.shape[0], *out), x=ref, weight=im.tensor(node.input[1]),
        bias=bias, stride=stride, padding=pads[:2], dilation=dilation, groups=groups,
    )  # fmt: skip
    im.keep(node, im.fresh(y, im.pattern(x)))


def _batch_norm(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    if len(x.dims) < 2 or any(a.axis for a in x.dims[1]):
        raise im.error("NC1008", "axis 1 of a BatchNormalization must be channels")
    axis = sum(not any(a.axis for a in d) for d in x.dims[:1])
    ref = im.features(x)
    if attributes.get("training_mode", 0):
        raise im.error("NC1009", "training_mode mixes samples; export the model in eval mode")
    arrays = [im.constant(node, i) for i in (1, 2, 3, 4)]
    channels = prod(a.size for a in x.dims[1])
    if any(a.shape != (channels,) for a in arrays):
        raise im.error("NC1006", f"parameters {[list(a.shape) for a in arrays]} do not match {channels} channels")
    if not (arrays[3] + np.float32(attributes.get("epsilon", 1e-5)) > 0).all():
        raise im.error("NC1009", "a variance that is not positive")
    scale, shift, mean, var = (im.tensor(node.input[i]) for i in (1, 2, 3, 4))
    y = im.emit(
        s.BatchNorm, node.name or node.output[0], im.shapes[ref], x=ref, scale=scale, shift=shift, mean=mean,
        var=var, eps=float(attributes.get("epsilon", 1e-5)), axis=axis,
    )  # fmt: skip
    im.keep(node, im.fresh(y, im.pattern(x)))


def _max_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
    kernel = tuple(attributes["kernel_shape"])
    stride = tuple(attributes.get("strides", (1,) * len(kernel)))
    plain = tuple(attributes.get("dilations", (1, 1))) == (1, 1) and not attributes.get("ceil_mode", 0)
    plain = plain and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    equal = len(pads) == 4 and pads[:2] == pads[2:] and all(0 <= p < k for p, k in zip(pads, kernel))
    if len(kernel) != 2 or not equal or not plain or len(node.output) > 1 and node.output[1]:
        raise im.error("NC1009", "MaxPool is supported over (H, W), with equal pads, no dilation, ceil_mode, auto_pad")
    im.window(kernel, stride)
    ref = im.features(x)
    if len(im.shapes[ref]) != 3:
        raise im.error("NC1008", f"batch and time must be the first axis of {list(x.layout.shape)}")
    channels, *size = im.shapes[ref]
    out = [(n + 2 * p - k) // st + 1 for n, p, k, st in zip(size, pads[:2], kernel, stride)]
    y = im.emit(
        s.MaxPool2d, node.name or node.output[0], (channels, *out), x=ref, kernel=kernel, stride=stride,
        padding=pads[:2],
    )  # fmt: skip
    im.keep(node, im.fresh(y, im.pattern(x)))


def _gemm(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if attributes.get("transA", 0):
        raise im.error("NC1009", "Gemm with transA is not supported")
    weight = im.constant(node, 1) * np.float32(attributes.get("alpha", 1.0))
    if weight.ndim != 2:
        raise im.error("NC1009", f"a constant of shape {list(weight.shape)}; a matrix is supported")
    bias = im.constant(node, 2)
    bias = None if bias is None else bias * np.float32(attributes.get("beta", 1.0))
    _linear(im, node, weight if attributes.get("transB", 0) else weight.T, node.input[1], bias)


def _linear(im: Importer, node: onnx.NodeProto, weight: np.ndarray, source: str, bias: np.ndarray | None) -> None:
    """``weight`` (out, in), made from the initializer ``source``."""
    x = im.traced[node.input[0]]
    ref = im.features(x)
    if not im.shapes[ref] or im.shapes[ref][-1] != weight.shape[1] or any(a.axis for a in x.dims[-1]):
        raise im.error("NC1006", f"weight (out, in) {list(weight.shape)} does not match {list(x.layout.shape)}")
    key = im.store(source, weight)
    bias_ref = None
    if bias is not None:
        if bias.size not in (1, len(weight)) or bias.shape[-1:] not in ((), (1,), (len(weight),)):
            raise im.error("NC1006", f"a bias of shape {list(bias.shape)} for {len(weight)} outputs")
        bias_ref = im.store(f"{key}.bias", np.broadcast_to(bias.reshape(-1), (len(weight),)))
    shape = (*im.shapes[ref][:-1], weight.shape[0])
    y = im.emit(s.Linear, node.name or node.output[0], shape, x=ref, weight=key, bias=bias_ref)
    im.keep(node, im.fresh(y, im.pattern(x)))


def _matmul(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    a, b = (im.traced.get(i) for i in node.input)
    if a is not None and b is None:
        weight = im.constant(node, 1)
        if weight.ndim != 2:
            raise im.error("NC1009", f"a constant of shape {list(weight.shape)}; a matrix is supported")
        _linear(im, node, weight.T, node.input[1], None)
        return
    if a is None or b is None:
        raise im.error("NC1009", "a constant on the left of MatMul is not supported; transpose the product")
    pattern = im.common(a, b, len(a.dims) - 2)
    if pattern[-1] is not None or pattern[-2] is not None or len(a.dims) != len(b.dims):
        raise im.error("NC1008", "the last two axes of a product must be features")
    left, right = im.features(a, pattern), im.features(b, pattern)
    shape = (*np.broadcast_shapes(im.shapes[left][:-2], im.shapes[right][:-2]), im.shapes[left][-2],
             im.shapes[right][-1])  # fmt: skip
    y = im.emit(s.MatMul, node.name or node.output[0], tuple(shape), a=left, b=right)
    im.keep(node, im.fresh(y, pattern))


def _binary(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    a, b = (im.traced.get(i) for i in node.input)
    wanted = node.name or node.output[0]
    if a is not None and b is not None:
        if node.op_type == "Div":
            raise im.error("NC1009", "a division of two signals; division by a constant is supported")
        pattern = im.common(a, b, max(len(a.dims), len(b.dims)))
        left, right = im.features(a, pattern), im.features(b, pattern)
        try:
            shape = np.broadcast_shapes(im.shapes[left], im.shapes[right])
        except ValueError as error:
            raise im.error("NC1006", f"shapes {a.layout.shape} and {b.layout.shape} do not broadcast") from error
        kind = s.Add if node.op_type == "Add" else s.Mul
        y = im.emit(kind, wanted, tuple(shape), a=left, b=right)
        im.keep(node, im.fresh(y, pattern))
        return
    x = a if a is not None else b
    assert x is not None
    value = im.constants[node.input[1 if a is not None else 0]]
    if value.ndim > len(x.dims):
        raise im.error("NC1009", f"a constant of shape {list(value.shape)} with a signal of {len(x.dims)} axes")
    if value.size == 1 and node.op_type in ("Mul", "Div") and (node.op_type == "Mul" or a is not None):
        factor = float(value.reshape(-1)[0])
        if not np.isfinite(factor) or (node.op_type == "Div" and factor == 0):
            raise im.error("NC1004", f"{'a factor of' if node.op_type == 'Mul' else 'a division by'} {factor}")
        factor = factor if node.op_type == "Mul" else 1.0 / factor
        ref = im.features(x)
        im.keep(node, im.fresh(im.emit(s.Scale, wanted, im.shapes[ref], x=ref, factor=factor), im.pattern(x)))
    elif node.op_type == "Add" and not value.any() and im.fits(value, x):
        im.keep(node, x)
    elif node.op_type == "Add" and isinstance(im.made(x), s.Linear):
        _add_bias(im, node, x, value)
    else:
        raise im.error("NC1009", f"a constant of shape {list(value.shape)}; scalar factors are supported")


def _add_bias(im: Importer, node: onnx.NodeProto, x: Traced, value: np.ndarray) -> None:
    """MatMul followed by Add of a vector: the bias of the Linear just made."""
    linear = im.made(x)
    assert isinstance(linear, s.Linear)
    width = im.shapes[x.ref][-1]
    last = (Atom(width, 1),) if width > 1 else ()
    vector = value.size == width and value.shape[-1:] == (width,) and x.dims[-1] == last
    if not vector or linear.bias is not None or not im.is_private(linear):
        raise im.error("NC1009", f"a constant of shape {list(value.shape)} after a product of width {width}")
    bias = im.store(f"{linear.weight}.bias", value.reshape(-1))
    im.nodes[im.nodes.index(linear)] = s.Linear(name=linear.name, x=linear.x, weight=linear.weight, bias=bias)
    im.keep(node, x)


def _reduce(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    axes = attributes.get("axes")
    axes = im.constant(node, 1) if axes is None else axes
    if axes is None or not len(axes):
        raise im.error("NC1009", "a reduction over all axes would mix samples")
    x = im.traced[node.input[0]]
    _reduce_axes(im, node, x, im.axes(axes, len(x.dims)), bool(attributes.get("keepdims", 1)),
                      node.op_type == "ReduceMean")  # fmt: skip


def _reduce_axes(im: Importer, node: onnx.NodeProto, x: Traced, axes: list[int], keepdims: bool, mean: bool) -> None:
    wanted = node.name or node.output[0]
    for i in axes:
        if any(a.axis == "B" for a in x.dims[i]):
            raise im.error("NC1008", "a reduction over the batch would mix samples")
    time = [i for i in axes if any(a.axis == "T" for a in x.dims[i])]
    rest = [i for i in axes if i not in time]
    pattern = list(im.pattern(x))
    ref = im.features(x)
    if rest:
        places = [i for i, p in enumerate(pattern) if p is None]
        feature_axes = tuple(places.index(i) for i in rest)
        old = im.shapes[ref]
        kept = [1 if k in feature_axes else n for k, n in enumerate(old)]
        shape = tuple(kept) if keepdims else tuple(n for k, n in enumerate(old) if k not in feature_axes)
        count = prod(old[k] for k in feature_axes)
        ref = im.emit(s.Sum, wanted, shape, x=ref, axes=feature_axes, keepdims=keepdims)
        if mean:
            ref = im.emit(s.Scale, f"{wanted}.mean", shape, x=ref, factor=1.0 / count)
    if time:
        if not mean:
            raise im.error("NC1009", "a sum over time; a mean over time is supported")
        ref = im.emit(s.TimeMean, f"{wanted}.time", im.shapes[ref], x=ref)
    for i in time:
        pattern[i] = ()
    im.keep(node, im.fresh(ref, tuple(p for i, p in enumerate(pattern) if keepdims or i not in axes)))


def _global_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    _reduce_axes(im, node, x, list(range(2, len(x.dims))), True, True)


LAYER_RULES: dict[str, Rule] = {
    "LIF": _lif, "Conv": _conv, "BatchNormalization": _batch_norm, "MaxPool": _max_pool, "Gemm": _gemm,
    "MatMul": _matmul, "Add": _binary, "Mul": _binary, "Div": _binary, "ReduceSum": _reduce, "ReduceMean": _reduce,
    "GlobalAveragePool": _global_pool,
}  # fmt: skip
