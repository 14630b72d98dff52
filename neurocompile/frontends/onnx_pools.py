"""ONNX operators that pool feature maps: the largest value, or the mean, of each window."""

from __future__ import annotations

from math import prod
from typing import Any

import onnx

from neurocompile.frontends.onnx_context import Importer, Rule
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref

__all__ = ["POOL_RULES"]


def _pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any], kind: type[s.MaxPool2d] | type[s.SumPool2d]) -> Ref:
    """The node of ``kind`` with the file's windows."""
    x = im.traced[node.input[0]]
    pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
    kernel = tuple(attributes["kernel_shape"])
    stride = tuple(attributes.get("strides", (1,) * len(kernel)))
    plain = tuple(attributes.get("dilations", (1, 1))) == (1, 1) and not attributes.get("ceil_mode", 0)
    plain = plain and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    equal = len(pads) == 4 and pads[:2] == pads[2:] and all(0 <= p < k for p, k in zip(pads, kernel))
    if len(kernel) != 2 or not equal or not plain or len(node.output) > 1 and node.output[1]:
        raise im.error("NC1009", f"{node.op_type} is supported over (H, W), with equal pads, no dilation, ceil_mode, auto_pad")
    im.window(kernel, stride)
    ref = im.features(x)
    if len(im.shapes[ref]) != 3:
        raise im.error("NC1008", f"batch and time must be the first axis of {list(x.layout.shape)}")
    channels, *size = im.shapes[ref]
    out = [(n + 2 * p - k) // st + 1 for n, p, k, st in zip(size, pads[:2], kernel, stride)]
    return im.emit(kind, node.name or node.output[0], (channels, *out), x=ref, kernel=kernel, stride=stride, padding=pads[:2])


def _max_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    y = _pool(im, node, attributes, s.MaxPool2d)
    im.keep(node, im.fresh(y, im.pattern(im.traced[node.input[0]])))


def _average_pool(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if any(attributes.get("pads", ())) and not attributes.get("count_include_pad", 0):
        raise im.error("NC1009", "a mean that leaves out the border (count_include_pad = 0); let it count as zeros, or pad nothing")
    y = _pool(im, node, attributes, s.SumPool2d)
    factor = 1.0 / prod(attributes["kernel_shape"])
    z = im.emit(s.Scale, f"{y}.mean", im.shapes[y], x=y, factor=factor)
    im.keep(node, im.fresh(z, im.pattern(im.traced[node.input[0]])))


POOL_RULES: dict[str, Rule] = {"MaxPool": _max_pool, "AveragePool": _average_pool}
