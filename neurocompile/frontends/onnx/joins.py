"""Concat along features: each part goes to its place in the whole, and the parts are added.

A layer that reads the whole reads the parts instead, each with its share of the weights: nothing is
joined then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer, Joined, Rule, Traced
from neurocompile.frontends.onnx.convolutions import linear
from neurocompile.frontends.onnx.slices import check_features
from neurocompile.ir import spiking as s

__all__ = ["JOIN_RULES"]


def _concat(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    parts = [im.traced.get(i) for i in node.input]
    if any(part is None for part in parts):
        raise im.error(
            "NC1009",
            "joins a signal with a constant (a class token?); signals with signals are supported",
        )
    (axis,) = im.axes([int(attributes["axis"])], len(parts[0].dims))  # type: ignore[union-attr]
    sizes = [part.layout.shape[axis] for part in parts if part is not None]
    wanted, total, start, whole = node.name or node.output[0], sum(sizes), 0, None
    places = []
    for k, (part, size) in enumerate(zip(parts, sizes)):
        assert part is not None
        check_features(im, part, axis)
        if size == total:
            im.keep(node, part)
            return
        order = [*(i for i in range(len(part.dims)) if i != axis), axis]
        moved = Traced(part.ref, part.layout.transpose(tuple(order)))
        place = np.eye(total, size, -start, dtype=np.float32)
        linear(im, node, place, f"{wanted}.place{k}", None, moved)
        placed = im.traced[node.output[0]]
        placed = Traced(placed.ref, placed.layout.transpose(tuple(np.argsort(order).tolist())))
        as_it_lies = (
            len(im.shapes[part.ref]) == 3
            and im.axis_of(part, axis) == 0
            and im.made(placed.ref).inputs == (part.ref,)
        )
        places.append((part.ref, start, size) if as_it_lies else None)
        start += size
        whole = placed if whole is None else _sum(im, wanted, whole, placed)
    assert whole is not None
    if all(places) and len({im.shapes[ref][1:] for ref, _, _ in filter(None, places)}) == 1:
        im.joined[whole.ref] = Joined(tuple(filter(None, places)))
    im.keep(node, whole)


def _sum(im: Importer, wanted: str, a: Traced, b: Traced) -> Traced:
    if a.layout == b.layout and im.shapes[a.ref] == im.shapes[b.ref]:
        return im.over(a, im.emit(s.Add, wanted, im.shapes[a.ref], a=a.ref, b=b.ref))
    pattern = im.common(a, b, len(a.dims))
    left, right = im.features(a, pattern), im.features(b, pattern)
    return im.fresh(im.emit(s.Add, wanted, im.shapes[left], a=left, b=right), pattern)


JOIN_RULES: dict[str, Rule] = {"Concat": _concat}
