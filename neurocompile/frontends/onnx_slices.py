"""ONNX operators that cut a tensor in pieces along a feature axis: Split (torch's ``chunk``) and Slice.

A piece is a Rearrange with an offset; ``passes/slice_layers.py`` cuts the layer before it instead where it can.
"""

from __future__ import annotations

from math import prod
from typing import Any

import onnx

from neurocompile.frontends.onnx_context import Importer, Rule, Traced
from neurocompile.ir import spiking as s

__all__ = ["SLICE_RULES"]


def _split(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    (axis,) = im.axes([int(attributes.get("axis", 0))], len(x.dims))
    size, pieces = x.layout.shape[axis], len(node.output)
    lengths = im.constant(node, 1)
    if lengths is None:
        length = -(-size // pieces)
        lengths = [length] * (pieces - 1) + [size - length * (pieces - 1)]
    lengths = [int(n) for n in lengths]
    if sum(lengths) != size or min(lengths) < 1 or len(lengths) != pieces:
        raise im.error("NC1009", f"splits an axis of {size} in pieces of {lengths}")
    start = 0
    for name, length in zip(node.output, lengths):
        if name:
            im.traced[name] = _piece(im, x, axis, start, length, name)
        start += length


def _slice(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    starts, ends = ([int(v) for v in im.constant(node, i)] for i in (1, 2))
    axes, steps = im.constant(node, 3), im.constant(node, 4)
    axes = [int(a) for a in (range(len(starts)) if axes is None else axes)]
    if not len(starts) == len(ends) == len(axes) or (steps is not None and any(int(n) != 1 for n in steps)):
        raise im.error("NC1009", "a slice with steps; slices of neighbouring elements are supported")
    for start, end, axis in zip(starts, ends, axes):
        (axis,) = im.axes([axis], len(x.dims))
        size = x.layout.shape[axis]
        start, end, _ = slice(start, end).indices(size)
        if end <= start:
            raise im.error("NC1009", f"an empty slice {start}:{end} of an axis of {size}")
        if (start, end) != (0, size):
            x = _piece(im, x, axis, start, end - start, node.output[0])
    im.keep(node, x)


def _piece(im: Importer, x: Traced, axis: int, start: int, length: int, wanted: str) -> Traced:
    """``length`` elements of an axis from ``start``."""
    if any(a.axis for a in x.dims[axis]):
        raise im.error("NC1008", "a slice of time or of the batch; slices of features are supported")
    pattern = im.pattern(x)
    ref = im.features(x)
    shape, place = im.shapes[ref], sum(p is None for p in pattern[:axis])
    strides = tuple(prod(shape[k + 1 :]) for k in range(len(shape)))
    cut = (*shape[:place], length, *shape[place + 1 :])
    y = im.emit(s.Rearrange, wanted, cut, x=ref, shape=cut, sizes=cut, strides=strides, offset=start * strides[place])
    return im.fresh(y, pattern)


SLICE_RULES: dict[str, Rule] = {"Split": _split, "Slice": _slice}
