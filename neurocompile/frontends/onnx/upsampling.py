"""Layers that make a feature map larger: transposed convolutions and nearest interpolation.

A transposed convolution of stride s gives, for each of the s x s places between two of its input's,
a convolution of its own (Shi et al., "Is the deconvolution layer the same as a convolutional
layer?", 2016): one convolution makes them as channels, and a view puts them in their places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.convolutions import check_bias
from neurocompile.frontends.onnx.slices import piece
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout

__all__ = ["UPSAMPLING_RULES"]

_WIDEST = 256
"""Elements that a dilated kernel may reach over: zeros between its taps are kept."""


@dataclass(frozen=True)
class _Axis:
    """Output o = ``stride`` q + r sums ``x[q + shift]`` times tap ``r + begin - stride shift``."""

    size: int
    kernel: int
    stride: int
    begin: int
    out: int

    @property
    def places(self) -> int:
        """Outputs of each phase."""
        return -(-self.out // self.stride)

    def taps(self) -> dict[tuple[int, int], int]:
        """The kernel's tap by (phase, shift)."""
        shifts = range(-self.kernel, self.begin // self.stride + 2)
        found = {
            (r, d): r + self.begin - self.stride * d for r in range(self.stride) for d in shifts
        }
        return {key: tap for key, tap in found.items() if 0 <= tap < self.kernel}

    def window(self) -> tuple[int, int]:
        """(first shift, padding at both ends) of one convolution that has all taps; its kernel has
        ``size + 2 padding - places + 1`` elements.
        """
        shifts = [d for _, d in self.taps()]
        first, last = min(shifts), max(shifts)
        padding = max(-first, self.places - 1 + last - (self.size - 1), 0)
        return -padding, padding


def _transposed(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x, weight = im.settled(im.traced[node.input[0]]), im.constant(node, 1)
    groups, axes = int(attributes.get("group", 1)), weight.ndim - 2
    if axes not in (1, 2) or len(x.dims) != weight.ndim:
        raise im.error(
            "NC1009",
            f"a {axes}-d transposed convolution of {len(x.dims)} axes; over (N, C, L) or (N, C, H, W) it is supported",
        )
    ones, kernel = (1,) * axes, weight.shape[2:]
    stride = tuple(attributes.get("strides", ones))
    pads = tuple(attributes.get("pads", (0,) * 2 * axes))
    extra = tuple(attributes.get("output_padding", (0,) * axes))
    im.window((*stride, 1)[:2], (*kernel, 1)[:2], (*attributes.get("dilations", ones), 1)[:2])
    dilation = tuple(attributes.get("dilations", ones))
    if any(d * (k - 1) >= _WIDEST for d, k in zip(dilation, kernel)):
        raise im.error("NC1009", f"a dilation of {list(dilation)}: below {_WIDEST:,} is supported")
    weight = _dilated(weight, dilation)
    kernel = weight.shape[2:]
    if (
        "output_shape" in attributes
        or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
        or min(pads) < 0
    ):
        raise im.error(
            "NC1009",
            "a transposed convolution is supported with pads, without output_shape or auto_pad",
        )
    if groups < 1 or weight.shape[0] != x.layout.shape[1] or weight.shape[0] % groups:
        raise im.error(
            "NC1006", f"weight {list(weight.shape)} does not match {x.layout.shape[1]} channels"
        )
    sizes = x.layout.shape[2:]
    plan = [
        _Axis(n, k, st, b, (n - 1) * st + k - b - e + more)
        for n, k, st, b, e, more in zip(sizes, kernel, stride, pads, pads[axes:], extra)
    ]
    if any(a.out < 1 or not a.taps() for a in plan):
        raise im.error("NC1009", f"a transposed convolution of {list(sizes)} that leaves nothing")
    bias = im.constant(node, 2)
    check_bias(im, bias, groups * weight.shape[1])
    im.keep(node, _upsampled(im, node, x, plan, weight, groups, bias))


def _dilated(weight: np.ndarray, dilation: tuple[int, ...]) -> np.ndarray:
    """The kernel with zeros between its taps."""
    sizes = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation)]
    wide = np.zeros((*weight.shape[:2], *sizes), weight.dtype)
    taps = tuple(slice(None, None, d) for d in dilation)
    wide[(slice(None), slice(None)) + taps] = weight
    return wide


def _upsampled(
    im: Importer,
    node: onnx.NodeProto,
    x: Traced,
    plan: list[_Axis],
    weight: np.ndarray,
    groups: int,
    bias: np.ndarray | None,
) -> Traced:
    """``weight`` (C, C' / groups, k..) as a convolution whose channels are (C', phases)."""
    axes, name = len(plan), node.name or node.output[0]
    plan = [*plan, *[_Axis(1, 1, 1, 0, 1)] * (2 - axes)]
    weight = weight.reshape(*weight.shape, *(1,) * (2 - axes))
    channels, group_out = weight.shape[:2]
    (first_h, pad_h), (first_w, pad_w) = (a.window() for a in plan)
    rows, columns = (a.size + 2 * p - a.places + 1 for a, p in zip(plan, (pad_h, pad_w)))
    split = weight.reshape(groups, channels // groups, group_out, *weight.shape[2:])
    phases = plan[0].stride, plan[1].stride
    kernel = np.zeros((groups, group_out, *phases, channels // groups, rows, columns))
    for (r, d), tap in plan[0].taps().items():
        for (q, e), other in plan[1].taps().items():
            part = split[:, :, :, tap, other].transpose(0, 2, 1)
            if 0 <= d - first_h < rows and 0 <= e - first_w < columns:
                kernel[:, :, r, q, :, d - first_h, e - first_w] = part
    ref, windows = im.as_map(x, axes)
    kernel = kernel.reshape(-1, channels // groups, rows, columns)
    out, count = groups * group_out, prod(phases)
    key = im.store(f"{node.input[1]}.phases", np.tile(kernel, (windows, 1, 1, 1)))
    fields: dict[str, Any] = {"weight": key, "groups": groups * windows}
    if bias is not None:
        repeated = np.tile(np.repeat(bias.reshape(-1), count), windows)
        fields["bias"] = im.store(f"{node.input[2]}.phases", repeated)
    shape = (windows * out * count, plan[0].places, plan[1].places)
    y = im.emit(s.Conv2d, name, shape, x=ref, padding=(pad_h, pad_w), **fields)
    return _in_place(im, node, im.from_map(x, y, 2), plan, out, axes)


def _in_place(
    im: Importer, node: onnx.NodeProto, y: Traced, plan: list[_Axis], out: int, axes: int
) -> Traced:
    """The tensor (N, C', H', W') of channels (C', phases), cut to its size."""
    lead, channel, row, column = y.dims
    inner = Layout((channel,)).reshape((out, plan[0].stride, plan[1].stride)).dims
    dims = (lead, inner[0], row + inner[1], column + inner[2])
    z = Traced(y.ref, Layout(dims[: 2 + axes]))
    for k, axis in enumerate(plan[:axes]):
        if axis.places * axis.stride != axis.out:
            z = piece(im, node, z, 2 + k, range(axis.out), f"{node.output[0]}.cut{k}")
    return z


def _resize(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Nearest interpolation: by whole factors a transposed convolution of ones in each channel, by
    others a choice of positions along each axis.
    """
    x = im.settled(im.traced[node.input[0]])
    scales, sizes = im.constant(node, 2), im.constant(node, 3)
    shape, axes = x.layout.shape, len(x.dims) - 2
    if sizes is not None and sizes.size:
        wanted = [int(n) for n in sizes]
        factors = [w / n for w, n in zip(wanted, shape)]
    else:
        factors = [float(f) for f in (scales if scales is not None else ())]
        wanted = [int(np.floor(f * n + 1e-6)) for f, n in zip(factors, shape)]
    mode = attributes.get("mode", b"nearest")
    whole = [round(f) for f in factors]
    if (
        mode != b"nearest"
        or axes not in (1, 2)
        or len(factors) != len(shape)
        or whole[:2] != [1, 1]
    ):
        raise im.error(
            "NC1009",
            f"an interpolation of mode {mode.decode()} by {[round(f, 4) for f in factors]}; mode nearest over the positions "
            "of a feature map is supported",
        )
    places = [
        _nearest(im, n, w, f, attributes) for n, w, f in zip(shape[2:], wanted[2:], factors[2:])
    ]
    if any(
        list(p) != [k // f for k in range(n * f)] for p, n, f in zip(places, shape[2:], whole[2:])
    ):
        for axis, found in enumerate(places, 2):
            if found != list(range(shape[axis])):
                step = found[1] - found[0] if len(found) > 1 else 1
                run = range(found[0], found[-1] + 1, step) if step > 0 else range(0)
                chosen = run if list(run) == found else found
                x = piece(im, node, x, axis, chosen, f"{node.output[0]}.axis{axis}")
        im.keep(node, x)
        return
    plan = [_Axis(n, f, f, 0, n * f) for n, f in zip(shape[2:], whole[2:])]
    if max(whole) == 1:
        im.keep(node, x)
        return
    ones = np.ones((shape[1], 1, *whole[2:]), np.float32)
    im.keep(node, _upsampled(im, node, x, plan, ones, shape[1], None))


def _nearest(
    im: Importer, size: int, out: int, factor: float, attributes: dict[str, Any]
) -> list[int]:
    """The position of an axis of ``size`` that each of ``out`` takes, as ONNX's Resize defines it."""
    if not 1 <= out <= 64 * size or factor <= 0:
        raise im.error("NC1009", f"an interpolation of {size} positions to {out}")
    how = attributes.get("coordinate_transformation_mode", b"half_pixel")
    k = np.arange(out, dtype=np.float64)
    if how == b"asymmetric":
        x = k / factor
    elif how in (b"half_pixel", b"half_pixel_symmetric", b"pytorch_half_pixel"):
        x = (k + 0.5) / factor - 0.5
        if how == b"half_pixel_symmetric":
            x += size / 2 * (1 - out / (factor * size))
        if how == b"pytorch_half_pixel" and out == 1:
            x = np.zeros(1)
    elif how == b"align_corners":
        x = k * (size - 1) / max(out - 1, 1)
    else:
        raise im.error("NC1009", f"coordinate_transformation_mode {how.decode()} is not supported")
    near = attributes.get("nearest_mode", b"round_prefer_floor")
    rules: dict[bytes, Callable[[np.ndarray], np.ndarray]] = {
        b"round_prefer_floor": lambda v: np.ceil(v - 0.5),
        b"round_prefer_ceil": lambda v: np.floor(v + 0.5),
        b"floor": np.floor,
        b"ceil": np.ceil,
    }
    if near not in rules:
        raise im.error("NC1009", f"nearest_mode {near.decode()} is not defined by ONNX")
    found = rules[near](x.astype(np.float32).astype(np.float64))
    return [int(v) for v in np.clip(found, 0, size - 1)]


UPSAMPLING_RULES: dict[str, Rule] = {"ConvTranspose": _transposed, "Resize": _resize}
