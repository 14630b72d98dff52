"""Constants that meet a signal: one number for all, one for each channel, or one for each position
(embeddings of positions, class tokens, masks).

What counts are a constant's values, not its shape: along an axis of equal values it has one.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer, Traced
from neurocompile.frontends.onnx.shapes import repeated
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout, shown

__all__ = ["fitted", "offset", "scaled", "uniform"]

_NEW = "give one value for all steps and samples, and let layers make what changes over time"


def uniform(value: np.ndarray) -> np.ndarray:
    """``value`` with one element along every axis whose elements are equal.

    An axis of stride 0 (a constant that was expanded) needs no look at its elements.
    """
    for axis, size in enumerate(value.shape):
        first = value[(slice(None),) * axis + (slice(0, 1),)]
        if size > 1 and (value.strides[axis] == 0 or (value == first).all()):
            value = first
    return value


def fitted(im: Importer, x: Traced, value: np.ndarray) -> tuple[Traced, np.ndarray]:
    """``x`` and ``value`` with as many axes, which broadcast to the axes of ``x``.

    Args:
        value: broadcasts with ``x``; where it has more elements along an axis, they are equal and
            the axis becomes time's.

    Raises:
        NeurocompileError: NC1006 for shapes that do not broadcast, NC1009 for a value that differs
            between steps or samples, or has more positions than the signal.
    """
    given, rank = value.shape, max(value.ndim, len(x.dims))
    try:
        wanted = np.broadcast_shapes(given, x.layout.shape)
    except ValueError as error:
        raise im.error(
            "NC1006",
            f"a constant of shape {shown(given)} and a signal {shown(x.layout.shape)} do not broadcast",
        ) from error
    dims = [()] * (rank - len(x.dims)) + list(x.dims)
    value = uniform(value.reshape((1,) * (rank - value.ndim) + given))
    sizes = Layout(tuple(dims)).shape
    grown = [n if size == 1 else 1 for n, size in zip(wanted, sizes)]
    if any(n > 1 and value.shape[k] > 1 for k, n in enumerate(grown)):
        raise im.error(
            "NC1009",
            f"a constant of shape {shown(given)} has other values where the signal {shown(x.layout.shape)} has "
            f"one: {_NEW}",
        )
    if max(grown, default=1) > 1:
        dims = repeated(im, dims, grown)
    for k, dim in enumerate(dims):
        if value.shape[k] > 1 and any(a.axis for a in dim):
            kinds = "samples" if any(a.axis == "B" for a in dim) else "steps"
            raise im.error(
                "NC1009",
                f"a constant of shape {shown(given)} differs between {kinds} of the signal {shown(x.layout.shape)}: {_NEW}",
            )
    return Traced(x.ref, Layout(tuple(dims))), value


def offset(im: Importer, node: onnx.NodeProto, x: Traced, shift: np.ndarray) -> Traced:
    """``x`` plus a number for each position; ``shift`` as :func:`fitted` has it."""
    wanted = node.name or node.output[0]
    values = _as_it_lies(im, x, shift)
    if values is None:
        pattern = im.pattern(x)
        x = im.fresh(im.features(x), pattern)
        values = _as_it_lies(im, x, shift)
        assert values is not None
    tensor = im.store(f"{wanted}.offset", values)
    return im.over(x, im.emit(s.Offset, wanted, im.shapes[x.ref], x=x.ref, offset=tensor))


def scaled(im: Importer, node: onnx.NodeProto, x: Traced, scale: np.ndarray) -> Traced:
    """``x`` times a number for each position: a normalization of as many channels as elements."""
    wanted = node.name or node.output[0]
    pattern = im.pattern(x)
    x = im.fresh(im.features(x), pattern)
    values = _as_it_lies(im, x, scale)
    assert values is not None
    shape = im.shapes[x.ref]
    size = prod(shape)

    def view(name: str, ref: str, shape: tuple[int, ...]) -> str:
        return im.emit(s.Rearrange, name, shape, x=ref, shape=shape, sizes=(size,), strides=(1,))

    flat = view(f"{wanted}.flat", x.ref, (size,))
    arrays = {
        "scale": values.reshape(-1),
        "shift": np.zeros(size),
        "mean": np.zeros(size),
        "var": np.ones(size),
    }
    tensors = {name: im.store(f"{wanted}.{name}", array) for name, array in arrays.items()}
    y = im.emit(s.BatchNorm, wanted, (size,), x=flat, eps=0.0, axis=0, **tensors)
    return im.over(x, view(f"{wanted}.shaped", y, shape))  # type: ignore[arg-type]


def _as_it_lies(im: Importer, x: Traced, value: np.ndarray) -> np.ndarray | None:
    """``value`` in the order of the value behind ``x``; None where ``x`` does not show all of that,
    or some of it twice.
    """
    runs = [run for dim in x.dims for run in im.runs(dim)]
    layout, shape = Layout(tuple(runs)), im.shapes[x.ref]
    if prod(layout.shape) != prod(shape):
        return None
    sizes = [
        value.shape[k] if not any(a.axis for a in dim) else 1
        for k, dim in enumerate(x.dims)
        for _ in im.runs(dim)
    ]
    index = layout.indices().reshape(-1)
    found = np.full(prod(shape), np.nan)
    found[index] = np.broadcast_to(value.reshape(sizes), layout.shape).reshape(-1)
    return None if np.isnan(found).any() else found.reshape(shape)
