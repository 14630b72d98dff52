"""ONNX operators that scale and shift: normalization, sums and products of two signals or of a
signal and constants.

One number a channel is a BatchNorm of the SpikingGraph, whatever the file writes it as; it acts on
the value as it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.constants import fitted, offset, scaled
from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.masks import finite_mask
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import shown
from neurocompile.ir.text import Ref

__all__ = ["AFFINE_RULES", "affine"]


def _batch_norm(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    x = im.settled(x) if len(x.dims) > 1 else x
    if len(x.dims) < 2 or any(a.axis for a in x.dims[1]):
        raise im.error("NC1008", "axis 1 of a BatchNormalization must be channels")
    if attributes.get("training_mode", 0):
        raise im.error("NC1009", "training_mode mixes samples; export the model in eval mode")
    arrays = [im.constant(node, i) for i in (1, 2, 3, 4)]
    channels = x.layout.shape[1]
    if any(a.shape != (channels,) for a in arrays):
        raise im.error(
            "NC1006",
            f"parameters {[list(a.shape) for a in arrays]} do not match {channels} channels",
        )
    if not (arrays[3] + np.float32(attributes.get("epsilon", 1e-5)) > 0).all():
        raise im.error("NC1009", "a variance that is not positive")
    eps = float(attributes.get("epsilon", 1e-5))
    _normalize(im, node, x, 1, [im.tensor(node.input[i]) for i in (1, 2, 3, 4)], eps)


def _normalize(
    im: Importer, node: onnx.NodeProto, x: Traced, dim: int, tensors: list[Any], eps: float
) -> None:
    """A BatchNorm along axis ``dim`` of ``x``; ``tensors``: scale, shift, mean, var."""
    axis = im.axis_of(x, dim)
    ref = x.ref
    if axis is None and (found := im.block_of(x, dim)):  # channels of an upsampled map
        axis, phases = found
        tensors = [im.store(f"{t}.phases", np.repeat(im.tensors[t], phases)) for t in tensors]
    if axis is None:
        ref, axis = im.features(x), im.place(x, dim)
    fields = dict(zip(("scale", "shift", "mean", "var"), tensors))
    y = im.emit(
        s.BatchNorm,
        node.name or node.output[0],
        im.shapes[ref],
        x=ref,
        eps=eps,
        axis=axis,
        **fields,
    )
    im.keep(node, im.over(x, y) if ref == x.ref else im.fresh(y, im.pattern(x)))


def _binary(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    a, b = (im.traced.get(i) for i in node.input)
    if a is not None and b is not None:
        _two_signals(im, node, a, b)
        return
    x = a if a is not None else b
    assert x is not None
    value = np.asarray(im.constants[node.input[1 if a is not None else 0]], np.float64)
    if node.op_type == "Add":
        value = finite_mask(im, node, value)
    if (
        value.size
        and not np.isfinite(value).all()
        or node.op_type == "Div"
        and a is not None
        and (value == 0).any()
    ):
        what = (
            "a factor of"
            if node.op_type == "Mul"
            else "a division by"
            if node.op_type == "Div"
            else "a sum with"
        )
        raise im.error(
            "NC1004", f"{what} {value.reshape(-1)[0] if value.size == 1 else 'NaN, infinity or 0'}"
        )
    one = np.ones((1,) * value.ndim)
    if node.op_type == "Div" and a is None:
        raise im.error(
            "NC1009", "a constant divided by a signal; division by a constant is supported"
        )
    if node.op_type == "Div":
        value = 1 / value
    if node.op_type in ("Add", "Sub"):
        scale = -one if node.op_type == "Sub" and a is None else one
        shift = -value if node.op_type == "Sub" and a is not None else value
    else:
        scale, shift = value, 0 * one
    affine(im, node, x, scale, shift)


def _two_signals(im: Importer, node: onnx.NodeProto, a: Traced, b: Traced) -> None:
    wanted = node.name or node.output[0]
    if node.op_type == "Sub":
        b = im.over(
            b, im.emit(s.Scale, f"{wanted}.negative", im.shapes[b.ref], x=b.ref, factor=-1.0)
        )
    kind: type[s.Node] = {"Mul": s.Mul, "Div": s.Quotient}.get(node.op_type, s.Add)
    if a.layout == b.layout and im.shapes[a.ref] == im.shapes[b.ref]:
        im.keep(node, im.over(a, im.emit(kind, wanted, im.shapes[a.ref], a=a.ref, b=b.ref)))
        return
    pattern = im.common(a, b, max(len(a.dims), len(b.dims)))
    left, right = im.features(a, pattern), im.features(b, pattern)
    try:
        shape = tuple(np.broadcast_shapes(im.shapes[left], im.shapes[right]))
    except ValueError as error:
        raise im.error(
            "NC1006", f"shapes {shown(a.layout.shape)} and {shown(b.layout.shape)} do not broadcast"
        ) from error
    if kind is s.Quotient and im.shapes[left] != shape:
        raise im.error("NC1009", "a division by a signal of more elements than what it divides")
    if kind is s.Add:
        left, right = (_repeated(im, ref, shape, f"{wanted}.repeated") for ref in (left, right))
    im.keep(node, im.fresh(im.emit(kind, wanted, shape, a=left, b=right), pattern))


def _repeated(im: Importer, ref: Ref, shape: tuple[int, ...], name: str) -> Ref:
    """The value ``ref`` of an array that broadcasts against ``shape``, in that shape."""
    if im.shapes[ref] == shape:
        return ref
    own = np.cumprod((1, *im.shapes[ref][:0:-1]))[::-1]
    kept = (0,) * (len(shape) - len(own)) + tuple(
        int(stride) if n > 1 else 0 for n, stride in zip(im.shapes[ref], own)
    )
    return im.emit(s.Rearrange, name, shape, x=ref, shape=shape, sizes=shape, strides=kept)


def affine(
    im: Importer, node: onnx.NodeProto, x: Traced, scale: np.ndarray, shift: np.ndarray
) -> None:
    """Keep ``scale * x + shift`` as the output of ``node``; both of as many axes as are theirs."""
    wanted = node.name or node.output[0]
    x, scale = fitted(im, x, scale)
    x, shift = fitted(im, x, shift)
    rank = len(x.dims)
    if (scale == 1).all() and not shift.any():
        im.keep(node, x)
        return
    if scale.size == 1 and not shift.any():
        factor = float(scale.reshape(-1)[0])
        im.keep(
            node, im.over(x, im.emit(s.Scale, wanted, im.shapes[x.ref], x=x.ref, factor=factor))
        )
        return
    shape = np.broadcast_shapes(scale.shape, shift.shape)
    wide = [k for k, n in enumerate(shape) if n > 1]
    dim = wide[0] if wide else next((k for k in range(1, rank) if im.axis_of(x, k) == 0), None)
    if len(wide) > 1 or dim is None:
        y = x if (scale == 1).all() else scaled(im, node, x, scale)
        im.keep(node, offset(im, node, y, shift) if shift.any() else y)
        return
    size = x.layout.shape[dim]
    scale, shift = (np.broadcast_to(v.reshape(-1), (size,)) for v in (scale, shift))
    if (scale == 1).all() and _into_bias(im, node, x, dim, shift):
        return
    tensors = [
        im.store(f"{wanted}.{name}", v)
        for name, v in (
            ("scale", scale),
            ("shift", shift),
            ("mean", np.zeros(size)),
            ("var", np.ones(size)),
        )
    ]
    _normalize(im, node, x, dim, tensors, 0.0)


def _into_bias(im: Importer, node: onnx.NodeProto, x: Traced, dim: int, shift: np.ndarray) -> bool:
    """True if ``shift`` became the bias of the layer just made: MatMul followed by Add of a vector."""
    made = im.made(x.ref)
    if (
        not isinstance(made, (s.Linear, s.Conv2d))
        or made.bias is not None
        or not im.is_private(made)
    ):
        return False
    if im.axis_of(x, dim) != (0 if isinstance(made, s.Conv2d) else len(im.shapes[x.ref]) - 1):
        return False
    bias = im.store(f"{made.weight}.bias", shift)
    fields = {**vars(made), "bias": bias}
    im.nodes[im.nodes.index(made)] = type(made)(**fields)
    im.keep(node, x)
    return True


AFFINE_RULES: dict[str, Rule] = {
    "BatchNormalization": _batch_norm,
    "Add": _binary,
    "Sub": _binary,
    "Mul": _binary,
    "Div": _binary,
}
