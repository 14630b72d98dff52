"""ONNX operators that cut a tensor in pieces along a feature axis: Split (torch's ``chunk``), Slice and Gather (``x[0]``).

A piece is a Rearrange with an offset; ``passes/slice_layers.py`` cuts the layer before it instead where it can.
"""

from __future__ import annotations

from math import prod
from typing import Any

import onnx

from neurocompile.frontends.onnx_context import Importer, Rule, Traced
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout

__all__ = ["SLICE_RULES"]


def _split(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    (axis,) = im.axes([int(attributes.get("axis", 0))], len(x.dims))
    size, pieces = x.layout.shape[axis], len(node.output)
    if pieces > 1:
        _check_features(im, x, axis)
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
    steps = [1] * len(starts) if steps is None else [int(n) for n in steps]
    if not len(starts) == len(ends) == len(axes) == len(steps) or min(steps, default=1) < 1:
        raise im.error("NC1009", f"a slice with steps {steps}, a flip; steps of at least 1 are supported")
    for start, end, axis, step in zip(starts, ends, axes, steps):
        (axis,) = im.axes([axis], len(x.dims))
        size = x.layout.shape[axis]
        places = range(size)[slice(start, end, step)]
        if len(places) != size:
            _check_features(im, x, axis)
        if not places:
            raise im.error("NC1009", f"an empty slice {start}:{end}:{step} of an axis of {size}")
        if len(places) != size:
            x = _piece(im, x, axis, places.start, len(places), node.output[0], step)
    im.keep(node, x)


def _gather(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Constant indices: one, whose axis goes, or several that are evenly apart."""
    x, index = im.traced.get(node.input[0]), im.constant(node, 1)
    if x is None:
        raise im.error("NC1009", "looks rows of a constant up; only a signal can be indexed")
    (axis,) = im.axes([int(attributes.get("axis", 0))], len(x.dims))
    size = x.layout.shape[axis]
    _check_features(im, x, axis)
    places = [int(i) + size * (int(i) < 0) for i in index.reshape(-1)]
    step = places[1] - places[0] if len(places) > 1 else 1
    if not places or not all(0 <= i < size for i in places):
        raise im.error("NC1009", f"indices {index.reshape(-1).tolist()[:4]} of an axis of {size}")
    if index.ndim > 1 or step < 1 or places != list(range(places[0], places[-1] + 1, step)):
        raise im.error("NC1009", f"indices {places[:8]} in this order; one index, or a range with a step, is supported")
    if len(places) != size:
        x = _piece(im, x, axis, places[0], len(places), node.output[0], step)
    if index.ndim == 0:
        x = Traced(x.ref, Layout((*x.dims[:axis], *x.dims[axis + 1 :])))
    im.keep(node, x)


def _check_features(im: Importer, x: Traced, axis: int) -> None:
    """NC1008 for an axis of time or of samples."""
    kinds = {a.axis for a in x.dims[axis]}
    if "B" in kinds:
        raise im.error("NC1008", "takes some samples of the batch; samples are computed alone, so only features can be selected")
    if "T" in kinds:
        raise im.error("NC1008", "takes some steps of time; what treats all steps alike is supported, or their mean")


def _piece(im: Importer, x: Traced, axis: int, start: int, length: int, wanted: str, step: int = 1) -> Traced:
    """``length`` elements of an axis from ``start``, ``step`` apart."""
    pattern = im.pattern(x)
    ref = im.features(x)
    shape, place = im.shapes[ref], sum(p is None for p in pattern[:axis])
    strides = tuple(prod(shape[k + 1 :]) for k in range(len(shape)))
    cut = (*shape[:place], length, *shape[place + 1 :])
    offset = start * strides[place]
    strides = (*strides[:place], step * strides[place], *strides[place + 1 :])
    y = im.emit(s.Rearrange, wanted, cut, x=ref, shape=cut, sizes=cut, strides=strides, offset=offset)
    return im.fresh(y, pattern)


SLICE_RULES: dict[str, Rule] = {"Split": _split, "Slice": _slice, "Gather": _gather}
