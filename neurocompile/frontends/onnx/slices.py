"""ONNX operators that cut a tensor in pieces along a feature axis: Split (torch's ``chunk``), Slice
and Gather (``x[0]``).

A piece is a Rearrange with an offset; ``passes/slice_layers.py`` cuts the layer before it instead
where it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.convolutions import linear_along
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout

__all__ = ["SLICE_RULES", "check_features", "piece"]


def _split(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    (axis,) = im.axes([int(attributes.get("axis", 0))], len(x.dims))
    size, pieces = x.layout.shape[axis], len(node.output)
    if pieces > 1:
        check_features(im, x, axis)
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
            im.traced[name] = piece(im, node, x, axis, range(start, start + length), name)
        start += length


def _slice(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.traced[node.input[0]]
    starts, ends = ([int(v) for v in im.constant(node, i)] for i in (1, 2))
    axes, steps = im.constant(node, 3), im.constant(node, 4)
    axes = [int(a) for a in (range(len(starts)) if axes is None else axes)]
    steps = [1] * len(starts) if steps is None else [int(n) for n in steps]
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise im.error(
            "NC1009",
            f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps",
        )
    for start, end, axis, step in zip(starts, ends, axes, steps):
        (axis,) = im.axes([axis], len(x.dims))
        size = x.layout.shape[axis]
        places = range(size)[slice(start, end, step)]
        if places != range(size):
            check_features(im, x, axis)
        if not places:
            raise im.error("NC1009", f"an empty slice {start}:{end}:{step} of an axis of {size}")
        if places != range(size):
            x = piece(im, node, x, axis, places, node.output[0])
    im.keep(node, x)


def _gather(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Constant indices: one, whose axis goes, or several, whose axes come in its place."""
    x = im.traced.get(node.input[0])
    if x is None:
        raise im.error(
            "NC1009",
            "looks rows of a constant up, as an embedding does: that is for the host; only a signal can be indexed",
        )
    (axis,) = im.axes([int(attributes.get("axis", 0))], len(x.dims))
    _gathered(im, node, x, im.constant(node, 1), axis)


def _gather_nd(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Constant indices of the first axis, as torch's exporter writes ``x[..., places]``."""
    x, index = im.traced.get(node.input[0]), im.constant(node, 1)
    if x is None or not index.ndim or index.shape[-1] != 1 or attributes.get("batch_dims", 0):
        raise im.error(
            "NC1003",
            "indices of several axes at a time; of one axis at a time they are supported, and a pool of a fixed kernel "
            "and stride (nn.AvgPool2d) for an adaptive pool whose sizes do not divide",
        )
    _gathered(im, node, x, index[..., 0], 0)


def _gathered(im: Importer, node: onnx.NodeProto, x: Traced, index: np.ndarray, axis: int) -> None:
    """``index`` of one axis of ``x``, of any shape."""
    size = x.layout.shape[axis]
    check_features(im, x, axis)
    places = [int(i) + size * (int(i) < 0) for i in index.reshape(-1)]
    if not places or not all(0 <= i < size for i in places):
        raise im.error("NC1009", f"indices {places[:4]} of an axis of {size}")
    if places != list(range(size)):
        step = places[1] - places[0] if len(places) > 1 else 1
        run = range(places[0], places[-1] + (1 if step > 0 else -1), step or 1)
        x = piece(im, node, x, axis, run if list(run) == places else places, node.output[0])
    if index.ndim == 0:
        x = Traced(x.ref, Layout((*x.dims[:axis], *x.dims[axis + 1 :])))
    elif index.ndim > 1:
        shape = x.layout.shape
        x = Traced(x.ref, x.layout.reshape((*shape[:axis], *index.shape, *shape[axis + 1 :])))
    im.keep(node, x)


def check_features(im: Importer, x: Traced, axis: int) -> None:
    """NC1008 for an axis of time or of samples."""
    kinds = {a.axis for a in x.dims[axis] if a.size > 1}
    if "B" in kinds:
        raise im.error(
            "NC1008",
            "takes some samples of the batch; samples are computed alone, so only features can be selected",
        )
    if "T" in kinds:
        raise im.error(
            "NC1008",
            "takes some steps of time; what treats all steps alike is supported, or their mean",
        )


def piece(
    im: Importer, node: onnx.NodeProto, x: Traced, axis: int, places: Sequence[int], wanted: str
) -> Traced:
    """The elements ``places`` of an axis: a view, where strides can say it, or a layer that selects
    them.
    """
    size = x.layout.shape[axis]
    if not isinstance(places, range) or not _is_view(im, x, axis, places):
        weight = np.zeros((len(places), size), np.float32)
        weight[np.arange(len(places)), list(places)] = 1
        return linear_along(im, node, weight, f"{wanted}.select", x, axis)
    pattern = im.pattern(x)
    ref = im.features(x)
    shape, place = im.shapes[ref], im.place(x, axis)
    strides = tuple(prod(shape[k + 1 :]) for k in range(len(shape)))
    cut, offset = (*shape[:place], len(places), *shape[place + 1 :]), places.start * strides[place]
    strides = (*strides[:place], places.step * strides[place], *strides[place + 1 :])
    y = im.emit(
        s.Rearrange, wanted, cut, x=ref, shape=cut, sizes=cut, strides=strides, offset=offset
    )
    return im.fresh(y, pattern)


def _is_view(im: Importer, x: Traced, axis: int, places: range) -> bool:
    """True if a pattern of strides tells ``places`` of spikes, or the layer in front can leave the
    other channels out.
    """
    size, made = x.layout.shape[axis], im.made(x.ref)
    if (
        isinstance(made, (s.Conv2d, s.Linear))
        and im.axis_of(x, axis) in (0, len(im.shapes[x.ref]) - 1)
        and places.step > 0
    ):
        return isinstance(made, s.Conv2d) == (im.axis_of(x, axis) == 0)
    return (
        places.step > 0
        and size % places.step == 0
        and (len(places) == 1 or size % (len(places) * places.step) == 0)
    )


SLICE_RULES: dict[str, Rule] = {
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_nd,
}
