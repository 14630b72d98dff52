"""ONNX operators that pool feature maps, over one or two axes: the largest value, or the mean, of
each window.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.constants import scaled
from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout

__all__ = ["POOL_RULES", "largest"]


@dataclass(frozen=True)
class _Windows:
    """Windows along one axis of ``size`` elements, with borders at both ends."""

    size: int
    kernel: int
    stride: int
    begin: int
    end: int
    given: int
    """The border behind the axis that a mean may count: a window that is rounded up reaches further."""

    @property
    def out(self) -> int:
        return (self.size + self.begin + self.end - self.kernel) // self.stride + 1

    def counts(self, border: bool) -> np.ndarray:
        """Elements of each window, with or without those of the border, float64."""
        start = np.arange(self.out) * self.stride - self.begin
        low, high = (-self.begin, self.size + self.given) if border else (0, self.size)
        return (np.minimum(start + self.kernel, high) - np.maximum(start, low)).astype(np.float64)


def _windows(
    im: Importer, node: onnx.NodeProto, attributes: dict[str, Any], size: tuple[int, ...]
) -> list[_Windows]:
    """Windows over the spatial axes, of ``size``, of a file's pool."""
    kernel = tuple(attributes["kernel_shape"])
    axes = len(kernel)
    stride = tuple(attributes.get("strides", (1,) * axes))
    pads = tuple(attributes.get("pads", (0,) * 2 * axes))
    auto = attributes.get("auto_pad", b"NOTSET")
    if set(attributes.get("dilations", (1,))) != {1} or len(node.output) > 1 and node.output[1]:
        raise im.error("NC1009", f"{node.op_type} is supported without dilation, with one output")
    im.window((*kernel, 1)[:2], (*stride, 1)[:2])
    if len(pads) != 2 * axes or len(stride) != axes or min(pads) < 0:
        raise im.error("NC1009", f"{len(pads)} pads and {len(stride)} strides of {axes} axes")
    found = []
    for n, k, st, begin, end in zip(size, kernel, stride, pads, pads[axes:]):
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            total = max((ceil(n / st) - 1) * st + k - n, 0)
            begin = total // 2 if auto == b"SAME_UPPER" else total - total // 2
            end = total - begin
        elif auto not in (b"NOTSET", b"VALID"):
            raise im.error("NC1009", f"auto_pad {auto!r} is not defined by ONNX")
        given = end
        if attributes.get("ceil_mode", 0):
            out = ceil((n + begin + end - k) / st) + 1
            out -= (out - 1) * st >= n + begin  # a window that begins behind the axis is none
            end = max(end, (out - 1) * st + k - n - begin)
        if not (begin < k and end < k) or n + begin + end < k:
            raise im.error(
                "NC1009", f"a window of {k} over {n} elements with borders of {begin} and {end}"
            )
        found.append(_Windows(n, k, st, begin, end, given))
    return found


def _pool(
    im: Importer, node: onnx.NodeProto, x: Traced, windows: list[_Windows], kind: Any
) -> Traced:
    """The node of ``kind`` with these windows."""
    axes = len(windows)
    ref, _ = im.as_map(x, axes)
    both = [*windows, *[_Windows(1, 1, 1, 0, 0, 0)] * (2 - axes)]
    y = im.emit(
        kind,
        node.name or node.output[0],
        (im.shapes[ref][0], *(w.out for w in both)),
        x=ref,
        kernel=tuple(w.kernel for w in both),
        stride=tuple(w.stride for w in both),
        padding=tuple(w.begin for w in both),
        more=tuple(w.end - w.begin for w in both),
    )
    return im.from_map(x, y, axes)


def _map(
    im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]
) -> tuple[Traced, list[_Windows]]:
    x, axes = im.settled(im.traced[node.input[0]]), len(attributes["kernel_shape"])
    if axes not in (1, 2) or len(x.dims) != 2 + axes:
        raise im.error(
            "NC1009",
            f"{node.op_type} with a window {list(attributes['kernel_shape'])} of {len(x.dims)} axes; over (N, C, L) "
            "or (N, C, H, W) it is supported",
        )
    return x, _windows(im, node, attributes, x.layout.shape[2:])


def _max_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    im.keep(node, _pool(im, node, *_map(im, node, attributes), s.MaxPool2d))


def _average_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x, windows = _map(im, node, attributes)
    y = _pool(im, node, x, windows, s.SumPool2d)
    counts = [w.counts(bool(attributes.get("count_include_pad", 0))) for w in windows]
    divisor = counts[0] if len(counts) == 1 else counts[0][:, None] * counts[1]
    if (divisor == divisor.flat[0]).all():
        factor = 1.0 / float(divisor.flat[0])
        if factor != 1.0:
            y = im.over(
                y, im.emit(s.Scale, f"{y.ref}.mean", im.shapes[y.ref], x=y.ref, factor=factor)
            )
        im.keep(node, y)
        return
    # Windows at the border have fewer elements. The mean of a whole one is a factor; theirs, a
    # multiple of it, is weights of the position.
    im.keep(node, scaled(im, node, y, (1.0 / divisor).reshape(1, 1, *divisor.shape)))


def _global_max_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    largest(im, node, x, list(range(2, len(x.dims))), True)


def _reduce_max(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    axes = attributes.get("axes")
    axes = im.constant(node, 1) if axes is None else axes
    x = im.traced[node.input[0]]
    axes = im.axes(range(len(x.dims)) if axes is None or not len(axes) else axes, len(x.dims))
    largest(im, node, x, axes, bool(attributes.get("keepdims", 1)))


def largest(im: Importer, node: onnx.NodeProto, x: Traced, axes: list[int], keepdims: bool) -> None:
    """The largest value along feature axes: one window over all of them."""
    for axis in axes:
        kinds = {a.axis for a in x.dims[axis] if a.size > 1} - {""}
        if kinds:
            raise im.error(
                "NC1008",
                f"the largest value over {'samples of the batch' if 'B' in kinds else 'the steps of time'}; over features "
                "it is supported, over time the mean or the sum is",
            )
    x = x if 0 in axes else im.settled(x)
    kept = [k for k in range(len(x.dims)) if k not in axes]
    lead = tuple(a for k in kept for a in x.dims[k] if a.axis)
    rows = tuple(a for k in kept for a in x.dims[k] if not a.axis)
    window = tuple(a for k in axes for a in x.dims[k] if not a.axis)
    flat = Traced(x.ref, Layout((*[lead] * bool(lead), rows, window, ())))
    ref = im.features(flat)
    channels, size, _ = im.shapes[ref]
    y = im.emit(
        s.MaxPool2d,
        node.name or node.output[0],
        (channels, 1, 1),
        x=ref,
        kernel=(size, 1),
        stride=(size, 1),
    )
    pattern = list(im.pattern(x))
    for axis in axes:
        pattern[axis] = None
    runs = [(im.runs(x.dims[k]) if k in kept else [()]) for k in range(len(x.dims))]
    sizes = tuple(prod(a.size for a in run) for group in runs for run in group)
    layout = im.filled(tuple(pattern), Layout.contiguous(sizes).dims)
    dims = tuple(d for k, d in enumerate(layout.dims) if keepdims or k not in axes)
    im.keep(node, Traced(y, Layout(dims)))


POOL_RULES: dict[str, Rule] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalMaxPool": _global_max_pool,
    "ReduceMax": _reduce_max,
}
