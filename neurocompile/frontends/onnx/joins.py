"""Concat along features: each part goes to its place in the whole, and the parts are added.

A layer that reads the whole reads the parts instead, each with its share of the weights: nothing is
joined then.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.constants import fitted, offset
from neurocompile.frontends.onnx.context import Importer, Joined, Rule, Traced
from neurocompile.frontends.onnx.convolutions import linear_along
from neurocompile.frontends.onnx.shapes import repeated
from neurocompile.frontends.onnx.slices import check_features
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Atom, Layout
from neurocompile.ir.text import Ref

__all__ = ["JOIN_RULES", "added", "side_by_side"]


def _concat(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    parts = [im.traced.get(i) for i in node.input]
    shown = next(part for part in parts if part is not None)
    (axis,) = im.axes([int(attributes["axis"])], len(shown.dims))
    sizes = [
        part.layout.shape[axis] if part is not None else im.constants[name].shape[axis]
        for part, name in zip(parts, node.input)
    ]
    timeless = not any(a.axis == "T" for dim in shown.dims for a in dim)
    if parts.count(shown) == len(parts) > 1 and not shown.dims[axis] and timeless:  # stack([x] * T)
        repeats = [len(parts) if k == axis else 1 for k in range(len(shown.dims))]
        im.keep(node, Traced(shown.ref, Layout(tuple(repeated(im, list(shown.dims), repeats)))))
        return
    shift = _constants(im, node, shown, axis, sizes)
    wanted, total, start, whole = node.name or node.output[0], sum(sizes), 0, None
    places: list[tuple[Ref, int, int] | None] = []
    for k, (part, size) in enumerate(zip(parts, sizes)):
        if part is None:
            places.append(None)
            start += size
            continue
        check_features(im, part, axis)
        if size == total:
            im.keep(node, part)
            return
        place = np.eye(total, size, -start, dtype=np.float32)
        placed = linear_along(im, node, place, f"{wanted}.place{k}", part, axis)
        as_it_lies = (
            len(im.shapes[part.ref]) == 3
            and im.axis_of(part, axis) == 0
            and im.made(placed.ref).inputs == (part.ref,)
        )
        places.append((part.ref, start, size) if as_it_lies else None)
        start += size
        whole = placed if whole is None else added(im, wanted, whole, placed)
    assert whole is not None
    if all(places) and len({im.shapes[ref][1:] for ref, _, _ in filter(None, places)}) == 1:
        im.joined[whole.ref] = Joined(tuple(filter(None, places)))
    im.keep(node, whole if shift is None else offset(im, node, whole, shift))


def _constants(
    im: Importer, node: onnx.NodeProto, x: Traced, axis: int, sizes: list[int]
) -> np.ndarray | None:
    """The constants among the operands in their places along ``axis``, 0 where signals belong; None
    if there are none.
    """
    ends = np.cumsum(sizes)
    values = [
        (end - size, end, fitted(im, _like(x, axis, size), im.constants[name])[1])
        for name, size, end in zip(node.input, sizes, ends)
        if name not in im.traced
    ]
    if not values:
        return None
    shape = np.broadcast_shapes(*(_but(v.shape, axis, 1) for _, _, v in values))
    shift = np.zeros(_but(shape, axis, int(ends[-1])))
    for start, end, value in values:
        shift[(slice(None),) * axis + (slice(start, end),)] = value
    return shift


def _but(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _like(x: Traced, axis: int, size: int) -> Traced:
    """A tensor of the shape of ``x`` but for ``size`` elements along ``axis``."""
    dims = _but(x.dims, axis, (Atom(size, 1),) if size > 1 else ())  # type: ignore[arg-type]
    return Traced(x.ref, Layout(dims))  # type: ignore[arg-type]


def added(im: Importer, wanted: str, a: Traced, b: Traced) -> Traced:
    """``a + b``, of one shape."""
    if a.layout == b.layout and im.shapes[a.ref] == im.shapes[b.ref]:
        return im.over(a, im.emit(s.Add, wanted, im.shapes[a.ref], a=a.ref, b=b.ref))
    pattern = im.common(a, b, len(a.dims))
    left, right = im.features(a, pattern), im.features(b, pattern)
    return im.fresh(im.emit(s.Add, wanted, im.shapes[left], a=left, b=right), pattern)


def side_by_side(im: Importer, node: onnx.NodeProto, signals: list[Traced]) -> Traced:
    """The signals, of one shape, along a new last axis."""
    first = signals[0]
    if any(x.layout.shape != first.layout.shape for x in signals):
        raise im.error("NC1009", "the largest of signals that are not of one shape")
    same = {(x.layout, im.shapes[x.ref]) for x in signals}
    if len(same) == 1:
        refs, laid = [x.ref for x in signals], first
    else:
        pattern = im.pattern(first)
        for x in signals[1:]:
            pattern = im.common(first, x, len(first.dims))
        refs = [im.features(x, pattern) for x in signals]
        laid = im.fresh(refs[0], pattern)
    wanted, whole = node.name or node.output[0], None
    for k, ref in enumerate(refs):
        shape = im.shapes[ref]
        if len(shape) not in (1, 3):
            flat = (shape[0], prod(shape[1:]), 1)
            sizes, strides = (prod(flat),), (1,)
            ref = im.emit(
                s.Rearrange, f"{ref}.map", flat, x=ref, shape=flat, sizes=sizes, strides=strides
            )
            shape = flat
        place = np.eye(len(refs) * shape[0], shape[0], -k * shape[0], dtype=np.float32)
        kernel = place if len(shape) == 1 else place[:, :, None, None]
        weight = im.store(f"{wanted}.place{k}", kernel)
        kind = s.Linear if len(shape) == 1 else s.Conv2d
        y = im.emit(kind, f"{wanted}.place{k}", (len(place), *shape[1:]), x=ref, weight=weight)
        whole = y if whole is None else im.emit(s.Add, wanted, im.shapes[y], a=whole, b=y)
    assert whole is not None
    return Traced(whole, Layout((*laid.dims, (Atom(len(refs), prod(im.shapes[refs[0]])),))))


JOIN_RULES: dict[str, Rule] = {"Concat": _concat}
