"""ONNX operators that pool feature maps, over one or two axes: the largest value, or the mean, of
each window.
"""

from __future__ import annotations

from math import prod
from typing import Any

import onnx

from neurocompile.frontends.onnx.context import Importer, Rule
from neurocompile.ir import spiking as s

__all__ = ["POOL_RULES"]


def _pool(
    im: Importer,
    node: onnx.NodeProto,
    attributes: dict[str, Any],
    kind: type[s.MaxPool2d] | type[s.SumPool2d],
    factor: float = 1.0,
) -> None:
    """The node of ``kind`` with the file's windows, times ``factor``."""
    x = im.settled(im.traced[node.input[0]])
    kernel = tuple(attributes["kernel_shape"])
    axes = len(kernel)
    stride = tuple(attributes.get("strides", (1,) * axes))
    pads = tuple(attributes.get("pads", (0,) * 2 * axes))
    plain = set(attributes.get("dilations", (1,))) == {1} and not attributes.get("ceil_mode", 0)
    plain = plain and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    equal = (
        len(pads) == 2 * axes
        and pads[:axes] == pads[axes:]
        and all(0 <= p < k for p, k in zip(pads, kernel))
    )
    if axes not in (1, 2) or len(x.dims) != 2 + axes:
        raise im.error(
            "NC1009",
            f"{node.op_type} with a window {list(kernel)} of {len(x.dims)} axes; over (N, C, L) or (N, C, H, W) it "
            "is supported",
        )
    if not equal or not plain or len(node.output) > 1 and node.output[1]:
        raise im.error(
            "NC1009",
            f"{node.op_type} is supported with equal pads, no dilation, ceil_mode or auto_pad, and one output",
        )
    unit = (1,) * (2 - axes)
    kernel, stride, padding = (*kernel, *unit), (*stride, *unit), (*pads[:axes], *(0 for _ in unit))
    im.window(kernel, stride)
    ref, _ = im.as_map(x, axes)
    channels, *size = im.shapes[ref]
    out = [(n + 2 * p - k) // st + 1 for n, p, k, st in zip(size, padding, kernel, stride)]
    wanted = node.name or node.output[0]
    y = im.emit(
        kind, wanted, (channels, *out), x=ref, kernel=kernel, stride=stride, padding=padding
    )
    if factor != 1.0:
        y = im.emit(s.Scale, f"{y}.mean", im.shapes[y], x=y, factor=factor)
    im.keep(node, im.from_map(x, y, axes))


def _max_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    _pool(im, node, attributes, s.MaxPool2d)


def _average_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if any(attributes.get("pads", ())) and not attributes.get("count_include_pad", 0):
        raise im.error(
            "NC1009",
            "a mean that leaves out the border (count_include_pad = 0); let it count as zeros, or pad nothing",
        )
    _pool(im, node, attributes, s.SumPool2d, 1.0 / prod(attributes["kernel_shape"]))


POOL_RULES: dict[str, Rule] = {"MaxPool": _max_pool, "AveragePool": _average_pool}
