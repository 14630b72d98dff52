"""ONNX operators that move, repeat or rename axes: they change a layout and compute nothing."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.bounds import changes_nothing
from neurocompile.frontends.onnx.context import Importer, Rule
from neurocompile.ir.layout import ANOTHER, OPEN, Atom, Layout, shown

__all__ = ["LARGEST_T", "SHAPE_RULES", "repeated"]

LARGEST_T = 1 << 16


def _shape(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    sizes = np.asarray(im.traced[node.input[0]].layout.shape, np.int64)
    found = im.constants[node.output[0]] = sizes[
        attributes.get("start", 0) : attributes.get("end", len(sizes))
    ]
    if (found % OPEN == 0).any():
        other = np.where(found % OPEN == 0, found // OPEN * ANOTHER, found)
        im.otherwise[node.output[0]] = other


def _reshape(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    layout = im.traced[node.input[0]].layout
    wanted = [int(n) for n in im.constant(node, 1)]
    if not attributes.get("allowzero", 0):
        wanted = [layout.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    given, aim = list(wanted), shown(wanted, computed=node.input[1] in im.otherwise)
    if -1 in wanted:
        place, rest = wanted.index(-1), max(prod(n for n in wanted if n != -1), 1)
        wanted[place] = prod(layout.shape) // rest if prod(layout.shape) % rest == 0 else 0
    if prod(wanted) != prod(layout.shape):
        fixed = prod(layout.shape) % OPEN == 0 and "batch" not in aim and -1 not in given
        why = ": the exporter stored the batch of its example. Export with a fixed batch, or with torch.onnx.export(..., dynamo=True)"
        raise im.error(
            "NC1009", f"cannot reshape {shown(layout.shape)} to {aim}{why if fixed else ''}"
        )
    im.relayout(node, layout.reshape(tuple(wanted)))


def _flatten(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    layout = im.traced[node.input[0]].layout
    axis = int(attributes.get("axis", 1))
    axis += len(layout.dims) * (axis < 0)
    im.relayout(node, layout.reshape((prod(layout.shape[:axis]), prod(layout.shape[axis:]))))


def _transpose(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    layout = im.traced[node.input[0]].layout
    default = tuple(range(len(layout.dims)))[::-1]
    im.relayout(node, layout.transpose(tuple(attributes.get("perm", default))))


def _unsqueeze(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    axes = attributes.get("axes")
    axes = im.constant(node, 1) if axes is None else axes
    dims = list(im.traced[node.input[0]].dims)
    for axis in im.axes(axes, len(dims) + len(axes)):
        dims.insert(axis, ())
    im.relayout(node, Layout(tuple(dims)))


def _squeeze(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    axes = attributes.get("axes")
    axes = im.constant(node, 1) if axes is None else axes
    dims = im.traced[node.input[0]].dims
    sizes = Layout(dims).shape
    gone = (
        {i for i, n in enumerate(sizes) if n == 1}
        if axes is None
        else set(im.axes(axes, len(dims)))
    )
    if any(sizes[i] > 1 for i in gone):
        raise im.error(
            "NC1009",
            f"removes axes {sorted(gone)} of {shown(prod(a.size for a in d) for d in dims)}",
        )
    im.relayout(node, Layout(tuple(d for i, d in enumerate(dims) if i not in gone)))


def repeated(
    im: Importer, dims: list[tuple[Atom, ...]], repeats: list[int]
) -> list[tuple[Atom, ...]]:
    """``dims`` with its axes repeated. Repeating an axis of size 1 of a tensor without time is where
    time begins, or goes on behind a mean over time.
    """
    dims = list(dims)
    for i, n in enumerate(repeats):
        if n == 1:
            continue
        if n % OPEN == 0:
            raise im.error(
                "NC1009",
                "repeats a value once for each sample; only the repetition of the input over time is supported",
            )
        if not 1 <= n <= LARGEST_T:
            raise im.error("NC1007", f"repeats the input {n:,} times; T is 1 to {LARGEST_T:,}")
        # x.repeat(T, 1) of samples: time lies in front of them in one axis
        of_samples = [a.axis for a in dims[i]] == ["B"]
        if dims[i] and not of_samples or any(a.axis == "T" for d in dims for a in d):
            raise im.error(
                "NC1009",
                f"repeats axis {i} {n} times; only the repetition of the input over time is supported",
            )
        if im.exported_T not in (0, n):
            raise im.error(
                "NC1008", f"repeats a value {n} times; the steps of time are {im.exported_T}"
            )
        dims[i] = (Atom(n, 1, "T"), *dims[i])
        im.exported_T = n
    return dims


def _repeat(
    im: Importer, node: onnx.NodeProto, dims: list[tuple[Atom, ...]], repeats: list[int]
) -> None:
    im.relayout(node, Layout(tuple(repeated(im, dims, repeats))))


def _expand(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    wanted = [int(n) for n in im.constant(node, 1)]
    dims = list(im.traced[node.input[0]].dims)
    dims = [()] * (len(wanted) - len(dims)) + dims
    wanted = [1] * (len(dims) - len(wanted)) + wanted
    sizes = Layout(tuple(dims)).shape
    _repeat(im, node, dims, [n if size == 1 else 1 for n, size in zip(wanted, sizes)])


def _tile(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    dims, repeats = list(im.traced[node.input[0]].dims), [int(n) for n in im.constant(node, 1)]
    if len(dims) != len(repeats):
        raise im.error("NC1009", f"{len(repeats)} repeats of {len(dims)} axes")
    _repeat(im, node, dims, repeats)


def _depth_to_space(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """PixelShuffle: blocks of channels become positions."""
    layout, size = im.traced[node.input[0]].layout, int(attributes["blocksize"])
    shape, order = layout.shape, attributes.get("mode", b"DCR")
    if len(shape) != 4 or size < 1 or shape[1] % size**2 or order not in (b"DCR", b"CRD"):
        raise im.error("NC1009", f"blocks of {size} of {shown(shape)}, mode {order.decode()}")
    n, c, h, w = shape
    c //= size**2
    block = (size, size, c) if order == b"DCR" else (c, size, size)
    axes = (0, 3, 4, 1, 5, 2) if order == b"DCR" else (0, 1, 4, 2, 5, 3)
    moved = layout.reshape((n, *block, h, w)).transpose(axes)
    im.relayout(node, moved.reshape((n, c, h * size, w * size)))


def _space_to_depth(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    layout, size = im.traced[node.input[0]].layout, int(attributes["blocksize"])
    shape = layout.shape
    if len(shape) != 4 or size < 1 or shape[2] % size or shape[3] % size:
        raise im.error("NC1009", f"blocks of {size} of {shown(shape)}")
    n, c, h, w = shape
    moved = layout.reshape((n, c, h // size, size, w // size, size)).transpose((0, 3, 5, 1, 2, 4))
    im.relayout(node, moved.reshape((n, c * size**2, h // size, w // size)))


def _identity(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    if node.op_type == "Dropout" and im.constant(node, 2, np.bool_(False)):
        raise im.error("NC1009", "training_mode is random; export the model in eval mode")
    im.keep(node, im.traced[node.input[0]])


def _cast(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    types = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
    if attributes["to"] not in types and not changes_nothing(im, node):
        raise im.error(
            "NC1009",
            "a cast of a signal to a type that is not floating point; of spikes and their sums it changes nothing",
        )
    im.keep(node, im.traced[node.input[0]])


SHAPE_RULES: dict[str, Rule] = {
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Shape": _shape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Expand": _expand,
    "Tile": _tile,
    "Identity": _identity,
    "Dropout": _identity,
    "Cast": _cast,
}
