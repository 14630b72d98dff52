"""What is put around a signal, or taken from its ends: Pad of every mode along features."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.constants import offset
from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.convolutions import linear_along, padded
from neurocompile.frontends.onnx.slices import check_features, piece

__all__ = ["BORDER_RULES"]

_MODES = {b"edge": "edge", b"reflect": "reflect", b"wrap": "wrap"}


def _pad(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.settled(im.traced[node.input[0]])
    pads = attributes.get("pads")
    pads = [int(n) for n in (im.constant(node, 1) if pads is None else pads)]
    value = im.constant(node, 2, np.float32(attributes.get("value", 0.0)))
    mode = attributes.get("mode", b"constant")
    if im.constant(node, 3) is not None or len(pads) != 2 * len(x.dims):
        raise im.error(
            "NC1009", f"{len(pads)} pads of {len(x.dims)} axes; two an axis are supported"
        )
    begin, end = pads[: len(x.dims)], pads[len(x.dims) :]
    if mode != b"constant" and mode not in _MODES:
        raise im.error("NC1009", f"a border of mode {mode.decode()} is not defined by ONNX")
    for axis, (first, last) in enumerate(zip(begin, end)):
        size = x.layout.shape[axis]
        if not first and not last:
            continue
        check_features(im, x, axis)
        most = size - (mode == b"reflect") if mode != b"constant" else max(x.layout.shape[1:])
        short = min(first + size, last + size, first + last + size) < 1
        if short or max(first, last) > most:
            raise im.error(
                "NC1009", f"pads {pads} of {size} elements are larger than what they surround"
            )
        places = range(size)[max(-first, 0) : size - max(-last, 0)]
        if mode != b"constant":
            width = max(first, 0), max(last, 0)
            found = np.pad(np.asarray(places), width, mode=_MODES[mode])  # type: ignore[call-overload]
            x = piece(im, node, x, axis, [int(k) for k in found], node.output[0])
        elif places != range(size):
            x = piece(im, node, x, axis, places, node.output[0])
    if mode != b"constant":
        im.keep(node, x)
        return
    grown = [(max(a, 0), max(b, 0)) for a, b in zip(begin, end)]
    im.keep(node, _surrounded(im, node, x, grown, value))


def _surrounded(
    im: Importer, node: onnx.NodeProto, x: Traced, grown: list[tuple[int, int]], value: Any
) -> Traced:
    """``x`` with ``value`` around it."""
    inner = x.layout.shape
    for axis, (first, last) in enumerate(grown[:2]):  # channels, as a residual that gets wider
        if first or last:
            size = inner[axis]
            place = np.eye(first + size + last, size, -first, dtype=np.float32)
            x = linear_along(im, node, place, f"{node.output[0]}.place{axis}", x, axis)
    x = padded(im, node, x, grown[2:])
    if np.any(value):
        if np.size(value) != 1:
            raise im.error("NC1009", f"a border of {np.size(value)} values; one is supported")
        sizes = [n if any(pair) else 1 for n, pair in zip(inner, grown)]
        shift = np.pad(np.zeros(sizes), grown, constant_values=float(np.ravel(value)[0]))
        x = offset(im, node, x, shift)
    return x


BORDER_RULES: dict[str, Rule] = {"Pad": _pad}
